//! Drives one connection: keeps a number of messages under way and tells what became of each.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cli::bench::load::Order;
use crate::nats::{Answer, Caller, NotSent};

/// How often to look whether answers stay away, and whether the time is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The pause after a message that nobody listened to or that could not be sent: an empty house is not to be stormed.
const PAUSE: Duration = Duration::from_millis(1);

/// What became of a message.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Accepted, or answered.
    Done,
    /// Refused or failed, by the service or on the way.
    Problem {
        /// Its code: the service's, or one of this module's.
        code: &'a str,
        /// Whether the same may be answered differently later.
        retryable: bool,
        /// The person's version, where the service said it.
        version: Option<u64>,
    },
}

/// What there is to do, and who is told how it went.
pub trait Work {
    /// The next message and a number that its outcome will bear; none where there is nothing for now.
    fn next(&mut self) -> Option<(u64, Order)>;
    /// It was settled at `now`, so long after it was sent or due.
    fn settled(&mut self, number: u64, now: Instant, latency: Duration, outcome: Outcome<'_>);
}

/// One connection, with so many messages under way.
pub struct Driver {
    caller: Caller,
    in_flight: usize,
    reply_wait: Duration,
    /// Between two messages, at a steady rate.
    interval: Option<Duration>,
    window: VecDeque<Option<Flight>>,
    /// The call of the window's first place.
    first: u64,
    under_way: usize,
    generation: u64,
}

struct Flight {
    number: u64,
    /// When it was due, from which its latency counts.
    since: Instant,
    /// When it left, from which its answer may be waited for.
    sent: Instant,
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    version: Option<u64>,
    #[serde(borrow)]
    error: Option<ReplyError<'a>>,
}

#[derive(Deserialize)]
struct ReplyError<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(default)]
    retryable: bool,
}

impl Driver {
    /// Over this connection.
    pub fn new(caller: Caller, in_flight: usize, reply_wait: Duration) -> Self {
        let generation = caller.generation();
        Self {
            caller,
            in_flight,
            reply_wait,
            interval: None,
            window: VecDeque::new(),
            first: 0,
            under_way: 0,
            generation,
        }
    }

    /// From now on so many messages a second, or as many as are answered.
    pub fn set_rate(&mut self, rate: Option<f64>) {
        self.interval = rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
    }

    /// Sends until there is nothing more to do or the time is over, and waits for all answers.
    pub fn drive(&mut self, work: &mut impl Work, until: Option<Instant>) {
        let mut due = Instant::now();
        let mut looked = due;
        loop {
            let more = self.send(work, until, &mut due);
            if !more && self.under_way == 0 {
                return;
            }
            let now = Instant::now();
            let next = if more && self.has_room() { due.min(now + LOOK_INTERVAL) } else { now + LOOK_INTERVAL };
            self.receive(work, next);
            if looked.elapsed() >= LOOK_INTERVAL {
                looked = Instant::now();
                self.notice_silence(work);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.under_way < self.in_flight
    }

    /// Sends what may go. False when nothing will go any more.
    fn send(&mut self, work: &mut impl Work, until: Option<Instant>, due: &mut Instant) -> bool {
        while self.has_room() {
            let now = Instant::now();
            if until.is_some_and(|until| now >= until) {
                return false;
            }
            if self.interval.is_some() && *due > now {
                return true;
            }
            let Some((number, order)) = work.next() else { return false };
            let since = match self.interval {
                Some(interval) => std::mem::replace(due, *due + interval),
                None => now,
            };
            match self.call(&order) {
                Ok(call) => self.note(call, Flight { number, since, sent: now }),
                Err(not_sent) => {
                    std::thread::sleep(PAUSE);
                    work.settled(number, now, since.elapsed(), not_sent_outcome(&not_sent));
                }
            }
        }
        until.is_none_or(|until| Instant::now() < until)
    }

    fn call(&mut self, order: &Order) -> Result<u64, NotSent> {
        let version = order.expected_version.map(|version| version.to_string());
        let id = order.id.as_deref().map(|id| ("Nats-Msg-Id", id));
        let version = version.as_deref().map(|version| ("Expected-Version", version));
        match (id, version) {
            (Some(id), Some(version)) => self.caller.call(&order.subject, &[id, version], &order.payload),
            (Some(id), None) => self.caller.call(&order.subject, &[id], &order.payload),
            (None, _) => self.caller.call(&order.subject, &[], &order.payload),
        }
    }

    fn note(&mut self, call: u64, flight: Flight) {
        if self.window.is_empty() {
            self.first = call;
        }
        // Calls that were not sent have numbers too.
        while self.first + self.window.len() as u64 != call {
            self.window.push_back(None);
        }
        self.window.push_back(Some(flight));
        self.under_way += 1;
    }

    fn take(&mut self, call: u64) -> Option<Flight> {
        let place = usize::try_from(call.checked_sub(self.first)?).ok()?;
        let flight = self.window.get_mut(place)?.take()?;
        self.under_way -= 1;
        while matches!(self.window.front(), Some(None)) {
            self.window.pop_front();
            self.first += 1;
        }
        Some(flight)
    }

    /// Waits for an answer, and takes what has come by then.
    fn receive(&mut self, work: &mut impl Work, until: Instant) {
        let mut wait = until;
        while let Some((call, answer)) = self.caller.next_answer(wait) {
            let now = Instant::now();
            wait = now;
            let Some(flight) = self.take(call) else { continue };
            let latency = now.saturating_duration_since(flight.since);
            match answer {
                Answer::NobodyListens => {
                    work.settled(flight.number, now, latency, local("no_service"));
                    std::thread::sleep(PAUSE);
                }
                Answer::Message(message) => {
                    let reply = serde_json::from_slice::<Reply<'_>>(message.payload()).ok();
                    work.settled(flight.number, now, latency, outcome(reply.as_ref()));
                }
            }
        }
    }

    /// Answers that are due and did not come, or were lost with the connection.
    fn notice_silence(&mut self, work: &mut impl Work) {
        let generation = self.caller.generation();
        let lost = std::mem::replace(&mut self.generation, generation) != generation;
        while let Some(Some(oldest)) = self.window.front() {
            if !lost && oldest.sent.elapsed() < self.reply_wait {
                return;
            }
            let Some(flight) = self.take(self.first) else { return };
            work.settled(
                flight.number,
                Instant::now(),
                flight.since.elapsed(),
                local(if lost { "nats_away" } else { "no_reply" }),
            );
        }
    }
}

fn outcome<'a>(reply: Option<&'a Reply<'a>>) -> Outcome<'a> {
    match reply {
        Some(Reply { status, error: None, .. }) if status == "accepted" || status == "ok" => Outcome::Done,
        Some(Reply { error: Some(error), version, .. }) => {
            Outcome::Problem { code: &error.code, retryable: error.retryable, version: *version }
        }
        _ => Outcome::Problem { code: "unreadable", retryable: false, version: None },
    }
}

/// What went wrong on the way may go well later.
fn local(code: &'static str) -> Outcome<'static> {
    Outcome::Problem { code, retryable: true, version: None }
}

fn not_sent_outcome(not_sent: &NotSent) -> Outcome<'static> {
    match not_sent {
        NotSent::Away | NotSent::Mute(_) | NotSent::NoRoom => local("nats_away"),
        NotSent::TooLarge { .. } => Outcome::Problem { code: "too_large", retryable: false, version: None },
        NotSent::Malformed(_) => Outcome::Problem { code: "invalid", retryable: false, version: None },
    }
}
