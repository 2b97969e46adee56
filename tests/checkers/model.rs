//! What the pure domain answers to a request, for a person in a given state: the specification that everything around
//! the domain (caches, folding, retries, replicas) has to be indistinguishable from.

use cim_domain_person::domain::{
    self, Command, Context, Decision, Event, LifecycleState, Party, Person, PersonId, Refusal, TargetState, Timestamp,
    evolve,
};
use cim_domain_person::wire::request::Request;

/// What may become of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// These events.
    Events(Vec<Event>),
    /// It is so already.
    Nothing,
    /// One of its commands is not allowed.
    Refused {
        /// The code of the contract.
        code: &'static str,
        /// In an array, which command.
        index: Option<usize>,
        /// The surviving person.
        moved_to: Option<PersonId>,
        /// Whether it will be so for ever.
        is_final: bool,
    },
}

/// Every verdict that a request may get in this state at this time. There may be several where it speaks of another
/// person, whose states at the time are these.
pub fn verdicts(
    state: Option<&Person>,
    request: &Request,
    now: Timestamp,
    targets: &dyn Fn(PersonId) -> Vec<TargetState>,
) -> Vec<Verdict> {
    let mut found = Vec::new();
    explore(state.cloned(), request, 0, Vec::new(), now, targets, &mut found);
    found
}

fn explore(
    state: Option<Person>,
    request: &Request,
    index: usize,
    events: Vec<Event>,
    now: Timestamp,
    targets: &dyn Fn(PersonId) -> Vec<TargetState>,
    found: &mut Vec<Verdict>,
) {
    let Some(command) = request.commands.get(index) else {
        let verdict = if events.is_empty() { Verdict::Nothing } else { Verdict::Events(events) };
        found.push(verdict);
        return;
    };
    let merge_targets = match Command::merge_target(command) {
        None => vec![None],
        Some(target) => targets(target).into_iter().map(Some).collect(),
    };
    for merge_target in merge_targets {
        match domain::decide(state.as_ref(), command, &Context { now, merge_target }) {
            Err(refusal) => found.push(refused(&refusal, request.is_array.then_some(index))),
            Ok(Decision::Unchanged) => {
                explore(state.clone(), request, index + 1, events.clone(), now, targets, found);
            }
            Ok(Decision::Happened(event)) => {
                let mut state = state.clone();
                evolve(&mut state, &event);
                let events = events.iter().cloned().chain([event]).collect();
                explore(state, request, index + 1, events, now, targets, found);
            }
        }
    }
}

fn refused(refusal: &Refusal, index: Option<usize>) -> Verdict {
    let code = match refusal {
        Refusal::Invalid(_) => "invalid",
        Refusal::NotFound(_) => "person_not_found",
        Refusal::AttributeNotFound(_) => "attribute_not_found",
        Refusal::AlreadyExists => "already_exists",
        Refusal::InvalidState { .. } => "invalid_state",
        Refusal::BirthDateAlreadySet => "birth_date_already_set",
        Refusal::PersonMerged { .. } => "person_merged",
        Refusal::TooLarge { .. } => "too_large",
        Refusal::TargetNotRead => "unavailable",
    };
    let moved_to = match refusal {
        Refusal::PersonMerged { moved_to, .. } => Some(*moved_to),
        _ => None,
    };
    // Not asked of the refusal itself: what the engine relies on is not to be its own witness.
    let is_final = match refusal {
        Refusal::AlreadyExists | Refusal::PersonMerged { party: Party::Person, .. } => true,
        Refusal::InvalidState { party: Party::Person, state, .. } => *state == LifecycleState::Archived,
        _ => false,
    };
    Verdict::Refused { code, index, moved_to, is_final }
}
