//! Where a history stands, and whether a stored commit is the next one of it.

use std::cmp::Ordering;

use bincode::{Decode, Encode};

use crate::domain::{PersonId, Timestamp};
use crate::engine::ports::{Sequence, StoredCommit, Tip};
use crate::wire::commit::Commit;
use crate::wire::digest::Digest;

/// The end of a history, as far as it was read: all that is needed to tell whether a commit continues it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Link {
    /// How many events the person has.
    pub version: u64,
    /// Where the newest commit lies; 0 before the first.
    pub sequence: Sequence,
    /// The digest of that commit.
    pub chain: Digest,
    /// The time of the newest event.
    pub last_event_at: Timestamp,
}

impl Link {
    /// Before the first commit.
    pub fn start() -> Self {
        Self { version: 0, sequence: 0, chain: Digest::ZERO, last_event_at: Timestamp::from_micros(i64::MIN) }
    }

    /// The end after this commit, which is `stored` decoded. An error, in words, where it is not the next of this
    /// person: a gap in the versions, a broken chain of digests, time running backwards.
    pub fn follow(&self, person: PersonId, stored: &StoredCommit, commit: &Commit) -> Result<Self, String> {
        if commit.aggregate_id != person {
            return Err("a commit of another person".to_owned());
        }
        if Some(commit.first_version()) != self.version.checked_add(1) {
            return Err(format!("version {} follows version {}", commit.first_version(), self.version));
        }
        if commit.previous != self.chain {
            return Err("the chain of digests is broken".to_owned());
        }
        if stored.sequence <= self.sequence {
            return Err(format!("stream sequence {} follows {}", stored.sequence, self.sequence));
        }
        if commit.events.first().is_some_and(|first| first.timestamp < self.last_event_at) {
            return Err("time runs backwards".to_owned());
        }
        Ok(Self::after(stored, commit))
    }

    /// The end after this commit, which is `stored` decoded, whatever came before it.
    pub fn after(stored: &StoredCommit, commit: &Commit) -> Self {
        Self {
            version: commit.version,
            sequence: stored.sequence,
            chain: Digest::of(&stored.payload),
            last_event_at: commit.events.last().map_or(Self::start().last_event_at, |event| event.timestamp),
        }
    }

    /// The end after this commit where it is the next one, or where nothing is known of what comes before it.
    pub fn follow_or_begin(
        before: Option<&Self>,
        person: PersonId,
        stored: &StoredCommit,
        commit: &Commit,
    ) -> Result<Self, String> {
        match before {
            Some(link) => link.follow(person, stored, commit),
            None if commit.aggregate_id == person => Ok(Self::after(stored, commit)),
            None => Err("a commit of another person".to_owned()),
        }
    }

    /// How this end stands to the newest commit, by the leader's word.
    pub fn against(&self, tip: Option<&Tip>) -> Standing {
        let (sequence, chain) = tip.map_or((0, Digest::ZERO), |tip| (tip.sequence, tip.digest));
        match sequence.cmp(&self.sequence) {
            Ordering::Equal if chain == self.chain => Standing::Newest,
            Ordering::Greater => Standing::Behind(sequence),
            // The stream has less than it had; or it was restored and has grown again, and another commit lies here.
            Ordering::Equal | Ordering::Less => Standing::Void,
        }
    }
}

/// How what is known of a history stands to what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There is nothing newer.
    Newest,
    /// The newest commit lies there.
    Behind(Sequence),
    /// What is known is worth nothing.
    Void,
}
