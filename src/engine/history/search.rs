//! Looking for the commands that a person's history has before those that are remembered.

use std::ops::ControlFlow;

use crate::domain::PersonId;
use crate::engine::aggregate::{Aggregate, Broken, receipts_in};
use crate::engine::history::{End, Freshness, History, Reader, Sink};
use crate::engine::link::Link;
use crate::engine::ports::{Page, Read, Sequence, StoredCommit, Unavailable};
use crate::wire::commit::{self, CommitError};
use crate::wire::digest::Digest;
use crate::wire::snapshot::Receipt;

/// Commits that are searched for an old command id.
const SEARCH_COMMITS_MAX: usize = 8192;

/// What came of a search.
#[derive(Debug)]
pub enum Found {
    /// The commands since its beginning.
    Receipts(Vec<Receipt>),
    /// There are too many, or the history has a gap.
    Beyond,
    /// The store did not answer: nothing is known yet.
    Away(Unavailable),
}

/// A search in a history, from one of its commits on up to one that is remembered.
#[derive(Debug)]
pub struct Search {
    reader: Reader<Place>,
    /// Where that lies.
    pub from: Sequence,
    /// The command ids for which it is made.
    pub asked: Vec<Digest>,
    end: Option<Found>,
}

/// A place in a history, and the commands before it.
#[derive(Debug)]
struct Place {
    person: PersonId,
    /// The commit with which the search begins.
    first: Sequence,
    link: Option<Link>,
    /// The commit with which the search ends. It may have others in it besides the commands that are remembered.
    last: Sequence,
    receipts: Vec<Receipt>,
}

impl Place {
    fn before(person: PersonId, first: Sequence, last: Sequence) -> Self {
        Self { person, first, link: None, last, receipts: Vec::new() }
    }
}

impl Sink for Place {
    fn ground(&self) -> Option<(Sequence, Digest)> {
        self.link.map(|link| (link.sequence, link.chain))
    }

    fn take(&mut self, stored: &StoredCommit) -> Result<ControlFlow<()>, Broken> {
        let broken = |error| Broken { sequence: stored.sequence, error };
        let commit = commit::decode(&stored.payload).map_err(broken)?;
        if self.link.is_none() && stored.sequence != self.first {
            return Err(broken(CommitError::Damaged("a commit before it is missing".to_owned())));
        }
        let link = Link::follow_or_begin(self.link.as_ref(), self.person, stored, &commit);
        self.link = Some(link.map_err(|what| broken(CommitError::Damaged(what)))?);
        self.receipts.extend(receipts_in(&commit, stored.sequence).map(|(receipt, _)| receipt));
        Ok(if stored.sequence >= self.last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

impl Search {
    /// For these ids, which may have been carried out by this commit or a later one; `None` where nothing is remembered up to
    /// which to search.
    pub fn new(aggregate: &Aggregate, from: Sequence, asked: Vec<Digest>) -> Option<Self> {
        let (person, last) = (aggregate.person, aggregate.receipts.oldest_sequence()?);
        let place = Place::before(person, from, last);
        let reader = Reader::on(person, place, Freshness::Reaching(last)).starting_at(from);
        Some(Self { reader, from, asked, end: None })
    }

    /// What came of it; that the store was away where it is not over.
    pub fn finish(self) -> Found {
        self.end.unwrap_or_else(|| Found::Away(Unavailable("the history was not searched to its end".to_owned())))
    }

    fn judge(&mut self, end: End) {
        let Place { person, first, last, .. } = self.reader.sink;
        self.end = match end {
            End::Complete => Some(Found::Receipts(std::mem::take(&mut self.reader.sink.receipts))),
            End::Short | End::Broken(_) => Some(Found::Beyond),
            // What a copy showed before is not what the leader has.
            End::Diverged(_) => {
                self.reader.begin_again_by_the_leader(Place::before(person, first, last));
                None
            }
            End::Unavailable(unavailable) => Some(Found::Away(unavailable)),
        };
    }
}

impl History for Search {
    fn is_over(&self) -> bool {
        self.end.is_some()
    }

    fn commits_read(&self) -> usize {
        self.reader.commits_read()
    }

    fn next_read(&self, commits_max: usize) -> Read {
        self.reader.next_read(commits_max.min(SEARCH_COMMITS_MAX))
    }

    fn take(&mut self, page: Result<Page, Unavailable>) {
        self.reader.take(page);
        match self.reader.end.take() {
            Some(end) => self.judge(end),
            None if self.commits_read() >= SEARCH_COMMITS_MAX => self.end = Some(Found::Beyond),
            None => {}
        }
    }
}
