//! The state of a person, and how events add up to it.
//!
//! The state of the aggregate is an `Option<Person>`: `None`, the initial one, is a person who does not exist.

use std::sync::Arc;

use bincode::{Decode, Encode};
use serde::Serialize;

use super::attributes::Attributes;
use super::binary;
use super::choices::choices;
use super::event::Event;
use super::name::PersonName;
use super::value::{Date, PersonId, Timestamp};

/// A person who exists. A clone is cheap: what is large is shared.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Person {
    /// Who.
    pub id: PersonId,
    /// The name now.
    pub name: Arc<PersonName>,
    /// The day of birth, once it is known.
    pub birth_date: Option<Date>,
    /// The day of death, once it is recorded.
    pub death_date: Option<Date>,
    /// What may still be done with the record.
    pub lifecycle: Lifecycle,
    /// What is recorded about the person.
    pub attributes: Attributes,
    /// When the record began.
    pub created_at: Timestamp,
    /// When the latest event happened.
    pub updated_at: Timestamp,
}

/// What may still be done with a person's record.
///
/// Append only: the binary form is the index of the variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
#[serde(tag = "state")]
pub enum Lifecycle {
    /// In use.
    Active,
    /// Out of use for a while.
    Deactivated {
        /// Why.
        reason: String,
        /// Since when.
        since: Timestamp,
    },
    /// The person is dead.
    Deceased {
        /// The day of death.
        date_of_death: Date,
    },
    /// Ended in favour of another record.
    MergedInto {
        /// The record that survives.
        target_id: PersonId,
        /// When.
        merged_at: Timestamp,
    },
    /// Put away for good.
    Archived {
        /// Why.
        reason: String,
        /// Since when.
        since: Timestamp,
    },
}

choices! {
    /// The states of [`Lifecycle`], by the same names.
    LifecycleState { Active, Deactivated, Deceased, MergedInto, Archived, }
}

/// Folds one event into the state. Total: an event that does not fit, such as a second creation or a change of a person
/// who does not exist, leaves the state as it is.
pub fn evolve(state: &mut Option<Person>, event: &Event) {
    match state {
        None => *state = Person::created(event),
        Some(person) => person.apply(event),
    }
}

impl Person {
    /// How many bytes this person has in the binary form; exact, at the cost of counting all but the attributes.
    pub fn encoded_bytes(&self) -> usize {
        let Self { id, name, birth_date, death_date, lifecycle, attributes, created_at, updated_at } = self;
        let but_attributes = (id, name, birth_date, death_date, lifecycle, created_at, updated_at);
        binary::encoded_bytes(&but_attributes) + attributes.encoded_bytes()
    }

    fn created(event: &Event) -> Option<Self> {
        let Event::PersonCreated { person_id, name, created_at, .. } = event else { return None };
        Some(Self {
            id: *person_id,
            name: Arc::clone(name),
            birth_date: None,
            death_date: None,
            lifecycle: Lifecycle::Active,
            attributes: Attributes::default(),
            created_at: *created_at,
            updated_at: *created_at,
        })
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::PersonCreated { .. } => return,
            Event::NameUpdated { new_name, .. } => self.name = Arc::clone(new_name),
            Event::BirthDateSet { birth_date, .. } => self.birth_date = Some(*birth_date),
            Event::DeathRecorded { date_of_death, .. } => {
                self.death_date = Some(*date_of_death);
                self.lifecycle = Lifecycle::Deceased { date_of_death: *date_of_death };
            }
            Event::PersonDeactivated { reason, deactivated_at, .. } => {
                self.lifecycle = Lifecycle::Deactivated { reason: reason.clone(), since: *deactivated_at };
            }
            Event::PersonReactivated { .. } => self.lifecycle = Lifecycle::Active,
            Event::PersonMergedInto { merged_into_id, merged_at, .. } => {
                self.lifecycle = Lifecycle::MergedInto { target_id: *merged_into_id, merged_at: *merged_at };
            }
            Event::PersonArchived { reason, archived_at, .. } => {
                self.lifecycle = Lifecycle::Archived { reason: reason.clone(), since: *archived_at };
            }
            Event::AttributeRecorded { attribute, .. } => self.attributes.record(Arc::clone(attribute)),
            Event::AttributeUpdated { attribute_type, new_attribute, .. } => {
                self.attributes.replace_latest(attribute_type, Arc::clone(new_attribute));
            }
            Event::AttributeInvalidated { attribute_type, invalidated_at, .. } => {
                self.attributes.invalidate(attribute_type, invalidated_at.utc_date());
            }
        }
        self.updated_at = event.happened_at();
    }
}

impl Lifecycle {
    /// The state without what belongs to it.
    pub const fn state(&self) -> LifecycleState {
        match self {
            Self::Active => LifecycleState::Active,
            Self::Deactivated { .. } => LifecycleState::Deactivated,
            Self::Deceased { .. } => LifecycleState::Deceased,
            Self::MergedInto { .. } => LifecycleState::MergedInto,
            Self::Archived { .. } => LifecycleState::Archived,
        }
    }
}
