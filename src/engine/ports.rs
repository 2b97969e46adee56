//! What the engine needs of the world: a log of commits and a store of snapshots.
//!
//! Both are small, synchronous and batch-shaped: a call asks for many persons at once, so that it is one round trip for some
//! dozens of them, and a few where more are asked for or where much is to be read; the answers come back in the order of the
//! questions. Errors are shaped by what the engine does next. The pair in
//! [`crate::memory`] and the one in [`crate::nats`] pass the same contract tests.

use std::sync::Arc;

use crate::domain::{EventKinds, PersonId};
use crate::engine::trail::Trail;
pub use crate::wire::commit::Sequence;
use crate::wire::digest::Digest;

/// The log of commits: one JetStream stream, one literal subject a person.
pub trait EventLog {
    /// The largest commit payload, in bytes, that can be handed to [`append`](Self::append).
    fn payload_bytes_max(&self) -> usize;

    /// Reads commits of several persons, each from its own position on, in stream order, one page a person.
    ///
    /// All pages together have at most `bytes_max` bytes, and one commit beyond; what has no room is asked for again. The
    /// first read that finds anything always gets a commit, so that whoever asks again gets on.
    ///
    /// With [`Consistency::Any`] the answer may lack the newest commits (a follower that lags answered). With
    /// [`Consistency::Leader`] each commit comes from the stream's leader itself; that is slower for long histories.
    fn read(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>>;

    /// The newest commit of each person, as the stream's leader itself shows it; `None` where there is none.
    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<Tip>, Unavailable>>;

    /// Stores each commit if, and only if, the person's newest one has exactly the expected sequence.
    ///
    /// Never repeats a commit on its own account: each is handed to the store at most once a call.
    fn append(&mut self, appends: &[Append]) -> Vec<Appended>;

    /// Stores all of these commits or none, in one step: all if, and only if, each person's newest one has exactly the
    /// sequence that is expected of it.
    ///
    /// At most [`TOGETHER_MAX`] commits, one a person; it is refused otherwise, before anything is sent. Never repeats
    /// them on its own account.
    fn append_together(&mut self, appends: &[Append]) -> AppendedTogether;
}

/// Commits that can be appended together: as many messages as nats-server takes in one atomic batch, unless it is
/// configured otherwise.
pub const TOGETHER_MAX: usize = 1000;

/// Who may answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Any copy of the stream; it may lag behind.
    Any,
    /// The stream's leader has the last word on what is newest.
    Leader,
}

/// A question for [`EventLog::read`].
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// Whose commits.
    pub person: PersonId,
    /// From the first commit with this stream sequence or a later one on.
    pub start: Sequence,
    /// Who may answer.
    pub consistency: Consistency,
    /// Where a recent commit of the person is known to lie: a hint where to look. The page may end there.
    pub newest: Option<Sequence>,
    /// How many commits are wanted, at most.
    pub commits_max: usize,
}

/// Some commits of one person, in stream order.
#[derive(Debug, Default)]
pub struct Page {
    /// The commits; empty when there is none from the start on.
    pub commits: Vec<StoredCommit>,
    /// Whether the answering copy had more, or may have, to be read from the sequence after the last one here.
    pub more: bool,
    /// The newest commit that was met, which may come before the start, with the trail that it bears.
    pub newest: Option<(Sequence, Trail)>,
}

impl Page {
    /// The page of a read for which there was no room.
    pub fn without_room() -> Self {
        Self { more: true, ..Self::default() }
    }

    /// Whether this is the page of a read for which there was no room.
    pub fn has_no_room(&self) -> bool {
        self.more && self.commits.is_empty()
    }

    /// The size of its commits.
    pub fn bytes(&self) -> usize {
        self.commits.iter().map(|commit| commit.payload.len()).sum()
    }

    /// Cuts pages off behind so many bytes, all of them together, and at the earliest behind one commit.
    pub fn cut<E>(pages: &mut [Result<Self, E>], bytes_max: usize) {
        let mut bytes = 0;
        for page in pages.iter_mut().flatten() {
            let mut kept = 0;
            for commit in &page.commits {
                if bytes > 0 && bytes >= bytes_max {
                    break;
                }
                (bytes, kept) = (bytes + commit.payload.len(), kept + 1);
            }
            if kept < page.commits.len() {
                page.commits.truncate(kept);
                (page.more, page.newest) = (true, None);
            }
        }
    }
}

/// The newest commit of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Its position in the stream.
    pub sequence: Sequence,
    /// The digest of its bytes.
    pub digest: Digest,
}

impl From<&StoredCommit> for Tip {
    fn from(commit: &StoredCommit) -> Self {
        Self { sequence: commit.sequence, digest: Digest::of(&commit.payload) }
    }
}

/// A commit as it lies in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommit {
    /// Its position in the stream.
    pub sequence: Sequence,
    /// Its exact bytes.
    pub payload: Arc<[u8]>,
}

/// A commit to be stored.
#[derive(Debug, Clone)]
pub struct Append {
    /// Whose commit.
    pub person: PersonId,
    /// The sequence of the person's newest commit; 0 when there is none.
    pub expected: Sequence,
    /// The exact bytes.
    pub payload: Arc<[u8]>,
    /// Hints for readers, outside the chain of hashes.
    pub headers: CommitHeaders,
}

/// What stands beside a commit for readers that do not want to decode it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitHeaders {
    /// The types of its events in order.
    pub event_types: EventKinds,
    /// The person's version after it.
    pub person_version: u64,
    /// The W3C trace context of the command, where the commit has a single one.
    pub traceparent: Option<String>,
    /// Where earlier commits lie, as [`Trail::to_header`] writes it.
    pub trail: Option<String>,
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is stored, acknowledged, at this position.
    Stored(Sequence),
    /// It is not stored, by this call: the person's newest commit is not the expected one. Where the store said which
    /// one it is, its sequence.
    Conflict(Option<Sequence>),
    /// It is not stored, by this call, and will not be: the store was away. For people, why.
    Unavailable(Unavailable),
    /// It is not stored, by this call, and will not be: the store said no, and would say so again (no room is left, the
    /// stream is sealed, permission is missing). For people, why.
    Refused(Unavailable),
    /// It may be stored, now or later: no answer came.
    Unknown,
}

/// What became of commits that were to be stored together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendedTogether {
    /// All are stored, acknowledged, at these positions, in the order in which they were given.
    Stored(Vec<Sequence>),
    /// None is stored, by this call: at least one person's newest commit is not the expected one. The store does not say
    /// whose.
    Conflict,
    /// None is stored, by this call, and none will be: the store was away, or gave the batch up. For people, why.
    Unavailable(Unavailable),
    /// None is stored, by this call, and none will be: the store said no, and would say so again. For people, why.
    Refused(Unavailable),
    /// All may be stored, now or later, or none: no answer came.
    Unknown,
}

/// Why these commits cannot be appended together, whatever the store holds; `None` where they can.
pub fn unfit_together(appends: &[Append], payload_bytes_max: usize) -> Option<Unavailable> {
    let mut persons: Vec<PersonId> = appends.iter().map(|append| append.person).collect();
    persons.sort_unstable();
    let why = if appends.len() > TOGETHER_MAX {
        format!("{} commits are more than the {TOGETHER_MAX} that can be stored together", appends.len())
    } else if persons.windows(2).any(|pair| pair.first() == pair.last()) {
        "two commits of one person cannot be stored together".to_owned()
    } else {
        let largest = appends.iter().map(|append| append.payload.len()).max().unwrap_or(0);
        let is_too_large = largest > payload_bytes_max;
        return is_too_large
            .then(|| Unavailable(format!("a commit has {largest} bytes, more than {payload_bytes_max}")));
    };
    Some(Unavailable(why))
}

/// The store did not answer, or said that it cannot. Nothing was done. For people, without personal data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// The snapshots: a cache that every replica shares. Losing any of it loses nothing.
pub trait SnapshotStore {
    /// The newest snapshot of each person that can be read now; `None` where there is none or the store is away.
    fn load(&mut self, persons: &[PersonId]) -> Vec<Option<Vec<u8>>>;

    /// Stores a snapshot unless one of the same or a higher version is there, compared and set in one step.
    fn store(&mut self, person: PersonId, version: u64, snapshot: &[u8]) -> Result<SnapshotStored, Unavailable>;
}

/// What became of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotStored {
    /// It is the newest one now.
    Written,
    /// One of the same or a higher version was there already.
    NewerExists,
}

/// Tells the version of a snapshot from its bytes; `None` when they are none, and may be overwritten.
pub type VersionOf = fn(&[u8]) -> Option<u64>;
