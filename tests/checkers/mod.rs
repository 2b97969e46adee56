//! Judges of a recorded history: what was sent, what was answered and what the log holds, against the promises of
//! docs/protocol.md. They know nothing of how the history came about: the simulation and the tests with real processes
//! use the same ones.
//!
//! [`record`] is what has to be recorded, [`past`] makes of it what happened to each person in which order, [`model`]
//! is what the pure domain would have answered, and [`promises`] are the checkers, one a promise.

pub mod model;
pub mod past;
pub mod promises;
pub mod record;

use cim_domain_person::domain::PersonId;

use past::Past;
use record::Record;

/// A promise that was not kept.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Who found it: a name of [`promises::CHECKERS`].
    pub checker: &'static str,
    /// Of whom, where it is about one person.
    pub person: Option<PersonId>,
    /// What happened, for people.
    pub what: String,
}

/// Every promise that the history breaks; none if all is well.
pub fn judge(record: &Record) -> Vec<Violation> {
    let past = Past::of(record);
    promises::CHECKERS.iter().flat_map(|(checker, check)| found_by(checker, check(&past))).collect()
}

fn found_by(checker: &'static str, findings: Vec<promises::Finding>) -> impl Iterator<Item = Violation> {
    findings.into_iter().map(move |(person, what)| Violation { checker, person, what })
}
