//! The decision: which event a command becomes, given the person's state.
//!
//! The checks come in the contract's order: existence, merged, lifecycle state, the command's own rules. A command is
//! taken to be [`validated`](Command::validated).

use std::sync::Arc;

use super::attribute::{Attribute, AttributeType};
use super::binary;
use super::command::Command;
use super::event::Event;
use super::invalid::Invalid;
use super::limits::{PERSON_ATTRIBUTES_MAX, PERSON_STATE_BYTES_MAX};
use super::name::PersonName;
use super::person::{Lifecycle, Person, evolve};
use super::refusal::{Party, Refusal};
use super::value::{Date, Timestamp};

/// What a command that is allowed leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// This happened.
    Happened(Event),
    /// It is so already: nothing happened.
    Unchanged,
}

/// What a decision depends on besides the person's own state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The time that the event will bear.
    pub now: Timestamp,
    /// For a merge the target, once it has been read.
    pub merge_target: Option<TargetState>,
}

/// What a merge needs to know of its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetState {
    /// It does not exist.
    Missing,
    /// It exists, in this state.
    Exists(Lifecycle),
}

/// Decides one command.
///
/// A merge whose target the context lacks is refused as [`Refusal::TargetNotRead`], but only when all else allows it:
/// the target of a merge that fails anyway need never be read.
///
/// # Errors
/// The state does not allow the command, or a rule that depends on state or time does not hold.
pub fn decide(state: Option<&Person>, command: &Command, context: &Context) -> Result<Decision, Refusal> {
    let decision = match (state, command) {
        (Some(_), Command::CreatePerson { .. }) => Err(Refusal::AlreadyExists),
        (None, Command::CreatePerson { person_id, name, source }) => happened(Event::PersonCreated {
            person_id: *person_id,
            name: Arc::clone(name),
            source: source.clone(),
            created_at: context.now,
        }),
        (None, _) => Err(Refusal::NotFound(Party::Person)),
        (Some(person), _) => {
            check_allowed(command, &person.lifecycle)?;
            change(person, command, context)
        }
    }?;
    check_size(state, &decision)?;
    Ok(decision)
}

fn check_allowed(command: &Command, lifecycle: &Lifecycle) -> Result<(), Refusal> {
    if let Lifecycle::MergedInto { target_id, .. } = lifecycle {
        return Err(Refusal::PersonMerged { party: Party::Person, moved_to: *target_id });
    }
    if is_allowed(command, lifecycle) { Ok(()) } else { Err(not_allowed(Party::Person, lifecycle, command)) }
}

fn is_allowed(command: &Command, lifecycle: &Lifecycle) -> bool {
    match command {
        Command::CreatePerson { .. } => false,
        Command::UpdateName { .. }
        | Command::DeactivatePerson { .. }
        | Command::MergePersons { .. }
        | Command::RecordAttribute { .. }
        | Command::UpdateAttribute { .. }
        | Command::InvalidateAttribute { .. } => matches!(lifecycle, Lifecycle::Active),
        Command::SetBirthDate { .. } | Command::RecordDeath { .. } => {
            matches!(lifecycle, Lifecycle::Active | Lifecycle::Deactivated { .. })
        }
        Command::ReactivatePerson { .. } => matches!(lifecycle, Lifecycle::Deactivated { .. }),
        Command::ArchivePerson { .. } => {
            matches!(lifecycle, Lifecycle::Active | Lifecycle::Deactivated { .. } | Lifecycle::Deceased { .. })
        }
    }
}

/// The command's own rules, for a person in a state that allows it.
fn change(person: &Person, command: &Command, context: &Context) -> Result<Decision, Refusal> {
    let (person_id, now) = (person.id, context.now);
    match command {
        // Refused before: the person exists.
        Command::CreatePerson { .. } => Err(Refusal::AlreadyExists),
        Command::UpdateName { name, reason, .. } => update_name(person, name, reason.clone(), now),
        Command::SetBirthDate { birth_date, .. } => set_birth_date(person, *birth_date, now),
        Command::RecordDeath { date_of_death, .. } => record_death(person, *date_of_death, now),
        Command::DeactivatePerson { reason, .. } => {
            happened(Event::PersonDeactivated { person_id, reason: reason.clone(), deactivated_at: now })
        }
        Command::ReactivatePerson { reason, .. } => {
            happened(Event::PersonReactivated { person_id, reason: reason.clone(), reactivated_at: now })
        }
        Command::MergePersons { target_person_id, merge_reason, .. } => {
            check_target(context.merge_target.as_ref(), command)?;
            happened(Event::PersonMergedInto {
                source_person_id: person_id,
                merged_into_id: *target_person_id,
                merge_reason: *merge_reason,
                merged_at: now,
            })
        }
        Command::ArchivePerson { reason, .. } => {
            happened(Event::PersonArchived { person_id, reason: reason.clone(), archived_at: now })
        }
        Command::RecordAttribute { attribute, .. } => record_attribute(person, attribute, now),
        Command::UpdateAttribute { attribute_type, new_attribute, .. } => {
            update_attribute(person, attribute_type, new_attribute, now)
        }
        Command::InvalidateAttribute { attribute_type, reason, .. } => {
            invalidate_attribute(person, attribute_type, reason.clone(), now)
        }
    }
}

fn update_name(
    person: &Person,
    name: &Arc<PersonName>,
    reason: Option<String>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    if person.name == *name {
        return Ok(Decision::Unchanged);
    }
    happened(Event::NameUpdated {
        person_id: person.id,
        old_name: Arc::clone(&person.name),
        new_name: Arc::clone(name),
        reason,
        updated_at: now,
    })
}

fn set_birth_date(person: &Person, birth_date: Date, now: Timestamp) -> Result<Decision, Refusal> {
    match person.birth_date {
        Some(known) if known == birth_date => Ok(Decision::Unchanged),
        Some(_) => Err(Refusal::BirthDateAlreadySet),
        None => {
            check_not_in_future("birth_date", birth_date, now)?;
            happened(Event::BirthDateSet { person_id: person.id, birth_date, set_at: now })
        }
    }
}

fn record_death(person: &Person, date_of_death: Date, now: Timestamp) -> Result<Decision, Refusal> {
    check_not_in_future("date_of_death", date_of_death, now)?;
    if person.birth_date.is_some_and(|birth_date| date_of_death < birth_date) {
        return Err(Invalid::at("date_of_death", "must not be before the birth date").into());
    }
    happened(Event::DeathRecorded { person_id: person.id, date_of_death, recorded_at: now })
}

fn check_target(target: Option<&TargetState>, command: &Command) -> Result<(), Refusal> {
    match target {
        None => Err(Refusal::TargetNotRead),
        Some(TargetState::Missing) => Err(Refusal::NotFound(Party::MergeTarget)),
        Some(TargetState::Exists(Lifecycle::Active)) => Ok(()),
        Some(TargetState::Exists(Lifecycle::MergedInto { target_id, .. })) => {
            Err(Refusal::PersonMerged { party: Party::MergeTarget, moved_to: *target_id })
        }
        Some(TargetState::Exists(other)) => Err(not_allowed(Party::MergeTarget, other, command)),
    }
}

fn record_attribute(person: &Person, attribute: &Attribute, now: Timestamp) -> Result<Decision, Refusal> {
    if person.attributes.len() >= PERSON_ATTRIBUTES_MAX {
        return Err(Refusal::TooLarge { what: "a person", max: PERSON_ATTRIBUTES_MAX, unit: "attributes" });
    }
    happened(Event::AttributeRecorded {
        person_id: person.id,
        attribute: Arc::new(attribute.recorded_at(now)),
        recorded_at: now,
    })
}

fn update_attribute(
    person: &Person,
    attribute_type: &AttributeType,
    new_attribute: &Attribute,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let Some(old_attribute) = person.attributes.latest(attribute_type) else {
        return Err(Refusal::AttributeNotFound("the person has no attribute of this type"));
    };
    if old_attribute.says_the_same_as(new_attribute) {
        return Ok(Decision::Unchanged);
    }
    happened(Event::AttributeUpdated {
        person_id: person.id,
        attribute_type: attribute_type.clone(),
        old_attribute: Arc::clone(old_attribute),
        new_attribute: Arc::new(new_attribute.recorded_at(now)),
        updated_at: now,
    })
}

fn invalidate_attribute(
    person: &Person,
    attribute_type: &AttributeType,
    reason: Option<String>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    // The same day that `evolve` will take from the event.
    if !person.attributes.is_any_valid_on(attribute_type, now.utc_date()) {
        return Err(Refusal::AttributeNotFound("the person has no attribute of this type that is valid today"));
    }
    happened(Event::AttributeInvalidated {
        person_id: person.id,
        attribute_type: attribute_type.clone(),
        reason,
        invalidated_at: now,
    })
}

fn check_not_in_future(field: &str, date: Date, now: Timestamp) -> Result<(), Refusal> {
    if date > now.latest_date_on_earth() {
        return Err(Invalid::at(field, "must not be in the future").into());
    }
    Ok(())
}

/// Looks at the state that the event would lead to, which is exact and shares what is large with the present one.
fn check_size(state: Option<&Person>, decision: &Decision) -> Result<(), Refusal> {
    let Decision::Happened(event) = decision else { return Ok(()) };
    // No event more than doubles what is there besides adding its own bytes: most persons need no exact look.
    let bytes = state.map_or(0, Person::encoded_bytes);
    if bytes.saturating_mul(2).saturating_add(binary::encoded_bytes(event)) <= PERSON_STATE_BYTES_MAX {
        return Ok(());
    }
    let mut next = state.cloned();
    evolve(&mut next, event);
    if next.is_some_and(|person| person.encoded_bytes() > PERSON_STATE_BYTES_MAX) {
        return Err(Refusal::TooLarge { what: "a person's state", max: PERSON_STATE_BYTES_MAX, unit: "bytes" });
    }
    Ok(())
}

fn not_allowed(party: Party, lifecycle: &Lifecycle, command: &Command) -> Refusal {
    Refusal::InvalidState { party, state: lifecycle.state(), command: command.kind() }
}

fn happened(event: Event) -> Result<Decision, Refusal> {
    Ok(Decision::Happened(event))
}
