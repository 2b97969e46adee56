//! Asking many questions at once and collecting the answers.
//!
//! The client's own `request` subscribes and unsubscribes each time, and waits for a flush that comes every 5 ms. Here
//! each user has one wildcard subscription for good; each question gets the next number as the last token of its reply
//! subject, so an answer that comes late, for a question long given up, is recognised and dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::intake::nap;
use super::message::Incoming;
use super::session::Subscribed;
use super::store::{NotSent, Store};

/// While waiting, how often to look whether the connection is still the one that was asked over.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// With so many answers still to come, a wait for the next one begins with a [`nap`].
const NAP_OPEN_MIN: usize = 24;

/// What became of one question.
#[derive(Debug, PartialEq, Eq)]
pub enum Exchanged<T> {
    /// The answer is complete.
    Answered(T),
    /// The question was not sent.
    NotSent(NotSent),
    /// The question may have been sent; no complete answer came in time, or the connection was lost meanwhile.
    Silent,
}

/// One user's own place for answers.
pub struct Inbox {
    store: Store,
    subscription: Subscribed,
    prefix: String,
    next: u64,
    counted: Counted,
}

/// One of the inboxes of a connection.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn among(inboxes: &Arc<AtomicUsize>) -> Self {
        inboxes.fetch_add(1, SeqCst);
        Self(Arc::clone(inboxes))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Inbox {
    pub(super) fn open(store: Store) -> Result<Self, NotSent> {
        let counted = Counted::among(store.inboxes());
        let session = store.connection().session();
        let prefix = session.client().new_inbox();
        // This fails only on a client that is closed; while away it is remembered for the next connection.
        let subscription = session.subscribe(&format!("{prefix}.*"), None).map_err(|_| NotSent::Away)?;
        Ok(Self { store, subscription, prefix, next: 0, counted })
    }

    /// Listens on the session that the connection has now. Answers to earlier questions may come there too, and are known
    /// by their numbers.
    pub fn listen_on_present_session(&mut self) {
        self.subscription.move_to(&self.store.connection().session());
    }

    /// Places for answers on the present session, one for each inbox that has not asked on it yet and so does not listen on
    /// it yet: while they are held it shows whether the server allows them all.
    pub(super) fn places_for_all(&mut self) -> Vec<Subscribed> {
        self.listen_on_present_session();
        let session = self.subscription.session();
        let lacking = self.counted.0.load(SeqCst).saturating_sub(session.listening());
        (0..lacking).filter_map(|_| session.subscribe(&session.client().new_inbox(), None).ok()).collect()
    }

    /// A way to ask without waiting: the answers are taken by [`Inbox::next_answer`], by whoever has the inbox.
    pub fn post(&self) -> Post {
        Post { store: self.store.clone(), prefix: self.prefix.clone() }
    }

    /// The next answer to anything that was [sent](Post::send), with its number, waited for until then.
    pub fn next_answer(&self, deadline: Instant) -> Option<(u64, Incoming)> {
        let receiver = self.subscription.receiver()?;
        loop {
            match receiver.recv_deadline(deadline) {
                Ok(message) => {
                    let message = Incoming::new(message);
                    if let Some(number) = number_of(&message) {
                        return Some((number, message));
                    }
                }
                Err(RecvTimeoutError::Timeout) => return None,
                // The session is over, and another one is about to take its place.
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(LOOK_INTERVAL.min(deadline.saturating_duration_since(Instant::now())));
                    return None;
                }
            }
        }
    }

    /// Where answers go: the subject of its subscription.
    pub(super) fn subjects(&self) -> &str {
        self.subscription.subjects()
    }

    /// The connection that it asks over.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Which of the connection's lives this is; see [`Health::generation`](super::Health::generation).
    pub(super) fn generation(&self) -> u64 {
        self.store.connection().generation()
    }

    /// Sends the questions in a row and collects their answers until all are complete or `wait` is over.
    ///
    /// `send` publishes a question with this reply subject. `take` is given each message that answers the question of
    /// this index, and returns the answer once it is complete; what comes after that is dropped.
    pub fn exchange<Q, T>(
        &mut self,
        questions: &[Q],
        wait: Duration,
        mut send: impl FnMut(&Store, &Q, &str) -> Result<(), NotSent>,
        mut take: impl FnMut(usize, Incoming) -> Option<T>,
    ) -> Vec<Exchanged<T>> {
        // Before anything is sent: what is lost, or given up, from now on shows as another generation.
        let generation = self.generation();
        self.listen_on_present_session();
        let first = self.next;
        let mut open = 0;
        let mut results: Vec<Exchanged<T>> = Vec::with_capacity(questions.len());
        let mut reply = format!("{}.", self.prefix);
        let prefix_len = reply.len();
        for question in questions {
            reply.truncate(prefix_len);
            reply.push_str(itoa::Buffer::new().format(self.next));
            self.next += 1;
            results.push(match send(&self.store, question, &reply) {
                Ok(()) => Exchanged::Silent,
                Err(not_sent) => Exchanged::NotSent(not_sent),
            });
            open += usize::from(matches!(results.last(), Some(Exchanged::Silent)));
        }
        self.store.mark_dirty();
        let deadline = Instant::now() + wait;
        while open > 0 {
            let Some(message) = self.next_message(open, deadline, generation) else { break };
            let Some(index) = index_of(&message, first) else { continue };
            let Some(result @ Exchanged::Silent) = results.get_mut(index) else { continue };
            if let Some(answer) = take(index, message) {
                *result = Exchanged::Answered(answer);
                open -= 1;
            }
        }
        results
    }

    /// The same where answers may be large, of up to `weight` commits each: so many at once as there is room for, among
    /// all who ask. What is left once there is `enough` is not asked.
    pub(super) fn exchange_in_waves<Q, T>(
        &mut self,
        questions: &[Q],
        weight: usize,
        wait: Duration,
        enough: impl Fn() -> bool,
        mut send: impl FnMut(&Store, &Q, &str) -> Result<(), NotSent>,
        mut take: impl FnMut(usize, Incoming) -> Option<T>,
    ) -> Vec<Exchanged<T>> {
        let in_flight = Arc::clone(self.store.in_flight());
        let mut results = Vec::with_capacity(questions.len());
        while let Some(left) = questions.get(results.len()..).filter(|left| !left.is_empty()) {
            let room = if enough() { None } else { in_flight.room(left.len(), weight, wait) };
            let Some(wave) = room.as_ref().and_then(|room| left.get(..room.answers)) else {
                results.extend(left.iter().map(|_| Exchanged::NotSent(NotSent::NoRoom)));
                break;
            };
            let asked = results.len();
            results.extend(self.exchange(wave, wait, &mut send, |index, message| take(asked + index, message)));
            // A store that is silent is not to be waited for once more.
            if results.iter().skip(asked).any(|end| matches!(end, Exchanged::Silent)) {
                results.extend(questions.iter().skip(results.len()).map(|_| Exchanged::Silent));
            }
        }
        results
    }

    /// One question with an answer of one message.
    pub fn request(&mut self, subject: &str, payload: &[u8], wait: Duration) -> Exchanged<Incoming> {
        let send = |store: &Store, payload: &&[u8], reply: &str| store.publish(subject, Some(reply), &[], payload);
        self.exchange(&[payload], wait, send, |_, message| Some(message)).pop().unwrap_or(Exchanged::Silent)
    }

    /// The next message, as long as one may come: what the lost connection had brought is still taken.
    fn next_message(&self, open: usize, deadline: Instant, generation: u64) -> Option<Incoming> {
        let receiver = self.subscription.receiver()?;
        if let Ok(message) = receiver.try_recv() {
            return Some(Incoming::new(message));
        }
        if open >= NAP_OPEN_MIN {
            nap();
        }
        loop {
            // The look comes before the wait: a message that arrived before a loss then cannot be overlooked.
            let over = Instant::now() >= deadline || self.generation() != generation;
            let until = deadline.min(Instant::now() + if over { Duration::ZERO } else { LOOK_INTERVAL });
            match receiver.recv_deadline(until) {
                Ok(message) => return Some(Incoming::new(message)),
                Err(_) if over => return None,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("asked", &self.next).finish_non_exhaustive()
    }
}

/// Which question of those from `first` on the message answers.
fn index_of(message: &Incoming, first: u64) -> Option<usize> {
    usize::try_from(number_of(message)?.checked_sub(first)?).ok()
}

fn number_of(message: &Incoming) -> Option<u64> {
    let (_, number) = message.subject().rsplit_once('.')?;
    number.parse().ok()
}

/// Sends questions whose answers arrive in an inbox of somebody else's.
#[derive(Debug, Clone)]
pub struct Post {
    store: Store,
    prefix: String,
}

impl Post {
    /// Sends a question whose answer is to bear this number.
    pub fn send(&self, number: u64, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> Result<(), NotSent> {
        self.store.publish(subject, Some(&format!("{}.{number}", self.prefix)), headers, payload)
    }

    /// Sends off what was sent.
    pub fn mark_dirty(&self) {
        self.store.mark_dirty();
    }
}
