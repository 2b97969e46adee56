//! A worker on a thread of its own that stands still except when it is told to go on. Every call of a port is a
//! question to whoever directs the simulation: between any two of them anything else may happen, and the worker may be
//! made to crash there.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use cim_domain_person::domain::PersonId;
use cim_domain_person::engine::history;
use cim_domain_person::engine::ports::{
    Append, Appended, AppendedTogether, EventLog, Page, Read, SnapshotStore, SnapshotStored, Tip, Unavailable,
};
use cim_domain_person::engine::turn::{Limits, Moment, Task, Turn};
use cim_domain_person::engine::worker::Worker;
use crossbeam_channel::{Receiver, Sender, bounded};

/// What a worker is told.
pub enum Order {
    /// To take a turn.
    Turn(Errand),
    /// What it asked for.
    Answer(Answered),
    /// To be gone, with all that it has in memory, in the midst of whatever it does. Another one takes the seat.
    Crash,
}

/// A turn, with what comes before it.
pub struct Errand {
    pub now: Moment,
    pub arrivals: Vec<Task>,
    pub taken_back: Vec<history::Errand>,
    pub forget: bool,
}

/// What a worker does next.
pub enum Event {
    /// It asks, and stands still.
    Called(Call),
    /// Its turn is over.
    Done(Done),
    /// It crashed, as it was told.
    Crashed,
    /// It panicked, as nobody told it to.
    Panicked(String),
}

/// What a turn brought.
pub struct Done {
    pub turn: Turn,
    pub is_idle: bool,
}

/// A call of a port.
#[derive(Debug)]
pub enum Call {
    Read(Vec<Read>),
    Tips(Vec<PersonId>),
    Append(Vec<Append>),
    Load(Vec<PersonId>),
}

/// What a port answers.
pub enum Answered {
    Pages(Vec<Result<Page, Unavailable>>),
    Tips(Vec<Result<Option<Tip>, Unavailable>>),
    Appended(Vec<Appended>),
    Snapshots(Vec<Option<Vec<u8>>>),
}

/// A worker's thread, seen from outside.
pub struct Seat {
    orders: Sender<Order>,
    events: Receiver<Event>,
}

impl Seat {
    /// A worker with an empty cache, for payloads up to this size. Its thread ends when the seat is dropped.
    pub fn new(limits: Limits, payload_bytes_max: usize) -> Self {
        let (orders, inlet) = bounded(1);
        let (outlet, events) = bounded(1);
        let port = Port { orders: inlet, events: outlet, payload_bytes_max };
        std::thread::Builder::new().name("worker".to_owned()).spawn(move || port.work(limits)).expect("a thread");
        Self { orders, events }
    }

    /// Lets the worker go on, until it asks for something or is done.
    pub fn go_on(&self, order: Order) -> Event {
        self.orders.send(order).expect("the worker lives as long as its seat");
        self.events.recv().expect("the worker says what it does")
    }
}

/// The worker's end: both of its ports.
#[derive(Clone)]
struct Port {
    orders: Receiver<Order>,
    events: Sender<Event>,
    payload_bytes_max: usize,
}

/// How a crash unwinds; nothing is printed about it.
struct Crash;

impl Port {
    fn work(&self, limits: Limits) {
        // Whoever dropped the seat does not listen any more.
        while self.live(limits).is_some_and(|last_word| self.events.send(last_word).is_ok()) {}
    }

    /// One worker, until it crashes, with its last word; none when the seat is gone.
    fn live(&self, limits: Limits) -> Option<Event> {
        let mut worker = Worker::new(Box::new(self.clone()), Box::new(self.clone()), limits);
        while let Order::Turn(errand) = self.orders.recv().ok()? {
            let turn = catch_unwind(AssertUnwindSafe(|| {
                if errand.forget {
                    worker.forget_everything();
                }
                errand.taken_back.into_iter().for_each(|read| worker.take_back(read));
                worker.turn(errand.now, errand.arrivals)
            }));
            let done = match turn {
                Ok(turn) => Event::Done(Done { turn, is_idle: worker.is_idle() }),
                Err(crash) if crash.is::<Crash>() => return Some(Event::Crashed),
                Err(panic) => {
                    let what = panic.downcast_ref::<String>().cloned();
                    let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
                    return Some(Event::Panicked(what.unwrap_or_default()));
                }
            };
            self.events.send(done).ok()?;
        }
        Some(Event::Crashed)
    }

    /// Asks, and stands still until there is an answer.
    fn call(&self, call: Call) -> Answered {
        if self.events.send(Event::Called(call)).is_ok()
            && let Ok(Order::Answer(answered)) = self.orders.recv()
        {
            return answered;
        }
        resume_unwind(Box::new(Crash))
    }
}

impl EventLog for Port {
    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    fn read(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        let Answered::Pages(mut pages) = self.call(Call::Read(reads.to_vec())) else {
            unreachable!("pages were asked for")
        };
        Page::cut(&mut pages, bytes_max);
        pages
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<Tip>, Unavailable>> {
        let Answered::Tips(tips) = self.call(Call::Tips(persons.to_vec())) else { unreachable!("tips were asked for") };
        tips
    }

    fn append(&mut self, appends: &[Append]) -> Vec<Appended> {
        match self.call(Call::Append(appends.to_vec())) {
            Answered::Appended(appended) => appended,
            _ => unreachable!("appends were asked for"),
        }
    }

    fn append_together(&mut self, _: &[Append]) -> AppendedTogether {
        unreachable!("no command is about two persons")
    }
}

impl SnapshotStore for Port {
    fn load(&mut self, persons: &[PersonId]) -> Vec<Option<Vec<u8>>> {
        match self.call(Call::Load(persons.to_vec())) {
            Answered::Snapshots(snapshots) => snapshots,
            _ => unreachable!("snapshots were asked for"),
        }
    }

    fn store(&mut self, _: PersonId, _: u64, _: &[u8]) -> Result<SnapshotStored, Unavailable> {
        unreachable!("a worker hands out what is to be stored")
    }
}
