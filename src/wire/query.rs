//! Questions about a person, and their answers.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::{Date, PersonId, PersonView, Timestamp, from_json};
use crate::wire::commit::{EventRecord, Sequence};
use crate::wire::reply::{Code, Problem};
use crate::wire::request::PAYLOAD_BYTES_MAX;

/// The events on one page of a history when the query does not say how many.
pub const HISTORY_EVENTS_DEFAULT: u64 = 100;
/// The most events on one page of a history.
pub const HISTORY_EVENTS_MAX: u64 = 1000;

/// A question about one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// What is recorded about the person.
    Get(Get),
    /// What happened to the record.
    History(History),
}

/// What is recorded about a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// Who.
    pub person: PersonId,
    /// As recorded when.
    pub at: RecordedAt,
    /// Only the attributes that are valid on this day.
    pub valid_on: Option<Date>,
}

/// A moment of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordedAt {
    /// The present.
    Now,
    /// After this many events.
    Version(u64),
    /// At this time.
    Time(Timestamp),
}

/// What happened to a person's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Whose.
    pub person: PersonId,
    /// The first event, from 1 on.
    pub from_version: u64,
    /// How many, 1 to [`HISTORY_EVENTS_MAX`].
    pub limit: u64,
}

impl Query {
    /// Whom it is about.
    pub fn person(&self) -> PersonId {
        match self {
            Self::Get(get) => get.person,
            Self::History(history) => history.person,
        }
    }
}

/// A question that cannot be asked, with the person where it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAQuery {
    /// Whom it is about.
    pub person: Option<PersonId>,
    /// What is wrong.
    pub problem: Problem,
}

/// Decodes the query of this name.
pub fn decode(name: &str, payload: &[u8]) -> Result<Query, NotAQuery> {
    match name {
        "get" => {
            let sent: SentGet = read(payload)?;
            sent.checked().map(Query::Get).map_err(|problem| NotAQuery { person: Some(sent.person_id), problem })
        }
        "history" => {
            let sent: SentHistory = read(payload)?;
            sent.checked().map(Query::History).map_err(|problem| NotAQuery { person: Some(sent.person_id), problem })
        }
        _ => Err(malformed("there are the queries get and history")),
    }
}

#[derive(Deserialize)]
struct SentGet {
    person_id: PersonId,
    at_version: Option<u64>,
    as_of: Option<Timestamp>,
    valid_on: Option<Date>,
}

impl SentGet {
    fn checked(&self) -> Result<Get, Problem> {
        let at = match (self.at_version, self.as_of) {
            (None, None) => RecordedAt::Now,
            (Some(0), None) => return Err(invalid("at_version: a version from 1 on is allowed")),
            (Some(version), None) => RecordedAt::Version(version),
            (None, Some(time)) => RecordedAt::Time(time),
            (Some(_), Some(_)) => return Err(invalid("as_of: not together with at_version")),
        };
        Ok(Get { person: self.person_id, at, valid_on: self.valid_on })
    }
}

#[derive(Deserialize)]
struct SentHistory {
    person_id: PersonId,
    from_version: Option<u64>,
    limit: Option<u64>,
}

impl SentHistory {
    fn checked(&self) -> Result<History, Problem> {
        let from_version = self.from_version.unwrap_or(1);
        let limit = self.limit.unwrap_or(HISTORY_EVENTS_DEFAULT);
        if from_version == 0 {
            return Err(invalid("from_version: a version from 1 on is allowed"));
        }
        if !(1..=HISTORY_EVENTS_MAX).contains(&limit) {
            return Err(invalid(&format!("limit: 1 to {HISTORY_EVENTS_MAX} events are allowed")));
        }
        Ok(History { person: self.person_id, from_version, limit })
    }
}

fn read<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, NotAQuery> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        let message = format!("the payload has {} bytes, {PAYLOAD_BYTES_MAX} are allowed", payload.len());
        return Err(NotAQuery { person: None, problem: Problem::new(Code::TooLarge, message) });
    }
    let sent = serde_json::from_slice(payload).map_err(|_| malformed("the payload is not JSON"))?;
    from_json(sent).map_err(|error| malformed(&error.to_string()))
}

fn malformed(message: &str) -> NotAQuery {
    NotAQuery { person: None, problem: Problem::new(Code::Malformed, message) }
}

fn invalid(message: &str) -> Problem {
    Problem::new(Code::Invalid, message)
}

/// The JSON that answers a `get`: the current version and sequence, and the person as asked for.
pub fn encode_person(version: u64, sequence: Sequence, person: &PersonView) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer<'a> {
        status: &'static str,
        version: u64,
        sequence: Sequence,
        person: &'a PersonView<'a>,
    }
    // Nothing in a view is beyond JSON: numbers are finite, keys are text.
    serde_json::to_vec(&Answer { status: "ok", version, sequence, person }).unwrap_or_default()
}

/// The JSON that answers a `history`, in the making.
#[derive(Debug)]
pub struct HistoryPage {
    events: Vec<Box<RawValue>>,
    bytes: usize,
    bytes_max: usize,
}

impl HistoryPage {
    /// An empty page that may grow to so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        const ENVELOPE_BYTES: usize = 128;
        Self { events: Vec::new(), bytes: ENVELOPE_BYTES, bytes_max }
    }

    /// How many events are on it.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether no event is on it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds the next event; `false` when it has no room.
    pub fn add(&mut self, event: &EventRecord) -> bool {
        // Nothing in an event is beyond JSON: numbers are finite, keys are text.
        let Ok(json) = serde_json::value::to_raw_value(event) else { return false };
        let bytes = self.bytes + json.get().len() + 1;
        if bytes > self.bytes_max {
            return false;
        }
        self.bytes = bytes;
        self.events.push(json);
        true
    }

    /// The answer: the person's current version, and where to go on.
    pub fn encode(self, version: u64, next_version: Option<u64>) -> Vec<u8> {
        #[derive(Serialize)]
        struct Answer {
            status: &'static str,
            version: u64,
            events: Vec<Box<RawValue>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            next_version: Option<u64>,
        }
        serde_json::to_vec(&Answer { status: "ok", version, events: self.events, next_version }).unwrap_or_default()
    }
}
