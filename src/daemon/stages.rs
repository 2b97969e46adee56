//! How long the steps of a turn take: measured around the ports, since the engine has no clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::daemon::clock::micros;
use crate::daemon::pulse::Pulse;
use crate::domain::PersonId;
use crate::engine::ports::{
    Append, Appended, AppendedTogether, EventLog, Page, Read, SnapshotStore, SnapshotStored, Tip, Unavailable,
};

/// What one worker's ports took since it was last asked. Only the worker's own thread writes it.
#[derive(Debug, Default)]
pub struct StageClock {
    load: AtomicU64,
    append: AtomicU64,
    confirm: AtomicU64,
}

/// Microseconds that the steps of one turn took; 0 for a step that was not needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageMicros {
    /// Reading: snapshots, histories, merge targets, what became of unsettled appends.
    pub load: u64,
    /// Handing commits to the log, until each is acknowledged.
    pub append: u64,
    /// Asking the leader whether what was decided without a commit holds.
    pub confirm: u64,
}

impl StageClock {
    /// What was measured since the last call.
    pub fn take(&self) -> StageMicros {
        let take = |stage: &AtomicU64| stage.swap(0, Ordering::Relaxed);
        StageMicros { load: take(&self.load), append: take(&self.append), confirm: take(&self.confirm) }
    }
}

fn measured<T>(stage: &AtomicU64, step: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = step();
    // At least one: a step that was taken is not one that was not needed.
    stage.fetch_add(micros(start.elapsed()).max(1), Ordering::Relaxed);
    result
}

/// A log whose answers are timed.
pub struct MeasuredLog<L> {
    /// The log itself.
    pub log: L,
    /// Where the times go.
    pub clock: Arc<StageClock>,
    /// The reading thread's pulse: it makes progress with every page.
    pub pulse: Arc<Pulse>,
}

impl<L: EventLog> EventLog for MeasuredLog<L> {
    fn payload_bytes_max(&self) -> usize {
        self.log.payload_bytes_max()
    }

    fn read(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        self.pulse.beat();
        measured(&self.clock.load, || self.log.read(reads, bytes_max))
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<Tip>, Unavailable>> {
        measured(&self.clock.confirm, || self.log.tips(persons))
    }

    fn append(&mut self, appends: &[Append]) -> Vec<Appended> {
        measured(&self.clock.append, || self.log.append(appends))
    }

    fn append_together(&mut self, appends: &[Append]) -> AppendedTogether {
        measured(&self.clock.append, || self.log.append_together(appends))
    }
}

/// Snapshots whose loading is timed.
pub struct MeasuredSnapshots {
    /// The snapshots themselves.
    pub snapshots: Box<dyn SnapshotStore + Send>,
    /// Where the times go.
    pub clock: Arc<StageClock>,
}

impl SnapshotStore for MeasuredSnapshots {
    fn load(&mut self, persons: &[PersonId]) -> Vec<Option<Vec<u8>>> {
        measured(&self.clock.load, || self.snapshots.load(persons))
    }

    fn store(&mut self, person: PersonId, version: u64, bytes: &[u8]) -> Result<SnapshotStored, Unavailable> {
        self.snapshots.store(person, version, bytes)
    }
}
