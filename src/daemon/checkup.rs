//! The thread that asks the store, after each connect and every few seconds, whether a command would be answered.
//!
//! It may wait for seconds, so it is a thread of its own; the supervisor takes its findings in at the next tick.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::daemon::pulse::Pulse;
use crate::daemon::statistics::Statistics;
use crate::daemon::threads::{self, Poison};
use crate::nats::{CheckError, Checkup, Seen, Store};

/// How long the answers are waited for. A leader may be elected meanwhile.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How often it is asked without an order. A stream that is replaced by a restored one, or configured anew, takes no
/// connection with it, so nothing else tells.
const PERIOD: Duration = Duration::from_secs(5);
/// Findings that wait for the supervisor; while there is no room nothing is asked.
const FINDINGS_LEN_MAX: usize = 4;

/// What came of one checkup.
#[derive(Debug)]
pub struct Finding {
    /// In which of its lives the store connection was when it was asked.
    pub generation: u64,
    /// In which of its lives the stream was.
    pub life: u64,
    /// The highest sequence that had been acknowledged by then: while the answer is on its way, more is.
    pub acknowledged: u64,
    /// What was found.
    pub seen: Result<Seen, CheckError>,
}

/// The supervisor's end. The thread ends when it is dropped.
pub struct Checkups {
    orders: Sender<()>,
    findings: Receiver<Finding>,
}

impl Checkups {
    /// Starts the thread. The first checkup is made at once.
    ///
    /// # Errors
    /// No thread can be started, or the connection is closed.
    pub fn start(
        store: &Store,
        mut checkup: Checkup,
        statistics: &Arc<Statistics>,
        pulse: Arc<Pulse>,
        poison: &Poison,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (orders, ordered) = bounded(1);
        let (found, findings) = bounded(FINDINGS_LEN_MAX);
        let (store, statistics) = (store.clone(), Arc::clone(statistics));
        let body = move || {
            let is_over = |ordered: &Receiver<()>| ordered.recv_timeout(PERIOD) == Err(RecvTimeoutError::Disconnected);
            loop {
                let generation = store.connection().health().generation;
                let (life, acknowledged) = (statistics.stream_life(), statistics.highest_sequence());
                let seen = pulse.while_busy(|| checkup.run(ANSWER_WAIT));
                if found.send(Finding { generation, life, acknowledged, seen }).is_err() || is_over(&ordered) {
                    return;
                }
            }
        };
        let thread = threads::start("checkup", poison, body)?;
        Ok((Self { orders, findings }, thread))
    }

    /// Orders a checkup now. One that was ordered and has not begun yet is the same.
    pub fn order(&self) {
        let _ = self.orders.try_send(());
    }

    /// What was found since the last call.
    pub fn findings(&self) -> impl Iterator<Item = Finding> + '_ {
        self.findings.try_iter()
    }
}
