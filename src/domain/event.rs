//! The events: what happened to a person. Stored for ever, so a variant or a member may be added, never changed.

use std::str::FromStr;
use std::sync::Arc;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::attribute::{Attribute, AttributeType};
use super::choices::choices;
use super::command::MergeReason;
use super::few::Few;
use super::name::PersonName;
use super::value::{Date, PersonId, Timestamp};

/// Something that happened to a person. Members that this build does not know are ignored. What is large is shared with
/// the state that it came from and the one that it leads to.
///
/// Append only: the binary form is the index of the variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub enum Event {
    /// The record began.
    PersonCreated {
        /// Who.
        person_id: PersonId,
        /// The name.
        name: Arc<PersonName>,
        /// Where the record comes from.
        source: String,
        /// When.
        created_at: Timestamp,
    },
    /// The name changed.
    NameUpdated {
        /// Whose.
        person_id: PersonId,
        /// The name until then.
        old_name: Arc<PersonName>,
        /// The name from then on.
        new_name: Arc<PersonName>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// When.
        updated_at: Timestamp,
    },
    /// The date of birth became known.
    BirthDateSet {
        /// Whose.
        person_id: PersonId,
        /// The day of birth.
        birth_date: Date,
        /// When it was recorded.
        set_at: Timestamp,
    },
    /// The death became known.
    DeathRecorded {
        /// Whose.
        person_id: PersonId,
        /// The day of death.
        date_of_death: Date,
        /// When it was recorded.
        recorded_at: Timestamp,
    },
    /// The record was taken out of use.
    PersonDeactivated {
        /// Whose.
        person_id: PersonId,
        /// Why.
        reason: String,
        /// When.
        deactivated_at: Timestamp,
    },
    /// The record was taken into use again.
    PersonReactivated {
        /// Whose.
        person_id: PersonId,
        /// Why.
        reason: String,
        /// When.
        reactivated_at: Timestamp,
    },
    /// The record ended in favour of another one.
    PersonMergedInto {
        /// The record that ended.
        source_person_id: PersonId,
        /// The record that survives.
        merged_into_id: PersonId,
        /// Why.
        merge_reason: MergeReason,
        /// When.
        merged_at: Timestamp,
    },
    /// The record was put away for good.
    PersonArchived {
        /// Whose.
        person_id: PersonId,
        /// Why.
        reason: String,
        /// When.
        archived_at: Timestamp,
    },
    /// An attribute was recorded.
    AttributeRecorded {
        /// About whom.
        person_id: PersonId,
        /// What.
        attribute: Arc<Attribute>,
        /// When.
        recorded_at: Timestamp,
    },
    /// The latest recorded attribute of a type was replaced.
    AttributeUpdated {
        /// About whom.
        person_id: PersonId,
        /// Of which type.
        attribute_type: AttributeType,
        /// What stood there.
        old_attribute: Arc<Attribute>,
        /// What stands there now.
        new_attribute: Arc<Attribute>,
        /// When.
        updated_at: Timestamp,
    },
    /// The validity of the attributes of a type that were valid on that day (UTC) ended with it.
    AttributeInvalidated {
        /// About whom.
        person_id: PersonId,
        /// Of which type.
        attribute_type: AttributeType,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// When.
        invalidated_at: Timestamp,
    },
}

choices! {
    /// The types of [`Event`], by the same names.
    EventKind {
        PersonCreated, NameUpdated, BirthDateSet, DeathRecorded, PersonDeactivated, PersonReactivated,
        PersonMergedInto, PersonArchived, AttributeRecorded, AttributeUpdated, AttributeInvalidated,
    }
}

/// The types of the events of one command or several, in order. Nearly every command makes one.
pub type EventKinds = Few<EventKind, 16>;

/// The name is not that of an event type that this build knows: a newer release may have written it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown event type")]
pub struct UnknownEventKind;

impl FromStr for EventKind {
    type Err = UnknownEventKind;

    fn from_str(name: &str) -> Result<Self, UnknownEventKind> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name).ok_or(UnknownEventKind)
    }
}

impl Event {
    /// Which type of event this is.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::PersonCreated { .. } => EventKind::PersonCreated,
            Self::NameUpdated { .. } => EventKind::NameUpdated,
            Self::BirthDateSet { .. } => EventKind::BirthDateSet,
            Self::DeathRecorded { .. } => EventKind::DeathRecorded,
            Self::PersonDeactivated { .. } => EventKind::PersonDeactivated,
            Self::PersonReactivated { .. } => EventKind::PersonReactivated,
            Self::PersonMergedInto { .. } => EventKind::PersonMergedInto,
            Self::PersonArchived { .. } => EventKind::PersonArchived,
            Self::AttributeRecorded { .. } => EventKind::AttributeRecorded,
            Self::AttributeUpdated { .. } => EventKind::AttributeUpdated,
            Self::AttributeInvalidated { .. } => EventKind::AttributeInvalidated,
        }
    }

    /// The person to whom it happened: for a merge the source.
    pub const fn person_id(&self) -> PersonId {
        match self {
            Self::PersonMergedInto { source_person_id, .. } => *source_person_id,
            Self::PersonCreated { person_id, .. }
            | Self::NameUpdated { person_id, .. }
            | Self::BirthDateSet { person_id, .. }
            | Self::DeathRecorded { person_id, .. }
            | Self::PersonDeactivated { person_id, .. }
            | Self::PersonReactivated { person_id, .. }
            | Self::PersonArchived { person_id, .. }
            | Self::AttributeRecorded { person_id, .. }
            | Self::AttributeUpdated { person_id, .. }
            | Self::AttributeInvalidated { person_id, .. } => *person_id,
        }
    }

    /// When it happened, by the service's clock.
    pub const fn happened_at(&self) -> Timestamp {
        match self {
            Self::PersonCreated { created_at: at, .. }
            | Self::NameUpdated { updated_at: at, .. }
            | Self::BirthDateSet { set_at: at, .. }
            | Self::DeathRecorded { recorded_at: at, .. }
            | Self::PersonDeactivated { deactivated_at: at, .. }
            | Self::PersonReactivated { reactivated_at: at, .. }
            | Self::PersonMergedInto { merged_at: at, .. }
            | Self::PersonArchived { archived_at: at, .. }
            | Self::AttributeRecorded { recorded_at: at, .. }
            | Self::AttributeUpdated { updated_at: at, .. }
            | Self::AttributeInvalidated { invalidated_at: at, .. } => *at,
        }
    }
}
