//! What a query shows of a person.

use serde::Serialize;

use super::attribute::Attribute;
use super::display::DisplayNames;
use super::name::PersonName;
use super::person::{Lifecycle, Person};
use super::value::{Date, PersonId, Timestamp};

/// A person as a query answers, borrowed from the state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PersonView<'a> {
    /// Who.
    pub id: PersonId,
    /// The name, as in commands.
    pub name: &'a PersonName,
    /// The name written for each use.
    pub display: DisplayNames,
    /// The day of birth, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<Date>,
    /// The day of death, once it is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub death_date: Option<Date>,
    /// What may still be done with the record.
    pub lifecycle: &'a Lifecycle,
    /// The attributes that were asked for, the latest recorded last.
    pub attributes: Vec<&'a Attribute>,
    /// When the record began.
    pub created_at: Timestamp,
    /// When the latest event happened.
    pub updated_at: Timestamp,
    /// How many events led to what is shown.
    pub version: u64,
}

impl<'a> PersonView<'a> {
    /// A person at a version, with all attributes, or with those alone that are valid on a day.
    pub fn new(person: &'a Person, version: u64, valid_on: Option<Date>) -> Self {
        let is_shown = |attribute: &&Attribute| valid_on.is_none_or(|day| attribute.is_valid_on(day));
        Self {
            id: person.id,
            name: &person.name,
            display: DisplayNames::of(&person.name),
            birth_date: person.birth_date,
            death_date: person.death_date,
            lifecycle: &person.lifecycle,
            attributes: person.attributes.iter().filter(is_shown).collect(),
            created_at: person.created_at,
            updated_at: person.updated_at,
            version,
        }
    }
}
