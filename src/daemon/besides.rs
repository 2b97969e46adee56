//! What is looked at besides the stream, and never stands in the way of serving: the bucket of snapshots, and other streams
//! that answer in place of the service. On a thread of its own: who waits here for an answer holds up nobody.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::daemon::pulse::Pulse;
use crate::daemon::statistics::Statistics;
use crate::log_limit::RateLimited;
use crate::nats::{BucketCheckup, BucketGate, BucketSeen, Conflict, Conflicts, Fault, Layout, NotListed, Store};

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(5);
/// How long an answer is waited for.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How often other streams are looked for.
const CONFLICTS_PERIOD: Duration = Duration::from_secs(10);
/// How often the log repeats which they are.
const CONFLICTS_LOG_PERIOD: Duration = Duration::from_secs(60);

/// All of it.
pub struct Besides {
    /// `None` where no snapshots are wanted.
    pub bucket: Option<BucketWatch>,
    /// Other streams.
    pub conflicts: ConflictWatch,
}

impl Besides {
    /// Looks, at once and every few seconds, until the other end of the channel is dropped.
    pub fn watch(mut self, over: &Receiver<()>, pulse: &Pulse) {
        loop {
            pulse.while_busy(|| {
                self.bucket.iter_mut().for_each(BucketWatch::look);
                self.conflicts.look();
            });
            if over.recv_timeout(PERIOD) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }
}

/// Keeps an eye on the bucket: while it cannot be used snapshots pause.
pub struct BucketWatch {
    checkup: BucketCheckup,
    gate: BucketGate,
    /// Why snapshots pause, as it was said last.
    said: Option<String>,
}

impl BucketWatch {
    /// Over this checkup. Who stands behind the gate does without the bucket while it is closed.
    pub fn new(checkup: BucketCheckup, gate: BucketGate) -> Self {
        Self { checkup, gate, said: None }
    }

    /// Looks once.
    pub fn look(&mut self) {
        match self.checkup.run(ANSWER_WAIT) {
            Ok(BucketSeen::Usable) => {
                self.said = None;
                if self.gate.set(true) {
                    log::info!("snapshots are kept again: the bucket can be used");
                }
            }
            Ok(BucketSeen::Made) => log::warn!("the bucket of snapshots was gone, and is made anew"),
            Ok(BucketSeen::Missing) => self.pause("there is no bucket".to_owned()),
            Ok(BucketSeen::Unusable(faults)) => {
                self.pause(faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "));
            }
            // Snapshots are tried all the same, and fail if they do.
            Err(why) => log::debug!("the bucket cannot be looked at: {why}"),
        }
    }

    fn pause(&mut self, why: String) {
        self.gate.set(false);
        if self.said.as_ref() != Some(&why) {
            log::warn!(error_code = "snapshots_pause"; "snapshots pause, commands go on: {why}");
            self.said = Some(why);
        }
    }
}

/// Looks for streams that answer in place of the service.
pub struct ConflictWatch {
    conflicts: Conflicts,
    statistics: Arc<Statistics>,
    store: Store,
    looked_at: Option<Instant>,
    /// What was found last.
    found: Vec<Conflict>,
    repeat: RateLimited,
    /// In which of its lives the connection was when the server denied the look.
    denied_in: Option<u64>,
}

impl ConflictWatch {
    /// Over this connection.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn new(store: &Store, layout: &Layout, statistics: &Arc<Statistics>) -> io::Result<Self> {
        Ok(Self {
            conflicts: Conflicts::new(store, layout).map_err(io::Error::other)?,
            statistics: Arc::clone(statistics),
            store: store.clone(),
            looked_at: None,
            found: Vec::new(),
            repeat: RateLimited::new(CONFLICTS_LOG_PERIOD),
            denied_in: None,
        })
    }

    /// Looks, if it is time to.
    pub fn look(&mut self) {
        let generation = self.store.connection().health().generation;
        let is_due = self.looked_at.is_none_or(|at| at.elapsed() >= CONFLICTS_PERIOD);
        if !is_due || self.denied_in == Some(generation) {
            return;
        }
        self.looked_at = Some(Instant::now());
        match self.conflicts.find(ANSWER_WAIT) {
            Ok(found) => self.take(found),
            Err(NotListed::Denied(call)) => {
                self.denied_in = Some(generation);
                self.take(Vec::new());
                log::warn!(
                    "whether another stream answers in place of the service is not looked at: this user may not publish \
                     to {call}"
                );
            }
            Err(NotListed::Unanswered(why)) => log::debug!("other streams cannot be looked for: {why}"),
        }
    }

    fn take(&mut self, found: Vec<Conflict>) {
        self.statistics.conflicts(found.len());
        let is_news = found != self.found;
        let was_found = !std::mem::replace(&mut self.found, found).is_empty();
        if was_found && self.found.is_empty() {
            log::info!("no other stream answers in place of the service any more");
        }
        let passes = self.repeat.pass(Instant::now()).is_some();
        if is_news || passes {
            for conflict in &self.found {
                log::error!(error_code = "stream_conflict"; "{conflict}");
            }
        }
    }
}
