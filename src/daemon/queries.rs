//! Queries, on threads of their own: commands never wait for them, and quick ones not for slow ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::daemon::door::Entrance;
use crate::daemon::pool::Surroundings;
use crate::daemon::pulse::Pulse;
use crate::daemon::replier::Replier;
use crate::domain::PersonId;
use crate::engine::inquiry::{Answer, Inquiry, Ticket};
use crate::engine::ports::{Append, Appended, AppendedTogether, EventLog, Page, Read, Tip, Unavailable};
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

const NO_TIME: &str = "reading the history takes longer than there is time";

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
        let Ok(Some(reply_to)) = self.replier.permitted(message.reply()) else { return };
        let name = self.subjects.query_name(message.subject()).unwrap_or_default();
        match query::decode(name, message.payload()) {
            Ok(query) => self.hand_on(query, reply_to),
            Err(refused) => self.replier.refuse_query(reply_to, refused.person, refused.problem),
        }
    }

    fn turn_away(&self, message: &Incoming) {
        let Ok(Some(reply_to)) = self.replier.permitted(message.reply()) else { return };
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

    fn read(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        self.pulse.beat();
        if self.limit.is_over() {
            let no_time = Unavailable(NO_TIME.to_owned());
            return reads.iter().map(|_| Err(no_time.clone())).collect();
        }
        self.log.read(reads, bytes_max)
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<Tip>, Unavailable>> {
        self.log.tips(persons)
    }

    fn append(&mut self, appends: &[Append]) -> Vec<Appended> {
        self.log.append(appends)
    }

    fn append_together(&mut self, appends: &[Append]) -> AppendedTogether {
        self.log.append_together(appends)
    }
}

/// Answers what waits in a lane until the door is gone, as much of it together as is allowed, round by round: nobody waits
/// for somebody else's long history.
pub fn answer(mut inquiry: Inquiry, limit: &TimeLimit, lane: &Lane, pulse: &Pulse, around: &Surroundings) {
    let replier = &around.replier;
    let mut open: HashMap<Ticket, Asked> = HashMap::new();
    let mut next: Ticket = 0;
    loop {
        let first = match inquiry.is_idle() {
            true => match lane.waiting.recv() {
                Ok(first) => Some(first),
                Err(_) => return,
            },
            false => None,
        };
        let mut arrivals = Vec::new();
        let room = lane.together_max.saturating_sub(open.len() + usize::from(first.is_some()));
        for asked in first.into_iter().chain(lane.waiting.try_iter().take(room)) {
            if Instant::now() >= asked.deadline {
                reply(replier, &asked, Err(Problem::new(Code::Overloaded, "it waited past its deadline")));
                continue;
            }
            arrivals.push((next, asked.query.clone()));
            open.insert(next, asked);
            next += 1;
        }
        limit.set(open.values().map(|asked| asked.deadline).max());
        // The server that is connected now may take less than the one before.
        inquiry.limit_answers(replier.message_bytes_max());
        pulse.while_busy(|| {
            inquiry.round(arrivals, &mut |ticket, answer| {
                if let Some(asked) = open.remove(&ticket) {
                    reply(replier, &asked, answer);
                }
            });
        });
        around.notices.log(inquiry.take_notices());
        let now = Instant::now();
        let is_late = |ticket| open.get(&ticket).is_none_or(|asked| asked.deadline <= now);
        for ticket in inquiry.give_up(is_late) {
            if let Some(asked) = open.remove(&ticket) {
                reply(replier, &asked, Err(Problem::new(Code::Unavailable, NO_TIME)));
            }
        }
    }
}

fn reply(replier: &Replier, asked: &Asked, answer: Answer) {
    replier.answer_query(&asked.reply_to, Some(asked.query.person()), answer, Some(asked.arrived.elapsed()));
}
