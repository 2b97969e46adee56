//! The intake: the connection that receives what strangers send, and what replicas say and hand to each other.
//!
//! A message with malformed headers, or with a white space of some script in its subject, makes the client drop the
//! connection that brought it, and whoever may send commands may send that. So this connection does nothing but receive
//! them: a poisoned message costs one quick reconnect, and no append that is under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::connection::{Connection, OpenError};
use super::health::Health;
use super::message::Incoming;
use super::session::{Session, Subscribed};
use super::store::{NotSent, is_alive};
use crate::config;

/// The intake connection.
#[derive(Debug)]
pub struct Intake {
    connection: Arc<Connection>,
}

impl Intake {
    /// Tries once to connect and to sign in.
    pub fn open(config: &config::Nats) -> Result<Self, OpenError> {
        Ok(Self { connection: Arc::new(Connection::open(config, "intake")?) })
    }

    /// How the connection is doing.
    pub fn health(&self) -> Health {
        self.connection.health()
    }

    /// The connection itself, for what the server denied on it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Begins to receive what is sent to these subjects: a share of it as a member of a queue group, or all of it.
    /// The server knows of it after the next [`Intake::settle`].
    pub fn join(&self, subjects: &str, queue_group: Option<&str>) -> Result<Group, NotSent> {
        let session = self.connection.session();
        // It fails only on a client that is closed.
        let subscription = session.subscribe(subjects, queue_group).map_err(|_| NotSent::Away)?;
        session.mark_dirty();
        Ok(Group { subscription })
    }

    /// Says something to whoever listens; nobody is told where it cannot be said.
    pub fn say(&self, subject: &str, payload: &[u8]) {
        let session = self.connection.session();
        if is_alive(session.vitals().health()) && session.client().publish(subject, payload).is_ok() {
            session.mark_dirty();
        }
    }

    /// The name of the cluster of the servers that it was opened with; empty for a server that is in none.
    pub fn cluster(&self) -> String {
        self.connection.cluster()
    }

    /// Waits until the server knows of all that was joined so far; false when it does not within this time.
    pub fn settle(&self, within: Duration) -> bool {
        self.connection.round_trip(within)
    }

    /// Lets the connection show that it lives; see [`Connection::mark_dirty`].
    pub fn mark_dirty(&self) {
        self.connection.mark_dirty();
    }

    /// Closes the connection; see [`Connection::close`].
    pub fn close(&self, within: Duration) -> bool {
        self.connection.close(within)
    }
}

/// A membership: messages arrive until it is left, or until the session is over on which it was joined.
#[derive(Debug)]
pub struct Group {
    subscription: Subscribed,
}

/// How a group was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The server sends nothing more, and all that it had sent has arrived.
    Complete,
    /// The server did not confirm it in time: messages that were under way may be lost.
    Abrupt,
}

impl Group {
    /// Where the messages arrive. It outlives the membership, and then runs dry.
    pub fn arrivals(&self) -> Arrivals {
        Arrivals(self.subscription.receiver().cloned().unwrap_or_else(crossbeam_channel::never))
    }

    /// Whether nothing more can arrive, since the session is over.
    pub fn is_over(&self) -> bool {
        self.session().is_over()
    }

    fn session(&self) -> &Session {
        self.subscription.session()
    }

    /// Asks the server to send nothing more for now; what is under way still arrives. A reconnect ends the pause.
    pub fn pause(&self) {
        unsubscribe_at_server(self.session(), self.subscription.number());
        self.session().mark_dirty();
    }

    /// Asks the server to send again what comes from now on.
    pub fn resume(&self) {
        // Who is subscribed already stays so: the server knows it by the number.
        say(self.session(), &format!("SUB {} {}", self.subscription.interest(), self.subscription.number()));
        self.session().mark_dirty();
    }

    /// Leaves the group without losing a message: the server is told first, and what it had sent by then is waited for.
    /// Only then is the subscription taken from the client, which drops what still comes for one that it has no more.
    pub fn leave(self, within: Duration) -> Left {
        let deadline = Instant::now() + within;
        let mut left = Left::Abrupt;
        // A reconnect in between subscribes anew: then the new server has to be told too.
        while left == Left::Abrupt && Instant::now() < deadline && !self.is_over() {
            let told = unsubscribe_at_server(self.session(), self.subscription.number());
            let rest = deadline.saturating_duration_since(Instant::now());
            if told && self.session().round_trip(rest) {
                left = Left::Complete;
            } else {
                std::thread::sleep(RETRY_PAUSE.min(rest));
            }
        }
        left
    }
}

/// The pause before the server is told again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Makes the server forget a subscription that the client keeps, which the client has no call for.
///
/// A hack, and known to be one: the client writes subjects into the protocol as they are, so a "subject" with line
/// breaks holds the UNSUB line that is wanted, between two empty messages to nobody. Without it the client's own
/// unsubscribe comes first and drops what is under way: at 40,000 messages a second, some hundred of them. A test would
/// fail were the client to count its subscriptions in another way or to check subjects.
fn unsubscribe_at_server(session: &Session, number: u64) -> bool {
    say(session, &format!("UNSUB {number}"))
}

/// Sends a line of the protocol.
fn say(session: &Session, line: &str) -> bool {
    session.client().publish(&format!("{NOBODY} 0\r\n\r\n{line}\r\nPUB {NOBODY}"), []).is_ok()
}

/// Where nobody listens. The service may publish to inboxes anyway; any other subject might be denied to it.
const NOBODY: &str = "_INBOX.nobody";

/// After so many messages without a wait, the wait for the next one is a [`nap`].
const NAP_RUN_MIN: usize = 16;

/// A short sleep instead of a wait for a message. They come in bursts, and being woken for each of them would cost more
/// than handling it does. The system makes about twice as much of it.
pub(super) fn nap() {
    std::thread::sleep(Duration::from_micros(50));
}

/// Nothing will arrive any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dry;

/// What has arrived for one membership, in order of arrival. May be cloned: each message goes to one taker.
#[derive(Debug, Clone)]
pub struct Arrivals(Receiver<nats::Message>);

impl Arrivals {
    /// The next message, waited for no longer than this. Disconnected means: left, and all taken.
    pub fn recv_timeout(&self, within: Duration) -> Result<Incoming, RecvTimeoutError> {
        self.0.recv_timeout(within).map(Incoming::new)
    }

    /// The next message, if there is one.
    pub fn try_recv(&self) -> Result<Incoming, TryRecvError> {
        self.0.try_recv().map(Incoming::new)
    }

    /// Takes what has arrived, at most so many, then has a `rest`; if it was little, also the next one, waited for no longer
    /// than this.
    pub fn take_run(
        &self,
        len_max: usize,
        within: Duration,
        mut take: impl FnMut(Incoming),
        mut rest: impl FnMut(),
    ) -> Result<(), Dry> {
        let taken = self.0.try_iter().take(len_max).map(|message| take(Incoming::new(message))).count();
        if taken > 0 {
            rest();
        }
        if taken >= NAP_RUN_MIN {
            nap();
            return Ok(());
        }
        match self.0.recv_timeout(within) {
            Ok(message) => {
                take(Incoming::new(message));
                // Most often it is alone.
                if self.0.is_empty() {
                    rest();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Dry),
        }
        Ok(())
    }

    /// How many wait to be taken. The client puts no limit on it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
