//! What is slow by nature, on threads of its own: storing snapshots, and reading long histories.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::daemon::pool::Pool;
use crate::daemon::pulse::Pulse;
use crate::daemon::statistics::{SnapshotFate, Statistics};
use crate::engine::load::{self, Loading};
use crate::engine::ports::{EventLog, SnapshotStore, SnapshotStored};
use crate::engine::turn::DueSnapshot;
use crate::log_limit::RateLimited;

/// Snapshots that may wait to be stored; more are skipped: the next one of the same person comes.
const SNAPSHOTS_LEN_MAX: usize = 256;
/// Long histories that may wait to be read.
const LOADS_LEN_MAX: usize = 64;
/// Pages of a history that are read before the thread looks up.
const PAGES_A_STEP: usize = 16;

static NOT_STORED: RateLimited = RateLimited::new(Duration::from_secs(60));

/// The way to the threads. When the last clone is gone they end.
#[derive(Clone)]
pub struct Background {
    snapshots: Sender<DueSnapshot>,
    loads: Sender<Loading>,
}

/// The threads' ends, before they start.
pub struct Inlets {
    /// What is to be stored.
    pub snapshots: Receiver<DueSnapshot>,
    /// What is to be read.
    pub loads: Receiver<Loading>,
}

impl Background {
    /// The two queues.
    pub fn new() -> (Self, Inlets) {
        let (snapshots, snapshot_inlet) = bounded(SNAPSHOTS_LEN_MAX);
        let (loads, load_inlet) = bounded(LOADS_LEN_MAX);
        (Self { snapshots, loads }, Inlets { snapshots: snapshot_inlet, loads: load_inlet })
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
    pub fn load(&self, loading: Loading) -> Result<(), Box<Loading>> {
        self.loads.try_send(loading).map_err(|refused| {
            let (TrySendError::Full(loading) | TrySendError::Disconnected(loading)) = refused;
            Box::new(loading)
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

/// Reads long histories until nobody can send any more, and gives each back to its worker.
pub fn read_histories(log: &mut dyn EventLog, inlet: &Receiver<Loading>, pulse: &Pulse, pool: &Arc<Pool>) {
    for loading in inlet {
        let mut unfinished = vec![loading];
        while !unfinished.is_empty() {
            let (done, open) = pulse.while_busy(|| load::run(log, unfinished, PAGES_A_STEP));
            done.into_iter().for_each(|loading| pool.give_back(loading));
            unfinished = open;
        }
    }
}
