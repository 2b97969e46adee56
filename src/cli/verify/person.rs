//! The check of one person, from the stream's leader, to the end of all merges.

use std::ops::ControlFlow;

use crate::cli::failure::Failure;
use crate::cli::store::{StoreReader, unavailable};
use crate::cli::verify::finding::{Finding, Findings, Kind};
use crate::cli::verify::ledger::damage;
use crate::cli::verify::snapshots;
use crate::domain::PersonId;
use crate::engine::audit::Record;
use crate::engine::ports::{Sequence, StoredCommit, Unavailable};
use crate::wire::commit::CommitError;

/// Merges that are followed from one person to the next.
const MERGES_MAX: usize = 1_000;

/// What the leader has of a person.
#[derive(Debug)]
pub struct Reread {
    /// Where the history stands, as far as it is whole.
    pub record: Record,
    /// Where and why it is not.
    pub broken: Option<(u64, CommitError)>,
    /// The first event that was not possible, in words.
    pub misfit: Option<(u64, String)>,
    /// Into whom the person was merged.
    pub merged_into: Option<PersonId>,
    /// Commits that check out.
    pub commits: u64,
}

/// Reads a history from the leader, as it lies from a sequence on, up to the first commit that does not check out.
pub fn reread(reader: &mut StoreReader, person: PersonId, from: Sequence) -> Result<Reread, Unavailable> {
    let mut found = Reread { record: Record::start(), broken: None, misfit: None, merged_into: None, commits: 0 };
    reader.each(person, from, |stored| {
        Ok::<_, Unavailable>(match found.take(person, stored) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                found.broken = Some((stored.sequence, error));
                ControlFlow::Break(())
            }
        })
    })?;
    Ok(found)
}

impl Reread {
    fn take(&mut self, person: PersonId, stored: &StoredCommit) -> Result<(), CommitError> {
        let checked = self.record.check(person, stored)?;
        self.record = checked.record;
        self.merged_into = checked.merged_into.or(self.merged_into);
        self.commits += 1;
        if let (None, Some((version, kind))) = (&self.misfit, checked.misfit) {
            let what = format!("version {version} is {}, which was not possible then", kind.as_str());
            self.misfit = Some((stored.sequence, what));
        }
        Ok(())
    }

    /// The damage as a finding, where there is any.
    pub fn damage(&self, person: PersonId) -> Option<Finding> {
        let (sequence, error) = self.broken.as_ref()?;
        Some(damage(person, *sequence, self.record.link.version, error))
    }

    /// The first event that was not possible as a finding, where there is any.
    pub fn impossible(&self, person: PersonId) -> Option<Finding> {
        let (sequence, what) = self.misfit.as_ref()?;
        Some(Finding::of(Kind::EventImpossible, person, Some(*sequence), what.clone()))
    }
}

/// Checks one person: the history, the snapshot if that is wanted, and those into whom they were merged. How many commits,
/// events and snapshots were looked at.
pub fn check(
    reader: &mut StoreReader,
    person: PersonId,
    with_snapshot: bool,
    findings: &mut Findings,
) -> Result<[u64; 3], Failure> {
    let found = reread(reader, person, 1).map_err(|error| unavailable(&error))?;
    found.damage(person).into_iter().chain(found.impossible(person)).for_each(|finding| findings.add(finding));
    let snapshot = if with_snapshot { reader.snapshot(person)? } else { None };
    let snapshots = u64::from(snapshot.is_some());
    if let Some(bytes) = snapshot {
        let found = vec![(person, None, bytes)];
        snapshots::check(reader, found, findings).map_err(|error| unavailable(&error))?;
    }
    follow(reader, person, found.merged_into, findings).map_err(|error| unavailable(&error))?;
    Ok([found.commits, found.record.link.version, snapshots])
}

/// Goes from merge to merge.
fn follow(
    reader: &mut StoreReader,
    person: PersonId,
    merged_into: Option<PersonId>,
    findings: &mut Findings,
) -> Result<(), Unavailable> {
    let mut path = vec![person];
    let mut next = merged_into;
    while let Some(target) = next.filter(|_| path.len() < MERGES_MAX) {
        if let Some(place) = path.iter().position(|before| *before == target) {
            // Who leads into the circle is not of it.
            findings.add(circle(&path.split_off(place)));
            return Ok(());
        }
        let found = reread(reader, target, 1)?;
        if found.record.lifecycle.is_none() && found.broken.is_none() {
            let from = path.last().copied().unwrap_or(person);
            findings.add(missing_target(from, target));
        }
        path.push(target);
        next = found.merged_into;
    }
    Ok(())
}

/// Persons who were merged into one another.
pub fn circle(persons: &[PersonId]) -> Finding {
    let names: Vec<String> = persons.iter().chain(persons.first()).map(PersonId::to_string).collect();
    let first = persons.first().copied().unwrap_or(PersonId::from_uuid(uuid::Uuid::nil()));
    Finding::of(Kind::MergeCircle, first, None, format!("merged in a circle: {}", names.join(" into ")))
}

/// A person who was merged into nobody.
pub fn missing_target(person: PersonId, target: PersonId) -> Finding {
    Finding::of(Kind::MergeTargetMissing, person, None, format!("merged into {target}, who does not exist"))
}
