//! How a connection is doing, seen from outside the client.
//!
//! The client cannot be asked: its reader thread may be dead while `publish` goes on saying `Ok`, and a call that would
//! find out may hang for ever. So its callbacks and the flusher leave marks in atomics, and everybody else reads those.
//! The callbacks run on the client's own threads, some of them under its locks: they must not panic, nor call back into
//! the client.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::log_limit::RateLimited;

/// At most one log line in this time from each kind of callback.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How the server begins to say that we have no right to something.
const DENIAL: &str = "Permissions Violation";
/// How it begins or ends to say that a connection, or our account, has too many subscriptions.
const TOO_MANY: &str = "subscriptions exceeded";
/// Complaints that wait for whoever listens to them; the next ones are not told.
const COMPLAINTS_LEN_MAX: usize = 256;

/// How a connection is doing at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether the client holds a connection, as far as it has noticed.
    pub connected: bool,
    /// How many connections were lost or given up so far. When it changes, answers that were under way are lost.
    pub generation: u64,
    /// The time since a round trip to the server last finished. While connected it stays under a second, also on an
    /// idle connection; when it grows, the server is mute or the client's reader thread is dead.
    pub silent_for: Duration,
    /// While disconnected: for how long.
    pub away_for: Duration,
}

/// The marks behind [`Health`].
#[derive(Debug)]
pub(super) struct Vitals {
    epoch: Instant,
    connected: AtomicBool,
    closing: AtomicBool,
    /// The generations before this session's first, and how often it was lost.
    earlier: AtomicU64,
    losses: AtomicU64,
    flushed_millis: AtomicU64,
    lost_millis: AtomicU64,
    flushes_begun: AtomicU64,
    flushes_failed: AtomicU64,
    newest_flush: AtomicU64,
    subscriptions_denied: AtomicU64,
    denied: Mutex<Option<String>>,
    subscription_denied: Mutex<Option<String>>,
    loss_lines: RateLimited,
    errors: RateLimited,
    complaints: OnceLock<Sender<String>>,
}

impl Vitals {
    pub(super) fn new() -> Self {
        let epoch = Instant::now();
        Self {
            epoch,
            connected: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            earlier: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            flushed_millis: AtomicU64::new(0),
            lost_millis: AtomicU64::new(0),
            flushes_begun: AtomicU64::new(0),
            flushes_failed: AtomicU64::new(0),
            newest_flush: AtomicU64::new(0),
            subscriptions_denied: AtomicU64::new(0),
            denied: Mutex::new(None),
            subscription_denied: Mutex::new(None),
            loss_lines: RateLimited::new(LOG_INTERVAL),
            errors: RateLimited::new(LOG_INTERVAL),
            complaints: OnceLock::new(),
        }
    }

    pub(super) fn health(&self) -> Health {
        let now = self.now_millis();
        let since = |mark: &AtomicU64| Duration::from_millis(now.saturating_sub(mark.load(SeqCst)));
        let connected = self.connected.load(SeqCst);
        Health {
            connected,
            generation: self.generation(),
            silent_for: since(&self.flushed_millis),
            away_for: if connected { Duration::ZERO } else { since(&self.lost_millis) },
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.earlier.load(SeqCst) + self.losses.load(SeqCst)
    }

    /// Whether the session was ever lost.
    pub(super) fn was_lost(&self) -> bool {
        self.losses.load(SeqCst) > 0
    }

    /// This session takes the place of another: what is counted goes on from there, one generation further.
    pub(super) fn follow(&self, other: &Self) {
        self.earlier.store(other.generation() + 1, SeqCst);
        self.subscriptions_denied.fetch_add(other.subscriptions_denied(), SeqCst);
    }

    /// A connection is there, for the first time or again.
    pub(super) fn on_connected(&self) {
        self.flushed_millis.store(self.now_millis(), SeqCst);
        self.connected.store(true, SeqCst);
        if self.was_lost() && !self.is_closing() {
            log::info!("connected to NATS again");
        }
    }

    /// The connection is lost. The generation moves last: whoever notes it first and then finds `connected` true will
    /// see it move when what is sent now gets lost.
    pub(super) fn on_lost(&self) {
        if self.connected.swap(false, SeqCst) {
            self.lost_millis.store(self.now_millis(), SeqCst);
        }
        *lock(&self.subscription_denied) = None;
        self.losses.fetch_add(1, SeqCst);
        if !self.is_closing() {
            self.loss_lines.warn(format_args!("lost the connection to NATS"));
        }
    }

    /// The server, or the client itself, complains about something that no call reports.
    pub(super) fn on_error(&self, error: &std::io::Error) {
        let said = without_ids(&error.to_string());
        self.errors.warn(format_args!("NATS says: {said}"));
        let is_too_many = said.to_lowercase().contains(TOO_MANY);
        if is_too_many || said.contains(DENIAL) && said.contains("for Subscription") {
            *lock(&self.subscription_denied) = Some(said.clone());
            self.subscriptions_denied.fetch_add(1, SeqCst);
        }
        if said.contains(DENIAL) {
            *lock(&self.denied) = Some(said);
        }
        if let Some(complaints) = self.complaints.get() {
            // Whoever does not take them has enough.
            let _ = complaints.try_send(error.to_string());
        }
    }

    /// What the server said when it last denied us a right, on any of this connection's lives.
    pub(super) fn denied(&self) -> Option<String> {
        lock(&self.denied).clone()
    }

    /// What it said when it denied a subscription, on the connection that stands now.
    pub(super) fn subscription_denied(&self) -> Option<String> {
        lock(&self.subscription_denied).clone()
    }

    /// How many subscriptions it denied so far.
    pub(super) fn subscriptions_denied(&self) -> u64 {
        self.subscriptions_denied.load(SeqCst)
    }

    /// From now on complaints are told word for word, too. Only the first who asks is.
    pub(super) fn complaints(&self) -> Receiver<String> {
        let (sender, receiver) = bounded(COMPLAINTS_LEN_MAX);
        let _ = self.complaints.set(sender);
        receiver
    }

    /// Nothing is to be reported or repeated any more.
    pub(super) fn start_closing(&self) {
        self.closing.store(true, SeqCst);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    /// A flush begins; its number is for [`Vitals::flush_finished`].
    pub(super) fn flush_begun(&self) -> u64 {
        self.flushes_begun.fetch_add(1, SeqCst) + 1
    }

    pub(super) fn flush_finished(&self, number: u64) {
        self.newest_flush.fetch_max(number, SeqCst);
        self.flushed_millis.store(self.now_millis(), SeqCst);
    }

    pub(super) fn flush_failed(&self) {
        self.flushes_failed.fetch_add(1, SeqCst);
    }

    /// The number of the first flush that begins from now on and that proves a full round trip.
    ///
    /// The client pairs PONGs with flushes by their order, and a flush that failed halfway may leave a PONG too many:
    /// each later flush then returns one PONG early. So one more is waited for, for each that ever failed.
    pub(super) fn next_proof(&self) -> u64 {
        self.flushes_begun.load(SeqCst) + self.flushes_failed.load(SeqCst) + 1
    }

    pub(super) fn has_flushed(&self, number: u64) -> bool {
        self.newest_flush.load(SeqCst) >= number
    }

    fn now_millis(&self) -> u64 {
        millis(self.epoch.elapsed())
    }
}

fn lock(words: &Mutex<Option<String>>) -> MutexGuard<'_, Option<String>> {
    words.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The text with every UUID left out: the server names subjects in its complaints, and ours end in a person's id.
fn without_ids(text: &str) -> String {
    let is_id = |token: &&str| uuid::Uuid::try_parse(token.trim_matches('"')).is_ok();
    let ids: Vec<&str> = text.split(['.', ' ', '\'']).filter(is_id).collect();
    ids.iter().fold(text.to_owned(), |text, id| text.replace(id.trim_matches('"'), "<id>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_reach_the_log() {
        let complaint = r#"Permissions Violation for Publish to "person.events.0197c5a0-0000-7000-8000-000000000001""#;
        assert_eq!(without_ids(complaint), r#"Permissions Violation for Publish to "person.events.<id>""#);
        assert_eq!(without_ids("Maximum Payload Violation"), "Maximum Payload Violation");
    }

    #[test]
    fn what_is_denied_is_remembered() {
        let vitals = Vitals::new();
        let says = |words: &str| vitals.on_error(&std::io::Error::other(words));
        says("Maximum Payload Violation");
        assert_eq!((vitals.denied(), vitals.subscriptions_denied()), (None, 0));
        says("Permissions Violation for Publish to \"$JS.API.INFO\"");
        assert_eq!(vitals.subscriptions_denied(), 0);
        says("Permissions Violation for Subscription to \"person.commands.>\" using queue \"person-service\"");
        assert_eq!(vitals.subscriptions_denied(), 1);
        assert!(vitals.denied().is_some_and(|said| said.contains("person.commands.>")));
    }

    #[test]
    fn a_loss_is_a_new_generation() {
        let vitals = Vitals::new();
        vitals.on_connected();
        assert!(vitals.health().connected);
        vitals.on_lost();
        let health = vitals.health();
        assert!(!health.connected);
        assert_eq!(health.generation, 1);
    }

    #[test]
    fn a_failed_flush_makes_the_next_proof_one_flush_longer() {
        let vitals = Vitals::new();
        let first = vitals.flush_begun();
        vitals.flush_finished(first);
        assert!(!vitals.has_flushed(vitals.next_proof()), "what is finished proves nothing for what comes now");
        let proof = vitals.next_proof();
        vitals.flush_failed();
        assert_eq!(vitals.next_proof(), proof + 1);
    }
}
