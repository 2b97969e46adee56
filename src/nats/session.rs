//! One client of the crate, from the moment at which it is connected until it is given up.
//!
//! The client reconnects by itself, with what it was opened with: TLS files that were read once, a TCP connect without a
//! limit, refusals whose reason nobody hears. That is quickest when a server restarts or hands its clients over, so it
//! may try a few times; after that [`super::connection`] opens another session in the way of the start.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::connection::OpenError;
use super::flusher::Flusher;
use super::health::Vitals;

/// The pause before the client's first attempt to reconnect; it doubles from attempt to attempt.
const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(10);

/// The longest pause between two of its attempts, jitter apart.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);

/// So often the client tries each server by itself: for about two seconds. Then its thread ends.
const RECONNECTS_MAX: usize = 8;

/// Up to this part of a pause is added to it, so that replicas do not come back in step.
const JITTER_DIVISOR: u32 = 4;

/// How often a wait looks whether what it waits for has come.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A connected client, with its flushing threads.
pub(super) struct Session {
    client: nats::Connection,
    vitals: Arc<Vitals>,
    mark: Sender<()>,
    flushers: Mutex<Vec<JoinHandle<()>>>,
    /// The number that the client gave to the latest subscription. It does not tell, but it counts from 1 in each client.
    subscribed: Mutex<u64>,
    /// Subscriptions that are held.
    listening: AtomicUsize,
}

impl Session {
    /// Connects by `connect`, which gets the options with all callbacks set; `name` begins the threads' names.
    pub(super) fn open(
        options: nats::Options,
        name: &str,
        connect: impl FnOnce(nats::Options) -> Result<nats::Connection, OpenError>,
    ) -> Result<Self, OpenError> {
        let vitals = Arc::new(Vitals::new());
        let options = watched(options, &vitals).max_reconnects(Some(RECONNECTS_MAX)).reconnect_buffer_size(0);
        let client = connect(options)?;
        vitals.on_connected();
        let flusher = Flusher::start(name, &client, &vitals).map_err(|error| OpenError::Away(error.to_string()))?;
        let (mark, flushers) = (flusher.mark(), Mutex::new(flusher.into_threads()));
        Ok(Self { client, vitals, mark, flushers, subscribed: Mutex::new(0), listening: AtomicUsize::new(0) })
    }

    pub(super) fn client(&self) -> &nats::Connection {
        &self.client
    }

    pub(super) fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Whether it was given up: nothing is sent or received on it any more.
    pub(super) fn is_over(&self) -> bool {
        self.vitals.is_closing()
    }

    /// Something was written: one of the flushing threads is to send it off.
    pub(super) fn mark_dirty(&self) {
        // A mark that is there already says the same.
        let _ = self.mark.try_send(());
    }

    /// See [`Connection::round_trip`](super::Connection::round_trip).
    pub(super) fn round_trip(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let generation = self.vitals.generation();
        let proof = self.vitals.next_proof();
        while !self.vitals.has_flushed(proof) {
            if Instant::now() >= deadline || self.is_over() || self.vitals.generation() != generation {
                return false;
            }
            self.mark_dirty();
            std::thread::sleep(POLL_INTERVAL);
        }
        self.vitals.generation() == generation
    }

    /// Begins to receive. The subscription's number is the one that the protocol has for it.
    ///
    /// # Errors
    /// The client is closed.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        subjects: &str,
        queue_group: Option<&str>,
    ) -> std::io::Result<Subscribed> {
        let mut number = self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = match queue_group {
            Some(group) => self.client.queue_subscribe(subjects, group),
            None => self.client.subscribe(subjects),
        };
        // One that fails gives no number away.
        let inner = inner?;
        *number += 1;
        self.listening.fetch_add(1, SeqCst);
        let (subjects, queue_group) = (subjects.to_owned(), queue_group.map(str::to_owned));
        Ok(Subscribed { inner: Some(inner), number: *number, session: Arc::clone(self), subjects, queue_group })
    }

    /// How many subscriptions are held on it.
    pub(super) fn listening(&self) -> usize {
        self.listening.load(SeqCst)
    }

    /// See [`Connection::close`](super::Connection::close).
    pub(super) fn close(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        self.vitals.start_closing();
        let (done, closed) = bounded(1);
        let client = self.client.clone();
        let started = aside(move || {
            client.close();
            let _ = done.send(());
        });
        let is_closed = started && closed.recv_deadline(deadline).is_ok();
        self.mark_dirty();
        let flushers = std::mem::take(&mut *self.flushers.lock().unwrap_or_else(PoisonError::into_inner));
        is_closed && flushers.into_iter().all(|flusher| join_until(deadline, flusher))
    }

    /// Gives it up without waiting for anything. Whoever waits for an answer on it, or receives, ends.
    pub(super) fn give_up(&self) {
        self.close(Duration::ZERO);
    }

    /// The same, unless that was done. The client, let go of, only marks itself: its thread goes on reading and the server
    /// keeps the connection.
    pub(super) fn give_up_unless_over(&self) {
        if !self.is_over() {
            self.give_up();
        }
    }
}

impl Drop for Session {
    /// Without [`Session::close`] it is closed all the same, and nothing is waited for.
    fn drop(&mut self) {
        self.give_up_unless_over();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("health", &self.vitals.health()).finish_non_exhaustive()
    }
}

/// What is received on one session. It is dry once the session is over and all is taken.
#[derive(Debug)]
pub(super) struct Subscribed {
    /// Always there until it is dropped.
    inner: Option<nats::Subscription>,
    number: u64,
    session: Arc<Session>,
    subjects: String,
    queue_group: Option<String>,
}

impl Subscribed {
    /// Where the messages arrive.
    pub(super) fn receiver(&self) -> Option<&crossbeam_channel::Receiver<nats::Message>> {
        self.inner.as_ref().map(nats::Subscription::receiver)
    }

    /// The number by which the server knows it.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The session.
    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The subjects.
    pub(super) fn subjects(&self) -> &str {
        &self.subjects
    }

    /// The subjects and the queue group, as the protocol has them.
    pub(super) fn interest(&self) -> String {
        [self.subjects.as_str()].into_iter().chain(self.queue_group.as_deref()).collect::<Vec<_>>().join(" ")
    }

    /// Receives the same on this session, where that is another one. It fails where that one is over already, too: then
    /// nothing is sent on it either.
    pub(super) fn move_to(&mut self, session: &Arc<Session>) {
        if !Arc::ptr_eq(session, &self.session)
            && let Ok(there) = session.subscribe(&self.subjects, self.queue_group.as_deref())
        {
            *self = there;
        }
    }
}

impl Drop for Subscribed {
    /// The client unsubscribes under its locks, which nobody may get any more where a session was given up because it hung.
    fn drop(&mut self) {
        self.session.listening.fetch_sub(1, SeqCst);
        let Some(inner) = self.inner.take() else { return };
        if self.session.is_over() {
            aside(move || drop(inner));
        }
    }
}

/// Does what may hang on a thread of its own, which is left behind then. False where there is none to be had.
fn aside(work: impl FnOnce() + Send + 'static) -> bool {
    std::thread::Builder::new().name("nats-close".to_owned()).spawn(work).is_ok()
}

/// The options with all callbacks set. None of them panics or calls the client: a callback that panics kills the
/// client's reader thread, one that calls back may lock it up.
fn watched(options: nats::Options, vitals: &Arc<Vitals>) -> nats::Options {
    let [lost, found, failed, attempts] = [(); 4].map(|()| Arc::clone(vitals));
    options
        .disconnect_callback(move || lost.on_lost())
        .reconnect_callback(move || found.on_connected())
        .error_callback(move |error| failed.on_error(&error))
        .lame_duck_callback(|| log::info!("the NATS server is about to stop and asks its clients to leave"))
        .reconnect_delay_callback(
            move |attempt| {
                if attempts.was_lost() { reconnect_delay(attempt) } else { Duration::ZERO }
            },
        )
}

fn reconnect_delay(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt).unwrap_or(u32::MAX);
    let delay = RECONNECT_DELAY_MIN.saturating_mul(2_u32.saturating_pow(doublings)).min(RECONNECT_DELAY_MAX);
    with_jitter(delay)
}

/// A pause and a bit: the clock's last digits are random enough to part replicas.
pub(super) fn with_jitter(pause: Duration) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    pause + (pause / JITTER_DIVISOR).mul_f64(f64::from(now.subsec_nanos() % 1000) / 1000.0)
}

pub(super) fn join_until(deadline: Instant, thread: JoinHandle<()>) -> bool {
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    thread.join().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second() {
        let between = |attempt, min, max| {
            let delay = reconnect_delay(attempt).as_millis();
            assert!((min..=max).contains(&delay), "attempt {attempt}: {delay} ms");
        };
        between(0, 10, 12);
        between(3, 80, 100);
        between(7, 1000, 1250);
        between(usize::MAX, 1000, 1250);
    }
}
