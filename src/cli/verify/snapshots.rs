//! Every snapshot against its log: the events up to its version have to give what it holds.
//!
//! A few persons at a time, each with one page of commits: that is all that is in memory.

use crate::cli::store::StoreReader;
use crate::cli::verify::finding::{Finding, Findings, Kind};
use crate::domain::PersonId;
use crate::engine::aggregate::Aggregate;
use crate::engine::ports::{Consistency, EventLog, Page, Read, Sequence, Start, Unavailable};
use crate::wire::snapshot::{self, Body, Snapshot};

/// Persons whose logs are read at the same time; each takes up to a page of memory.
pub const AT_ONCE: usize = 32;

/// A snapshot on its way to being checked.
struct Checking {
    /// Where it lies in the bucket.
    place: Option<Sequence>,
    snapshot: Snapshot,
    aggregate: Aggregate,
    consistency: Consistency,
    verdict: Option<Verdict>,
}

/// What came of it.
enum Verdict {
    /// It holds what the log gives.
    Equal,
    /// Something is wrong with it.
    Wrong(Kind, String),
    /// The log itself is damaged before that version, which is told elsewhere.
    LogDamaged,
}

/// Checks these snapshots. `place` is where one lies in the bucket.
pub fn check(
    reader: &mut StoreReader,
    found: Vec<(PersonId, Option<Sequence>, Vec<u8>)>,
    findings: &mut Findings,
) -> Result<(), Unavailable> {
    let mut open = Vec::new();
    for (person, place, bytes) in found {
        match snapshot::decode(person, &bytes) {
            Ok(snapshot) => open.push(Checking::new(person, place, snapshot)),
            Err(error) => {
                findings.add(Finding::of(Kind::SnapshotUnreadable, person, place, error.to_string()));
            }
        }
    }
    while !open.is_empty() {
        let reads: Vec<Read> = open.iter().map(Checking::next_read).collect();
        let pages = reader.log.read(&reads);
        for (checking, page) in open.iter_mut().zip(pages) {
            checking.take(page?);
        }
        let (done, going_on) = open.into_iter().partition(|checking| checking.verdict.is_some());
        open = going_on;
        for Checking { place, aggregate, verdict, .. } in done {
            if let Some(Verdict::Wrong(kind, what)) = verdict {
                findings.add(Finding::of(kind, aggregate.person, place, what));
            }
        }
    }
    Ok(())
}

impl Checking {
    fn new(person: PersonId, place: Option<Sequence>, snapshot: Snapshot) -> Self {
        let aggregate = Aggregate::absent(person);
        Self { place, snapshot, aggregate, consistency: Consistency::Any, verdict: None }
    }

    fn next_read(&self) -> Read {
        let start = Start::Sequence(self.aggregate.sequence + 1);
        Read { person: self.aggregate.person, start, consistency: self.consistency, newest: None }
    }

    fn take(&mut self, page: Page) {
        for commit in &page.commits {
            if self.aggregate.fold(commit).is_err() {
                return self.distrust();
            }
            if self.aggregate.version >= self.snapshot.version {
                self.verdict = Some(self.compare());
                return;
            }
        }
        match self.consistency {
            _ if page.more && !page.commits.is_empty() => {}
            Consistency::Any => self.consistency = Consistency::Leader,
            Consistency::Leader => {
                let (has, log) = (self.snapshot.version, self.aggregate.version);
                let what = format!("it is of version {has}, and the log ends with version {log}: the log lost its end");
                self.verdict = Some(Verdict::Wrong(Kind::SnapshotAhead, what));
            }
        }
    }

    /// A copy may be wrong; the leader has the last word.
    fn distrust(&mut self) {
        match self.consistency {
            Consistency::Any => {
                self.aggregate = Aggregate::absent(self.aggregate.person);
                self.consistency = Consistency::Leader;
            }
            Consistency::Leader => self.verdict = Some(Verdict::LogDamaged),
        }
    }

    fn compare(&self) -> Verdict {
        let (snapshot, aggregate) = (&self.snapshot, &self.aggregate);
        let same_commit = (snapshot.version, snapshot.sequence, snapshot.chain)
            == (aggregate.version, aggregate.sequence, aggregate.chain);
        let wrong = |kind, what: &str| Verdict::Wrong(kind, what.to_owned());
        if !same_commit {
            return wrong(Kind::SnapshotStale, "it builds on another commit than the log has, and is made again");
        }
        let Body { receipts, missing_until, id_spans, last_event_at, .. } = &snapshot.body;
        if Some(&snapshot.body.person) != aggregate.state.as_ref() {
            return wrong(Kind::SnapshotDiffers, "its state is not what the events add up to: delete it");
        }
        let remembered = (receipts.clone(), *missing_until, id_spans.clone());
        if remembered != aggregate.receipts.for_snapshot() || *last_event_at != aggregate.last_event_at {
            return wrong(Kind::SnapshotDiffers, "it remembers other commands than the log has: delete it");
        }
        Verdict::Equal
    }
}
