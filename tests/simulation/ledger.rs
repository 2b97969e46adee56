//! The log that all replicas share, with a record of all that ever happened to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cim_domain_person::domain::{PersonId, Timestamp};
use cim_domain_person::engine::ports::{
    Append, Appended, AppendedTogether, CommitHeaders, Consistency, EventLog, Page, Read, Sequence, Tip, Unavailable,
};
use cim_domain_person::memory::MemoryLog;
use cim_domain_person::wire::commit::COMMIT_BYTES_MAX;

use super::workload::person;
use crate::checkers::record::{Change, LogChange, Time};

/// Nobody's person, for messages that fill a gap.
const FILLING: usize = 0xF111;

/// The log; clones share it. As a port it is an honest one.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<Inner>>);

struct Inner {
    log: MemoryLog,
    now: Time,
    wall: Option<Timestamp>,
    changes: Vec<LogChange>,
    last: Sequence,
}

impl Ledger {
    pub fn new() -> Self {
        let log = MemoryLog::new();
        Self(Arc::new(Mutex::new(Inner { log, now: 0, wall: None, changes: Vec::new(), last: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time: by the record's clock, and by the clock on the wall.
    pub fn set_clocks(&self, now: Time, wall: Timestamp) {
        let mut inner = self.lock();
        (inner.now, inner.wall) = (now, Some(wall));
    }

    /// The position of the newest commit of all.
    pub fn last(&self) -> Sequence {
        self.lock().last
    }

    /// What a read shows; one that lags shows nothing after `upto`.
    pub fn page(&self, read: &Read, upto: Sequence, commits_max: usize) -> Page {
        let mut page = self.lock().log.read(std::slice::from_ref(read), usize::MAX).pop().unwrap().unwrap();
        let all = page.commits.len();
        page.commits.retain(|commit| commit.sequence <= upto);
        page.more &= page.commits.len() == all;
        if page.commits.len() > commits_max {
            page.commits.truncate(commits_max);
            page.more = true;
        }
        page
    }

    pub fn tip(&self, person: PersonId) -> Option<Tip> {
        self.lock().log.tips(&[person]).pop().unwrap().unwrap()
    }

    pub fn append_one(&self, append: &Append) -> Appended {
        let mut inner = self.lock();
        let appended = inner.log.append(std::slice::from_ref(append)).pop().unwrap();
        if let Appended::Stored(sequence) = appended {
            let what = Change::Stored { person: append.person, sequence, payload: Arc::clone(&append.payload) };
            let (at, wall) = (Some(inner.now), inner.wall);
            inner.changes.push(LogChange { at, wall, what });
            inner.last = sequence;
        }
        appended
    }

    /// Loses what comes after this position. New commits take the places of the lost ones, or come after them.
    pub fn lose_after(&self, sequence: Sequence, known_at: Time, places_are_taken_again: bool) {
        let mut inner = self.lock();
        inner.log.lose_after(sequence);
        let change =
            LogChange { at: Some(inner.now), wall: inner.wall, what: Change::LostAfter { sequence, known_at } };
        inner.changes.push(change);
        let Inner { log, last, .. } = &mut *inner;
        if places_are_taken_again {
            *last = sequence;
            return;
        }
        for _ in sequence..*last {
            let filling = person(FILLING);
            let expected = log.tips(&[filling]).pop().unwrap().unwrap().map_or(0, |tip| tip.sequence);
            let payload = Arc::from(&b"filling"[..]);
            log.append(&[Append { person: filling, expected, payload, headers: CommitHeaders::default() }]);
        }
    }

    /// Sets when the last loss could be known to all.
    pub fn loss_is_known(&self, at: Time) {
        let mut inner = self.lock();
        let losses = inner.changes.iter_mut().rev().filter_map(|change| match &mut change.what {
            Change::LostAfter { known_at, .. } => Some(known_at),
            Change::Stored { .. } => None,
        });
        losses.filter(|known_at| **known_at == Time::MAX).for_each(|known_at| *known_at = at);
    }

    /// All that happened.
    pub fn changes(&self) -> Vec<LogChange> {
        self.lock().changes.clone()
    }
}

impl EventLog for Ledger {
    fn payload_bytes_max(&self) -> usize {
        COMMIT_BYTES_MAX
    }

    fn read(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        let mut pages: Vec<_> = reads.iter().map(|read| Ok(self.page(read, Sequence::MAX, usize::MAX))).collect();
        Page::cut(&mut pages, bytes_max);
        pages
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<Tip>, Unavailable>> {
        persons.iter().map(|person| Ok(self.tip(*person))).collect()
    }

    fn append(&mut self, appends: &[Append]) -> Vec<Appended> {
        appends.iter().map(|append| self.append_one(append)).collect()
    }

    fn append_together(&mut self, _: &[Append]) -> AppendedTogether {
        unreachable!("no command is about two persons")
    }
}

/// A log that answers from a copy that may lag; for what is read outside of turns.
pub struct Lagging<'a> {
    pub ledger: &'a Ledger,
    pub upto: Sequence,
    pub commits_max: usize,
}

impl EventLog for Lagging<'_> {
    fn payload_bytes_max(&self) -> usize {
        COMMIT_BYTES_MAX
    }

    fn read(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        let upto = |read: &Read| if read.consistency == Consistency::Leader { Sequence::MAX } else { self.upto };
        let page = |read: &Read| Ok(self.ledger.page(read, upto(read), self.commits_max));
        let mut pages: Vec<_> = reads.iter().map(page).collect();
        Page::cut(&mut pages, bytes_max);
        pages
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<Tip>, Unavailable>> {
        persons.iter().map(|person| Ok(self.ledger.tip(*person))).collect()
    }

    fn append(&mut self, _: &[Append]) -> Vec<Appended> {
        unreachable!("nothing is appended outside of turns")
    }

    fn append_together(&mut self, _: &[Append]) -> AppendedTogether {
        unreachable!("nothing is appended outside of turns")
    }
}
