//! Every snapshot against its log: the events up to its version have to give what it holds.
//!
//! A few persons at a time, each with one page of commits: that is all that is in memory.

use std::ops::ControlFlow;

use crate::cli::store::StoreReader;
use crate::cli::verify::finding::{Finding, Findings, Kind};
use crate::domain::PersonId;
use crate::engine::aggregate::{Aggregate, Broken};
use crate::engine::history::{End, Freshness, History, Reader, Sink};
use crate::engine::ports::{Page, Read, Sequence, StoredCommit, Unavailable};
use crate::wire::digest::Digest;
use crate::wire::snapshot::{self, Body, Snapshot};

/// Persons whose logs are read at the same time; each takes up to a page of memory.
pub const AT_ONCE: usize = 32;

/// A snapshot on its way to being checked.
struct Checking {
    /// Where it lies in the bucket.
    place: Option<Sequence>,
    reader: Reader<Replay>,
    verdict: Option<Verdict>,
}

/// The events up to a snapshot's version.
struct Replay {
    snapshot: Snapshot,
    aggregate: Box<Aggregate>,
}

impl Sink for Replay {
    fn ground(&self) -> Option<(Sequence, Digest)> {
        self.aggregate.ground()
    }

    fn take(&mut self, stored: &StoredCommit) -> Result<ControlFlow<()>, Broken> {
        self.aggregate.fold(stored)?;
        let is_there = self.aggregate.version >= self.snapshot.version;
        Ok(if is_there { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

/// What came of it.
enum Verdict {
    /// It holds what the log gives.
    Equal,
    /// Something is wrong with it.
    Wrong(Kind, String),
    /// The log itself is damaged before that version, which is told elsewhere.
    LogDamaged,
    /// The store did not answer.
    Unread(Unavailable),
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
    for Checking { place, reader, verdict } in reader.read_all(open)? {
        match verdict {
            Some(Verdict::Wrong(kind, what)) => findings.add(Finding::of(kind, reader.person, place, what)),
            Some(Verdict::Unread(unavailable)) => return Err(unavailable),
            Some(Verdict::Equal | Verdict::LogDamaged) | None => {}
        }
    }
    Ok(())
}

impl Checking {
    fn new(person: PersonId, place: Option<Sequence>, snapshot: Snapshot) -> Self {
        let replay = Replay { snapshot, aggregate: Box::new(Aggregate::absent(person)) };
        Self { place, reader: Reader::on(person, replay, Freshness::Newest), verdict: None }
    }

    fn judge(&mut self, end: End) {
        let Replay { snapshot, aggregate } = &mut self.reader.sink;
        self.verdict = match end {
            End::Complete if aggregate.version >= snapshot.version => Some(self.reader.sink.compare()),
            End::Complete | End::Short => {
                let (has, log) = (snapshot.version, aggregate.version);
                let what = format!("it is of version {has}, and the log ends with version {log}: the log lost its end");
                Some(Verdict::Wrong(Kind::SnapshotAhead, what))
            }
            // What a copy showed before is not what the leader has.
            End::Diverged(_) => {
                let aggregate = Box::new(Aggregate::absent(self.reader.person));
                let replay = Replay { snapshot: snapshot.clone(), aggregate };
                self.reader.begin_again_by_the_leader(replay);
                None
            }
            End::Broken(_) => Some(Verdict::LogDamaged),
            End::Unavailable(unavailable) => Some(Verdict::Unread(unavailable)),
        };
    }
}

impl History for Checking {
    fn is_over(&self) -> bool {
        self.verdict.is_some()
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

impl Replay {
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
