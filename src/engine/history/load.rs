//! Bringing a person up to date: snapshot and tail, or the tail of what is in memory.
//!
//! What does not check out by the leader's word is read again on less: what is in memory, then the snapshot, then nothing.
//! What is still broken then is broken.

use crate::domain::PersonId;
use crate::engine::aggregate::{Aggregate, Broken};
use crate::engine::history::{End, Freshness, History, Reader};
use crate::engine::ports::{Page, Read, Unavailable};
use crate::engine::turn::Notice;
use crate::wire::commit::CommitError;
use crate::wire::reply::{Code, Problem};
use crate::wire::snapshot;

/// Why a person could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The store did not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The history, as the leader itself shows it, does not check out, or a newer release wrote it.
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl LoadError {
    /// The answer to whoever needed the person.
    pub fn problem(&self) -> Problem {
        let code = match self {
            Self::Unavailable(_) => Code::Unavailable,
            Self::Broken(broken) => broken.error.code(),
        };
        Problem::new(code, self.to_string())
    }
}

/// A person who could not be loaded.
#[derive(Debug)]
pub struct NotLoaded {
    /// Why.
    pub error: LoadError,
    /// What was in memory before, and was read: to go on with when the store answers again.
    pub so_far: Option<Box<Aggregate>>,
}

/// What the state is built on, from most to least trusting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Cached,
    /// Not looked for yet.
    SnapshotToCome,
    Snapshot,
    Nothing,
}

/// One person on its way to being loaded.
#[derive(Debug)]
pub struct Loading {
    reader: Reader<Box<Aggregate>>,
    base: Base,
    base_version: u64,
    /// The version of a snapshot that did not fit the stream; a history that ends before it lost its tail.
    snapshot_version: u64,
    end: Option<Result<(), LoadError>>,
    notices: Vec<String>,
}

impl Loading {
    /// Extends what is in memory. That is built upon as it is where the append, or the leader's tip, will tell whether it
    /// still holds.
    pub fn from_cached(aggregate: Box<Aggregate>, freshness: Freshness) -> Self {
        let base_version = aggregate.version;
        let reader = Reader::on(aggregate.person, aggregate, freshness);
        let reader = if freshness == Freshness::Newest { reader.on_proof() } else { reader };
        Self { base: Base::Cached, base_version, ..Self::with(reader) }
    }

    /// Begins with the snapshot, where there is one that can be read, or with nothing.
    pub fn cold(person: PersonId, freshness: Freshness) -> Self {
        Self::with(Reader::on(person, Box::new(Aggregate::absent(person)), freshness))
    }

    fn with(reader: Reader<Box<Aggregate>>) -> Self {
        let (base, notices) = (Base::SnapshotToCome, Vec::new());
        Self { reader, base, base_version: 0, snapshot_version: 0, end: None, notices }
    }

    /// Whose.
    pub fn person(&self) -> PersonId {
        self.reader.person
    }

    /// The version that it began with: what came after had to be read from the log.
    pub fn base_version(&self) -> u64 {
        self.base_version
    }

    /// How fresh it is to become.
    pub fn freshness(&self) -> Freshness {
        self.reader.freshness()
    }

    /// Whether it extends what was in memory.
    pub fn is_tail(&self) -> bool {
        self.base == Base::Cached
    }

    /// Whether anything was read for it.
    pub fn is_begun(&self) -> bool {
        self.reader.commits_read() > 0 || !matches!(self.base, Base::Cached | Base::SnapshotToCome)
    }

    /// What was in memory, as it was, where nothing was read for it.
    pub fn into_cached(self) -> Option<Box<Aggregate>> {
        (self.is_tail() && !self.is_begun()).then_some(self.reader.sink)
    }

    /// The person, and what people should be told; call it when [`run`](super::run) says that it is over.
    pub fn finish(self, notices: &mut Vec<Notice>) -> Result<Box<Aggregate>, NotLoaded> {
        let person = self.person();
        notices.extend(self.notices.into_iter().map(|notice| Notice::Odd(person, notice)));
        let unread = || Err(Unavailable("the history was not read to its end".to_owned()).into());
        let error = match self.end.unwrap_or_else(unread) {
            Ok(()) => return Ok(self.reader.sink),
            Err(error) => error,
        };
        // What a snapshot that did not fit has to be compared with is known here alone.
        let is_sound = (!self.reader.is_unproved() || self.base == Base::Cached) && self.snapshot_version == 0;
        let so_far = match &error {
            LoadError::Unavailable(_) => is_sound.then_some(self.reader.sink).filter(|aggregate| aggregate.version > 0),
            LoadError::Broken(broken) => {
                notices.push(Notice::of(person, broken));
                None
            }
        };
        Err(NotLoaded { error, so_far })
    }

    /// What comes of how the reading ended.
    fn judge(&mut self, end: End) {
        match (end, self.base) {
            (End::Unavailable(unavailable), _) => self.end = Some(Err(unavailable.into())),
            (End::Complete | End::Short, _) if self.reader.sink.version >= self.snapshot_version => {
                self.end = Some(Ok(()));
            }
            // The leader's answer came after the snapshot was read: where it has less, the log lost what it had.
            (End::Complete | End::Short, _) | (End::Diverged(None), Base::Snapshot) => self.tail_is_lost(),
            (End::Diverged(None), Base::Cached) => {
                self.look_for_snapshot("what was cached is ahead of the stream, which lost its newest part".to_owned());
            }
            (End::Diverged(Some(broken)) | End::Broken(broken), Base::Cached) => {
                self.look_for_snapshot(format!("what was cached does not fit the stream, {broken}"));
            }
            (End::Diverged(Some(broken)) | End::Broken(broken), Base::Snapshot) => {
                self.notices.push(format!("its snapshot is ignored, {broken}"));
                self.snapshot_version = self.base_version;
                // Whether the history reaches that version is for the leader to say.
                self.reader.want_newest();
                self.begin_with(Base::Nothing, Aggregate::absent(self.person()));
            }
            // What a copy showed before is not what the leader has.
            (End::Diverged(_), Base::Nothing | Base::SnapshotToCome) => {
                self.reader.begin_again_by_the_leader(Box::new(Aggregate::absent(self.person())));
            }
            (End::Broken(broken), Base::Nothing | Base::SnapshotToCome) => self.end = Some(Err(broken.into())),
        }
    }

    fn tail_is_lost(&mut self) {
        let what = "the snapshot is ahead of the log: the stream lost its newest part".to_owned();
        let broken = Broken { sequence: self.reader.sink.sequence, error: CommitError::Damaged(what) };
        self.end = Some(Err(broken.into()));
    }

    fn look_for_snapshot(&mut self, notice: String) {
        self.notices.push(notice);
        self.begin_with(Base::SnapshotToCome, Aggregate::absent(self.person()));
    }

    fn begin_with(&mut self, base: Base, aggregate: Aggregate) {
        (self.base, self.base_version) = (base, aggregate.version);
        self.reader.begin_again(Box::new(aggregate));
    }
}

impl History for Loading {
    fn is_over(&self) -> bool {
        self.end.is_some()
    }

    fn wants_snapshot(&self) -> Option<PersonId> {
        (self.base == Base::SnapshotToCome).then_some(self.person())
    }

    fn take_snapshot(&mut self, bytes: Option<&[u8]>) {
        let person = self.person();
        match bytes.map(|bytes| snapshot::decode(person, bytes)) {
            None => self.begin_with(Base::Nothing, Aggregate::absent(person)),
            Some(Ok(snapshot)) => self.begin_with(Base::Snapshot, Aggregate::from_snapshot(person, snapshot)),
            Some(Err(error)) => {
                self.notices.push(format!("its snapshot is ignored and made again from the events: {error}"));
                self.begin_with(Base::Nothing, Aggregate::absent(person));
            }
        }
    }

    fn commits_read(&self) -> usize {
        self.reader.commits_read()
    }

    fn next_read(&self, commits_max: usize) -> Read {
        self.reader.next_read(commits_max)
    }

    fn take(&mut self, page: Result<Page, Unavailable>) {
        self.reader.take(page);
        if let Some(end) = self.reader.end.take() {
            self.judge(end);
        }
    }
}
