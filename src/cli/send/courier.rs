//! Brings letters to the service and back comes what became of each, however long that takes, within patience.
//!
//! A letter that gets no answer, or one that says "not now", goes again with the same command id, so that nothing is done
//! twice. One that fails for good leaves those behind it about the same persons undone: carried out now and the failed
//! one later, they would be in the wrong order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::time::{Duration, Instant};

use crate::cli::answer::{Answer, Problem, Status};
use crate::cli::client::Client;
use crate::cli::failure::{no_reply, no_responders};
use crate::cli::send::args::Headers;
use crate::cli::send::letter::Letter;
use crate::cli::send::schedule::Schedule;
use crate::cli::send::source::{Next, Source};
use crate::domain::PersonId;
use crate::nats::{Answer as Arrived, NotSent};

/// The pause before a letter goes again; it doubles from time to time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// While lines may come, how long answers are waited for before looking for lines.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Letters that are held so that there is always one that may go, for each that is under way.
const HELD_PER_FLIGHT: usize = 32;
/// Bytes of the letters that are held.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The code of an answer that is none of those that the service gives.
pub const UNREADABLE: &str = "unreadable";

/// What became of a letter.
#[derive(Debug)]
pub enum Fate {
    /// Stored, or there was nothing to change.
    Accepted(Answer),
    /// Refused, by the service or on the way to it.
    Rejected(Problem, Option<Answer>),
    /// Not decided, or not known to be.
    Failed(Problem, Option<Answer>),
}

/// Who is told what became of the letters, each once.
pub trait Recipient {
    /// This letter is settled.
    fn settled(&mut self, letter: Letter, fate: Fate);
    /// So many letters are under way or wait.
    fn waiting(&mut self, count: usize);
}

/// How the courier goes about it.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Letters that may be under way.
    pub in_flight: usize,
    /// How long a letter is tried.
    pub patience: Duration,
    /// Whether those behind a refused one that would have changed one of their persons are left out.
    pub stops_at_refusals: bool,
}

/// How it ended.
#[derive(Debug)]
pub enum End {
    /// All letters are settled.
    Complete,
    /// Patience ran out while nothing was answered for good. What was not read of the input is left out.
    GaveUp(Problem),
    /// The input could not be read to its end. What was read is settled.
    Unreadable(io::Error),
}

/// Brings letters.
pub struct Courier<'a> {
    client: &'a mut Client,
    headers: &'a Headers,
    pace: Pace,
    schedule: Schedule,
    /// By the number of the call.
    under_way: BTreeMap<u64, UnderWay>,
    generation: u64,
    tried: HashMap<u64, Tried>,
    failed: HashSet<PersonId>,
    refused: HashSet<PersonId>,
    progress_at: Instant,
    stop: Option<End>,
}

struct UnderWay {
    line: u64,
    since: Instant,
}

/// What is known of a letter that goes again.
struct Tried {
    since: Instant,
    times: u32,
}

impl<'a> Courier<'a> {
    /// With nothing to bring yet.
    pub fn new(client: &'a mut Client, headers: &'a Headers, pace: Pace) -> Self {
        Self {
            generation: client.caller.generation(),
            client,
            headers,
            pace,
            schedule: Schedule::default(),
            under_way: BTreeMap::new(),
            tried: HashMap::new(),
            failed: HashSet::new(),
            refused: HashSet::new(),
            progress_at: Instant::now(),
            stop: None,
        }
    }

    /// Brings all letters of a source.
    pub fn run(mut self, source: &mut Source, recipient: &mut impl Recipient) -> End {
        loop {
            self.take_in(source);
            self.send_what_may_go(recipient);
            recipient.waiting(self.schedule.len());
            if let Some(End::GaveUp(problem)) = &self.stop {
                let problem = problem.clone();
                self.leave_the_rest(recipient);
                return End::GaveUp(problem);
            }
            if self.schedule.is_empty() && (source.has_ended() || self.stop.is_some()) {
                return self.stop.unwrap_or(End::Complete);
            }
            self.receive(source, recipient);
            self.notice_silence(recipient);
        }
    }

    fn take_in(&mut self, source: &mut Source) {
        while self.has_room() && self.stop.is_none() {
            match source.poll() {
                Ok(Next::Letter(letter)) => self.schedule.push(letter),
                Ok(Next::NotYet | Next::End) => return,
                Err(error) => self.stop = Some(End::Unreadable(error)),
            }
        }
    }

    fn has_room(&self) -> bool {
        self.schedule.len() < self.pace.in_flight * HELD_PER_FLIGHT && self.schedule.bytes() < HELD_BYTES_MAX
    }

    fn send_what_may_go(&mut self, recipient: &mut impl Recipient) {
        while self.under_way.len() < self.pace.in_flight && !matches!(self.stop, Some(End::GaveUp(_))) {
            let now = Instant::now();
            let Some(line) = self.schedule.next(now) else { return };
            let Some(letter) = self.schedule.letter(line) else { continue };
            if letter.persons.iter().any(|person| self.failed.contains(person)) {
                self.settle(line, Fate::Failed(behind_a_failed_one(), None), recipient);
                continue;
            }
            if letter.persons.iter().any(|person| self.refused.contains(person)) {
                let why = "an earlier command about the same person was refused";
                self.settle(line, Fate::Rejected(local("not_sent", why, false), None), recipient);
                continue;
            }
            self.tried.entry(line).or_insert(Tried { since: now, times: 0 }).times += 1;
            match self.send(line) {
                Ok(call) => drop(self.under_way.insert(call, UnderWay { line, since: now })),
                Err(NotSent::Away | NotSent::Mute(_) | NotSent::NoRoom) => {
                    self.try_again(line, nats_away(), None, recipient);
                }
                Err(error @ NotSent::TooLarge { .. }) => {
                    self.settle(line, Fate::Rejected(local("too_large", &error.to_string(), false), None), recipient);
                }
                Err(error @ NotSent::Malformed(_)) => {
                    self.settle(line, Fate::Rejected(local("invalid", &error.to_string(), false), None), recipient);
                }
            }
        }
    }

    fn send(&mut self, line: u64) -> Result<u64, NotSent> {
        let letter = self.schedule.letter(line).ok_or(NotSent::Malformed("letter"))?;
        let version = letter.expected_version.or(self.headers.expected_version).map(|version| version.to_string());
        let headers = self.headers.of(&letter.id, version.as_deref());
        self.client.caller.call(&letter.subject(&self.client.subjects), &headers, &letter.payload)
    }

    /// Waits for an answer, or for a line where nothing is under way.
    fn receive(&mut self, source: &mut Source, recipient: &mut impl Recipient) {
        let deadline = self.next_look(source);
        if self.under_way.is_empty() && !source.has_ended() && self.has_room() && self.stop.is_none() {
            let within = deadline.saturating_duration_since(Instant::now());
            match source.wait(within) {
                Ok(Next::Letter(letter)) => self.schedule.push(letter),
                Ok(Next::NotYet | Next::End) => {}
                Err(error) => self.stop = Some(End::Unreadable(error)),
            }
            return;
        }
        let Some((call, arrived)) = self.client.caller.next_answer(deadline) else { return };
        // An answer to a question that was given up on: the letter is on its way again, and will be recognised.
        let Some(UnderWay { line, .. }) = self.under_way.remove(&call) else { return };
        match arrived {
            Arrived::NobodyListens => {
                let why = self.subject_of(line);
                self.try_again(line, local("no_service", &no_responders(&why), true), None, recipient);
            }
            Arrived::Message(message) => self.take_answer(line, Answer::read(message.into_payload()), recipient),
        }
    }

    fn take_answer(&mut self, line: u64, answer: Option<Answer>, recipient: &mut impl Recipient) {
        let Some(answer) = answer else {
            let problem = local(UNREADABLE, "the answer is none that this release can read", false);
            return self.settle(line, Fate::Failed(problem, None), recipient);
        };
        match answer.status.clone() {
            Status::Yes => self.settle(line, Fate::Accepted(answer), recipient),
            Status::No(problem) if problem.retryable => self.try_again(line, problem, Some(answer), recipient),
            Status::No(problem) if answer.text("status") == "failed" => {
                self.settle(line, Fate::Failed(problem, Some(answer)), recipient);
            }
            Status::No(problem) => self.settle(line, Fate::Rejected(problem, Some(answer)), recipient),
        }
    }

    /// Answers that are due and did not come, or were lost with the connection.
    fn notice_silence(&mut self, recipient: &mut impl Recipient) {
        let generation = self.client.caller.generation();
        let lost = std::mem::replace(&mut self.generation, generation) != generation;
        while let Some((call, first)) = self.under_way.first_key_value() {
            if !lost && first.since.elapsed() < self.client.reply_wait {
                return;
            }
            let (call, line) = (*call, first.line);
            self.under_way.remove(&call);
            let subject = self.subject_of(line);
            let silence = local("no_reply", &no_reply(&subject, self.client.reply_wait), true);
            self.try_again(line, if lost { nats_away() } else { silence }, None, recipient);
        }
    }

    fn try_again(&mut self, line: u64, problem: Problem, answer: Option<Answer>, recipient: &mut impl Recipient) {
        let now = Instant::now();
        let (since, times) = self.tried.get(&line).map_or((now, 1), |tried| (tried.since, tried.times));
        if now.saturating_duration_since(since) < self.pace.patience {
            let pause = pause(line, times);
            return self.schedule.rest(line, (now + pause).min(since + self.pace.patience));
        }
        if now.saturating_duration_since(self.progress_at) >= self.pace.patience {
            self.stop.get_or_insert(End::GaveUp(problem.clone()));
        }
        self.settle(line, Fate::Failed(problem, answer), recipient);
    }

    fn settle(&mut self, line: u64, fate: Fate, recipient: &mut impl Recipient) {
        self.tried.remove(&line);
        let Some(letter) = self.schedule.done(line) else { return };
        match &fate {
            Fate::Failed(..) => self.failed.extend(&letter.persons),
            Fate::Rejected(..) if self.pace.stops_at_refusals => {
                // Nobody but the first would have changed: who else was named is as they were.
                self.refused.extend(letter.persons.first());
                self.progress_at = Instant::now();
            }
            Fate::Accepted(_) | Fate::Rejected(..) => self.progress_at = Instant::now(),
        }
        recipient.settled(letter, fate);
    }

    fn leave_the_rest(&mut self, recipient: &mut impl Recipient) {
        for letter in self.schedule.abandon() {
            let problem = match self.tried.contains_key(&letter.line) {
                true => local("no_reply", "it was sent, and patience ran out before it was answered", true),
                false => local("not_sent", "patience ran out before it could be sent", true),
            };
            recipient.settled(letter, Fate::Failed(problem, None));
        }
    }

    /// When to look up from waiting for answers.
    fn next_look(&self, source: &Source) -> Instant {
        let now = Instant::now();
        let first = self.under_way.first_key_value();
        let silence = first.map_or(now + self.client.reply_wait, |(_, first)| first.since + self.client.reply_wait);
        let lines = (!source.has_ended() && self.has_room()).then(|| now + LOOK_INTERVAL);
        let resting = self.schedule.next_due().filter(|_| self.under_way.len() < self.pace.in_flight);
        // A connection that is lost shows itself only to whoever looks.
        [Some(silence), Some(now + PAUSE_MIN), lines, resting].into_iter().flatten().min().unwrap_or(now)
    }

    fn subject_of(&self, line: u64) -> String {
        self.schedule.letter(line).map(|letter| letter.subject(&self.client.subjects)).unwrap_or_default()
    }
}

/// Twice as long from time to time, and not the same for all, so that they do not come back in step.
fn pause(line: u64, times: u32) -> Duration {
    let pause = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1))).min(PAUSE_MAX);
    pause.mul_f64(1.0 - f64::from(u32::try_from(line % 8).unwrap_or(0)) / 32.0)
}

fn local(code: &str, message: &str, retryable: bool) -> Problem {
    Problem { code: code.to_owned(), message: message.to_owned(), retryable, index: None, moved_to: None }
}

fn nats_away() -> Problem {
    local("nats_away", "the connection to NATS is lost; see whether it runs, and NATS_URL", true)
}

fn behind_a_failed_one() -> Problem {
    local("not_sent", "an earlier command about the same person failed, and the order matters", true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_two_seconds_and_differ_from_line_to_line() {
        assert_eq!([1, 2, 3, 9].map(|times| pause(8, times).as_millis()), [100, 200, 400, 2000]);
        assert!(pause(15, 9) < pause(9, 9) && pause(15, 9) > Duration::from_secs(1));
    }
}
