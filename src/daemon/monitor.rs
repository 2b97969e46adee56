//! How the service is doing, for whoever asks: readers of figures, and probes that want to know whether it is alive and
//! ready.
//!
//! It is there before NATS is, and after. The supervisor leaves its findings here at each look; readers read them, and
//! never wait for anything but each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::daemon::figures::Reading;
use crate::daemon::logging;
use crate::daemon::pool::Pool;
use crate::daemon::reasons::{Reason, Told, in_words};
use crate::daemon::statistics::{Statistics, Tally};
use crate::daemon::threads::Poison;
use crate::domain::Timestamp;
use crate::nats::{ClockOffset, Health};

/// How old the supervisor's last look may be: it looks several times a second.
const LOOK_AGE_MAX: Duration = Duration::from_secs(15);

/// What the service is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Waiting for NATS, or preparing the store.
    #[default]
    Starting,
    /// Taking commands.
    Serving,
    /// Something stands in the way: commands are left to others.
    NotServing,
    /// Answering what was taken.
    Draining,
}

/// What the supervisor found.
#[derive(Debug, Clone)]
pub struct Look {
    /// What the service is at.
    pub phase: Phase,
    /// How the connections are doing.
    pub connections: Vec<(&'static str, Health)>,
    /// The thread that hangs, if one does.
    pub hangs: Option<String>,
    /// What stands in the way of serving.
    pub reasons: Vec<Told>,
    /// The version of the server that the store is connected to.
    pub server_version: String,
    /// Our clock against the server's, once it was compared.
    pub clock_offset: Option<ClockOffset>,
}

/// Where the counts are, once there are any.
pub struct Sources {
    /// What was done.
    pub statistics: Arc<Statistics>,
    /// What waits.
    pub pool: Arc<Pool>,
}

/// How the service is doing.
pub struct Monitor {
    /// Whether a thread panicked.
    pub poison: Poison,
    epoch: Instant,
    started: Timestamp,
    sources: OnceLock<Sources>,
    looked: Mutex<Option<(Instant, Look)>>,
    /// While it starts: what it waits for.
    waits_for: Mutex<Option<Told>>,
    connects_failed: Mutex<BTreeMap<Reason, u64>>,
    marks: Mutex<Marks>,
}

/// The counts at two moments: about one minute, and about two minutes ago.
struct Marks {
    last: (Instant, Tally),
    earlier: (Instant, Tally),
}

impl Monitor {
    /// Of a process that starts now.
    pub fn start() -> Self {
        let now = Instant::now();
        let start = (now, Tally::default());
        Self {
            poison: Poison::default(),
            epoch: now,
            started: Timestamp::now(),
            sources: OnceLock::new(),
            looked: Mutex::new(None),
            waits_for: Mutex::new(None),
            connects_failed: Mutex::default(),
            marks: Mutex::new(Marks { last: start.clone(), earlier: start }),
        }
    }

    /// From now on there is something to count. The first call counts.
    pub fn connect(&self, sources: Sources) {
        let _ = self.sources.set(sources);
    }

    /// It starts, and waits for this.
    pub fn waits_for(&self, told: Told) {
        *self.waits_for.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// An attempt to connect failed for this reason.
    pub fn connect_failed(&self, reason: Reason) {
        *self.connects_failed.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// Takes in what the supervisor found.
    pub fn look(&self, look: Look) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), look));
    }

    /// The supervisor goes on, with nothing new to tell but perhaps a phase.
    pub fn beat(&self, phase: Phase) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, look)) = looked.as_mut() {
            (*at, look.phase) = (Instant::now(), phase);
        }
    }

    /// Whether a command sent now would be answered; if not, why not. What the supervisor found long ago says nothing of
    /// now.
    ///
    /// # Errors
    /// In words for people.
    pub fn is_ready(&self) -> Result<(), String> {
        self.is_alive()?;
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let (phase, reasons) =
            looked.as_ref().map_or((Phase::Starting, [].as_slice()), |(_, look)| (look.phase, &look.reasons));
        match phase {
            Phase::Serving => Ok(()),
            Phase::Draining => Err("draining".to_owned()),
            Phase::NotServing if reasons.is_empty() => Err("the queue group is being joined".to_owned()),
            Phase::NotServing => Err(in_words(reasons)),
            Phase::Starting => {
                let waits_for = self.waits_for.lock().unwrap_or_else(PoisonError::into_inner);
                Err(waits_for.as_ref().map_or("starting".to_owned(), |(_, words)| format!("starting: {words}")))
            }
        }
    }

    /// Whether the process makes progress; if not, what hangs.
    pub fn is_alive(&self) -> Result<(), String> {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        match looked.as_ref() {
            Some((at, _)) if at.elapsed() > LOOK_AGE_MAX => Err("the supervisor hangs".to_owned()),
            Some((_, Look { hangs: Some(thread), .. })) => Err(format!("thread {thread} hangs")),
            Some(_) | None => Ok(()),
        }
    }

    /// The figures as they are now; percentiles and rates are those of the last minute or two.
    pub fn read(&self) -> Reading {
        let (at, before) = self.marks.lock().unwrap_or_else(PoisonError::into_inner).earlier.clone();
        self.reading(before, at)
    }

    /// The figures of the time since the last call, for the log. It moves the time that [`read`](Self::read) speaks of.
    pub fn report(&self) -> Reading {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, before) = marks.last.clone();
        let reading = self.reading(before, at);
        let last = std::mem::replace(&mut marks.last, (Instant::now(), reading.tally.clone()));
        marks.earlier = last;
        reading
    }

    fn reading(&self, before: Tally, since: Instant) -> Reading {
        let look = self.looked.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, look)| look.clone());
        let waits_for = self.waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let connects_failed = self.connects_failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let clock_offset = look.as_ref().and_then(|look| look.clock_offset);
        let (connections, reasons, server_version) = match look {
            Some(look) => (look.connections, look.reasons, Some(look.server_version)),
            None => (Vec::new(), waits_for.into_iter().collect(), None),
        };
        let reading = Reading {
            before,
            period: since.elapsed(),
            is_ready: self.is_ready().is_ok(),
            reasons: reasons.into_iter().map(|(reason, _)| reason).collect(),
            connects_failed,
            connections,
            log_lines_waiting: logging::lines_waiting(),
            log_lines_dropped: logging::lines_dropped(),
            server_version,
            clock_offset,
            started: Some(self.started),
            uptime: self.epoch.elapsed(),
            ..Reading::default()
        };
        let Some(Sources { statistics, pool }) = self.sources.get() else { return reading };
        // Before what was taken on is read: what is answered meanwhile was counted as taken on.
        let tally = statistics.since_start();
        Reading {
            in_flight: pool.taken().saturating_sub(tally.answered),
            tally,
            queue_len: pool.waiting(),
            queue_len_max: pool.room(),
            ..reading
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::Cause;

    fn look(phase: Phase, hangs: Option<&str>) -> Look {
        let (hangs, server_version) = (hangs.map(str::to_owned), "2.15.1".to_owned());
        Look { phase, connections: Vec::new(), hangs, reasons: Vec::new(), server_version, clock_offset: None }
    }

    #[test]
    fn a_process_that_waits_for_nats_is_alive_and_not_ready() {
        let monitor = Monitor::start();
        assert_eq!(monitor.is_alive(), Ok(()));
        assert_eq!(monitor.is_ready(), Err("starting".to_owned()));
        monitor.waits_for((Reason::Cause(Cause::SignIn), "the server refused the sign-in".to_owned()));
        assert_eq!(monitor.is_ready(), Err("starting: the server refused the sign-in".to_owned()));
        assert_eq!((monitor.read().is_ready, monitor.read().reasons), (false, vec![Reason::Cause(Cause::SignIn)]));
    }

    /// A supervisor that hung in the middle of serving left a service that said ready for good.
    #[test]
    fn whatever_hangs_is_named_and_not_ready() {
        let monitor = Monitor::start();
        monitor.look(look(Phase::Serving, None));
        assert!(monitor.is_alive().is_ok() && monitor.read().is_ready);
        monitor.look(look(Phase::Serving, Some("worker-0")));
        assert_eq!(monitor.is_alive(), Err("thread worker-0 hangs".to_owned()));
        assert_eq!((monitor.is_ready(), monitor.read().is_ready), (monitor.is_alive(), false));
        let long_ago = Instant::now().checked_sub(LOOK_AGE_MAX + Duration::from_secs(1)).expect("the machine runs");
        *monitor.looked.lock().expect("it is whole") = Some((long_ago, look(Phase::Serving, None)));
        assert_eq!(monitor.is_ready(), Err("the supervisor hangs".to_owned()));
        assert!(!monitor.read().is_ready);
    }

    #[test]
    fn a_beat_changes_the_phase_alone() {
        let monitor = Monitor::start();
        monitor.look(look(Phase::Serving, None));
        monitor.beat(Phase::Draining);
        assert_eq!((monitor.is_ready(), monitor.read().is_ready), (Err("draining".to_owned()), false));
    }
}
