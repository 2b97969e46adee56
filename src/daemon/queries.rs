//! Queries, on threads of their own: commands never wait for them, and quick ones not for slow ones.

use std::iter;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::daemon::door::Entrance;
use crate::daemon::pool::Surroundings;
use crate::daemon::pulse::Pulse;
use crate::daemon::replier::Replier;
use crate::domain::PersonId;
use crate::engine::inquiry::Inquiry;
use crate::engine::ports::{Append, Appended, AppendedTogether, EventLog, Page, Read, StoredCommit, Unavailable};
use crate::nats::Incoming;
use crate::wire::query::{self, Query};
use crate::wire::reply::{Code, Problem};
use crate::wire::subject::Subjects;

/// Queries that may wait in each lane.
const LANE_LEN_MAX: usize = 4096;
/// Queries of the present that are answered together.
const QUICK_TOGETHER_MAX: usize = 256;
/// Threads for queries of the present, and for those that may read a whole history.
const QUICK_THREADS: [&str; 1] = ["queries-quick"];
const SLOW_THREADS: [&str; 2] = ["queries-slow-0", "queries-slow-1"];

/// A query with its way back.
pub struct Asked {
    query: Query,
    reply_to: String,
    arrived: Instant,
    deadline: Instant,
}

/// What stands between an arriving query and the threads that answer.
pub struct QueryDoor {
    subjects: Subjects,
    replier: Replier,
    timeout: Duration,
    quick: Sender<Asked>,
    slow: Sender<Asked>,
}

/// Where a thread takes queries from.
#[derive(Clone)]
pub struct Lane {
    waiting: Receiver<Asked>,
    /// How many are answered together.
    together_max: usize,
}

/// The lanes behind the door.
pub struct Lanes {
    quick: Lane,
    slow: Lane,
}

impl Lanes {
    /// The threads to start, by name.
    pub fn threads(self) -> impl Iterator<Item = (&'static str, Lane)> {
        let quick = QUICK_THREADS.into_iter().map(move |name| (name, self.quick.clone()));
        quick.chain(SLOW_THREADS.into_iter().map(move |name| (name, self.slow.clone())))
    }
}

impl QueryDoor {
    /// A door, and the lanes behind it. A query is answered within `timeout`, or not at all begun.
    pub fn new(subjects: Subjects, replier: Replier, timeout: Duration) -> (Self, Lanes) {
        let (quick, quick_lane) = bounded(LANE_LEN_MAX);
        let (slow, slow_lane) = bounded(LANE_LEN_MAX);
        let lanes = Lanes {
            quick: Lane { waiting: quick_lane, together_max: QUICK_TOGETHER_MAX },
            slow: Lane { waiting: slow_lane, together_max: 1 },
        };
        (Self { subjects, replier, timeout, quick, slow }, lanes)
    }

    fn hand_on(&self, query: Query, reply_to: &str) {
        let lane = if Inquiry::is_slow(&query) { &self.slow } else { &self.quick };
        let arrived = Instant::now();
        let asked = Asked { query, reply_to: reply_to.to_owned(), arrived, deadline: arrived + self.timeout };
        if let Err(refused) = lane.try_send(asked) {
            let problem = Problem::new(Code::Overloaded, "too many queries wait");
            self.replier.refuse_query(reply_to, Some(refused.into_inner().query.person()), problem);
        }
    }
}

/// A query that nobody waits for is not answered.
impl Entrance for QueryDoor {
    fn take(&self, message: &Incoming) {
        let Ok(Some(reply_to)) = self.replier.permitted(message) else { return };
        let name = self.subjects.query_name(message.subject()).unwrap_or_default();
        match query::decode(name, message.payload()) {
            Ok(query) => self.hand_on(query, reply_to),
            Err(refused) => self.replier.refuse_query(reply_to, refused.person, refused.problem),
        }
    }

    fn turn_away(&self, message: &Incoming) {
        let Ok(Some(reply_to)) = self.replier.permitted(message) else { return };
        let problem = Problem::new(Code::Overloaded, "more arrives than can be looked at");
        self.replier.refuse_query(reply_to, None, problem);
    }
}

/// Until when the queries that are being answered may go on reading.
#[derive(Debug, Clone, Default)]
pub struct TimeLimit(Arc<Mutex<Option<Instant>>>);

impl TimeLimit {
    fn set(&self, deadline: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    fn is_over(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// A log that shows progress with every page of a long history, and gives no more pages when the time is over: whoever
/// asks for the past of a very long history can hold up neither the watchdog nor the queries behind it.
pub struct TimedLog<L> {
    /// The log itself.
    pub log: L,
    /// The reading thread's pulse.
    pub pulse: Arc<Pulse>,
    /// Until when.
    pub limit: TimeLimit,
}

impl<L: EventLog> EventLog for TimedLog<L> {
    fn payload_bytes_max(&self) -> usize {
        self.log.payload_bytes_max()
    }

    fn read(&mut self, reads: &[Read]) -> Vec<Result<Page, Unavailable>> {
        self.pulse.beat();
        if self.limit.is_over() {
            let no_time = Unavailable("reading the history takes longer than there is time".to_owned());
            return reads.iter().map(|_| Err(no_time.clone())).collect();
        }
        self.log.read(reads)
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<StoredCommit>, Unavailable>> {
        self.log.tips(persons)
    }

    fn append(&mut self, appends: &[Append]) -> Vec<Appended> {
        self.log.append(appends)
    }

    fn append_together(&mut self, appends: &[Append]) -> AppendedTogether {
        self.log.append_together(appends)
    }
}

/// Answers what waits in a lane, as much of it together as is allowed, until the door is gone.
pub fn answer(mut inquiry: Inquiry, limit: &TimeLimit, lane: &Lane, pulse: &Pulse, around: &Surroundings) {
    let replier = &around.replier;
    for first in &lane.waiting {
        let rest = lane.waiting.try_iter().take(lane.together_max - 1);
        let now = Instant::now();
        let (in_time, late): (Vec<_>, Vec<_>) = iter::once(first).chain(rest).partition(|asked| now < asked.deadline);
        late.iter().for_each(|asked| too_late(asked, replier));
        let queries: Vec<Query> = in_time.iter().map(|asked| asked.query.clone()).collect();
        limit.set(in_time.iter().map(|asked| asked.deadline).max());
        // The server that is connected now may take less than the one before.
        inquiry.limit_answers(replier.message_bytes_max());
        let answers = pulse.while_busy(|| inquiry.answer(&queries));
        around.notices.log(inquiry.take_notices());
        for (asked, answer) in in_time.into_iter().zip(answers) {
            replier.answer_query(&asked.reply_to, Some(asked.query.person()), answer, Some(asked.arrived.elapsed()));
        }
    }
}

fn too_late(asked: &Asked, replier: &Replier) {
    let problem = Problem::new(Code::Overloaded, "it waited past its deadline");
    let took = Some(asked.arrived.elapsed());
    replier.answer_query(&asked.reply_to, Some(asked.query.person()), Err(problem), took);
}
