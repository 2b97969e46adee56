//! The other side of the wire: a client of the service, with many questions under way at the same time.
//!
//! An [`Inbox`] collects the answers of a whole batch; a caller gets each as it comes and goes on asking.
//! It is told at once when nobody listens, which the server says in the answer's place.

use std::sync::Arc;
use std::time::Instant;

use super::connection::{Connection, OpenError};
use super::inbox::{Inbox, Post};
use super::message::Incoming;
use super::store::{NotSent, Store};
use crate::config;

/// A client's connection, with its own place for answers.
pub struct Caller {
    inbox: Inbox,
    post: Post,
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
        let inbox = store.inbox().map_err(|error| OpenError::Away(error.to_string()))?;
        Ok(Self { post: inbox.post(), inbox, next: 0 })
    }

    /// Asks, and returns the question's number, which its answer will bear. Numbers only grow.
    pub fn call(&mut self, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> Result<u64, NotSent> {
        self.inbox.listen_on_present_session();
        let number = self.next;
        self.next += 1;
        self.post.send(number, subject, headers, payload)?;
        self.post.mark_dirty();
        Ok(number)
    }

    /// The next answer, to whichever question, waited for until then.
    pub fn next_answer(&self, deadline: Instant) -> Option<(u64, Answer)> {
        let (number, message) = self.inbox.next_answer(deadline)?;
        Some((number, if message.is_no_responders() { Answer::NobodyListens } else { Answer::Message(message) }))
    }

    /// Where it asks.
    pub(super) fn store(&self) -> &Store {
        self.inbox.store()
    }

    /// Where answers to it go: the subject of its subscription.
    pub(super) fn inbox(&self) -> &str {
        self.inbox.subjects()
    }

    /// How many connections were lost so far. When it changes, answers that were under way are lost.
    pub fn generation(&self) -> u64 {
        self.store().connection().health().generation
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("asked", &self.next).finish_non_exhaustive()
    }
}
