//! The pure domain: what is read, what is refused, what happens, what is shown.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper of a test may fail it, as the test may")]

pub mod arbitrary;
mod attributes;
mod decisions;
mod display;
mod folding;
mod properties;
mod shapes;
mod validation;

use cim_domain_person::domain::{
    Attribute, AttributeType, AttributeValue, Command, Confidence, Date, Event, IdentifyingType, NameComponents,
    NamingConvention, Person, PersonId, PersonName, Provenance, Temporal, Timestamp, ValueSource, evolve,
};

pub const ANN: &str = "0197a1b2-0000-7000-8000-00000000000a";
pub const BOB: &str = "0197a1b2-0000-7000-8000-00000000000b";
pub const CAT: &str = "0197a1b2-0000-7000-8000-00000000000c";

/// Noon in UTC: the tenth of March in most of the world, the eleventh at UTC+14.
pub const NOW: &str = "2026-03-10T12:00:00Z";

pub fn id(text: &str) -> PersonId {
    text.parse().unwrap()
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn day(text: &str) -> Date {
    text.parse().unwrap()
}

pub fn name(given: &str, family: &str) -> PersonName {
    let list = |name: &str| (!name.is_empty()).then(|| name.into()).into_iter().collect();
    PersonName {
        components: NameComponents {
            given_names: list(given),
            family_names: list(family),
            ..NameComponents::default()
        },
        preferred_form: None,
        naming_convention: NamingConvention::Western,
    }
}

pub fn attribute(attribute_type: AttributeType, value: AttributeValue) -> Attribute {
    let provenance = Provenance {
        source: ValueSource::SelfReported,
        confidence: Confidence::Certain,
        recorded_by: None,
        trace: Vec::new(),
    };
    Attribute { attribute_type, value, temporal: Temporal::default(), provenance }
}

pub const NATIONAL_ID: AttributeType = AttributeType::Identifying(IdentifyingType::NationalId);

/// An attribute that holds in a period; an empty string is no bound.
pub fn national_id(text: &str, valid_from: &str, valid_until: &str) -> Attribute {
    let bound = |text: &str| (!text.is_empty()).then(|| day(text));
    let temporal = Temporal { recorded_at: None, valid_from: bound(valid_from), valid_until: bound(valid_until) };
    Attribute { temporal, ..attribute(NATIONAL_ID, AttributeValue::Text(text.to_owned())) }
}

/// The state that the events add up to.
pub fn folded<'a>(events: impl IntoIterator<Item = &'a Event>) -> Option<Person> {
    let mut state = None;
    events.into_iter().for_each(|event| evolve(&mut state, event));
    state
}

/// A command from its JSON form, decoded but not validated.
pub fn command(json: serde_json::Value) -> Command {
    serde_json::from_value(json).unwrap()
}
