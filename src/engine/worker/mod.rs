//! A worker's turn: what waits is taken through the steps together, each step for the whole batch: one round trip where
//! little is to be read, and never one for each command.
//!
//! ```text
//! admit ─► expire ─► find out (unsettled appends) ─► load ─► decide ─► append ─► confirm ─► answers
//! ```
//!
//! A request whose commit met a conflict, or got no answer, stays with the worker for the next turn: nobody else waits
//! for it.

mod loading;
mod storing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::domain::{PersonId, TargetState};
use crate::engine::aggregate::Aggregate;
use crate::engine::cache::Cache;
use crate::engine::draft::{Draft, Held, MergeTargets, Sealed, Verdict};
use crate::engine::history::{Errand, Freshness};
use crate::engine::link::Link;
use crate::engine::ports::{EventLog, SnapshotStore, Unavailable};
use crate::engine::turn::{Limits, Moment, Task, Turn};
use crate::wire::reply::{Code, Outcome, Problem};

/// Owns the persons whose ids hash to it.
pub struct Worker {
    log: Box<dyn EventLog + Send>,
    snapshots: Box<dyn SnapshotStore + Send>,
    limits: Limits,
    cache: Cache,
    /// What waits, by person; in the order of the ids, so that the same turn is the same each time it is run.
    desk: BTreeMap<PersonId, Box<Work>>,
    /// What was read outside the turn, for the next one.
    taken_back: Vec<Errand>,
    /// Merge targets that are being read outside the turn.
    read_outside: BTreeSet<PersonId>,
    /// What was read of merge targets for whoever waits for further ones.
    targets: BTreeMap<PersonId, Result<Target, Problem>>,
}

/// What is known of a person into whom another is to be merged.
struct Target {
    person: PersonId,
    /// Where its history stood.
    link: Link,
    state: TargetState,
}

/// Whether something of a person is being read outside the turn.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Outside {
    #[default]
    Nothing,
    Reading,
    /// It is, and what comes of it is of a stream that is no more.
    Void,
}

/// What waits for one person.
#[derive(Default)]
struct Work {
    /// Not decided yet, in the order of their arrival.
    waiting: VecDeque<Task>,
    /// Decided, with a commit that is not known to be stored.
    attempt: Option<Attempt>,
    /// Decided, without a commit that would prove the state to be the newest.
    unconfirmed: Vec<(Task, Outcome)>,
    /// What is known of the person, while the turn works on it.
    aggregate: Option<Box<Aggregate>>,
    /// Set when the aggregate is known to be stale.
    reload: Option<Freshness>,
    /// Whether the history is being read outside the turn.
    outside: Outside,
    /// Whether nothing is decided in this turn: something that has to be known could not be read.
    is_held: bool,
    /// The last thing that stood in the way, for those whose time runs out.
    trouble: Option<Problem>,
    /// Conflicts since something of the person was last stored or confirmed.
    conflicts_in_a_row: u32,
}

/// A commit on its way into the log, with those who wait for it.
struct Attempt {
    sealed: Sealed,
    decided: Vec<(Task, Held)>,
    /// Whether to hand it to the log in this turn.
    send: bool,
    /// Whether an append of it got no answer: then it may be stored, whatever a later append says.
    may_be_stored: bool,
    /// Whether what it builds on may be no more. Where it is no more, this cannot be stored.
    is_void: bool,
}

impl Worker {
    /// A worker with an empty cache.
    pub fn new(log: Box<dyn EventLog + Send>, snapshots: Box<dyn SnapshotStore + Send>, limits: Limits) -> Self {
        let cache = Cache::new(limits.cache_bytes);
        let (desk, taken_back, read_outside, targets) = (BTreeMap::new(), Vec::new(), BTreeSet::new(), BTreeMap::new());
        Self { log, snapshots, limits, cache, desk, taken_back, read_outside, targets }
    }

    /// Takes what arrived, and what was left over, through one turn.
    pub fn turn(&mut self, now: Moment, arrivals: Vec<Task>) -> Turn {
        let mut turn = Turn::default();
        self.admit(arrivals);
        self.expire(now, &mut turn);
        self.find_out(&mut turn);
        self.load(&mut turn);
        let targets = self.read_merge_targets(&mut turn);
        self.decide(&targets, &mut turn);
        self.append(&mut turn);
        self.confirm(&mut turn);
        self.clear_desk();
        turn
    }

    /// Takes back what was read outside the turn, to its end or not; the next turn goes on with it.
    pub fn take_back(&mut self, errand: Errand) {
        self.taken_back.push(errand);
    }

    /// Whether nobody waits for a next turn.
    pub fn is_idle(&self) -> bool {
        self.taken_back.is_empty() && self.desk.values().all(|work| work.is_done())
    }

    /// How many requests are held back for a next turn.
    pub fn backlog(&self) -> usize {
        let held = |work: &Work| work.waiting.len() + work.attempt.as_ref().map_or(0, |attempt| attempt.decided.len());
        self.desk.values().map(|work| held(work)).sum()
    }

    /// How many persons are in memory.
    pub fn cached_persons(&self) -> usize {
        self.cache.len()
    }

    /// Forgets all that was cached: the stream is not the one that it was.
    pub fn forget_everything(&mut self) {
        self.cache.clear();
        self.read_outside.clear();
        self.targets.clear();
        for work in self.desk.values_mut() {
            match &mut work.attempt {
                // Whether the new stream has it is still to be found out.
                Some(attempt) => attempt.is_void = true,
                None => {
                    work.aggregate = None;
                    work.reload = Some(Freshness::Newest);
                    if work.outside == Outside::Reading {
                        work.outside = Outside::Void;
                    }
                }
            }
        }
    }

    fn admit(&mut self, arrivals: Vec<Task>) {
        for task in arrivals {
            self.desk.entry(task.request.person).or_default().waiting.push_back(task);
        }
    }

    /// Answers those who have no time left: an append that is begun now might not be answered in time.
    fn expire(&mut self, now: Moment, turn: &mut Turn) {
        let last_start = Moment(now.0.saturating_add(self.limits.append_micros_max));
        for work in self.desk.values_mut() {
            let too_late = |task: &Task| task.deadline <= last_start;
            // Nearly never is anybody late, and then nobody is moved.
            if work.waiting.iter().any(too_late) {
                let (late, waiting) = std::mem::take(&mut work.waiting).into_iter().partition(too_late);
                work.waiting = waiting;
                for task in Vec::from(late) {
                    turn.answer(task, Outcome::Problem(work.out_of_time()));
                }
            }
            work.expire_attempt(last_start, turn);
        }
    }

    /// Decides what waits for those persons that are loaded.
    fn decide(&mut self, targets: &MergeTargets, turn: &mut Turn) {
        let payload_bytes_max = self.log.payload_bytes_max();
        for work in self.desk.values_mut().filter(|work| work.is_ready()) {
            let Work { waiting, aggregate: Some(aggregate), .. } = work.as_mut() else { continue };
            let mut draft = Draft::on(aggregate, targets, payload_bytes_max);
            let mut decided = Vec::with_capacity(waiting.len());
            while let Some(task) = waiting.pop_front() {
                match draft.decide(&task.request) {
                    Verdict::Final(outcome) => turn.answer(task, outcome),
                    Verdict::NextCommit => {
                        waiting.push_front(task);
                        break;
                    }
                    Verdict::Held(held) => decided.push((task, held)),
                }
            }
            match draft.seal() {
                Ok(Some(sealed)) => {
                    work.attempt = Some(Attempt { sealed, decided, send: true, may_be_stored: false, is_void: false });
                }
                Ok(None) => work.unconfirmed = decided.into_iter().map(without_commit).collect(),
                Err(problem) => {
                    decided.into_iter().for_each(|(task, _)| turn.answer(task, Outcome::Problem(problem.clone())));
                }
            }
        }
    }

    /// Puts what is done with back into the cache.
    fn clear_desk(&mut self) {
        self.desk.retain(|_, work| {
            let done = work.is_done() && work.outside == Outside::Nothing;
            // Also one that is known to be stale, when nobody had the time to wait for its tail: that is all it lacks.
            if done
                && let Some(aggregate) = work.aggregate.take()
                && (work.reload.is_none() || aggregate.version > 0)
            {
                self.cache.put(aggregate);
            }
            !done
        });
    }
}

/// What is told once the state is confirmed, of a request that was decided where nothing is to be stored.
fn without_commit((task, held): (Task, Held)) -> (Task, Outcome) {
    match held {
        Held::IfNewest(outcome) => (task, outcome),
        Held::WithCommit(_) => unreachable!("a request was carried out by a commit that is not there"),
    }
}

impl Work {
    /// Whether nobody waits.
    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.attempt.is_none()
    }

    /// Whether requests can be decided: something waits, the person is loaded, and no commit is on its way.
    fn is_ready(&self) -> bool {
        !self.waiting.is_empty()
            && self.attempt.is_none()
            && self.outside == Outside::Nothing
            && !self.is_held
            && self.aggregate.is_some()
            && self.reload.is_none()
    }

    /// Puts requests back, before those that came after them, to be decided on a fresher state.
    fn decide_again<T>(&mut self, decided: Vec<(Task, T)>, freshness: Freshness) {
        self.put_back(decided);
        self.reload = Some(freshness);
    }

    /// Puts requests back, before those that came after them.
    fn put_back<T>(&mut self, decided: Vec<(Task, T)>) {
        decided.into_iter().rev().for_each(|(task, _)| self.waiting.push_front(task));
    }

    /// Remembers what to tell those whose time runs out. It says nothing of what is known of the person.
    fn store_was_away(&mut self, unavailable: &Unavailable) {
        self.trouble = Some(Problem::new(Code::Unavailable, unavailable.to_string()));
    }

    fn out_of_time(&self) -> Problem {
        self.trouble
            .clone()
            .unwrap_or_else(|| Problem::new(Code::Overloaded, "it waited past its deadline; nothing was done"))
    }

    /// Gives up waiting for the answer to an append, for those who have no time left for another try.
    fn expire_attempt(&mut self, last_start: Moment, turn: &mut Turn) {
        let Some(attempt) = &mut self.attempt else { return };
        let decided = std::mem::take(&mut attempt.decided);
        let (late, in_time): (Vec<_>, Vec<_>) = decided.into_iter().partition(|(task, _)| task.deadline <= last_start);
        attempt.decided = in_time;
        let nobody_waits = attempt.decided.is_empty();
        for (task, held) in late {
            let problem = match held {
                Held::WithCommit(_) => Problem::new(
                    Code::OutcomeUnknown,
                    "the store did not say whether it was stored; send it again with the same command id",
                ),
                Held::IfNewest(_) => self.out_of_time(),
            };
            turn.answer(task, Outcome::Problem(problem));
        }
        if nobody_waits {
            // It may still be stored: what is known of the person is worth nothing now.
            self.attempt = None;
            self.aggregate = None;
        }
    }
}
