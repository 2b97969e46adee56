//! What systemd is told: ready, what the service does, that it still lives, that it leaves.
//!
//! Without `NOTIFY_SOCKET` (launchd, a terminal) every call does nothing. The variable is never removed from the
//! environment: the service starts no children that could inherit it, and removing it is unsound with threads.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// The line to the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    /// Whether an error was logged: the next ones would say the same.
    complained: AtomicBool,
}

impl Notifier {
    /// A line that has not failed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A command sent now would be answered. Once is enough; more do no harm.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// What the service does, in a few words, for `systemctl status`.
    pub fn status(&self, words: &str) {
        // A line end would begin an assignment of its own.
        let line: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.send(&[NotifyState::Status(&line)]);
    }

    /// It leaves: the manager counts the time to stop from here.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// It lives and makes progress.
    pub fn watchdog(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let result: io::Result<()> = sd_notify::notify(states);
        if let Err(error) = result
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            log::warn!("the service manager cannot be told anything (NOTIFY_SOCKET): {error}");
        }
    }
}

/// How often [`Notifier::watchdog`] is due: half of what the manager allows, as `sd_watchdog_enabled(3)` advises. `None`
/// where no watchdog waits for it.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|interval| !interval.is_zero())
}
