//! Many commands in flight, sent again by their id until each has an answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Client, Command, Message, encode};
use crate::support::PATIENCE;

/// How a flood of commands is sent.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    /// How many wait for their answers at any time.
    pub in_flight: usize,
    /// After this time without an answer, or at once after one that says so, a command is sent again. `None`: never.
    pub retry_after: Option<Duration>,
    /// A command without a final answer is given up after this.
    pub patience: Duration,
    /// Every so many commands, one is sent twice on purpose; 0: none.
    pub twice_every: usize,
}

impl Flood {
    /// With retries, as a careful client sends.
    pub fn careful(in_flight: usize) -> Self {
        let (retry_after, patience) = (Some(Duration::from_secs(2)), PATIENCE);
        Self { in_flight, retry_after, patience, twice_every: 0 }
    }

    /// Each command once.
    pub fn careless(in_flight: usize) -> Self {
        Self { in_flight, retry_after: None, patience: PATIENCE, twice_every: 0 }
    }
}

/// What became of a flood.
#[derive(Debug, Default)]
pub struct Flooded {
    /// The final answers by the position of their command: the first of each, and for a careful client the first that
    /// does not ask to be tried again.
    pub answers: Vec<Option<Value>>,
    /// Every answer that came after the final one, by the position of its command.
    pub more: Vec<(usize, Value)>,
    /// How often a command was sent again.
    pub retries: usize,
    /// How many answers asked to be tried again.
    pub failures: Vec<Value>,
    /// From the last time that a command was sent to its final answer.
    pub latencies: Vec<Duration>,
}

impl Flooded {
    /// How many have no answer.
    pub fn unanswered(&self) -> usize {
        self.answers.iter().filter(|answer| answer.is_none()).count()
    }

    /// The answers, all of which came and are acceptances.
    #[track_caller]
    pub fn all_accepted(&self) -> Vec<&Value> {
        assert_eq!(self.unanswered(), 0, "{} retries, {} failures", self.retries, self.failures.len());
        let answers: Vec<&Value> = self.answers.iter().flatten().collect();
        if let Some(other) = answers.iter().find(|answer| answer["status"] != "accepted") {
            panic!("{other}");
        }
        answers
    }

    /// The latency that this part of the commands (0.5: the half) does not exceed.
    pub fn latency(&self, part: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = (sorted.len() as f64 * part) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// A command that has no final answer yet.
struct Waiting {
    first_sent: Instant,
    sent: Instant,
    due: Instant,
}

/// The pause before a command that failed is sent again.
const FAILED_PAUSE: Duration = Duration::from_millis(50);
/// How often to look for what is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// How long to wait for more answers to what was sent twice on purpose, once each of those has its second one.
const REST_WAIT: Duration = Duration::from_millis(500);

struct Running<'a> {
    client: &'a mut Client,
    commands: &'a [Command],
    how: Flood,
    inbox: String,
    waiting: HashMap<usize, Waiting>,
    flooded: Flooded,
}

impl Client {
    /// Sends commands in this order, so many at a time, until each has its final answer or was given up.
    /// `meanwhile` is called after each final answer with the number of them so far.
    pub fn flood(&mut self, commands: &[Command], how: Flood, mut meanwhile: impl FnMut(usize)) -> Flooded {
        let inbox = self.new_reply();
        let flooded = Flooded { answers: vec![None; commands.len()], ..Flooded::default() };
        let mut running = Running { client: self, commands, how, inbox, waiting: HashMap::new(), flooded };
        let (mut next, mut done, mut looked) = (0, 0, Instant::now());
        while next < commands.len() || !running.waiting.is_empty() {
            next = running.send_more(next);
            if let Some(message) = running.client.next(LOOK_INTERVAL)
                && running.take(&message)
            {
                done += 1;
                meanwhile(done);
            }
            if looked.elapsed() >= LOOK_INTERVAL {
                looked = Instant::now();
                running.send_again();
            }
        }
        running.take_second_answers();
        running.flooded
    }
}

impl Running<'_> {
    fn send_more(&mut self, from: usize) -> usize {
        let to = self.commands.len().min(from + self.how.in_flight.saturating_sub(self.waiting.len()));
        let mut bytes = Vec::new();
        for index in from..to {
            let copies = 1 + usize::from(self.how.twice_every > 0 && index % self.how.twice_every == 0);
            (0..copies).for_each(|_| bytes.extend(self.wire_form(index)));
            let now = Instant::now();
            let due = now + self.how.retry_after.unwrap_or(self.how.patience);
            self.waiting.insert(index, Waiting { first_sent: now, sent: now, due });
        }
        if !bytes.is_empty() {
            self.client.send(&bytes);
        }
        to
    }

    /// Takes a message in; whether it is the final answer to one of the commands.
    fn take(&mut self, message: &Message) -> bool {
        let number = message.subject.strip_prefix(self.inbox.as_str()).and_then(|rest| rest.strip_prefix('.'));
        let Some(index) = number.and_then(|number| number.parse::<usize>().ok()) else { return false };
        let answer = message.json();
        let Some(waiting) = self.waiting.get_mut(&index) else {
            self.flooded.more.push((index, answer));
            return false;
        };
        let try_again = message.is_no_responders() || answer["error"]["retryable"] == true;
        if try_again {
            self.flooded.failures.push(answer.clone());
        }
        if try_again && self.how.retry_after.is_some() {
            waiting.due = Instant::now() + FAILED_PAUSE;
            return false;
        }
        self.flooded.latencies.push(waiting.sent.elapsed());
        self.flooded.answers[index] = Some(answer);
        self.waiting.remove(&index);
        true
    }

    /// To what was sent twice on purpose.
    fn take_second_answers(&mut self) {
        if self.how.twice_every == 0 {
            return;
        }
        let expected = self.commands.len().div_ceil(self.how.twice_every);
        let wait = |flooded: &Flooded| if flooded.more.len() < expected { PATIENCE } else { REST_WAIT };
        while let Some(message) = self.client.next(wait(&self.flooded)) {
            self.take(&message);
        }
    }

    /// Sends again what waits for too long, and gives up what waited for far too long.
    fn send_again(&mut self) {
        let now = Instant::now();
        let patience = self.how.patience;
        self.waiting.retain(|_, waiting| now < waiting.first_sent + patience);
        let Some(retry_after) = self.how.retry_after else { return };
        let mut due: Vec<usize> =
            self.waiting.iter().filter(|(_, waiting)| now >= waiting.due).map(|(index, _)| *index).collect();
        due.sort_unstable();
        for index in due {
            self.client.send(&self.wire_form(index));
            self.flooded.retries += 1;
            if let Some(waiting) = self.waiting.get_mut(&index) {
                (waiting.sent, waiting.due) = (now, now + retry_after);
            }
        }
    }

    fn wire_form(&self, index: usize) -> Vec<u8> {
        let command = &self.commands[index];
        encode(&command.subject(), &format!("{}.{index}", self.inbox), &command.headers, &command.payload)
    }
}
