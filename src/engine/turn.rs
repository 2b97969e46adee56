//! What goes into a turn and what comes out of it.

use crate::domain::PersonId;
use crate::engine::aggregate::{Aggregate, Broken};
use crate::engine::history::{Budget, Errand};
use crate::engine::ports::Sequence;
use crate::wire::commit::CommitError;
use crate::wire::reply::{Code, Outcome, Problem};
use crate::wire::request::Request;
use crate::wire::snapshot;

/// Microseconds on a clock that never runs backwards, from an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

/// A request with its way back.
#[derive(Debug)]
pub struct Task {
    /// What was asked; apart, since a task is moved from place to place.
    pub request: Box<Request>,
    /// Where the reply goes; `None` when nobody waits for one.
    pub reply_to: Option<String>,
    /// When it came in.
    pub arrived: Moment,
    /// When it has to be answered.
    pub deadline: Moment,
    /// Whether another replica, to which it was handed over and which was not heard, may carry it out as well.
    pub may_be_elsewhere: bool,
}

impl Task {
    /// What is told of a failure: that nothing was done cannot be said of what may be done elsewhere.
    pub fn told(&self, problem: Problem) -> Problem {
        if self.may_be_elsewhere && problem.code.is_failure() {
            let message = "it was handed to another replica that was not heard; send it again with the same command id";
            return Problem::new(Code::OutcomeUnknown, message);
        }
        problem
    }
}

/// A task that is done.
#[derive(Debug)]
pub struct Answer {
    /// The task.
    pub task: Task,
    /// What became of it.
    pub outcome: Outcome,
}

impl Answer {
    /// A task and what is [told](Task::told) of it.
    pub fn of(task: Task, outcome: Outcome) -> Self {
        let outcome = match outcome {
            Outcome::Problem(problem) => Outcome::Problem(task.told(problem)),
            accepted => accepted,
        };
        Self { task, outcome }
    }
}

/// A snapshot that is due.
#[derive(Debug)]
pub struct DueSnapshot {
    /// Whose.
    pub person: PersonId,
    /// The person's version in it.
    pub version: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl DueSnapshot {
    /// The snapshot of this person as it is now; `None` before the first commit.
    pub fn of(aggregate: &Aggregate) -> Option<Self> {
        let bytes = snapshot::encode(aggregate.person, &aggregate.to_snapshot()?).ok()?;
        Some(Self { person: aggregate.person, version: aggregate.version, bytes })
    }
}

/// Something that the people who run the service should know. Without personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Loading met something odd that it could deal with.
    Odd(PersonId, String),
    /// The person's history does not check out.
    Damaged(PersonId, String),
    /// The person's history was written by a newer release.
    TooNew(PersonId, String),
    /// The log has less of this person than it had: it was restored, or lost its tail.
    LostTail(PersonId),
    /// The person's commits met this many conflicts in a row: it is loaded again and again.
    ReplayLoop(PersonId, u32),
}

impl Notice {
    /// That this person's history does not check out.
    pub fn of(person: PersonId, broken: &Broken) -> Self {
        match broken.error {
            CommitError::TooNew(_) => Self::TooNew(person, broken.to_string()),
            CommitError::Damaged(_) => Self::Damaged(person, broken.to_string()),
        }
    }
}

/// What happened in a turn, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commits stored.
    pub commits: u64,
    /// Appends refused because somebody else had appended.
    pub conflicts: u64,
    /// Appends without an answer.
    pub unsettled: u64,
    /// Persons found in the cache.
    pub cache_hits: u64,
    /// Persons not found in the cache, each counted once however often loading is tried.
    pub cache_misses: u64,
    /// Persons loaded from the store.
    pub loads: u64,
    /// Persons of whom the newer commits alone were loaded, after a conflict.
    pub tails: u64,
    /// Persons whose commits met conflict after conflict.
    pub replay_loops: u64,
}

impl Counts {
    /// Adds what another turn counted.
    pub fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.conflicts += other.conflicts;
        self.unsettled += other.unsettled;
        self.cache_hits += other.cache_hits;
        self.cache_misses += other.cache_misses;
        self.loads += other.loads;
        self.tails += other.tails;
        self.replay_loops += other.replay_loops;
    }
}

/// What a turn brings.
#[derive(Default)]
pub struct Turn {
    /// The requests that are done.
    pub answers: Vec<Answer>,
    /// The snapshots that are due.
    pub snapshots: Vec<DueSnapshot>,
    /// What is too long to be read within a turn; to be given back by
    /// [`Worker::take_back`](crate::engine::worker::Worker::take_back).
    pub errands: Vec<Errand>,
    /// The highest position at which a commit was stored.
    pub newest_stored: Option<Sequence>,
    /// For the log.
    pub notices: Vec<Notice>,
    /// For the statistics.
    pub counts: Counts,
}

impl Turn {
    pub(crate) fn answer(&mut self, task: Task, outcome: Outcome) {
        self.answers.push(Answer::of(task, outcome));
    }
}

/// What bounds a worker.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of memory for persons.
    pub cache_bytes: usize,
    /// Events of a person between two snapshots; 0 for none.
    pub snapshot_frequency: u64,
    /// A request that has less time left than this, in microseconds, is not begun: an append may take so long.
    pub append_micros_max: u64,
    /// What a step of the turn may read: what is more leaves the turn, or waits for the next one.
    pub reading: Budget,
}

impl Limits {
    /// Whether a multiple of the frequency was reached between these two versions.
    pub fn is_snapshot_due(&self, before: u64, after: u64) -> bool {
        let frequency = self.snapshot_frequency;
        frequency > 0 && before / frequency != after / frequency
    }
}
