//! The commands: what somebody asks to be done to one person.

use std::sync::Arc;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::attribute::{Attribute, AttributeType};
use super::choices::choices;
use super::invalid::{Invalid, Within, check_not_blank};
use super::limits::{REASON_CHARS_MAX, SOURCE_CHARS_MAX};
use super::name::PersonName;
use super::strict::{Malformed, Others, Sent};
use super::value::{Date, PersonId};

/// A request to change one person.
///
/// Decoding, by [`from_json`](Self::from_json) or through serde's trait as in `serde_json::from_slice`, is strict: an
/// unknown member anywhere in it is an error. (The function `Command::deserialize` that is not the trait's is a part of
/// the workings and takes what the trait refuses.)
///
/// Append only: the binary form is the index of the variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(remote = "Self")]
pub enum Command {
    /// Begins the record of a person.
    CreatePerson {
        /// Who.
        person_id: PersonId,
        /// The name.
        name: Arc<PersonName>,
        /// Where the record comes from; 1 to 256 characters.
        source: String,
    },
    /// Changes the name.
    UpdateName {
        /// Whose.
        person_id: PersonId,
        /// The new name.
        name: Arc<PersonName>,
        /// Why; 1 to 256 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Records the date of birth, once.
    SetBirthDate {
        /// Whose.
        person_id: PersonId,
        /// The day of birth, not in the future.
        birth_date: Date,
    },
    /// Records the death.
    RecordDeath {
        /// Whose.
        person_id: PersonId,
        /// The day of death, not in the future and not before the birth.
        date_of_death: Date,
    },
    /// Takes the record out of use for a while.
    DeactivatePerson {
        /// Whose.
        person_id: PersonId,
        /// Why; 1 to 256 characters.
        reason: String,
    },
    /// Takes a deactivated record into use again.
    ReactivatePerson {
        /// Whose.
        person_id: PersonId,
        /// Why; 1 to 256 characters.
        reason: String,
    },
    /// Ends one record in favour of another one of the same person.
    MergePersons {
        /// The record that ends.
        source_person_id: PersonId,
        /// The record that survives.
        target_person_id: PersonId,
        /// Why.
        merge_reason: MergeReason,
    },
    /// Puts the record away for good.
    ArchivePerson {
        /// Whose.
        person_id: PersonId,
        /// Why; 1 to 256 characters.
        reason: String,
    },
    /// Records an attribute, beside those of its type that are there.
    RecordAttribute {
        /// About whom.
        person_id: PersonId,
        /// What.
        attribute: Attribute,
    },
    /// Replaces the latest recorded attribute of a type.
    UpdateAttribute {
        /// About whom.
        person_id: PersonId,
        /// Of which type.
        attribute_type: AttributeType,
        /// What stands instead of it, of the same type.
        new_attribute: Attribute,
    },
    /// Ends the validity of the attributes of a type that are valid today.
    InvalidateAttribute {
        /// About whom.
        person_id: PersonId,
        /// Of which type.
        attribute_type: AttributeType,
        /// Why; 1 to 256 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

choices! {
    /// Why two records were made one.
    MergeReason {
        /// Both are records of one person.
        DuplicateIdentity,
        /// The record that ends was bad data.
        DataQualityIssue,
        /// The person asked for it.
        UserRequested,
        /// A rule of the organisation asks for it.
        PolicyDetermined,
    }
}

impl Command {
    /// Reads one command.
    ///
    /// # Errors
    /// The value has not the shape of a command; the error names the place and quotes nothing.
    pub fn from_json(sent: serde_json_borrow::Value<'_>) -> Result<Self, Malformed> {
        Self::deserialize(Sent(sent, Others::Refused))
    }

    /// The person whose record is to change: for a merge the source.
    pub const fn person_id(&self) -> PersonId {
        match self {
            Self::MergePersons { source_person_id, .. } => *source_person_id,
            Self::CreatePerson { person_id, .. }
            | Self::UpdateName { person_id, .. }
            | Self::SetBirthDate { person_id, .. }
            | Self::RecordDeath { person_id, .. }
            | Self::DeactivatePerson { person_id, .. }
            | Self::ReactivatePerson { person_id, .. }
            | Self::ArchivePerson { person_id, .. }
            | Self::RecordAttribute { person_id, .. }
            | Self::UpdateAttribute { person_id, .. }
            | Self::InvalidateAttribute { person_id, .. } => *person_id,
        }
    }

    /// The other person that a decision needs to know of: the target of a merge.
    pub const fn merge_target(&self) -> Option<PersonId> {
        match self {
            Self::MergePersons { target_person_id, .. } => Some(*target_person_id),
            _ => None,
        }
    }

    /// The command's name, as written in JSON.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::CreatePerson { .. } => "CreatePerson",
            Self::UpdateName { .. } => "UpdateName",
            Self::SetBirthDate { .. } => "SetBirthDate",
            Self::RecordDeath { .. } => "RecordDeath",
            Self::DeactivatePerson { .. } => "DeactivatePerson",
            Self::ReactivatePerson { .. } => "ReactivatePerson",
            Self::MergePersons { .. } => "MergePersons",
            Self::ArchivePerson { .. } => "ArchivePerson",
            Self::RecordAttribute { .. } => "RecordAttribute",
            Self::UpdateAttribute { .. } => "UpdateAttribute",
            Self::InvalidateAttribute { .. } => "InvalidateAttribute",
        }
    }

    /// This command in its normal form, in which equal commands have equal binary forms: names in Unicode's normal
    /// form C, attributes without a time of recording.
    ///
    /// # Errors
    /// A value breaks a rule or a limit that depends neither on the person's state nor on the time.
    pub fn validated(mut self) -> Result<Self, Invalid> {
        self.normalise()?;
        Ok(self)
    }

    fn normalise(&mut self) -> Result<(), Invalid> {
        match self {
            Self::CreatePerson { name, source, .. } => {
                Arc::make_mut(name).normalise().within("name")?;
                check_not_blank(source, SOURCE_CHARS_MAX).within("source")
            }
            Self::UpdateName { name, reason, .. } => {
                Arc::make_mut(name).normalise().within("name")?;
                check_optional_reason(reason.as_deref())
            }
            Self::SetBirthDate { .. } | Self::RecordDeath { .. } => Ok(()),
            Self::DeactivatePerson { reason, .. }
            | Self::ReactivatePerson { reason, .. }
            | Self::ArchivePerson { reason, .. } => check_reason(reason),
            Self::MergePersons { source_person_id, target_person_id, .. } => {
                check_two(*source_person_id, *target_person_id)
            }
            Self::RecordAttribute { attribute, .. } => attribute.normalise().within("attribute"),
            Self::UpdateAttribute { attribute_type, new_attribute, .. } => {
                check_same_type(attribute_type, new_attribute)?;
                new_attribute.normalise().within("new_attribute")
            }
            Self::InvalidateAttribute { attribute_type, reason, .. } => {
                attribute_type.check().within("attribute_type")?;
                check_optional_reason(reason.as_deref())
            }
        }
    }
}

// The derived code is that of the shape alone (`remote = "Self"` makes it inherent functions), so that decoding can be
// put through the strict reader, whatever it is asked to read from.
impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sent = serde_json_borrow::Value::deserialize(deserializer)?;
        Self::from_json(sent).map_err(de::Error::custom)
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

fn check_reason(reason: &str) -> Result<(), Invalid> {
    check_not_blank(reason, REASON_CHARS_MAX).within("reason")
}

fn check_optional_reason(reason: Option<&str>) -> Result<(), Invalid> {
    reason.map_or(Ok(()), check_reason)
}

fn check_two(source: PersonId, target: PersonId) -> Result<(), Invalid> {
    if source == target {
        return Err(Invalid::at("target_person_id", "must not be the same as source_person_id"));
    }
    Ok(())
}

fn check_same_type(attribute_type: &AttributeType, new_attribute: &Attribute) -> Result<(), Invalid> {
    if new_attribute.attribute_type != *attribute_type {
        return Err(Invalid::at("new_attribute.attribute_type", "must be the same as attribute_type"));
    }
    Ok(())
}
