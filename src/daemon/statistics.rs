//! What the service did, counted. What is made of the counts, and for whom, is in [`figures`](crate::daemon::figures).
//!
//! Each thread that carries out commands counts on a [`Meter`] of its own, locked once a turn and by nobody else but
//! who reads, which is seldom: counting costs next to nothing and no thread waits for another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::daemon::clock::micros;
use crate::daemon::latencies::Latencies;
use crate::daemon::stages::StageMicros;
use crate::engine::turn::{Answer, Counts, Moment, Task};
use crate::wire::commit::Sequence;
use crate::wire::reply::{Code, Outcome};

/// All counts since the start.
#[derive(Debug, Default)]
pub struct Statistics {
    meters: Mutex<Vec<Arc<Meter>>>,
    /// For whoever counts too seldom to need a meter of its own.
    shared: Meter,
    highest_sequence: Mutex<Highest>,
    stream_conflicts: AtomicU64,
    /// Replicas that share the persons, this one included.
    members: AtomicU64,
    handed_over: AtomicU64,
}

/// The highest position in the stream that is known, and in which of its lives that is.
#[derive(Debug, Default)]
struct Highest {
    life: u64,
    sequence: Sequence,
}

/// The counts of one thread.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Tally>);

/// Counts of what happened.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Commands carried out, or with nothing to change.
    pub accepted: u64,
    /// Of these, retries of commands that were carried out before.
    pub duplicates: u64,
    /// Commands with a problem, by its code.
    pub problems: BTreeMap<Code, u64>,
    /// When a command last had a problem, and its code.
    pub last_problem: Option<(Instant, Code)>,
    /// Commands that a worker answered; the others were refused before any worker saw them.
    pub answered: u64,
    /// Requests dropped for a reply subject that is not allowed.
    pub dropped: u64,
    /// Replies that could not be sent.
    pub unsent: u64,
    /// Replicas that share the persons, this one included.
    pub members: u64,
    /// Commands that were handed to the homes of their persons.
    pub handed_over: u64,
    /// Commands that other replicas handed over to this one.
    pub taken_over: u64,
    /// Commands that were handed over and that no home took.
    pub taken_back: u64,
    /// What happened in the workers' turns.
    pub turns: Counts,
    /// Persons in the workers' memory, at the end of their last turns.
    pub cached_persons: u64,
    /// Other streams that answer in place of the service.
    pub stream_conflicts: u64,
    /// Snapshots written.
    pub snapshots_written: u64,
    /// Snapshots that the store did not take.
    pub snapshots_failed: u64,
    /// Snapshots that were not even tried: too many waited.
    pub snapshots_skipped: u64,
    /// Queries answered.
    pub queries: u64,
    /// Queries with a problem, by its code.
    pub query_problems: BTreeMap<Code, u64>,
    /// When a query last had a problem, and its code.
    pub last_query_problem: Option<(Instant, Code)>,
    /// From the arrival of a command to its answer, without those that were refused at the door.
    pub command: Latencies,
    /// From the arrival of a query to its answer, without those that were refused at the door.
    pub query: Latencies,
    /// Times by stage.
    pub stages: Stages,
}

/// Times of the stages that commands go through.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    /// From a command's arrival to its first turn.
    pub queue: Latencies,
    /// Reading, in turns that read.
    pub load: Latencies,
    /// Storing, in turns that store.
    pub append: Latencies,
    /// Making sure of refusals, in turns that do.
    pub confirm: Latencies,
    /// Whole turns.
    pub turn: Latencies,
}

/// A turn that came to its end.
pub struct TurnEnd<'a> {
    /// When it began.
    pub began: Moment,
    /// When it ended.
    pub ended: Moment,
    /// How long its steps took.
    pub stages: StageMicros,
    /// What it brought.
    pub answers: &'a [Answer],
    /// What it counted.
    pub counts: &'a Counts,
    /// How many persons its worker has in memory.
    pub cached_persons: usize,
}

impl Statistics {
    /// A meter for a thread of its own.
    pub fn meter(&self) -> Arc<Meter> {
        let meter = Arc::new(Meter::default());
        self.meters.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&meter));
        meter
    }

    /// Takes in a request that was refused at the door.
    pub fn refused(&self, code: Code) {
        self.shared.count(|tally| tally.problem(code));
    }

    /// Takes in a request that was dropped.
    pub fn dropped(&self) {
        self.shared.count(|tally| tally.dropped += 1);
    }

    /// Takes in a reply that could not be sent.
    pub fn unsent(&self) {
        self.shared.count(|tally| tally.unsent += 1);
    }

    /// Takes in what became of a snapshot that was due.
    pub fn snapshot(&self, fate: SnapshotFate) {
        self.shared.count(|tally| match fate {
            SnapshotFate::Written => tally.snapshots_written += 1,
            SnapshotFate::Failed => tally.snapshots_failed += 1,
            SnapshotFate::Skipped => tally.snapshots_skipped += 1,
        });
    }

    /// Takes in a query: the code of its problem, if it had one, and how long it took, unless it was refused at the door.
    pub fn query(&self, problem: Option<Code>, took: Option<Duration>) {
        self.shared.count(|tally| {
            if let Some(took) = took {
                tally.query.record(micros(took));
            }
            match problem {
                None => tally.queries += 1,
                Some(code) => {
                    *tally.query_problems.entry(code).or_default() += 1;
                    tally.last_query_problem = Some((Instant::now(), code));
                }
            }
        });
    }

    /// The highest position in the stream that was acknowledged to this replica.
    pub fn highest_sequence(&self) -> Sequence {
        self.highest().sequence
    }

    /// Which of the stream's lives this is: what is taken in of an earlier one counts for nothing.
    pub fn stream_life(&self) -> u64 {
        self.highest().life
    }

    /// Takes in the highest position at which something was stored since the stream was in this life.
    pub fn stored(&self, sequence: Option<Sequence>, life: u64) {
        let mut highest = self.highest();
        if highest.life == life {
            highest.sequence = highest.sequence.max(sequence.unwrap_or(0));
        }
    }

    /// Takes in how many replicas share the persons, this one included, and how many commands were handed over since the start.
    pub fn sharing(&self, members: usize, handed_over: u64) {
        self.members.store(members as u64, Ordering::Relaxed);
        self.handed_over.store(handed_over, Ordering::Relaxed);
    }

    /// Takes in that so many commands were taken from other replicas.
    pub fn taken_over(&self, commands: usize) {
        self.shared.count(|tally| tally.taken_over += commands as u64);
    }

    /// Takes in that no home took so many commands that were handed over.
    pub fn taken_back(&self, commands: usize) {
        self.shared.count(|tally| tally.taken_back += commands as u64);
    }

    /// Takes in how many other streams answer in place of the service.
    pub fn conflicts(&self, count: usize) {
        self.stream_conflicts.store(count as u64, Ordering::Relaxed);
    }

    /// Begins to count positions anew: the stream is not the one that it was.
    pub fn forget_sequences(&self) {
        let mut highest = self.highest();
        *highest = Highest { life: highest.life + 1, sequence: 0 };
    }

    fn highest(&self) -> MutexGuard<'_, Highest> {
        self.highest_sequence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything since the start.
    pub fn since_start(&self) -> Tally {
        let stream_conflicts = self.stream_conflicts.load(Ordering::Relaxed);
        let members = self.members.load(Ordering::Relaxed).max(1);
        let handed_over = self.handed_over.load(Ordering::Relaxed);
        let mut sum = Tally { stream_conflicts, members, handed_over, ..Tally::default() };
        self.shared.count(|tally| sum.add(tally));
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.iter().for_each(|meter| meter.count(|tally| sum.add(tally)));
        sum
    }
}

/// What became of a snapshot that was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotFate {
    /// It is in the store.
    Written,
    /// The store did not take it.
    Failed,
    /// Too many waited.
    Skipped,
}

impl Meter {
    /// Takes in that these begin to be worked on.
    pub fn waited(&self, now: Moment, arrivals: &[Task]) {
        if !arrivals.is_empty() {
            self.count(|tally| arrivals.iter().for_each(|task| tally.stages.queue.record(since(task.arrived, now))));
        }
    }

    /// Takes in what is answered without a turn.
    pub fn turned_away(&self, now: Moment, answers: &[Answer]) {
        self.count(|tally| tally.answers(answers, now));
    }

    /// Takes in a turn.
    pub fn turn(&self, end: &TurnEnd<'_>) {
        self.count(|tally| {
            tally.turns.add(end.counts);
            tally.cached_persons = end.cached_persons as u64;
            tally.answers(end.answers, end.ended);
            let Stages { load, append, confirm, turn, .. } = &mut tally.stages;
            turn.record(since(end.began, end.ended));
            let StageMicros { load: loading, append: appending, confirm: confirming } = end.stages;
            for (stage, took) in [(load, loading), (append, appending), (confirm, confirming)] {
                if took > 0 {
                    stage.record(took);
                }
            }
        });
    }

    fn count(&self, count: impl FnOnce(&mut Tally)) {
        // Counts are sound whoever panicked while holding them.
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn since(earlier: Moment, later: Moment) -> u64 {
    later.0.saturating_sub(earlier.0)
}

impl Tally {
    fn answers(&mut self, answers: &[Answer], now: Moment) {
        self.answered += answers.len() as u64;
        for answer in answers {
            self.outcome(&answer.outcome);
            self.command.record(since(answer.task.arrived, now));
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted(accepted) => {
                self.accepted += 1;
                self.duplicates += u64::from(accepted.duplicate);
            }
            Outcome::Problem(problem) => self.problem(problem.code),
        }
    }

    fn problem(&mut self, code: Code) {
        *self.problems.entry(code).or_default() += 1;
        self.last_problem = Some((Instant::now(), code));
    }

    /// Every command that came to an end.
    pub fn commands(&self) -> u64 {
        self.accepted + self.problems.values().sum::<u64>()
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.last_problem = self.last_problem.max(other.last_problem);
        self.answered += other.answered;
        self.dropped += other.dropped;
        self.unsent += other.unsent;
        self.taken_over += other.taken_over;
        self.taken_back += other.taken_back;
        self.turns.add(&other.turns);
        self.cached_persons += other.cached_persons;
        self.snapshots_written += other.snapshots_written;
        self.snapshots_failed += other.snapshots_failed;
        self.snapshots_skipped += other.snapshots_skipped;
        self.queries += other.queries;
        self.last_query_problem = self.last_query_problem.max(other.last_query_problem);
        for (into, from) in [(&mut self.problems, &other.problems), (&mut self.query_problems, &other.query_problems)] {
            from.iter().for_each(|(code, count)| *into.entry(*code).or_default() += count);
        }
        self.command.add(&other.command);
        self.query.add(&other.query);
        self.stages.queue.add(&other.stages.queue);
        self.stages.load.add(&other.stages.load);
        self.stages.append.add(&other.stages.append);
        self.stages.confirm.add(&other.stages.confirm);
        self.stages.turn.add(&other.stages.turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That the stream had been replaced was said twice for one event: a turn that had begun before was acknowledged at a
    /// position of the old stream, which the new one did not reach.
    #[test]
    fn what_is_learned_of_a_stream_that_is_no_more_counts_for_nothing() {
        let statistics = Statistics::default();
        let before = statistics.stream_life();
        statistics.stored(Some(7), before);
        statistics.stored(None, before);
        assert_eq!(statistics.highest_sequence(), 7);
        statistics.forget_sequences();
        statistics.stored(Some(8), before);
        assert_eq!(statistics.highest_sequence(), 0);
        statistics.stored(Some(2), statistics.stream_life());
        assert_eq!(statistics.highest_sequence(), 2);
    }

    #[test]
    fn the_last_problem_is_the_latest_of_all_threads() {
        let statistics = Statistics::default();
        let meters = [statistics.meter(), statistics.meter()];
        let last = || statistics.since_start().last_problem.map(|(_, code)| code);
        assert_eq!(last(), None);
        for code in [Code::Unavailable, Code::Overloaded] {
            // Whoever stands last in the list said something before.
            meters.iter().rev().for_each(|meter| meter.count(|tally| tally.problem(code)));
            statistics.refused(Code::Malformed);
            assert_eq!(last(), Some(Code::Malformed));
        }
        meters[0].count(|tally| tally.problem(Code::Unavailable));
        assert_eq!(last(), Some(Code::Unavailable));
    }

    #[test]
    fn a_query_that_is_refused_at_the_door_is_counted_and_not_timed() {
        let statistics = Statistics::default();
        statistics.query(Some(Code::Overloaded), None);
        statistics.query(None, Some(Duration::from_millis(3)));
        let tally = statistics.since_start();
        assert_eq!((tally.queries, tally.query_problems.get(&Code::Overloaded)), (1, Some(&1)));
        assert_eq!((tally.query.count(), tally.query.sum()), (1, Duration::from_millis(3)));
    }
}
