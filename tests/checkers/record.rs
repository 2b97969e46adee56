//! What has to be recorded of a run, so that it can be judged.

use std::collections::BTreeSet;
use std::sync::Arc;

use cim_domain_person::domain::{PersonId, Timestamp};
use cim_domain_person::wire::request::{Header, Headers};

/// A clock that never runs backwards, the same for everything in a record. Any unit; finer is better: of two moments
/// with the same number nobody knows which came first.
pub type Time = u64;

/// Everything that was seen of a run.
#[derive(Debug, Default)]
pub struct Record {
    /// Every request, each time it was sent. Retries are deliveries of their own, with the same `Nats-Msg-Id`. What is
    /// sent without one needs a `Correlation-Id` that nothing else has.
    pub deliveries: Vec<Delivery>,
    /// What happened to the log, in its order. Whoever cannot know when leaves the times out: then the final log will
    /// do, by stream sequence.
    pub log: Vec<LogChange>,
    /// Snapshots that the service wrote.
    pub snapshots: Vec<WrittenSnapshot>,
    /// Questions for a person as it is now (`get` with nothing but a `person_id`).
    pub queries: Vec<Query>,
    /// Since when nothing goes wrong any more; what is sent or asked from then on has to be answered, and decisively.
    pub healed_at: Option<Time>,
    /// Whether clocks of the service were further off than is allowed: then its promises by time are void.
    pub clocks_were_wrong: bool,
    /// The replicas that left in peace, by [`Delivery::taken_by`].
    pub drained: BTreeSet<u32>,
}

/// A request that was sent once.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Before it left.
    pub sent_at: Time,
    /// To which subject, beneath the prefix `person`.
    pub subject: String,
    /// With these headers.
    pub headers: Vec<(String, String)>,
    /// With these bytes.
    pub payload: Vec<u8>,
    /// The service's wall clock when it arrived, as near as is known.
    pub stamped_at: Timestamp,
    /// The right time when it arrived, as near as is known.
    pub arrived_at: Timestamp,
    /// Which replica took it, where that is known; a restarted one has another number.
    pub taken_by: Option<u32>,
    /// What came back: at most one is promised. None is silence.
    pub replies: Vec<Reply>,
}

/// A reply.
#[derive(Debug, Clone)]
pub struct Reply {
    /// After it arrived.
    pub at: Time,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// A question for a person as it is now.
#[derive(Debug, Clone)]
pub struct Query {
    /// For whom.
    pub person: PersonId,
    /// Before it left.
    pub sent_at: Time,
    /// What came back.
    pub replies: Vec<Reply>,
}

/// Something that happened to the log.
#[derive(Debug, Clone)]
pub struct LogChange {
    /// When exactly, where that is known.
    pub at: Option<Time>,
    /// The right time then, where it is known; else the commit's own time is taken for it.
    pub wall: Option<Timestamp>,
    /// What.
    pub what: Change,
}

/// What may happen to the log.
#[derive(Debug, Clone)]
pub enum Change {
    /// A commit was stored.
    Stored {
        /// Whose.
        person: PersonId,
        /// Where.
        sequence: u64,
        /// Its exact bytes.
        payload: Arc<[u8]>,
    },
    /// Everything after this position was lost. Until `known_at` the service could not know.
    LostAfter {
        /// The last position that is left.
        sequence: u64,
        /// When every replica had been told.
        known_at: Time,
    },
}

/// A snapshot that the service wrote.
#[derive(Debug, Clone)]
pub struct WrittenSnapshot {
    /// Whose.
    pub person: PersonId,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Headers for Delivery {
    fn get(&self, name: &str) -> Header<'_> {
        let mut found = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (None, _) => Header::Absent,
            (Some((_, value)), None) => Header::One(value),
            (Some(_), Some(_)) => Header::Several,
        }
    }
}

impl Delivery {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}
