//! What a client gets back: the outcome of a command and its JSON.

use serde::Serialize;

use crate::domain::{EventKind, EventKinds, PersonId};
use crate::wire::commit::Sequence;

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out, now or by an earlier delivery; or there was nothing to change.
    Accepted(Accepted),
    /// Refused or failed; the code says which.
    Problem(Problem),
}

/// A command that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accepted {
    /// The person's version after the command.
    pub version: u64,
    /// The types of the events that it made, in order.
    pub events: EventKinds,
    /// Where the commit with its events lies; `None` where nothing was stored.
    pub sequence: Option<Sequence>,
    /// Whether an earlier delivery of the same command did it.
    pub duplicate: bool,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// For people; names fields and rules, never values.
    pub message: String,
    /// In an array, which command, from 0.
    pub index: Option<usize>,
    /// The surviving person, with [`Code::PersonMerged`].
    pub moved_to: Option<PersonId>,
    /// The person's version on which this was decided, where it was loaded.
    pub version: Option<u64>,
}

impl Problem {
    /// A problem with a code and a sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), index: None, moved_to: None, version: None }
    }

    /// The same, at this position of an array.
    pub fn at(self, index: Option<usize>) -> Self {
        Self { index, ..self }
    }

    /// The same, decided at this version.
    pub fn on_version(self, version: u64) -> Self {
        Self { version: Some(version), ..self }
    }
}

/// The codes of the wire contract. Rejected codes mean that the command was wrong for the state it met; failed codes
/// mean that it could not be decided or stored now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Not decodable.
    Malformed,
    /// A value breaks a rule or a limit.
    Invalid,
    /// Subject, array or payload name different persons.
    PersonIdMismatch,
    /// No such person, or no such merge target.
    PersonNotFound,
    /// No attribute of that type that the command could act on.
    AttributeNotFound,
    /// The person exists already.
    AlreadyExists,
    /// Not allowed in the lifecycle state.
    InvalidState,
    /// The birth date is set, to another date.
    BirthDateAlreadySet,
    /// `Expected-Version` did not hold.
    VersionConflict,
    /// The command id belongs to a different command.
    CommandIdReused,
    /// The person was merged into another.
    PersonMerged,
    /// Over a limit of size.
    TooLarge,
    /// No room, or no time left.
    Overloaded,
    /// The stored history does not check out.
    HistoryDamaged,
    /// The store could not be reached.
    Unavailable,
    /// The history was written by a newer release.
    HistoryTooNew,
    /// It may or may not have been stored.
    OutcomeUnknown,
}

impl Code {
    /// Every code, in the order of the contract.
    pub const ALL: [Self; 17] = [
        Self::Malformed,
        Self::Invalid,
        Self::PersonIdMismatch,
        Self::PersonNotFound,
        Self::AttributeNotFound,
        Self::AlreadyExists,
        Self::InvalidState,
        Self::BirthDateAlreadySet,
        Self::VersionConflict,
        Self::CommandIdReused,
        Self::PersonMerged,
        Self::TooLarge,
        Self::Overloaded,
        Self::HistoryDamaged,
        Self::Unavailable,
        Self::HistoryTooNew,
        Self::OutcomeUnknown,
    ];

    /// The code's name and its number, as they stand in replies.
    const fn text_and_number(self) -> (&'static str, u16) {
        match self {
            Self::Malformed => ("malformed", 400),
            Self::Invalid => ("invalid", 400),
            Self::PersonIdMismatch => ("person_id_mismatch", 400),
            Self::PersonNotFound => ("person_not_found", 404),
            Self::AttributeNotFound => ("attribute_not_found", 404),
            Self::AlreadyExists => ("already_exists", 409),
            Self::InvalidState => ("invalid_state", 409),
            Self::BirthDateAlreadySet => ("birth_date_already_set", 409),
            Self::VersionConflict => ("version_conflict", 409),
            Self::CommandIdReused => ("command_id_reused", 409),
            Self::PersonMerged => ("person_merged", 410),
            Self::TooLarge => ("too_large", 413),
            Self::Overloaded => ("overloaded", 429),
            Self::HistoryDamaged => ("history_damaged", 500),
            Self::Unavailable => ("unavailable", 503),
            Self::HistoryTooNew => ("history_too_new", 503),
            Self::OutcomeUnknown => ("outcome_unknown", 504),
        }
    }

    /// The code's name.
    pub const fn as_str(self) -> &'static str {
        self.text_and_number().0
    }

    /// The code's number, in the manner of HTTP.
    pub const fn number(self) -> u16 {
        self.text_and_number().1
    }

    /// Whether the command could not be decided or stored now, rather than being wrong.
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Overloaded | Self::HistoryDamaged | Self::Unavailable | Self::HistoryTooNew | Self::OutcomeUnknown
        )
    }

    /// Whether sending the same again may be answered differently.
    pub const fn is_retryable(self) -> bool {
        self.is_failure() && !matches!(self, Self::HistoryDamaged)
    }
}

/// The reply's JSON.
///
/// `command_id` is absent where its header was bad, `aggregate_id` where the payload did not tell it.
pub fn encode(command_id: Option<&str>, aggregate_id: Option<PersonId>, outcome: &Outcome) -> Vec<u8> {
    let body = match outcome {
        Outcome::Accepted(accepted) => Body {
            status: "accepted",
            command_id,
            aggregate_id,
            version: Some(accepted.version),
            events_generated: Some(accepted.events.len()),
            events: Some(&accepted.events),
            sequence: accepted.sequence,
            duplicate: Some(accepted.duplicate),
            error: None,
        },
        Outcome::Problem(problem) => Body {
            status: if problem.code.is_failure() { "failed" } else { "rejected" },
            command_id,
            aggregate_id,
            version: problem.version,
            error: Some(ErrorBody {
                code: problem.code.as_str(),
                message: &problem.message,
                retryable: problem.code.is_retryable(),
                index: problem.index,
                moved_to: problem.moved_to,
            }),
            ..Body::default()
        },
    };
    /// More than most replies have.
    const REPLY_BYTES: usize = 320;
    let mut json = Vec::with_capacity(REPLY_BYTES);
    // Strings, numbers and lists of them: there is nothing in it that JSON cannot say.
    serde_json::to_writer(&mut json, &body).map_or_else(|_| Vec::new(), |()| json)
}

#[derive(Serialize, Default)]
struct Body<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregate_id: Option<PersonId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events_generated: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<&'a [EventKind]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<Sequence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody<'a>>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_to: Option<PersonId>,
}
