//! What is slow by nature, on threads of its own: storing snapshots, and reading long histories.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::daemon::pool::Pool;
use crate::daemon::pulse::Pulse;
use crate::daemon::statistics::{SnapshotFate, Statistics};
use crate::engine::history::{self, Budget, Errand};
use crate::engine::ports::{EventLog, SnapshotStore, SnapshotStored};
use crate::engine::turn::DueSnapshot;
use crate::log_limit::RateLimited;

/// Snapshots that may wait to be stored; more are skipped: the next one of the same person comes.
const SNAPSHOTS_LEN_MAX: usize = 256;
/// Long histories that may wait to be read.
const ERRANDS_LEN_MAX: usize = 64;
/// Long histories that are read at the same time.
const TOGETHER_MAX: usize = 8;
/// What of them is read before the thread looks up.
const STEP: Budget = Budget { rounds: 4, ..Budget::of_bytes(4 * 1024 * 1024) };

static NOT_STORED: RateLimited = RateLimited::new(Duration::from_secs(60));

/// The way to the threads. When the last clone is gone they end.
#[derive(Clone)]
pub struct Background {
    snapshots: Sender<DueSnapshot>,
    errands: Sender<Errand>,
}

/// The threads' ends, before they start.
pub struct Inlets {
    /// What is to be stored.
    pub snapshots: Receiver<DueSnapshot>,
    /// What is to be read.
    pub errands: Receiver<Errand>,
}

impl Background {
    /// The two queues.
    pub fn new() -> (Self, Inlets) {
        let (snapshots, snapshot_inlet) = bounded(SNAPSHOTS_LEN_MAX);
        let (errands, errand_inlet) = bounded(ERRANDS_LEN_MAX);
        (Self { snapshots, errands }, Inlets { snapshots: snapshot_inlet, errands: errand_inlet })
    }

    /// Stores a snapshot some time soon; false when too many wait already. Never waits.
    pub fn store(&self, snapshot: DueSnapshot) -> bool {
        let has_room = self.snapshots.try_send(snapshot).is_ok();
        if !has_room {
            NOT_STORED.warn(format_args!("too many snapshots wait to be stored, one is skipped"));
        }
        has_room
    }

    /// Reads a long history some time soon; hands it back as it is when too many wait already. Never waits.
    pub fn read(&self, errand: Errand) -> Result<(), Box<Errand>> {
        self.errands.try_send(errand).map_err(|refused| {
            let (TrySendError::Full(errand) | TrySendError::Disconnected(errand)) = refused;
            Box::new(errand)
        })
    }
}

/// Stores snapshots until nobody can send any more.
pub fn store_snapshots(
    store: &mut dyn SnapshotStore,
    inlet: &Receiver<DueSnapshot>,
    pulse: &Pulse,
    statistics: &Statistics,
) {
    for DueSnapshot { person, version, bytes } in inlet {
        match pulse.while_busy(|| store.store(person, version, &bytes)) {
            Ok(SnapshotStored::Written) => statistics.snapshot(SnapshotFate::Written),
            Ok(SnapshotStored::NewerExists) => {}
            // A snapshot is a cache: commands go on without it.
            Err(error) => {
                statistics.snapshot(SnapshotFate::Failed);
                NOT_STORED.warn(format_args!("a snapshot could not be stored: {error}"));
            }
        }
    }
}

/// Reads long histories until nobody can send any more, some at a time, and gives each back to its worker.
pub fn read_histories(
    log: &mut dyn EventLog,
    snapshots: &mut dyn SnapshotStore,
    inlet: &Receiver<Errand>,
    pulse: &Pulse,
    pool: &Arc<Pool>,
) {
    let mut open: Vec<Errand> = Vec::new();
    loop {
        if open.is_empty() {
            match inlet.recv() {
                Ok(errand) => open.push(errand),
                Err(_) => return,
            }
        }
        open.extend(inlet.try_iter().take(TOGETHER_MAX - open.len().min(TOGETHER_MAX)));
        let (over, left) = pulse.while_busy(|| history::run(log, snapshots, open, &STEP));
        over.into_iter().for_each(|errand| pool.give_back(errand));
        open = left;
    }
}
