//! What the connections have to do: write the persons first, then the load that is measured.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cli::bench::driver::{Outcome, Work};
use crate::cli::bench::load::{Load, Order, Persons};
use crate::cli::bench::tally::Tally;

/// How long persons are tried to be written while nothing is accepted.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages that nobody listened to, with none accepted, after which no more are sent.
const UNHEARD_MAX: u64 = 100;
/// The code for a message that nobody listened to.
const NO_SERVICE: &str = "no_service";

/// How far all connections have got, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    problems: AtomicU64,
}

impl Progress {
    /// Those settled well, and the others.
    pub fn counts(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.problems.load(Ordering::Relaxed))
    }

    fn note(&self, outcome: &Outcome<'_>) {
        let counter = if matches!(outcome, Outcome::Done) { &self.done } else { &self.problems };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// One commit for each person of a connection: the first, or a later one of its history.
pub struct Round<'a> {
    persons: &'a Persons,
    progress: &'a Progress,
    /// 0 for the first commit.
    round: u64,
    left: Range<u64>,
    again: Vec<u64>,
    progress_at: Instant,
    any: bool,
    failed: Option<String>,
}

impl<'a> Round<'a> {
    /// For the persons with these numbers.
    pub fn new(persons: &'a Persons, progress: &'a Progress, round: u64, numbers: Range<u64>) -> Self {
        Self {
            persons,
            progress,
            round,
            left: numbers,
            again: Vec::new(),
            progress_at: Instant::now(),
            any: false,
            failed: None,
        }
    }

    /// The code of what kept a person from being written.
    pub fn failure(self) -> Option<String> {
        self.failed
    }

    /// Whether an earlier run has written this commit.
    fn was_there(&self, code: &str, version: Option<u64>) -> bool {
        match self.round {
            0 => code == "already_exists",
            // It was expected at round + 1, and this commit leads one further.
            round => code == "version_conflict" && version.is_some_and(|version| version >= round + 2),
        }
    }
}

impl Work for Round<'_> {
    fn next(&mut self) -> Option<(u64, Order)> {
        if self.failed.is_some() {
            return None;
        }
        let number = self.again.pop().or_else(|| self.left.next())?;
        let order = match self.round {
            0 => self.persons.first(number),
            round => self.persons.later(number, round),
        };
        Some((number, order))
    }

    fn settled(&mut self, number: u64, now: Instant, _: Duration, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Problem { code, version, .. } if self.was_there(code, version) => {}
            Outcome::Problem { code, retryable, .. } => {
                let patient = now.saturating_duration_since(self.progress_at) < PATIENCE;
                if retryable && patient && (self.any || code != NO_SERVICE) {
                    self.again.push(number);
                } else {
                    self.failed.get_or_insert_with(|| code.to_owned());
                }
                return;
            }
            Outcome::Done => {}
        }
        self.any = true;
        self.progress_at = now;
        self.progress.note(&Outcome::Done);
    }
}

/// The load, counted.
pub struct Measured<'a> {
    load: &'a mut Load,
    progress: &'a Progress,
    /// Messages still to be sent, where they are counted.
    left: Option<u64>,
    /// What came of it.
    pub tally: Tally,
}

impl<'a> Measured<'a> {
    /// Until this instant, or so many messages.
    pub fn new(load: &'a mut Load, progress: &'a Progress, until: Option<Instant>, count: Option<u64>) -> Self {
        Self { load, progress, left: count, tally: Tally::new(until) }
    }

    fn is_unheard(&self) -> bool {
        self.tally.accepted == 0 && self.tally.problems.get(NO_SERVICE).is_some_and(|count| *count >= UNHEARD_MAX)
    }
}

impl Work for Measured<'_> {
    fn next(&mut self) -> Option<(u64, Order)> {
        if self.is_unheard() {
            return None;
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        Some((0, self.load.next_order()?))
    }

    fn settled(&mut self, _: u64, now: Instant, latency: Duration, outcome: Outcome<'_>) {
        self.tally.count(now, latency, &outcome);
        self.progress.note(&outcome);
    }
}
