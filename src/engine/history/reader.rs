//! One history, read forwards: from any copy of the stream while that does, from its leader where it does not.

use std::ops::ControlFlow;

use crate::domain::PersonId;
use crate::engine::aggregate::{Aggregate, Broken};
use crate::engine::history::Freshness;
use crate::engine::ports::{Consistency, Page, Read, Sequence, StoredCommit, Unavailable};
use crate::engine::trail::Trail;
use crate::wire::commit::CommitError;
use crate::wire::digest::Digest;

/// What a history is read into.
pub trait Sink {
    /// Where the last commit lies that was taken in, or that this was built on, and its digest; `None` before the first.
    fn ground(&self) -> Option<(Sequence, Digest)>;

    /// Takes the next commit in, and says whether more is wanted. An error where it is not the next: then nothing was taken.
    fn take(&mut self, stored: &StoredCommit) -> Result<ControlFlow<()>, Broken>;

    /// Takes over the trail of a commit that was met.
    fn learn_trail(&mut self, _newest: Sequence, _trail: &Trail) {}
}

impl Sink for Box<Aggregate> {
    fn ground(&self) -> Option<(Sequence, Digest)> {
        (self.sequence > 0).then_some((self.sequence, self.chain))
    }

    fn take(&mut self, stored: &StoredCommit) -> Result<ControlFlow<()>, Broken> {
        self.fold(stored).map(ControlFlow::Continue)
    }

    fn learn_trail(&mut self, newest: Sequence, trail: &Trail) {
        Aggregate::learn_trail(self, newest, trail);
    }
}

/// How reading a history ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All that was asked for was taken in, or the sink had enough.
    Complete,
    /// The leader has less than is known to be stored.
    Short,
    /// What was built on is not what the leader has: another commit lies in its place, or, where none is named, nothing
    /// from there on.
    Diverged(Option<Broken>),
    /// The next commit, as the leader shows it, does not continue what the leader has before it.
    Broken(Broken),
    /// The store did not answer.
    Unavailable(Unavailable),
}

/// One history on its way into a sink.
#[derive(Debug)]
pub struct Reader<S> {
    /// Whose.
    pub person: PersonId,
    /// What it is read into.
    pub sink: S,
    /// How it ended, once it did.
    pub end: Option<End>,
    /// Where the first commit is looked for, as long as there is no ground.
    start: Sequence,
    freshness: Freshness,
    consistency: Consistency,
    /// Whether the sink's ground has to be seen in the stream before anything that comes after it counts.
    is_unproved: bool,
    commits_read: usize,
}

impl<S: Sink> Reader<S> {
    /// From the sink's ground on, which is believed to be in the stream; from the beginning where it has none.
    pub fn on(person: PersonId, sink: S, freshness: Freshness) -> Self {
        let (start, consistency) = (1, Consistency::Any);
        Self { person, sink, end: None, start, freshness, consistency, is_unproved: false, commits_read: 0 }
    }

    /// The same, looking for the first commit from here on.
    pub fn starting_at(self, start: Sequence) -> Self {
        Self { start, ..self }
    }

    /// The same, by the leader's word alone.
    pub fn by_the_leader(self) -> Self {
        Self { consistency: Consistency::Leader, ..self }
    }

    /// The same, once the ground was seen in the stream.
    pub fn on_proof(self) -> Self {
        Self { is_unproved: self.sink.ground().is_some(), ..self }
    }

    /// Reads into another sink instead, however far it came.
    pub fn begin_again(&mut self, sink: S) {
        self.sink = sink;
        (self.end, self.consistency, self.is_unproved) = (None, Consistency::Any, false);
        self.is_unproved = self.sink.ground().is_some();
    }

    /// The same, by the leader's word alone.
    pub fn begin_again_by_the_leader(&mut self, sink: S) {
        self.begin_again(sink);
        self.consistency = Consistency::Leader;
    }

    /// From now on the leader's word on what is newest is wanted.
    pub fn want_newest(&mut self) {
        self.freshness = Freshness::Newest;
    }

    /// How fresh it is to become.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// Whether the sink's ground still has to be seen in the stream.
    pub fn is_unproved(&self) -> bool {
        self.is_unproved
    }

    /// How many commits were read for it, whatever became of them.
    pub fn commits_read(&self) -> usize {
        self.commits_read
    }

    /// What to ask for next, at most this many commits.
    pub fn next_read(&self, commits_max: usize) -> Read {
        let start = match self.sink.ground() {
            None => self.start,
            Some((sequence, _)) if self.is_unproved => sequence,
            Some((sequence, _)) => sequence + 1,
        };
        let newest = match self.freshness {
            Freshness::Reaching(sequence) if sequence >= start => Some(sequence),
            _ => None,
        };
        Read { person: self.person, start, consistency: self.consistency, newest, commits_max }
    }

    /// Takes in what was answered.
    pub fn take(&mut self, page: Result<Page, Unavailable>) {
        let page = match page {
            Ok(page) => page,
            Err(unavailable) => {
                self.end = Some(End::Unavailable(unavailable));
                return;
            }
        };
        self.commits_read += page.commits.len();
        for stored in &page.commits {
            let taken = match self.sink.ground().filter(|_| self.is_unproved) {
                Some(ground) => self.prove(ground, stored),
                None => self.sink.take(stored).map_err(End::Broken),
            };
            match taken {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => {
                    self.end = Some(End::Complete);
                    return;
                }
                Err(end) => return self.distrust(end),
            }
        }
        if let Some((newest, trail)) = &page.newest {
            self.sink.learn_trail(*newest, trail);
        }
        if !page.more {
            self.copy_has_no_more();
        }
    }

    /// The first commit that is read has to be the one that the sink ends with.
    fn prove(&mut self, (sequence, digest): (Sequence, Digest), stored: &StoredCommit) -> Result<ControlFlow<()>, End> {
        if stored.sequence != sequence || Digest::of(&stored.payload) != digest {
            let what = "it builds on another commit than the stream has".to_owned();
            let broken = Broken { sequence: stored.sequence, error: CommitError::Damaged(what) };
            return Err(End::Diverged(Some(broken)));
        }
        self.is_unproved = false;
        Ok(ControlFlow::Continue(()))
    }

    /// Something does not fit. A copy may be wrong about it, or may have been wrong before: the leader goes on, from what it
    /// has where the sink ends. A digest counts in all that lies before it, so that one commit proves the rest.
    fn distrust(&mut self, end: End) {
        match self.consistency {
            Consistency::Any => {
                self.consistency = Consistency::Leader;
                self.is_unproved = self.sink.ground().is_some();
            }
            Consistency::Leader => self.end = Some(end),
        }
    }

    fn copy_has_no_more(&mut self) {
        let reached = self.sink.ground().map_or(0, |(sequence, _)| sequence);
        let lacks = |wanted| reached < wanted;
        let is_fresh = match self.freshness {
            Freshness::Guess => true,
            Freshness::Reaching(sequence) => !lacks(sequence),
            Freshness::Newest => false,
        };
        match (self.consistency, self.freshness) {
            (Consistency::Any, _) if self.is_unproved || !is_fresh => self.consistency = Consistency::Leader,
            (Consistency::Leader, _) if self.is_unproved => self.end = Some(End::Diverged(None)),
            (Consistency::Leader, Freshness::Reaching(sequence)) if lacks(sequence) => self.end = Some(End::Short),
            _ => self.end = Some(End::Complete),
        }
    }
}
