//! The stored form of what happened: one message, the events of one request or of several that waited together.

use std::str::FromStr;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json_borrow::Value;
use uuid::Uuid;

use crate::domain::{Event, EventKind, PersonId, Timestamp, presentable_variant, unknown_variant};
use crate::wire::digest::Digest;
use crate::wire::reply::Code;
use crate::wire::upcast::{STEPS, upcast};

/// A position in the stream, from 1 on; 0 stands for "before the first message".
pub type Sequence = u64;

/// The schema that this release writes, and the newest that it reads.
pub const SCHEMA: u64 = 1;
/// The most events in one commit.
pub const EVENTS_MAX: usize = 256;
/// The largest commit, in bytes.
pub const COMMIT_BYTES_MAX: usize = 512 * 1024;
/// What the members around the events may take, in bytes, besides [`CommitCommand`]s.
const ENVELOPE_BYTES: usize = 256;

/// A commit, decoded and consistent in itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Commit {
    /// [`SCHEMA`], once decoded.
    pub schema: u64,
    /// Whose history it belongs to.
    pub aggregate_id: PersonId,
    /// The person's version after it.
    pub version: u64,
    /// The digest of the commit before it, exactly as stored; [`Digest::ZERO`] in the first.
    pub previous: Digest,
    /// Whose events these are, in order.
    pub commands: Vec<CommitCommand>,
    /// At least one, with versions without gap.
    pub events: Vec<EventRecord>,
    /// Whether its events stand in the place of others that were given up when a damaged history was repaired.
    #[serde(default, rename = "repaired", deserialize_with = "is_given")]
    pub is_repair: bool,
}

/// Whether there is a member, whatever it says: a reader needs no more of it.
fn is_given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<IgnoredAny>::deserialize(deserializer)?.is_some())
}

/// A request that a commit carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitCommand {
    /// Its command id.
    pub command_id: String,
    /// Tells its commands from others.
    pub digest: Digest,
    /// How many of the commit's events are its own.
    pub events: usize,
    /// The W3C trace context that it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Whether the service made its command id, so that no retry can bear it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generated: bool,
}

/// An event with its place in the person's history.
///
/// Its texts are its own where it was read, and borrowed (`&str`) where it is to be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord<Text = String> {
    /// The person's version after the event.
    pub sequence: u64,
    /// A UUIDv7 of its own.
    pub event_id: Uuid,
    /// What happened.
    pub event: Event,
    /// When; never before the event before it.
    pub timestamp: Timestamp,
    /// What it belongs to.
    pub correlation_id: Text,
    /// The command that caused it.
    pub causation_id: Text,
    /// Who claimed to act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Text>,
}

/// Why the bytes are no commit that this release can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A newer release wrote it: a higher schema, or a type of event or a variant in one that this one does not know,
    /// which is named.
    #[error("written by a newer release: {0}")]
    TooNew(String),
    /// No release writes such a thing.
    #[error("{0}")]
    Damaged(String),
}

impl CommitError {
    /// The code with which commands and queries for such a history are answered.
    pub const fn code(&self) -> Code {
        match self {
            Self::TooNew(_) => Code::HistoryTooNew,
            Self::Damaged(_) => Code::HistoryDamaged,
        }
    }
}

/// Decodes a commit and checks that it is consistent in itself.
pub fn decode(payload: &[u8]) -> Result<Commit, CommitError> {
    // One look at the whole payload is cheaper than one at each text in it.
    let read = match str::from_utf8(payload) {
        Ok(text) => serde_json::from_str::<Commit>(text),
        Err(_) => serde_json::from_slice(payload),
    };
    let commit = match read {
        Ok(commit) if commit.schema == SCHEMA => commit,
        _ => decode_older(payload).ok_or_else(|| why_undecodable(payload))?,
    };
    check(&commit)?;
    Ok(commit)
}

/// A commit that an older release wrote.
fn decode_older(payload: &[u8]) -> Option<Commit> {
    let commit = serde_json::from_slice(payload).ok()?;
    serde_json::from_value(upcast(commit, STEPS)?).ok()
}

/// Looks at a payload that did not decode for signs of a newer release.
fn why_undecodable(payload: &[u8]) -> CommitError {
    #[derive(Deserialize)]
    struct SchemaOnly {
        schema: u64,
    }
    #[derive(Deserialize)]
    struct Outline<'a> {
        #[serde(borrow, default)]
        events: Vec<EventOutline<'a>>,
    }
    #[derive(Deserialize)]
    struct EventOutline<'a> {
        #[serde(borrow)]
        event: &'a RawValue,
    }
    let damaged = |what: &str| CommitError::Damaged(what.to_owned());
    match serde_json::from_slice(payload) {
        Ok(SchemaOnly { schema }) if schema > SCHEMA => {
            return CommitError::TooNew(format!("schema {schema}, this release reads up to {SCHEMA}"));
        }
        Ok(SchemaOnly { schema }) if schema < SCHEMA => return damaged(&format!("no schema {schema}")),
        Ok(_) => {}
        Err(_) => return damaged("not a commit"),
    }
    let Ok(Outline { events }) = serde_json::from_slice(payload) else { return damaged("not a commit") };
    match events.into_iter().find_map(|outline| unknown_to_us(outline.event.get())) {
        Some(unknown) => CommitError::TooNew(format!("{unknown}, which this release does not know")),
        None => damaged("a commit that does not decode"),
    }
}

/// The type of event that we do not know, or the variant inside of one.
fn unknown_to_us(event: &str) -> Option<String> {
    let event: Value<'_> = serde_json::from_str(event).ok()?;
    let unknown_kind = |name: &str| EventKind::from_str(name).is_err().then(|| presentable_variant(name).to_owned());
    let unknown = match &event {
        Value::Object(members) => members.keys().find_map(unknown_kind),
        Value::Str(kind) => unknown_kind(kind),
        _ => None,
    };
    if let Some(kind) = unknown {
        return Some(format!("the event type {kind}"));
    }
    unknown_variant::<Event>(event).map(|(name, place)| format!("the variant {name} of {place}"))
}

fn check(commit: &Commit) -> Result<(), CommitError> {
    let damaged = |what: &str| Err(CommitError::Damaged(what.to_owned()));
    let Some(last) = commit.events.last() else { return damaged("a commit without events") };
    let gap_free = commit
        .events
        .iter()
        .zip(commit.events.iter().skip(1))
        .all(|(one, next)| one.sequence.checked_add(1) == Some(next.sequence) && one.timestamp <= next.timestamp);
    if !gap_free || last.sequence != commit.version || commit.first_version() == 0 {
        return damaged("the versions or times of a commit's events do not follow each other");
    }
    let accounted_for = commit.commands.iter().try_fold(0_usize, |sum, command| sum.checked_add(command.events));
    if accounted_for != Some(commit.events.len()) {
        return damaged("a commit whose commands do not account for its events");
    }
    if commit.events.iter().any(|record| record.event.person_id() != commit.aggregate_id) {
        return damaged("an event of another person");
    }
    Ok(())
}

impl Commit {
    /// The person's version after the first event.
    pub fn first_version(&self) -> u64 {
        self.events.first().map_or(0, |event| event.sequence)
    }

    /// Each request that was carried out, with its own events.
    pub fn by_command(&self) -> impl Iterator<Item = (&CommitCommand, &[EventRecord])> {
        let mut rest = self.events.as_slice();
        self.commands.iter().map(move |command| {
            let (own, others) = rest.split_at_checked(command.events).unwrap_or((rest, &[]));
            rest = others;
            (command, own)
        })
    }
}

/// A commit while it grows. Every event is encoded once, when it is added, so that the size is known at each step.
#[derive(Debug, Default)]
pub struct CommitBuilder {
    commands: Vec<CommitCommand>,
    /// Their JSON, joined by commas.
    events: Vec<u8>,
    events_len: usize,
    commands_bytes: usize,
}

/// What a [`CommitBuilder`] held at some moment.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    commands: usize,
    events: usize,
    events_len: usize,
    commands_bytes: usize,
}

impl CommitBuilder {
    /// Whether no event is in it.
    pub fn is_empty(&self) -> bool {
        self.events_len == 0
    }

    /// Whether it has more events than a commit may have, or its payload might have more bytes than this.
    pub fn is_over(&self, payload_bytes_max: usize) -> bool {
        self.events_len > EVENTS_MAX || self.bytes() > payload_bytes_max
    }

    /// What it holds now, to come back to by [`rewind`](Self::rewind).
    pub fn mark(&self) -> Mark {
        let Self { commands, events, events_len, commands_bytes } = self;
        Mark {
            commands: commands.len(),
            events: events.len(),
            events_len: *events_len,
            commands_bytes: *commands_bytes,
        }
    }

    /// Forgets what was added since the mark.
    pub fn rewind(&mut self, mark: Mark) {
        self.commands.truncate(mark.commands);
        self.events.truncate(mark.events);
        self.events_len = mark.events_len;
        self.commands_bytes = mark.commands_bytes;
    }

    /// Names the command whose events are added next.
    pub fn begin_command(&mut self, command: CommitCommand) {
        const MEMBERS_BYTES: usize = 130;
        // Both are visible ASCII: escaped they grow at most to their double.
        let texts = 2 * (command.command_id.len() + command.traceparent.as_ref().map_or(0, String::len));
        self.commands_bytes += MEMBERS_BYTES + texts;
        self.commands.push(CommitCommand { events: 0, ..command });
    }

    /// Adds an event of the command that began last.
    pub fn add_event<Text: Serialize>(&mut self, record: &EventRecord<Text>) -> Result<(), serde_json::Error> {
        /// More than the JSON of most events takes.
        const EVENT_BYTES: usize = 1024;
        self.events.reserve(EVENT_BYTES);
        let before = self.events.len();
        if before > 0 {
            self.events.push(b',');
        }
        if let Err(error) = serde_json::to_writer(&mut self.events, record) {
            self.events.truncate(before);
            return Err(error);
        }
        self.events_len += 1;
        if let Some(command) = self.commands.last_mut() {
            command.events += 1;
        }
        Ok(())
    }

    /// The commands in it.
    pub fn commands(&self) -> &[CommitCommand] {
        &self.commands
    }

    /// The payload.
    pub fn encode(&self, person: PersonId, version: u64, previous: Digest) -> Result<Vec<u8>, serde_json::Error> {
        #[derive(Serialize)]
        struct Head<'a> {
            schema: u64,
            aggregate_id: PersonId,
            version: u64,
            previous: Digest,
            commands: &'a [CommitCommand],
        }
        let head = Head { schema: SCHEMA, aggregate_id: person, version, previous, commands: &self.commands };
        let mut bytes = Vec::with_capacity(self.bytes());
        serde_json::to_writer(&mut bytes, &head)?;
        // The last member follows in the place of the closing brace.
        bytes.pop();
        bytes.extend_from_slice(b",\"events\":[");
        bytes.extend_from_slice(&self.events);
        bytes.extend_from_slice(b"]}");
        Ok(bytes)
    }

    /// What the payload may take, in bytes.
    fn bytes(&self) -> usize {
        ENVELOPE_BYTES + self.commands_bytes + self.events.len()
    }
}
