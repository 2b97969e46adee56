//! A person as one replica knows it: the fold of its commits, and what is needed to prove and to extend it.

use crate::domain::{Person, PersonId, PersonName, Timestamp, evolve};
use crate::engine::link::Link;
use crate::engine::ports::{Sequence, StoredCommit};
use crate::engine::receipts::{Receipts, receipt_of};
use crate::engine::trail::Trail;
use crate::wire::commit::{self, Commit, CommitError};
use crate::wire::digest::Digest;
use crate::wire::request::made_at;
use crate::wire::snapshot::{Body, Receipt, Snapshot};

/// A person after one of its commits, or before the first.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// Whose.
    pub person: PersonId,
    /// `None` before the first commit.
    pub state: Option<Person>,
    /// How many events the person has.
    pub version: u64,
    /// Where the newest commit lies; 0 before the first.
    pub sequence: Sequence,
    /// The digest of that commit.
    pub chain: Digest,
    /// The time of the newest event.
    pub last_event_at: Timestamp,
    /// The commands that were carried out.
    pub receipts: Receipts,
    /// Where its commits lie, as far as is known: what its next one bears.
    pub trail: Trail,
}

/// Why a stored commit does not continue the history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at stream sequence {sequence}: {error}")]
pub struct Broken {
    /// Which commit.
    pub sequence: Sequence,
    /// What is wrong with it.
    pub error: CommitError,
}

impl Aggregate {
    /// A person without history.
    pub fn absent(person: PersonId) -> Self {
        Self {
            person,
            state: None,
            version: 0,
            sequence: 0,
            chain: Digest::ZERO,
            last_event_at: Timestamp::from_micros(i64::MIN),
            receipts: Receipts::default(),
            trail: Trail::of_first(),
        }
    }

    /// As a snapshot has it.
    pub fn from_snapshot(person: PersonId, snapshot: Snapshot) -> Self {
        let Snapshot { version, sequence, chain, body } = snapshot;
        Self {
            person,
            state: Some(body.person),
            version,
            sequence,
            chain,
            last_event_at: body.last_event_at,
            receipts: Receipts::restored(body.receipts, body.missing_until, body.id_spans),
            trail: Trail::after(sequence),
        }
    }

    /// As a snapshot should have it; `None` before the first commit.
    pub fn to_snapshot(&self) -> Option<Snapshot> {
        let (receipts, missing_until, id_spans) = self.receipts.for_snapshot();
        let person = self.state.clone()?;
        Some(Snapshot {
            version: self.version,
            sequence: self.sequence,
            chain: self.chain,
            body: Body { person, last_event_at: self.last_event_at, receipts, missing_until, id_spans },
        })
    }

    /// Continues the history by the next stored commit, after checking that it is the next: no gap in the versions, the
    /// chain of digests unbroken, time not running backwards. Leaves everything as it was when it is not.
    pub fn fold(&mut self, stored: &StoredCommit) -> Result<(), Broken> {
        let broken = |error| Broken { sequence: stored.sequence, error };
        let commit = commit::decode(&stored.payload).map_err(broken)?;
        let next = self.link().follow(self.person, stored, &commit);
        let link = next.map_err(|what| broken(CommitError::Damaged(what)))?;
        commit.events.iter().for_each(|record| evolve(&mut self.state, &record.event));
        receipts_in(&commit, stored.sequence).for_each(|(receipt, made_at)| self.receipts.push(receipt, made_at));
        self.trail.advance(link.sequence);
        self.version = link.version;
        self.sequence = link.sequence;
        self.chain = link.chain;
        self.last_event_at = link.last_event_at;
        Ok(())
    }

    /// Takes over the trail of a commit that was met while reading, if that is its newest one.
    pub fn learn_trail(&mut self, newest: Sequence, trail: &Trail) {
        if newest == self.sequence && trail.count() >= self.trail.count() {
            self.trail = trail.next(newest);
        }
    }

    /// Where its history stands.
    pub fn link(&self) -> Link {
        Link { version: self.version, sequence: self.sequence, chain: self.chain, last_event_at: self.last_event_at }
    }

    /// About how many bytes of memory it takes.
    pub fn size(&self) -> usize {
        // What the state takes in memory is up to a few times its encoded size: strings and lists have headers.
        const STATE_FACTOR: usize = 3;
        size_of::<Self>()
            + size_of::<Person>()
            + size_of::<PersonName>()
            + STATE_FACTOR * self.state.as_ref().map_or(0, Person::encoded_bytes)
            + self.receipts.size()
            + self.trail.size()
    }
}

/// The receipts of the commands that a commit carried out, in order, each with the time at which its id was made.
pub fn receipts_in(commit: &Commit, sequence: Sequence) -> impl Iterator<Item = (Receipt, Option<Timestamp>)> {
    commit.by_command().filter_map(move |(command, events)| {
        let last = events.last()?;
        let kinds = events.iter().map(|record| record.event.kind()).collect();
        let receipt = receipt_of(command, kinds, last.sequence, last.timestamp, sequence)?;
        Some((receipt, made_at(&command.command_id)))
    })
}
