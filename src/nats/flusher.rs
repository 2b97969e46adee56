//! The threads that flush a connection as soon as something was written to it.
//!
//! The client flushes by itself only every 5 ms, which would make every request that slow, and a flush in the path of
//! each command would cap the service at a tenth of what the server can do. So whoever publishes only leaves a mark,
//! and two threads flush whenever there is one: what piles up during one flush goes out with the next. Two, because the
//! first may be waiting for its answer when something new is written; more were measured and bring nothing.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::health::Vitals;

/// Flushing threads of one connection.
const THREADS: usize = 2;

/// An idle connection is flushed this often all the same, so that the time since the last flush says whether it lives.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// The pause after a flush that failed, so that a broken connection does not keep a core busy.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// The threads of one connection and the mark that wakes them.
pub(super) struct Flusher {
    mark: Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Flusher {
    /// Starts the threads; `name` is the connection's.
    pub(super) fn start(name: &str, client: &nats::Connection, vitals: &Arc<Vitals>) -> std::io::Result<Self> {
        let (mark, marks) = bounded(1);
        let threads = (1..=THREADS).map(|number| {
            let (marks, client, vitals) = (marks.clone(), client.clone(), Arc::clone(vitals));
            let thread = std::thread::Builder::new().name(format!("{name}-flush-{number}"));
            thread.spawn(move || run(&marks, &client, &vitals))
        });
        Ok(Self { threads: threads.collect::<Result<_, _>>()?, mark })
    }

    /// The mark: one that is full already says the same.
    pub(super) fn mark(&self) -> Sender<()> {
        self.mark.clone()
    }

    /// The threads, to be joined once the connection is closing.
    pub(super) fn into_threads(self) -> Vec<JoinHandle<()>> {
        self.threads
    }
}

fn run(marks: &Receiver<()>, client: &nats::Connection, vitals: &Vitals) {
    while !vitals.is_closing() {
        match marks.recv_timeout(HEARTBEAT) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => flush(client, vitals),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// One flush. During an outage it waits for the next connection and then returns `Ok`, although what it was to flush is
/// lost: whoever waits for it has to look at the connection's generation too.
fn flush(client: &nats::Connection, vitals: &Vitals) {
    let number = vitals.flush_begun();
    match client.flush() {
        Ok(()) => vitals.flush_finished(number),
        Err(_) => {
            vitals.flush_failed();
            std::thread::sleep(PAUSE_AFTER_FAILURE);
        }
    }
}
