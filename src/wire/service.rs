//! The NATS services protocol (ADR-32): who serves here, what, and how it went. `nats micro ls`, `info` and `stats` read
//! it.

use serde::Serialize;

use crate::domain::Timestamp;
use crate::wire::subject::{SERVICE_NAME, Subjects};

/// Everything that is asked of services. One subscription takes all of it; most is for others.
pub const ALL_SERVICES: &str = "$SRV.>";

/// What is served. `nats micro ls` has it in a table with the 32 characters of an id: a sentence would make that wider than
/// a terminal is.
const DESCRIPTION: &str = "event-sourced person record";

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Who is there?
    Ping,
    /// What is served, and where?
    Info,
    /// How did it go?
    Stats,
}

/// What is asked by a message to this subject, if it is for the instance with this id: for all services, for those of
/// this name, or for this instance.
pub fn verb(subject: &str, id: &str) -> Option<Verb> {
    let mut tokens = subject.strip_prefix("$SRV.")?.split('.');
    let verb = match tokens.next()? {
        "PING" => Verb::Ping,
        "INFO" => Verb::Info,
        "STATS" => Verb::Stats,
        _ => return None,
    };
    let is_for_us = tokens.next().is_none_or(|name| name == SERVICE_NAME) && tokens.next().is_none_or(|one| one == id);
    (is_for_us && tokens.next().is_none()).then_some(verb)
}

/// What happened at one endpoint since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EndpointStats {
    /// Requests that came to an end.
    pub num_requests: u64,
    /// Those that were refused or failed.
    pub num_errors: u64,
    /// The code of the last of them; empty when there was none.
    pub last_error: &'static str,
    /// The time from arrival to answer, over all of them, in nanoseconds.
    pub processing_time: u64,
    /// The same for one, on average.
    pub average_processing_time: u64,
    /// What else there is to know; an object.
    pub data: serde_json::Value,
}

/// How an instance shares the persons with others. Metadata is text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The NATS cluster that it is in; empty for a server that is in none.
    pub cluster: String,
    /// The form in which it hands over; see [`PROTOCOL`](crate::wire::parcel::PROTOCOL).
    pub protocol: String,
    /// How many replicas share the persons, it included.
    pub members: String,
}

/// This instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its own id: letters and digits.
    pub id: String,
    /// When it began to serve.
    pub started: Timestamp,
    /// The subjects that it serves.
    pub subjects: Subjects,
}

#[derive(Serialize)]
struct Identity<'a> {
    r#type: &'static str,
    name: &'static str,
    id: &'a str,
    version: &'static str,
    metadata: &'a Metadata,
}

#[derive(Serialize)]
struct Endpoint<T: Serialize> {
    name: &'static str,
    subject: String,
    queue_group: &'static str,
    #[serde(flatten)]
    more: T,
}

#[derive(Serialize)]
struct NoMore {
    metadata: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    identity: Identity<'a>,
    description: &'static str,
    endpoints: [Endpoint<NoMore>; 2],
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(flatten)]
    identity: Identity<'a>,
    started: Timestamp,
    endpoints: [Endpoint<EndpointStats>; 2],
}

impl Instance {
    /// The JSON that answers; `stats` are those of the commands and of the queries.
    pub fn answer(&self, verb: Verb, metadata: &Metadata, stats: impl FnOnce() -> [EndpointStats; 2]) -> Vec<u8> {
        let json = match verb {
            Verb::Ping => serde_json::to_vec(&self.identity("io.nats.micro.v1.ping_response", metadata)),
            Verb::Info => serde_json::to_vec(&Info {
                identity: self.identity("io.nats.micro.v1.info_response", metadata),
                description: DESCRIPTION,
                endpoints: self.endpoints([(); 2].map(|()| NoMore { metadata: Default::default() })),
            }),
            Verb::Stats => serde_json::to_vec(&Stats {
                identity: self.identity("io.nats.micro.v1.stats_response", metadata),
                started: self.started,
                endpoints: self.endpoints(stats()),
            }),
        };
        // Text and numbers: there is nothing in it that JSON cannot say.
        json.unwrap_or_default()
    }

    fn identity<'a>(&'a self, r#type: &'static str, metadata: &'a Metadata) -> Identity<'a> {
        let version = env!("CARGO_PKG_VERSION");
        Identity { r#type, name: SERVICE_NAME, id: &self.id, version, metadata }
    }

    fn endpoints<T: Serialize>(&self, [commands, queries]: [T; 2]) -> [Endpoint<T>; 2] {
        let endpoint = |name, subject, more| Endpoint { name, subject, queue_group: SERVICE_NAME, more };
        [
            endpoint("commands", self.subjects.all_commands(), commands),
            endpoint("queries", self.subjects.all_queries(), queries),
        ]
    }
}
