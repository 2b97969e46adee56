//! The connection of a client, and a question with one answer.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::answer::Answer;
use crate::cli::failure::Failure;
use crate::config;
use crate::nats::{Answer as Arrived, Caller};
use crate::wire::subject::Subjects;

/// By how much clients wait longer than the service takes.
const REPLY_WAIT_EXTRA: Duration = Duration::from_secs(1);

/// A client of the service. Its connection is not closed in order, which takes time: what it waited for has come, and
/// nothing else is under way.
pub struct Client {
    /// The connection.
    pub caller: Caller,
    /// The subjects of the service.
    pub subjects: Subjects,
    /// How long an answer is waited for.
    pub reply_wait: Duration,
}

impl Client {
    /// Tries once to connect. `name` is what the server's operators see.
    pub fn open(config: &config::Client, name: &str) -> Result<Self, Failure> {
        Ok(Self {
            caller: Caller::open(&config.nats, name)?,
            subjects: Subjects::new(&config.subject_prefix),
            reply_wait: config.command_timeout + REPLY_WAIT_EXTRA,
        })
    }

    /// Asks the query of this name and waits for the answer.
    pub fn query(&mut self, name: &str, question: &Value) -> Result<Answer, Failure> {
        let subject = self.subjects.query(name);
        let payload = question.to_string();
        let number = self.caller.call(&subject, &[], payload.as_bytes()).map_err(|error| Failure::not_sent(&error))?;
        let deadline = Instant::now() + self.reply_wait;
        loop {
            match self.caller.next_answer(deadline) {
                Some((answered, _)) if answered != number => {}
                Some((_, Arrived::NobodyListens)) => return Err(Failure::nobody_listens(&subject)),
                Some((_, Arrived::Message(message))) => {
                    return Answer::read(message.into_payload()).ok_or_else(|| Failure::unreadable(&subject));
                }
                None => return Err(Failure::silence(&subject, self.reply_wait)),
            }
        }
    }
}
