//! Histories written into a stream without the service: valid ones, quickly, and any kind of damage.

use cim_domain_person::domain::{
    Event, MergeReason, NameComponents, NamingConvention, PersonId, PersonName, Timestamp,
};
use cim_domain_person::wire::commit::{CommitBuilder, CommitCommand, EventRecord, Sequence};
use cim_domain_person::wire::digest::Digest;
use serde_json::{Value, json};

use super::raw::Raw;
use super::{PATIENCE, streams};

/// Messages that are sent before the last of them is waited for. The server takes in 100,000 at most.
const UNACKNOWLEDGED_MAX: u64 = 2_000;

/// Writes to a stream.
pub struct Writer {
    raw: Raw,
    sent: u64,
}

/// The history of one person, as far as it was written.
#[derive(Debug, Clone)]
pub struct History {
    pub person: PersonId,
    pub version: u64,
    pub previous: Digest,
    pub at: Timestamp,
}

/// A person's name.
pub fn name(given: &str) -> PersonName {
    PersonName {
        components: NameComponents { given_names: [given.into()].into(), ..NameComponents::default() },
        preferred_form: None,
        naming_convention: NamingConvention::Western,
    }
}

impl History {
    pub fn of(person: PersonId) -> Self {
        Self { person, version: 0, previous: Digest::ZERO, at: Timestamp::from_micros(1_700_000_000_000_000) }
    }

    /// The next commit, of these events, as the service would write it.
    pub fn commit(&mut self, events: Vec<Event>) -> Vec<u8> {
        let command = format!("{}-{}", self.person, self.version);
        let mut builder = CommitBuilder::default();
        builder.begin_command(CommitCommand {
            command_id: command.clone(),
            digest: Digest::of(command.as_bytes()),
            events: 0,
            traceparent: None,
            generated: false,
        });
        for event in events {
            self.version += 1;
            let record = EventRecord {
                sequence: self.version,
                event_id: uuid::Uuid::from_u64_pair(self.person.uuid().as_u64_pair().1, self.version),
                event,
                timestamp: self.at,
                correlation_id: command.clone(),
                causation_id: command.clone(),
                actor: None,
            };
            builder.add_event(&record).expect("an event is JSON");
        }
        let payload = builder.encode(self.person, self.version, self.previous).expect("a commit is JSON");
        self.previous = Digest::of(&payload);
        payload
    }

    pub fn created(&self, given: &str) -> Event {
        let source = "tests".to_owned();
        Event::PersonCreated { person_id: self.person, name: name(given).into(), source, created_at: self.at }
    }

    pub fn renamed(&self, old: &str, new: &str) -> Event {
        let (old_name, new_name) = (name(old), name(new));
        Event::NameUpdated {
            person_id: self.person,
            old_name: old_name.into(),
            new_name: new_name.into(),
            reason: None,
            updated_at: self.at,
        }
    }

    pub fn merged_into(&self, target: PersonId) -> Event {
        Event::PersonMergedInto {
            source_person_id: self.person,
            merged_into_id: target,
            merge_reason: MergeReason::DuplicateIdentity,
            merged_at: self.at,
        }
    }
}

impl Writer {
    /// For the stream of the service on this server; makes it where there is none.
    pub fn connect(port: u16) -> Self {
        let mut raw = Raw::connect(port);
        raw.api("STREAM.CREATE.PERSON_EVENTS", &streams::commits(&json!({})));
        raw.subscribe("_INBOX.histories", 7);
        Self { raw, sent: 0 }
    }

    /// Writes a commit behind its hints, and waits for its place now and then.
    pub fn write(&mut self, history: &History, kinds: &str, payload: &[u8]) {
        self.sent += 1;
        let reply = if self.sent.is_multiple_of(UNACKNOWLEDGED_MAX) { "_INBOX.histories" } else { "" };
        let headers = format!(
            "NATS/1.0\r\nEvent-Type: {kinds}\r\nPerson-Version: {}\r\nContent-Type: application/json\r\n\r\n",
            history.version
        );
        self.raw.publish_with_headers(&subject(history.person), reply, headers.as_bytes(), payload);
        if !reply.is_empty() {
            self.raw.next(PATIENCE).expect("the stream takes commits");
        }
    }

    /// Writes any bytes to a person's subject, and returns where they lie.
    pub fn write_raw(&mut self, person: PersonId, headers: &str, payload: &[u8]) -> Sequence {
        self.raw.stored(&subject(person), headers, payload)
    }

    /// A person with as many events, each in a commit of its own.
    pub fn person(&mut self, person: PersonId, events: u64) -> History {
        let mut history = History::of(person);
        for version in 1..=events {
            let (kind, event) = match version {
                1 => ("PersonCreated", history.created("Ada 1")),
                _ => {
                    let (old, new) = (format!("Ada {}", version - 1), format!("Ada {version}"));
                    ("NameUpdated", history.renamed(&old, &new))
                }
            };
            let payload = history.commit(vec![event]);
            self.write(&history, kind, &payload);
        }
        history
    }

    /// Merges the person into another one.
    pub fn merge(&mut self, history: &mut History, target: PersonId) {
        let payload = history.commit(vec![history.merged_into(target)]);
        self.write(history, "PersonMergedInto", &payload);
    }

    /// Returns when all that was written is stored: the stream refuses a message that is not meant for it, and takes them in
    /// their order.
    pub fn finish(&mut self) {
        let elsewhere = b"NATS/1.0\r\nNats-Expected-Stream: ANOTHER\r\n\r\n";
        self.raw.publish_with_headers("person.events.none", "_INBOX.histories", elsewhere, b"");
        let refused = self.raw.next(PATIENCE).expect("the stream answers");
        assert!(String::from_utf8_lossy(&refused.payload).contains("\"error\""), "{refused:?}");
    }

    /// A call of JetStream.
    pub fn api(&mut self, call: &str, body: &Value) -> Value {
        self.raw.api(call, body)
    }
}

fn subject(person: PersonId) -> String {
    format!("person.events.{person}")
}
