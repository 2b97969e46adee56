//! Bringing persons up to date: snapshot and tail, or the tail of what is cached, one round trip a step for the batch.
//!
//! Nothing that a copy of the stream shows is believed to be damage: what does not check out is read again from the
//! leader, then without the cached state, then without the snapshot. What is still broken then is broken.

use crate::domain::PersonId;
use crate::engine::aggregate::{Aggregate, Broken};
use crate::engine::ports::{Consistency, EventLog, Page, Read, Sequence, SnapshotStore, Start, Unavailable};
use crate::engine::turn::Notice;
use crate::wire::commit::CommitError;
use crate::wire::digest::Digest;
use crate::wire::reply::{Code, Problem};
use crate::wire::snapshot;

/// How fresh a loaded person has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As fresh as any copy of the stream: what is decided on it is proved by the append, or confirmed.
    Guess,
    /// At least up to this position, which is known to be stored.
    Reaching(Sequence),
    /// Everything that the leader has.
    Newest,
}

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
    Snapshot,
    Nothing,
}

/// One person on its way to being loaded.
pub struct Loading {
    aggregate: Box<Aggregate>,
    base: Base,
    base_version: u64,
    /// Whether the commit that the base claims to end with was seen in the stream.
    proved: bool,
    /// The version of a snapshot that did not fit the stream; a history that ends before it lost its tail.
    snapshot_version: u64,
    consistency: Consistency,
    freshness: Freshness,
    end: Option<Result<(), LoadError>>,
    notices: Vec<String>,
}

impl Loading {
    /// Extends what is cached.
    pub fn from_cached(aggregate: Box<Aggregate>, freshness: Freshness) -> Self {
        Self::on(aggregate, Base::Cached, freshness)
    }

    /// Begins with the snapshot, where there is one that can be read, or with nothing.
    pub fn from_snapshot(person: PersonId, bytes: Option<&[u8]>, freshness: Freshness) -> Self {
        match bytes.map(|bytes| snapshot::decode(person, bytes)) {
            None => Self::on(Box::new(Aggregate::absent(person)), Base::Nothing, freshness),
            Some(Ok(snapshot)) => {
                Self::on(Box::new(Aggregate::from_snapshot(person, snapshot)), Base::Snapshot, freshness)
            }
            Some(Err(error)) => {
                let mut loading = Self::on(Box::new(Aggregate::absent(person)), Base::Nothing, freshness);
                loading.notices.push(format!("its snapshot is ignored and made again from the events: {error}"));
                loading
            }
        }
    }

    fn on(aggregate: Box<Aggregate>, base: Base, freshness: Freshness) -> Self {
        // What is cached may be built upon where the append, or the leader's tip, will tell whether it still holds.
        let proved = match base {
            Base::Nothing => true,
            Base::Cached => freshness != Freshness::Newest || aggregate.sequence == 0,
            Base::Snapshot => false,
        };
        let base_version = aggregate.version;
        Self {
            aggregate,
            base,
            base_version,
            proved,
            snapshot_version: 0,
            consistency: Consistency::Any,
            freshness,
            end: None,
            notices: Vec::new(),
        }
    }

    /// Whose.
    pub fn person(&self) -> PersonId {
        self.aggregate.person
    }

    /// The version that it began with: what came after had to be read from the log.
    pub fn base_version(&self) -> u64 {
        self.base_version
    }

    /// Whether it extends what was in memory.
    pub fn is_tail(&self) -> bool {
        self.base == Base::Cached
    }

    /// Where this was a look whether what was in memory is still the newest: whether it was not.
    pub fn found_stale(&self) -> Option<bool> {
        let is_look = self.base == Base::Cached && self.freshness == Freshness::Guess && self.end == Some(Ok(()));
        is_look.then_some(self.aggregate.version > self.base_version)
    }

    /// The person, and what people should be told; call it when [`run`] says that it is done.
    pub fn finish(self, notices: &mut Vec<Notice>) -> Result<Box<Aggregate>, NotLoaded> {
        let person = self.person();
        notices.extend(self.notices.into_iter().map(|notice| Notice::Odd(person, notice)));
        let unread = || Err(Unavailable("the history was not read to its end".to_owned()).into());
        let error = match self.end.unwrap_or_else(unread) {
            Ok(()) => return Ok(self.aggregate),
            Err(error) => error,
        };
        // What a snapshot that did not fit has to be compared with is known here alone.
        let is_sound = (self.proved || self.base == Base::Cached) && self.snapshot_version == 0;
        let so_far = match &error {
            LoadError::Unavailable(_) => is_sound.then_some(self.aggregate).filter(|aggregate| aggregate.version > 0),
            LoadError::Broken(broken) => {
                notices.push(Notice::of(person, broken));
                None
            }
        };
        Err(NotLoaded { error, so_far })
    }

    fn next_read(&self) -> Read {
        let from = if self.proved { self.aggregate.sequence + 1 } else { self.aggregate.sequence };
        let newest = match self.freshness {
            Freshness::Reaching(sequence) if sequence >= from => Some(sequence),
            Freshness::Reaching(_) | Freshness::Guess | Freshness::Newest => None,
        };
        Read { person: self.person(), start: Start::Sequence(from), consistency: self.consistency, newest }
    }

    fn take(&mut self, page: Result<Page, Unavailable>) {
        let page = match page {
            Ok(page) => page,
            Err(unavailable) => {
                self.end = Some(Err(unavailable.into()));
                return;
            }
        };
        let stuck = page.more && page.commits.is_empty();
        for commit in &page.commits {
            if !self.proved {
                if commit.sequence != self.aggregate.sequence || Digest::of(&commit.payload) != self.aggregate.chain {
                    let what = "it builds on another commit than the stream has".to_owned();
                    return self.distrust(Broken { sequence: commit.sequence, error: CommitError::Damaged(what) });
                }
                self.proved = true;
            } else if let Err(broken) = self.aggregate.fold(commit) {
                return self.distrust(broken);
            }
        }
        if let Some((newest, trail)) = &page.newest {
            self.aggregate.learn_trail(*newest, trail);
        }
        if stuck {
            self.end = Some(Err(Unavailable("the stream's copy gave an empty page".to_owned()).into()));
        } else if !page.more {
            self.reached_the_end();
        }
    }

    /// The copy that answered has no more.
    fn reached_the_end(&mut self) {
        if !self.proved {
            return self.base_is_ahead();
        }
        let is_whole = self.aggregate.version >= self.snapshot_version;
        let fresh = match self.freshness {
            Freshness::Guess => true,
            Freshness::Reaching(sequence) => self.aggregate.sequence >= sequence,
            Freshness::Newest => false,
        };
        match self.consistency {
            Consistency::Any if !fresh || !is_whole => self.consistency = Consistency::Leader,
            _ if !is_whole => self.tail_is_lost(),
            _ => self.end = Some(Ok(())),
        }
    }

    /// The base speaks of a commit after which the copy that answered has nothing, and which it does not have itself.
    fn base_is_ahead(&mut self) {
        match (self.consistency, self.base) {
            (Consistency::Any, _) => self.consistency = Consistency::Leader,
            (Consistency::Leader, Base::Cached) => {
                self.start_again("what was cached is ahead of the stream, which lost its newest part".to_owned());
            }
            (Consistency::Leader, _) => self.tail_is_lost(),
        }
    }

    /// The leader's answer came after the snapshot was read: where it has less, the log lost what it had.
    fn tail_is_lost(&mut self) {
        let what = "the snapshot is ahead of the log: the stream lost its newest part".to_owned();
        let broken = Broken { sequence: self.aggregate.sequence, error: CommitError::Damaged(what) };
        self.end = Some(Err(broken.into()));
    }

    /// Something does not check out: asks the leader, then builds on less.
    fn distrust(&mut self, broken: Broken) {
        if self.consistency == Consistency::Any {
            self.consistency = Consistency::Leader;
            return;
        }
        match self.base {
            Base::Nothing => self.end = Some(Err(broken.into())),
            Base::Cached => self.start_again(format!("what was cached does not fit the stream, {broken}")),
            Base::Snapshot => {
                let snapshot_version = self.base_version;
                self.start_again(format!("its snapshot is ignored, {broken}"));
                self.snapshot_version = snapshot_version;
            }
        }
    }

    fn start_again(&mut self, notice: String) {
        let mut again = Self::on(Box::new(Aggregate::absent(self.person())), Base::Nothing, self.freshness);
        again.notices = std::mem::take(&mut self.notices);
        again.notices.push(notice);
        *self = again;
    }
}

/// Starts loading persons that are not cached: one round of snapshots.
pub fn start(snapshots: &mut dyn SnapshotStore, wanted: &[(PersonId, Freshness)]) -> Vec<Loading> {
    let persons: Vec<PersonId> = wanted.iter().map(|(person, _)| *person).collect();
    let found = if persons.is_empty() { Vec::new() } else { snapshots.load(&persons) };
    wanted
        .iter()
        .zip(found.iter().map(Option::as_deref).chain(std::iter::repeat(None)))
        .map(|((person, freshness), bytes)| Loading::from_snapshot(*person, bytes, *freshness))
        .collect()
}

/// Reads on, at most this many rounds of one page a person. Returns those that are done and those that are not.
pub fn run(log: &mut dyn EventLog, loadings: Vec<Loading>, rounds_max: usize) -> (Vec<Loading>, Vec<Loading>) {
    let (mut done, mut open): (Vec<_>, Vec<_>) = loadings.into_iter().partition(|loading| loading.end.is_some());
    for _ in 0..rounds_max {
        if open.is_empty() {
            break;
        }
        let reads: Vec<Read> = open.iter().map(Loading::next_read).collect();
        let pages = log.read(&reads);
        open.iter_mut().zip(pages).for_each(|(loading, page)| loading.take(page));
        let (ended, going_on) = open.into_iter().partition(|loading| loading.end.is_some());
        done.extend::<Vec<_>>(ended);
        open = going_on;
    }
    (done, open)
}
