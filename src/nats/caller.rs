//! The other side of the wire: a client of the service, with many questions under way at the same time.
//!
//! An [`Inbox`](super::Inbox) collects the answers of a whole batch; a caller gets each as it comes and goes on asking.
//! It is told at once when nobody listens, which the server says in the answer's place.

use std::sync::Arc;
use std::time::Instant;

use super::connection::{Connection, OpenError};
use super::message::Incoming;
use super::session::Subscribed;
use super::store::{NotSent, Store};
use crate::config;

/// A client's connection, with its own place for answers.
pub struct Caller {
    store: Store,
    subscription: Subscribed,
    prefix: String,
    next: u64,
}

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// A message of whoever was asked.
    Message(Incoming),
    /// The server's word that nobody listens on the subject.
    NobodyListens,
}

impl Caller {
    /// Tries once to connect and to sign in. `name` is what the server's operators see.
    pub fn open(config: &config::Nats, name: &str) -> Result<Self, OpenError> {
        Self::over(Store::new(Arc::new(Connection::open(config, name)?)))
    }

    /// Over a connection that is open.
    pub(super) fn over(store: Store) -> Result<Self, OpenError> {
        let session = store.connection().session();
        let prefix = session.client().new_inbox();
        let subscription = session.subscribe(&format!("{prefix}.*"), None);
        let subscription = subscription.map_err(|error| OpenError::Away(error.to_string()))?;
        Ok(Self { store, subscription, prefix, next: 0 })
    }

    /// Asks, and returns the question's number, which its answer will bear. Numbers only grow.
    pub fn call(&mut self, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> Result<u64, NotSent> {
        self.subscription.move_to(&self.store.connection().session());
        let number = self.next;
        self.next += 1;
        self.store.publish(subject, Some(&format!("{}.{number}", self.prefix)), headers, payload)?;
        self.store.mark_dirty();
        Ok(number)
    }

    /// The next answer, to whichever question, waited for until then.
    pub fn next_answer(&self, deadline: Instant) -> Option<(u64, Answer)> {
        loop {
            let message = Incoming::new(self.subscription.receiver()?.recv_deadline(deadline).ok()?);
            let number = message.subject().rsplit_once('.').and_then(|(_, number)| number.parse().ok());
            if let Some(number) = number {
                let nobody = message.is_no_responders();
                return Some((number, if nobody { Answer::NobodyListens } else { Answer::Message(message) }));
            }
        }
    }

    /// Where it asks.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Where answers to it go: the subject of its subscription.
    pub(super) fn inbox(&self) -> &str {
        self.subscription.subjects()
    }

    /// How many connections were lost so far. When it changes, answers that were under way are lost.
    pub fn generation(&self) -> u64 {
        self.store.connection().health().generation
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("asked", &self.next).finish_non_exhaustive()
    }
}
