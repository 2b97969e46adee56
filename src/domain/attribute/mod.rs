//! An attribute: something that is recorded about a person, since when and until when it holds, and who says so.

mod kind;
mod provenance;
mod takes;
mod value;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::invalid::{Invalid, Within};
use super::value::{Date, Timestamp, null_as_default};

pub use kind::{AttributeType, DemographicType, HealthcareType, IdentifyingType, PhysicalType};
pub use provenance::{Confidence, Provenance, Transformation, ValueSource};
pub use value::{
    AttributeValue, BiologicalSex, BloodType, EyeColor, HairColor, Handedness, JsonValue, Precision, ValueKind,
};

/// Something recorded about a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct Attribute {
    /// What it is about.
    pub attribute_type: AttributeType,
    /// What it says; of a kind that the type takes.
    pub value: AttributeValue,
    /// When it was recorded, and the period in which it holds.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Temporal::is_empty")]
    pub temporal: Temporal,
    /// Who says so.
    pub provenance: Provenance,
}

/// When an attribute was recorded, and the half-open period of days in which it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Temporal {
    /// When the service recorded it. One that is sent is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// The first day on which it holds; without one it has always held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Date>,
    /// The first day on which it holds no longer; without one it holds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Date>,
}

impl Attribute {
    /// Whether it holds on this day.
    pub fn is_valid_on(&self, day: Date) -> bool {
        let Temporal { valid_from, valid_until, .. } = self.temporal;
        valid_from.is_none_or(|from| from <= day) && valid_until.is_none_or(|until| day < until)
    }

    /// Whether both say the same, no matter when they were recorded.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let untimed = |temporal: Temporal| Temporal { recorded_at: None, ..temporal };
        self.attribute_type == other.attribute_type
            && self.value == other.value
            && untimed(self.temporal) == untimed(other.temporal)
            && self.provenance == other.provenance
    }

    /// This attribute as recorded at `now`.
    pub(super) fn recorded_at(&self, now: Timestamp) -> Self {
        let temporal = Temporal { recorded_at: Some(now), ..self.temporal };
        Self { temporal, ..self.clone() }
    }

    /// Takes away a time of recording and brings numbers into their one form.
    ///
    /// # Errors
    /// A part breaks a rule of its own, the value is of a kind that the type does not take, or the period ends before
    /// it begins.
    pub(super) fn normalise(&mut self) -> Result<(), Invalid> {
        self.attribute_type.check().within("attribute_type")?;
        self.attribute_type.check_takes(self.value.kind()).within("value")?;
        self.value.normalise().within("value")?;
        self.temporal.normalise().within("temporal")?;
        self.provenance.check().within("provenance")
    }
}

impl Temporal {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn normalise(&mut self) -> Result<(), Invalid> {
        self.recorded_at = None;
        match (self.valid_from, self.valid_until) {
            (Some(from), Some(until)) if until < from => {
                Err(Invalid::at("valid_until", "must not be before valid_from"))
            }
            _ => Ok(()),
        }
    }
}
