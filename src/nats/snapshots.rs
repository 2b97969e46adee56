//! The snapshots, in a KV bucket that all replicas share.
//!
//! A cache: what cannot be read in time is "none", and a snapshot that was not written is written another time. The one
//! rule that is kept is that a newer snapshot is never overwritten by an older one, by the bucket's own compare-and-set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::api::{Ack, Shown, read_ack};
use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::leader::{answered, ask_leader, last_of_subject};
use super::message::Incoming;
use super::store::{NotSent, Store};
use crate::domain::PersonId;
use crate::engine::ports::{Appended, Sequence, SnapshotStore, SnapshotStored, Unavailable, VersionOf};
use crate::wire::request::Header;

/// How often a snapshot is compared and set anew when a rival was quicker. Snapshots of one person are rare.
const STORE_ATTEMPTS_MAX: usize = 4;

/// Whether the bucket can be used now: one for all of its users, who do without it while it cannot.
#[derive(Debug, Clone)]
pub struct BucketGate(Arc<AtomicBool>);

impl BucketGate {
    /// As it is found.
    pub fn new(is_usable: bool) -> Self {
        Self(Arc::new(AtomicBool::new(is_usable)))
    }

    /// Whether it can be used.
    pub fn is_open(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// It can be used from now on, or cannot; says whether that is new.
    pub fn set(&self, is_usable: bool) -> bool {
        self.0.swap(is_usable, Relaxed) != is_usable
    }
}

/// The snapshot bucket, for one user.
#[derive(Debug)]
pub struct NatsSnapshots {
    gate: BucketGate,
    inbox: Inbox,
    layout: Layout,
    wait_max: Duration,
    version_of: VersionOf,
}

impl NatsSnapshots {
    /// The bucket over this connection; no round of answers is waited for longer than `wait_max`.
    pub fn new(store: &Store, layout: &Layout, wait_max: Duration, version_of: VersionOf) -> Result<Self, NotSent> {
        Ok(Self { gate: BucketGate::new(true), inbox: store.inbox()?, layout: layout.clone(), wait_max, version_of })
    }

    /// The same, while this gate is open.
    pub fn behind(self, gate: BucketGate) -> Self {
        Self { gate, ..self }
    }

    /// What lies there now, by the leader's word.
    fn current(&mut self, person: PersonId) -> Result<Option<Shown>, Unavailable> {
        let subject = self.layout.leader_get(&self.layout.bucket_stream());
        let question = [last_of_subject(&self.layout.snapshot_subject(person))];
        let shown = ask_leader(&mut self.inbox, &subject, &question, self.wait_max, |shown| shown);
        shown.into_iter().next().unwrap_or_else(|| Err(Unavailable("the bucket was not asked".to_owned())))
    }

    /// Writes the snapshot if the last revision is still this one.
    fn set(&mut self, person: PersonId, revision: Sequence, snapshot: &[u8]) -> Appended {
        let subject = self.layout.snapshot_target(person);
        let (revision, stream, layout) = (revision.to_string(), self.layout.bucket_stream(), &self.layout);
        let headers = [("Nats-Expected-Last-Subject-Sequence", revision.as_str())];
        let send =
            |store: &Store, snapshot: &&[u8], reply: &str| store.publish(&subject, Some(reply), &headers, snapshot);
        let take = |_, answer: Incoming| match read_ack(answer.payload(), &stream, |domain| layout.is_ours(domain)) {
            Ack::Ours(appended) => Some(appended),
            _ if answer.is_no_responders() => Some(Appended::Unavailable(Unavailable("there is no bucket".to_owned()))),
            Ack::Foreign(_) | Ack::Garbled => None,
        };
        match self.inbox.exchange(&[snapshot], self.wait_max, send, take).pop() {
            Some(Exchanged::Answered(appended)) => appended,
            Some(Exchanged::NotSent(why)) => Appended::Unavailable(Unavailable(why.to_string())),
            Some(Exchanged::Silent) | None => Appended::Unknown,
        }
    }
}

impl SnapshotStore for NatsSnapshots {
    fn load(&mut self, persons: &[PersonId]) -> Vec<Option<Vec<u8>>> {
        if !self.gate.is_open() {
            return vec![None; persons.len()];
        }
        let (subject, layout) = (self.layout.direct_get(&self.layout.bucket_stream()), &self.layout);
        let send = |store: &Store, person: &PersonId, reply: &str| {
            let question = last_of_subject(&layout.snapshot_subject(*person)).to_string();
            store.publish(&subject, Some(reply), &[], question.as_bytes())
        };
        let take = |_, answer| Some(value(answer));
        let answers = self.inbox.exchange_in_waves(persons, 1, self.wait_max, || false, send, take);
        answers.into_iter().map(|answer| answered(answer).ok().flatten()).collect()
    }

    fn store(&mut self, person: PersonId, version: u64, snapshot: &[u8]) -> Result<SnapshotStored, Unavailable> {
        if !self.gate.is_open() {
            return Err(Unavailable("the bucket cannot be used as it is".to_owned()));
        }
        let bytes_max = self.inbox.store().payload_bytes_max();
        if snapshot.len() > bytes_max {
            return Err(Unavailable(format!("a snapshot may have {bytes_max} bytes, this one has {}", snapshot.len())));
        }
        for _ in 0..STORE_ATTEMPTS_MAX {
            let current = self.current(person)?;
            if current.as_ref().and_then(|shown| (self.version_of)(&shown.payload)) >= Some(version) {
                return Ok(SnapshotStored::NewerExists);
            }
            match self.set(person, current.map_or(0, |shown| shown.sequence), snapshot) {
                Appended::Stored(_) => return Ok(SnapshotStored::Written),
                Appended::Conflict(_) => {}
                Appended::Unavailable(why) | Appended::Refused(why) => return Err(why),
                Appended::Unknown => return Err(Unavailable("the bucket gave no answer in time".to_owned())),
            }
        }
        Err(Unavailable("other replicas keep writing this snapshot".to_owned()))
    }
}

/// The value that a direct read shows; `None` for a status, and for the tombstone of a deleted key.
fn value(answer: Incoming) -> Option<Vec<u8>> {
    let is_message = answer.header("Nats-Sequence") != Header::Absent;
    let is_tombstone = ["KV-Operation", "Nats-Marker-Reason"].iter().any(|name| answer.header(name) != Header::Absent);
    (is_message && !is_tombstone).then(|| answer.into_payload())
}
