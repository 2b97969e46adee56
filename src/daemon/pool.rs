//! The worker pool: a bounded queue and a thread for each worker, and the hash of the person's id between them.

use std::sync::{Arc, atomic::AtomicU64, atomic::AtomicUsize, atomic::Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, after, bounded, never, select, unbounded};

use crate::daemon::admission::{Admission, Bounds, Load, TURN_TASKS_MAX};
use crate::daemon::background::Background;
use crate::daemon::clock::Clock;
use crate::daemon::company::Company;
use crate::daemon::notices::Notices;
use crate::daemon::pulse::Pulse;
use crate::daemon::replier::Replier;
use crate::daemon::stages::StageClock;
use crate::daemon::statistics::{SnapshotFate, Statistics, TurnEnd};
use crate::domain::PersonId;
use crate::engine::history::Errand;
use crate::engine::router::worker_of;
use crate::engine::turn::{Answer, Task, Turn};
use crate::engine::worker::Worker;
use crate::wire::reply::{Code, Outcome, Problem};
use crate::wire::request::PAYLOAD_BYTES_MAX;

/// Bytes of payloads that may wait, over all workers.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The pauses between turns that bring nothing: from the first to the longest.
const PAUSE_MIN: Duration = Duration::from_micros(500);
const PAUSE_MAX: Duration = Duration::from_millis(16);

/// The way into the pool.
pub struct Pool {
    queues: Vec<Queue>,
    queue_len_max: usize,
    taken: AtomicU64,
    queue_bytes_max: usize,
}

/// The way to one worker.
struct Queue {
    tasks: Sender<Queued>,
    orders: Sender<Order>,
    waiting_bytes: Arc<AtomicUsize>,
    /// How many may wait, which the worker says.
    room: Arc<AtomicUsize>,
}

struct Queued {
    task: Task,
    bytes: usize,
}

/// What a worker is told beside its tasks.
enum Order {
    /// A long history was read, or could not be.
    TakeBack(Errand),
    /// The stream is not the one that it was.
    ForgetEverything,
    /// Nothing more will come: end when nothing is left.
    Finish,
}

/// A task that finds no room in its queue.
#[derive(Debug)]
pub struct Full(pub Task);

/// What a worker's thread needs besides its worker.
#[derive(Clone)]
pub struct Surroundings {
    /// The time.
    pub clock: Clock,
    /// Whether the store takes commits in batches.
    pub in_batches: bool,
    /// The way back to the clients.
    pub replier: Replier,
    /// Where turns are counted.
    pub statistics: Arc<Statistics>,
    /// Where notices are logged.
    pub notices: Arc<Notices>,
    /// Who stores snapshots and reads long histories.
    pub background: Background,
}

/// A worker's end of its queue, before its thread starts.
pub struct Seat {
    tasks: Receiver<Queued>,
    orders: Receiver<Order>,
    waiting_bytes: Arc<AtomicUsize>,
    room: Arc<AtomicUsize>,
    bounds: Bounds,
}

impl Pool {
    /// The queues for this many workers, and the ends from which they take.
    pub fn new(workers: usize, bounds: Bounds) -> (Self, Vec<Seat>) {
        let queue_len_max = bounds.queue_len_max;
        let (queues, seats) = (0..workers).map(|_| queue(bounds)).unzip();
        // However many workers there are, each has room for the largest payload.
        let queue_bytes_max = (WAITING_BYTES_MAX / workers.max(1)).max(2 * PAYLOAD_BYTES_MAX);
        (Self { queues, queue_len_max, taken: AtomicU64::new(0), queue_bytes_max }, seats)
    }

    /// Hands a task, whose payload had this many bytes, to the worker that owns its person. Never waits.
    pub fn submit(&self, task: Task, bytes: usize) -> Result<(), Box<Full>> {
        let Some(queue) = self.queue_of(task.request.person) else {
            return Err(Box::new(Full(task)));
        };
        if queue.tasks.len() >= queue.room() {
            return Err(Box::new(Full(task)));
        }
        if queue.waiting_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > self.queue_bytes_max {
            queue.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Box::new(Full(task)));
        }
        let sent = queue.tasks.try_send(Queued { task, bytes });
        self.taken.fetch_add(u64::from(sent.is_ok()), Ordering::Relaxed);
        sent.map_err(|refused| {
            let (TrySendError::Full(back) | TrySendError::Disconnected(back)) = refused;
            queue.waiting_bytes.fetch_sub(back.bytes, Ordering::Relaxed);
            Box::new(Full(back.task))
        })
    }

    /// Gives what was read outside the turn back to the worker that asked for it.
    pub fn give_back(&self, errand: Errand) {
        if let Some(queue) = self.queue_of(errand.owner) {
            // A worker that has ended needs it no more.
            let _ = queue.orders.send(Order::TakeBack(errand));
        }
    }

    /// Makes every worker forget what it has cached.
    pub fn forget_everything(&self) {
        self.queues.iter().for_each(|queue| drop(queue.orders.send(Order::ForgetEverything)));
    }

    /// Lets every worker end once it has answered what it was given; call it when nothing more is submitted.
    pub fn finish(&self) {
        self.queues.iter().for_each(|queue| drop(queue.orders.send(Order::Finish)));
    }

    /// How many tasks wait, over all workers.
    pub fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.tasks.len()).sum()
    }

    /// Whether one more of this many bytes would find room with the worker that owns the person; with any of them where
    /// nobody is named.
    pub fn has_room_for(&self, person: Option<PersonId>, bytes: usize) -> bool {
        match person {
            Some(person) => self.queue_of(person).is_some_and(|queue| queue.has_room(bytes, self.queue_bytes_max)),
            None => self.queues.iter().any(|queue| queue.has_room(bytes, self.queue_bytes_max)),
        }
    }

    /// Whether every worker has less before it than it would take into its next turn.
    pub fn is_short_of_work(&self) -> bool {
        self.queues.iter().all(|queue| queue.tasks.len() < TURN_TASKS_MAX.min(queue.room()))
    }

    /// How many could, over all workers.
    pub fn room(&self) -> usize {
        self.queues.len().saturating_mul(self.queue_len_max)
    }

    /// How many tasks were taken on since the start.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn queue_of(&self, person: PersonId) -> Option<&Queue> {
        self.queues.get(worker_of(person, self.queues.len()))
    }
}

impl Queue {
    fn has_room(&self, bytes: usize, bytes_max: usize) -> bool {
        let waiting_bytes = self.waiting_bytes.load(Ordering::Relaxed);
        self.tasks.len() < self.room() && waiting_bytes.saturating_add(bytes) <= bytes_max
    }

    fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }
}

fn queue(bounds: Bounds) -> (Queue, Seat) {
    let (task_sender, tasks) = bounded(bounds.queue_len_max);
    let (order_sender, orders) = unbounded();
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let room = Arc::new(AtomicUsize::new(bounds.queue_len_max));
    let seat = Seat { tasks, orders, waiting_bytes: Arc::clone(&waiting_bytes), room: Arc::clone(&room), bounds };
    (Queue { tasks: task_sender, orders: order_sender, waiting_bytes, room }, seat)
}

/// Takes turn after turn, until it is told to finish and nothing is left.
pub fn work(mut worker: Worker, seat: &Seat, stages: &StageClock, pulse: &Pulse, around: &Surroundings) {
    let meter = around.statistics.meter();
    let mut admission = Admission::new(seat.bounds);
    let mut pause = Duration::ZERO;
    let mut company = Company::NONE;
    let mut finishing = false;
    while !(finishing && worker.is_idle() && seat.tasks.is_empty()) {
        let backlog = worker.backlog();
        let turn_room = admission.turn_room_beside(backlog);
        let arrivals = match seat.next(&worker, pause, turn_room, company) {
            Next::Tasks(tasks) => tasks,
            Next::Order(Order::TakeBack(errand)) => {
                worker.take_back(errand);
                Vec::new()
            }
            Next::Order(Order::ForgetEverything) => {
                worker.forget_everything();
                continue;
            }
            // A pool that is gone says so for ever: each time is a turn then, after its pause.
            Next::Order(Order::Finish) => {
                std::thread::sleep(if finishing { pause } else { Duration::ZERO });
                finishing = true;
                Vec::new()
            }
            Next::Nothing => Vec::new(),
        };
        let began = around.clock.now();
        meter.waited(began, &arrivals);
        let load = Load::of(arrivals.len(), turn_room, backlog);
        let is_late = arrivals.first().is_some_and(|first| admission.is_late(first.arrived, began));
        let life = around.statistics.stream_life();
        let turn = pulse.while_busy(|| worker.turn(began, arrivals));
        around.statistics.stored(turn.newest_stored, life);
        let stages = stages.take();
        // Before the answers leave: who waits by then is not one of those who come again.
        company = if around.in_batches { seat.company(&turn, stages.append) } else { Company::NONE };
        meter.turn(&TurnEnd {
            began,
            ended: around.clock.now(),
            stages,
            answers: &turn.answers,
            counts: &turn.counts,
            cached_persons: worker.cached_persons(),
        });
        pause = next_pause(pause, &turn, worker.is_idle());
        let served = turn.answers.iter().filter(|answer| is_served(&answer.outcome)).count();
        let unanswered = turn.counts.unsettled > 0;
        deliver(turn, &mut worker, around);
        admission.turn(began, around.clock.now(), load, served, unanswered);
        let room = admission.room_beside(worker.backlog());
        seat.room.store(room, Ordering::Relaxed);
        if is_late {
            // Otherwise all the others would become late too, one after another.
            let refused = seat.take_excess(room);
            meter.turned_away(around.clock.now(), &refused);
            around.replier.answer_all(refused);
        }
    }
}

fn is_served(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Problem(problem) if problem.code.is_failure())
}

/// A turn that brought nothing is followed by a pause, longer each time, so that whoever is in the way gets on.
fn next_pause(last: Duration, turn: &Turn, is_idle: bool) -> Duration {
    if is_idle || !turn.answers.is_empty() {
        return Duration::ZERO;
    }
    let longest = (last * 2).clamp(PAUSE_MIN, PAUSE_MAX);
    // Replicas that met in a conflict are not to meet again.
    let random = u32::try_from(uuid::Uuid::new_v4().as_u128() % 1024).unwrap_or(0);
    longest / 2 + longest * random / 2048
}

fn deliver(turn: Turn, worker: &mut Worker, around: &Surroundings) {
    let Turn { answers, snapshots, errands, notices, counts: _, newest_stored: _ } = turn;
    around.replier.answer_all(answers);
    around.notices.log(notices);
    for snapshot in snapshots {
        if !around.background.store(snapshot) {
            around.statistics.snapshot(SnapshotFate::Skipped);
        }
    }
    // What cannot be read now comes back unfinished: the next turn answers or tries again.
    let refused = errands.into_iter().filter_map(|errand| around.background.read(errand).err());
    refused.for_each(|errand| worker.take_back(*errand));
}

/// What a worker's thread does next.
enum Next {
    Tasks(Vec<Task>),
    Order(Order),
    /// Go on with what is left over.
    Nothing,
}

impl Seat {
    /// Whom to wait for after this turn, which took so long to store its commits.
    fn company(&self, turn: &Turn, append_micros: u64) -> Company {
        let append = Duration::from_micros(append_micros);
        Company::after(turn.counts.commits, append, self.tasks.len(), turn.answers.len())
    }

    /// Waits for something to do, of which there is so much room in the turn: for ever when nothing is left over from the
    /// last turn, and then for company too; else for the pause.
    fn next(&self, worker: &Worker, pause: Duration, room: usize, company: Company) -> Next {
        let tasks = if room == 0 { &never() } else { &self.tasks };
        let pause = if worker.is_idle() { &never() } else { &after(pause) };
        select! {
            recv(self.orders) -> order => order.map_or(Next::Order(Order::Finish), Next::Order),
            recv(tasks) -> first => {
                let Ok(first) = first else { return Next::Order(Order::Finish) };
                let mut taken: Vec<Queued> = std::iter::once(first).chain(tasks.try_iter().take(room - 1)).collect();
                if worker.is_idle() {
                    company.gather(tasks, room, &mut taken);
                }
                Next::Tasks(taken.into_iter().map(|queued| self.unpack(queued)).collect())
            }
            recv(pause) -> _ => Next::Nothing,
        }
    }

    /// Takes out the oldest of what waits, as far as more waits than is served in time.
    fn take_excess(&self, room: usize) -> Vec<Answer> {
        let excess = self.tasks.len().saturating_sub(room);
        let problem = Problem::new(Code::Overloaded, "more waits than can be served in time; nothing was done");
        let refuse = |queued| Answer::of(self.unpack(queued), Outcome::Problem(problem.clone()));
        self.tasks.try_iter().take(excess).map(refuse).collect()
    }

    fn unpack(&self, queued: Queued) -> Task {
        self.waiting_bytes.fetch_sub(queued.bytes, Ordering::Relaxed);
        queued.task
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::turn::Moment;
    use crate::wire::request::{Header, Headers, decode};
    use crate::wire::subject::Subjects;

    struct NoHeaders;

    impl Headers for NoHeaders {
        fn get(&self, _: &str) -> Header<'_> {
            Header::Absent
        }
    }

    fn bounds(queue_len_max: usize) -> Bounds {
        Bounds { queue_len_max, command_timeout: Duration::from_secs(5), answer_wait: Duration::from_secs(1) }
    }

    fn task() -> Task {
        let archive = r#"{"ArchivePerson":{"person_id":"0197c5a0-0000-7000-8000-000000000001","reason":"test"}}"#;
        let (subjects, stamp) = (Subjects::new("person"), crate::daemon::clock::stamp());
        let request = decode(&subjects, "person.commands.x", &NoHeaders, archive.as_bytes(), stamp);
        let request = request.map_err(|refused| refused.problem).expect("a valid command");
        Task {
            request: Box::new(request),
            reply_to: None,
            arrived: Moment(0),
            deadline: Moment(1),
            may_be_elsewhere: false,
        }
    }

    #[test]
    fn the_largest_payload_has_room_however_many_workers_share_the_memory() {
        for workers in [1, 2, 256] {
            let (pool, _seats) = Pool::new(workers, bounds(4));
            let bytes = PAYLOAD_BYTES_MAX + 1024;
            assert!(pool.submit(task(), bytes).is_ok(), "{workers} workers");
            assert_eq!(pool.waiting(), 1);
        }
    }

    #[test]
    fn room_is_asked_of_the_worker_that_owns_the_person() {
        let (pool, _seats) = Pool::new(2, bounds(2));
        let busy = task().request.person;
        let owner = worker_of(busy, 2);
        let free = (0..).map(|n| PersonId::from_uuid(uuid::Uuid::from_u128(n))).find(|one| worker_of(*one, 2) != owner);
        assert!(pool.submit(task(), 1).is_ok());
        assert!(pool.has_room_for(Some(busy), 1) && pool.is_short_of_work());
        assert!(!pool.has_room_for(Some(busy), WAITING_BYTES_MAX / 2), "one byte waits there");
        assert!(pool.submit(task(), 1).is_ok());
        assert!(!pool.has_room_for(Some(busy), 1) && !pool.is_short_of_work(), "the other's idleness is no room");
        assert!(pool.has_room_for(free, WAITING_BYTES_MAX / 2) && pool.has_room_for(None, 1));
    }

    #[test]
    fn a_full_queue_gives_the_task_back_and_keeps_no_count_of_it() {
        let (pool, _seats) = Pool::new(1, bounds(2));
        assert!(pool.submit(task(), 100).is_ok() && pool.submit(task(), 100).is_ok());
        assert!(pool.submit(task(), 100).is_err(), "by number");
        assert!(pool.submit(task(), WAITING_BYTES_MAX).is_err(), "by size");
        assert_eq!(pool.queues.first().map(|queue| queue.waiting_bytes.load(Ordering::Relaxed)), Some(200));
    }
}
