//! A connection that looks at things and changes none: it asks, and hears what it is not allowed to ask.
//!
//! The server tells a permission that is lacking to the connection and not in answer to the question, and the client hands
//! it to a callback. A round trip later all complaints about what was sent before have come, so a refusal is told from
//! silence without waiting for the silence to end.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use semver::Version;
use serde_json::Value;

use super::caller::{Answer, Caller};
use super::connection::{Connection, OpenError};
use super::message::Incoming;
use super::obstacle::Obstacle;
use super::store::{NotSent, Store};
use crate::config;
use crate::wire::request::Header;

/// A question, and what goes with it.
#[derive(Debug, Clone)]
pub struct Question {
    /// Where to.
    pub subject: String,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The question itself.
    pub payload: String,
}

impl Question {
    /// Without headers.
    pub fn new(subject: impl Into<String>, payload: impl ToString) -> Self {
        Self { subject: subject.into(), headers: Vec::new(), payload: payload.to_string() }
    }
}

/// What came of a question.
#[derive(Debug)]
pub enum Said {
    /// An answer.
    Message(Incoming),
    /// The server's word that nobody listens there.
    NobodyListens,
    /// The server's word that this user may not publish there.
    Denied,
    /// Nothing in time.
    Silent,
    /// It was not asked.
    NotSent(NotSent),
}

impl Said {
    /// The answer as JSON, where it is that.
    pub fn json(&self) -> Option<Value> {
        match self {
            Self::Message(message) => serde_json::from_slice(message.payload()).ok(),
            _ => None,
        }
    }

    /// The status by which a server answers without a message, such as 404; or the code of JetStream's error.
    pub fn status(&self) -> Option<u64> {
        match self {
            Self::Message(message) => match message.header("Status") {
                Header::One(status) => status.parse().ok(),
                _ => self.json()?.pointer("/error/code")?.as_u64(),
            },
            _ => None,
        }
    }
}

/// The connection.
pub struct Examiner {
    caller: Caller,
    complaints: Receiver<String>,
    heard: Vec<String>,
    wait: Duration,
    server: Option<(String, Version)>,
}

impl Examiner {
    /// Tries once to connect and sign in. Nothing is waited for longer than `wait`.
    pub fn open(config: &config::Nats, wait: Duration) -> Result<Self, OpenError> {
        Self::over(Store::new(Connection::open(config, "doctor")?.into()), wait)
    }

    /// Over a connection that is open, for its only examiner.
    ///
    /// # Errors
    /// The connection is closed.
    pub(super) fn over(store: Store, wait: Duration) -> Result<Self, OpenError> {
        let complaints = store.connection().complaints();
        let caller = Caller::over(store)?;
        let mut examiner = Self { caller, complaints, heard: Vec::new(), wait, server: None };
        examiner.listen();
        Ok(examiner)
    }

    /// Whether answers can reach us at all.
    pub fn may_hear_answers(&self) -> bool {
        self.crowded().is_none() && !self.is_denied("Subscription", self.caller.inbox())
    }

    /// That the server takes no more subscriptions, if it said so.
    pub fn crowded(&self) -> Option<Obstacle> {
        let said = self.heard.iter().find(|line| line.to_lowercase().contains("subscriptions exceeded"))?;
        Some(Obstacle::too_many_subscriptions(said))
    }

    /// Name and version of the server that the last answers came through.
    pub fn server(&self) -> Option<&(String, Version)> {
        self.server.as_ref()
    }

    /// The largest message that the server takes, and the largest commit that it can store and show again; in bytes.
    pub fn bytes_max(&self) -> (usize, usize) {
        (self.caller.store().message_bytes_max(), self.caller.store().payload_bytes_max())
    }

    /// Asks all of them at once.
    pub fn ask(&mut self, questions: &[Question]) -> Vec<Said> {
        self.ask_within(questions, self.wait)
    }

    /// The same, with another time for the answers.
    pub(super) fn ask_within(&mut self, questions: &[Question], wait: Duration) -> Vec<Said> {
        let deadline = Instant::now() + wait;
        let mut said: Vec<Said> = Vec::with_capacity(questions.len());
        let mut numbers = Vec::with_capacity(questions.len());
        for question in questions {
            let headers: Vec<(&str, &str)> = question.headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let asked = self.caller.call(&question.subject, &headers, question.payload.as_bytes());
            numbers.push(asked.as_ref().ok().copied());
            said.push(asked.map_or_else(Said::NotSent, |_| Said::Silent));
        }
        self.listen();
        for (said, question) in said.iter_mut().zip(questions) {
            if self.is_denied("Publish", &question.subject) {
                *said = Said::Denied;
            }
        }
        while said.iter().any(|said| matches!(said, Said::Silent)) && self.may_hear_answers() {
            let Some((number, answer)) = self.caller.next_answer(deadline) else { break };
            let index = numbers.iter().position(|asked| *asked == Some(number));
            if let Some(place) = index.and_then(|index| said.get_mut(index)) {
                *place = self.read(answer);
            }
        }
        said
    }

    /// Asks one.
    pub fn ask_one(&mut self, question: Question) -> Said {
        self.ask(&[question]).pop().unwrap_or(Said::Silent)
    }

    /// Asks one question and takes all answers that come within this time; `None` where it may not be asked.
    pub fn gather(&mut self, question: &Question, within: Duration) -> Option<Vec<Incoming>> {
        let number = self.caller.call(&question.subject, &[], question.payload.as_bytes()).ok()?;
        let deadline = Instant::now() + within;
        self.listen();
        if self.is_denied("Publish", &question.subject) {
            return None;
        }
        let mut answers = Vec::new();
        while let Some((answered, answer)) = self.caller.next_answer(deadline) {
            match self.read(answer) {
                Said::Message(message) if answered == number => answers.push(message),
                Said::NobodyListens if answered == number => break,
                _ => {}
            }
        }
        Some(answers)
    }

    /// Asks the same this many times, one after the other, and returns how long each answer took, the shortest first; none
    /// where it may not be asked.
    pub fn time(&mut self, question: &Question, count: usize) -> Vec<(Duration, Said)> {
        let mut times = Vec::with_capacity(count);
        let count = if self.is_denied("Publish", &question.subject) { 0 } else { count };
        for _ in 0..count {
            let asked = Instant::now();
            let Ok(number) = self.caller.call(&question.subject, &[], question.payload.as_bytes()) else { break };
            let answer = loop {
                match self.caller.next_answer(asked + self.wait) {
                    // To an earlier question, and late.
                    Some((answered, _)) if answered != number => {}
                    answer => break answer,
                }
            };
            let Some((_, answer)) = answer else { break };
            let took = asked.elapsed();
            times.push((took, self.read(answer)));
        }
        times.sort_by_key(|(took, _)| *took);
        times
    }

    /// How long a message takes to the server and back, this many times, the shortest first; none where we may not send to
    /// ourselves.
    pub fn echoes(&mut self, count: usize) -> Vec<Duration> {
        let subject = self.caller.inbox().replace('*', "echo");
        let subscription = self.caller.store().connection().session().client().subscribe(&subject);
        let Ok(subscription) = subscription else { return Vec::new() };
        // The first one is for the server's word that it may be sent.
        let _ = self.caller.store().publish(&subject, None, &[], b"");
        self.listen();
        if self.is_denied("Publish", &subject) {
            return Vec::new();
        }
        while subscription.receiver().try_recv().is_ok() {}
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let (sent, store) = (Instant::now(), self.caller.store());
            let left = store.publish(&subject, None, &[], b"");
            store.mark_dirty();
            if left.is_err() || subscription.receiver().recv_deadline(sent + self.wait).is_err() {
                break;
            }
            times.push(sent.elapsed());
        }
        times.sort();
        times
    }

    /// Whether this user may send to itself, as far as the last [`Examiner::echoes`] found out.
    pub fn may_send_to_inboxes(&self) -> bool {
        !self.is_denied("Publish", &self.caller.inbox().replace('*', "echo"))
    }

    /// Whether this user may subscribe there as a member of the group. It is a member for a moment: the subject has to be
    /// one to which nobody sends.
    pub fn may_listen(&mut self, subject: &str, queue_group: Option<&str>) -> bool {
        let session = self.caller.store().connection().session();
        let client = session.client();
        let subscription = match queue_group {
            Some(group) => client.queue_subscribe(subject, group),
            None => client.subscribe(subject),
        };
        self.listen();
        subscription.is_ok() && !self.is_denied("Subscription", subject)
    }

    /// Waits for what the server has to say about all that was sent.
    fn listen(&mut self) {
        self.caller.store().connection().round_trip(self.wait);
        self.heard.extend(self.complaints.try_iter());
    }

    fn is_denied(&self, what: &str, subject: &str) -> bool {
        let (begin, quoted) =
            (format!("permissions violation for {} to", what.to_lowercase()), format!("\"{subject}\""));
        self.heard.iter().any(|line| line.to_lowercase().contains(&begin) && line.contains(&quoted))
    }

    fn read(&mut self, answer: Answer) -> Said {
        match answer {
            Answer::NobodyListens => Said::NobodyListens,
            Answer::Message(message) => {
                self.server = message.server_name().zip(message.server_version());
                Said::Message(message)
            }
        }
    }
}

impl std::fmt::Debug for Examiner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Examiner").field("heard", &self.heard).finish_non_exhaustive()
    }
}
