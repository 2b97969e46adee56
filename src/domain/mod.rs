//! The Person domain, pure: no clock, no randomness, no input or output.
//!
//! In reading order: the values that a command carries, the commands, the events, the state that the events add up to
//! ([`evolve`]), the decision which event a command becomes ([`decide()`]), and what a query shows ([`PersonView`]).

mod attribute;
mod attributes;
pub mod binary;
mod choices;
mod command;
mod decide;
mod display;
mod event;
mod few;
mod invalid;
pub mod limits;
mod name;
mod person;
mod refusal;
mod strict;
mod value;
mod view;

pub use attribute::{
    Attribute, AttributeType, AttributeValue, BiologicalSex, BloodType, Confidence, EyeColor, HairColor, Handedness,
    JsonValue, Precision, Provenance, Temporal, Transformation, ValueKind, ValueSource,
};
pub use attribute::{DemographicType, HealthcareType, IdentifyingType, PhysicalType};
pub use attributes::Attributes;
pub use command::{Command, MergeReason};
pub use decide::{Context, Decision, TargetState, decide};
pub use display::DisplayNames;
pub use event::{Event, EventKind, EventKinds, UnknownEventKind};
pub use few::{Few, Text};
pub use invalid::Invalid;
pub use name::{NameComponents, NamingConvention, PersonName};
pub use person::{Lifecycle, LifecycleState, Person, evolve};
pub use refusal::{Party, Refusal};
pub use strict::{Malformed, from_json, presentable_variant, unknown_variant};
pub use value::{Date, NotADate, NotATime, NotAUuid, PersonId, Timestamp, from_text};
pub use view::PersonView;
