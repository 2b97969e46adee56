//! What systemd is told: ready, what the service does, that it still lives, that it leaves.
//!
//! A thread tells it, since the manager's socket may be full: whoever watches over the service waits for nobody. What
//! finds no room is dropped; the next status says the same anew.
//!
//! Without `NOTIFY_SOCKET` (launchd, a terminal) every call does nothing. The variable is never removed from the
//! environment: the service starts no children that could inherit it, and removing it is unsound with threads.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use sd_notify::NotifyState;

use crate::daemon::threads;

/// Messages that may wait for the manager.
const MESSAGES_LEN_MAX: usize = 64;

/// The line to the service manager.
pub struct Notifier {
    messages: Sender<Message>,
    thread: JoinHandle<()>,
}

enum Message {
    Ready,
    Status(String),
    Stopping,
    Watchdog,
}

impl Notifier {
    /// Starts the thread that tells the manager.
    pub fn start() -> io::Result<Self> {
        let (messages, waiting) = bounded(MESSAGES_LEN_MAX);
        let thread = std::thread::Builder::new().name("notify".to_owned()).spawn(move || tell_all(&waiting))?;
        Ok(Self { messages, thread })
    }

    /// A command sent now would be answered. Once is enough; more do no harm.
    pub fn ready(&self) {
        self.send(Message::Ready);
    }

    /// What the service does, in a few words, for `systemctl status`.
    pub fn status(&self, words: &str) {
        // A line end would begin an assignment of its own.
        self.send(Message::Status(words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()));
    }

    /// It leaves: the manager counts the time to stop from here.
    pub fn stopping(&self) {
        self.send(Message::Stopping);
    }

    /// It lives and makes progress.
    pub fn watchdog(&self) {
        self.send(Message::Watchdog);
    }

    /// Waits until everything is told, until the deadline at most.
    pub fn end(self, deadline: Instant) {
        drop(self.messages);
        threads::join_until(deadline, vec![self.thread]);
    }

    fn send(&self, message: Message) {
        // Full means that the manager has not listened for a long time.
        let _ = self.messages.try_send(message);
    }
}

fn tell_all(waiting: &Receiver<Message>) {
    let mut has_complained = false;
    for message in waiting {
        let told = match &message {
            Message::Ready => sd_notify::notify(&[NotifyState::Ready]),
            Message::Status(words) => sd_notify::notify(&[NotifyState::Status(words)]),
            Message::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
            Message::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
        };
        // The next ones would say the same.
        if let Err(error) = told
            && !std::mem::replace(&mut has_complained, true)
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
