//! The way back to the client.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::daemon::statistics::Statistics;
use crate::domain::PersonId;
use crate::engine::turn::Answer;
use crate::log_limit::RateLimited;
use crate::nats::{NotSent, ReplyRule, Store};
use crate::wire::reply::{self, Code, Outcome, Problem};
use crate::wire::request::NotARequest;

/// Of the message of a problem, in characters, what the log has.
const LOGGED_CHARS_MAX: usize = 300;

static REFUSED: RateLimited = RateLimited::new(Duration::from_secs(1));
static FAILED: RateLimited = RateLimited::new(Duration::from_secs(1));
static BAD_REPLY: RateLimited = RateLimited::new(Duration::from_secs(10));
static NOT_SENT: RateLimited = RateLimited::new(Duration::from_secs(10));

/// A reply subject that would let a stranger write with the service's rights.
pub struct Forbidden;

/// Sends replies, over the store connection: a stranger's message can cost the intake its connection, not this one.
#[derive(Clone)]
pub struct Replier {
    store: Store,
    rule: Arc<ReplyRule>,
    statistics: Arc<Statistics>,
}

impl Replier {
    /// Replies over this connection, to where they may go.
    pub fn new(store: Store, rule: ReplyRule, statistics: Arc<Statistics>) -> Self {
        Self { store, rule: Arc::new(rule), statistics }
    }

    /// The largest reply that the server takes now, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        self.store.message_bytes_max()
    }

    /// Where the reply to a message may go that asks for it there, if anywhere. A message that wants it elsewhere than in an
    /// inbox is to be dropped, which is counted here.
    pub fn permitted<'a>(&self, reply: Option<&'a str>) -> Result<Option<&'a str>, Forbidden> {
        match reply {
            Some(reply) if !self.rule.allows(reply) => {
                BAD_REPLY.warn(format_args!("a request was dropped: its reply subject is not one of REPLY_SUBJECTS"));
                self.statistics.dropped();
                Err(Forbidden)
            }
            reply => Ok(reply),
        }
    }

    /// Sends what a turn brought, and sends it off.
    pub fn answer_all(&self, answers: Vec<Answer>) {
        if answers.is_empty() {
            return;
        }
        for Answer { task, outcome } in answers {
            let command_id = task.request.command_id.text.as_str();
            self.reply(task.reply_to.as_deref(), Some(command_id), Some(task.request.person), &outcome);
        }
        self.store.mark_dirty();
    }

    /// Tells a client why its message was not taken on.
    pub fn refuse(&self, reply_to: Option<&str>, refused: NotARequest) {
        self.statistics.refused(refused.problem.code);
        let outcome = Outcome::Problem(refused.problem);
        self.reply(reply_to, refused.command_id.as_deref(), refused.person, &outcome);
        self.store.mark_dirty();
    }

    /// Sends an answer that is neither to a command nor to a query, and sends it off.
    pub fn tell(&self, to: &str, json: &[u8]) {
        self.tell_along(to, json);
        self.store.mark_dirty();
    }

    /// The same, sent off with what comes next: within 5 ms, as the client flushes then by itself.
    pub fn tell_along(&self, to: &str, json: &[u8]) {
        drop(self.send(to, &[], json));
    }

    /// Tells a client why its query was not taken on.
    pub fn refuse_query(&self, to: &str, person: Option<PersonId>, problem: Problem) {
        self.answer_query(to, person, Err(problem), None);
    }

    /// Sends the answer to a query, and sends it off; `took` from its arrival, unless it was refused at the door.
    pub fn answer_query(
        &self,
        to: &str,
        person: Option<PersonId>,
        answer: Result<Vec<u8>, Problem>,
        took: Option<Duration>,
    ) {
        self.statistics.query(answer.as_ref().err().map(|problem| problem.code), took);
        let problem = match answer {
            // The server may have come back with another limit since the answer was made.
            Ok(json) => match self.send(to, &[], &json) {
                Err(NotSent::TooLarge { bytes_max, .. }) => {
                    let message = format!("the answer does not fit into a message of {bytes_max} bytes");
                    Some(Problem::new(Code::TooLarge, message))
                }
                Ok(()) | Err(_) => None,
            },
            Err(problem) => Some(problem),
        };
        if let Some(problem) = problem {
            self.reply(Some(to), None, person, &Outcome::Problem(problem));
        }
        self.store.mark_dirty();
    }

    fn reply(&self, to: Option<&str>, command_id: Option<&str>, person: Option<PersonId>, outcome: &Outcome) {
        log_problem(to.is_some(), command_id, person, outcome);
        let Some(to) = to else { return };
        let payload = reply::encode(command_id, person, outcome);
        match outcome {
            Outcome::Accepted(_) => drop(self.send(to, &[], &payload)),
            Outcome::Problem(problem) => {
                let text = header_text(&problem.message);
                let number = problem.code.number().to_string();
                let headers = [("Nats-Service-Error", text.as_str()), ("Nats-Service-Error-Code", number.as_str())];
                drop(self.send(to, &headers, &payload));
            }
        }
    }

    /// A reply that is not sent is logged here. The client sends its command again with the same id, and gets the same
    /// outcome.
    fn send(&self, to: &str, headers: &[(&str, &str)], payload: &[u8]) -> Result<(), NotSent> {
        let sent = self.store.publish(to, None, headers, payload);
        if let Err(error) = &sent {
            NOT_SENT.warn(format_args!("a reply could not be sent: {error}"));
            self.statistics.unsent();
        }
        sent
    }
}

/// A refusal that nobody waits for, and whatever could not be done, is for the people who run the service.
fn log_problem(is_heard: bool, command_id: Option<&str>, person: Option<PersonId>, outcome: &Outcome) {
    if let Outcome::Problem(problem) = outcome
        && (!is_heard || problem.code.is_failure())
    {
        let limit = if is_heard { &FAILED } else { &REFUSED };
        let Some(held_back) = limit.pass(Instant::now()) else { return };
        let what = if is_heard { "a request failed" } else { "a command that waits for no reply was not carried out" };
        let person = person.map_or_else(|| "unknown".to_owned(), |person| person.to_string());
        // Any other id is its client's own words, which may be anything about anybody.
        let is_uuid = |id: &&str| uuid::Uuid::try_parse(id).is_ok();
        let command_id = command_id.filter(is_uuid).unwrap_or("none, or no UUID");
        log::warn!(
            command_id = command_id, person_id = person, error_code = problem.code.as_str();
            "{what}: {}{held_back}", bounded(&problem.message)
        );
    }
}

/// As much of a message as a line of the log needs: the rest may be a long word of the store.
fn bounded(message: &str) -> Cow<'_, str> {
    match message.char_indices().nth(LOGGED_CHARS_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}...", message.get(..end).unwrap_or(message))),
        None => Cow::Borrowed(message),
    }
}

/// A header holds one line of plain text.
fn header_text(message: &str) -> String {
    message.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
