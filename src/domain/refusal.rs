//! Why a person's state does not allow a command.

use std::fmt;

use super::invalid::Invalid;
use super::person::LifecycleState;
use super::value::PersonId;

/// A command that was refused. The messages are for people and hold no personal data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such person.
    #[error("the {0} does not exist")]
    NotFound(Party),
    /// The merge cannot be decided without the target's state, which the context lacks: read it and decide again.
    /// Never an answer for a client.
    #[error("the merge target has not been read")]
    TargetNotRead,
    /// There is no attribute of that type, or to be invalidated none that is valid today.
    #[error("{0}")]
    AttributeNotFound(&'static str),
    /// A person with this id exists already, in whatever state.
    #[error("the person exists already")]
    AlreadyExists,
    /// The lifecycle state does not allow the command.
    #[error("the {party} is {}, which does not allow {command}", state.as_str())]
    InvalidState {
        /// Whose state.
        party: Party,
        /// Which state.
        state: LifecycleState,
        /// The command's name.
        command: &'static str,
    },
    /// The birth date is set, to another day.
    #[error("the birth date is set already, to another day")]
    BirthDateAlreadySet,
    /// The record ended in favour of another one.
    #[error("the {party} was merged into {moved_to}")]
    PersonMerged {
        /// Whose record.
        party: Party,
        /// The record that survives.
        moved_to: PersonId,
    },
    /// A value breaks a rule that depends on the time or the state.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The person would outgrow a limit.
    #[error("{what} must have at most {max} {unit}")]
    TooLarge {
        /// What would be too large.
        what: &'static str,
        /// The limit.
        max: usize,
        /// The limit's unit.
        unit: &'static str,
    },
}

/// One of the persons that a command speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The one to be changed.
    Person,
    /// The target of a merge.
    MergeTarget,
}

impl Refusal {
    /// Whether no later event could lead to another answer, so that it need not be confirmed on the newest state: the
    /// person exists, is merged or is archived, and always will be.
    ///
    /// This holds of a refusal that was decided on stored state. One decided on top of events that are yet to be stored
    /// is no more final than they are.
    pub fn is_final(&self) -> bool {
        match self {
            Self::AlreadyExists | Self::PersonMerged { party: Party::Person, .. } => true,
            Self::InvalidState { party: Party::Person, state, .. } => *state == LifecycleState::Archived,
            _ => false,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Person => "person",
            Self::MergeTarget => "merge target",
        })
    }
}
