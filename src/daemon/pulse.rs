//! Whether every thread makes progress: what the watchdogs of systemd and of the process itself look at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::daemon::clock::Clock;

/// The pulses of all threads that do work in bounded pieces.
#[derive(Debug)]
pub struct Pulses {
    clock: Clock,
    pulses: Mutex<Vec<Arc<Pulse>>>,
}

/// One thread's pulse: idle, or busy with one piece of work since some moment.
#[derive(Debug)]
pub struct Pulse {
    thread: String,
    clock: Clock,
    /// Microseconds on the clock, from 1 on; 0 while idle.
    busy_since: AtomicU64,
}

impl Pulses {
    /// No thread yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, pulses: Mutex::new(Vec::new()) }
    }

    /// The pulse of a new thread, idle.
    pub fn add(&self, thread: &str) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse { thread: thread.to_owned(), clock: self.clock, busy_since: AtomicU64::new(0) });
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        // Threads that have ended have let go of theirs.
        pulses.retain(|pulse| Arc::strong_count(pulse) > 1);
        pulses.push(Arc::clone(&pulse));
        pulse
    }

    /// The thread that has been busy with one piece of work for longest, and for how long.
    pub fn longest_busy(&self) -> Option<(String, Duration)> {
        let now = self.clock.now().0;
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = pulses.iter().filter_map(|pulse| match pulse.busy_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some((pulse.thread.clone(), Duration::from_micros(now.saturating_sub(since)))),
        });
        busy.max_by_key(|(_, busy_for)| *busy_for)
    }
}

impl Pulse {
    /// Shows progress within one piece of work.
    pub fn beat(&self) {
        self.busy_since.store(self.clock.now().0.max(1), Ordering::Relaxed);
    }

    /// Does one piece of work.
    pub fn while_busy<T>(&self, work: impl FnOnce() -> T) -> T {
        self.beat();
        let result = work();
        self.busy_since.store(0, Ordering::Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pulse_of_a_thread_that_ended_is_forgotten() {
        let pulses = Pulses::new(Clock::start());
        let first = pulses.add("first");
        for _ in 0..100 {
            drop(pulses.add("passing"));
        }
        assert!(pulses.pulses.lock().expect("nobody panicked").len() <= 2);
        let busy = first.while_busy(|| pulses.longest_busy().map(|(thread, _)| thread));
        assert_eq!(busy.as_deref(), Some("first"));
    }
}
