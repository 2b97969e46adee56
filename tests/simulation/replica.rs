//! A replica: its workers with their queues, what they ask for, and what goes on beside them.

use std::collections::VecDeque;

use cim_domain_person::engine::history::Errand;
use cim_domain_person::engine::inquiry::Inquiry;
use cim_domain_person::engine::ports::{Appended, Page, Tip, Unavailable};
use cim_domain_person::engine::sharing::Sharing;
use cim_domain_person::engine::turn::{DueSnapshot, Task};

use super::seat::{Answered, Call, Done, Seat};

/// One copy of the service.
pub struct Replica {
    /// Another one after each restart.
    pub number: u32,
    pub desks: Vec<Desk>,
    /// How far its clock is off, in microseconds.
    pub skew_micros: i64,
    /// Takes nothing more, and leaves when it has answered all.
    pub is_draining: bool,
    /// Does nothing before this step.
    pub asleep_until: u64,
    /// The store is away before this step.
    pub cut_until: u64,
    pub due: VecDeque<DueSnapshot>,
    /// Long histories, each with the worker that wants it.
    pub long: Vec<(usize, Errand)>,
    pub inquiry: Inquiry,
    /// What it knows of the others, and when its clock began, in microseconds before everything.
    pub sharing: Sharing,
    pub clock_began: u64,
}

/// A worker with what waits for it.
pub struct Desk {
    pub seat: Seat,
    pub queue: VecDeque<Task>,
    pub doing: Doing,
    pub is_idle: bool,
    pub taken_back: Vec<Errand>,
    /// From which step on it is to forget everything.
    pub forget_at: Option<u64>,
    /// The rest of this turn reaches nobody.
    pub is_cut: bool,
}

/// What a worker is at.
pub enum Doing {
    /// Between turns.
    Nothing,
    /// Waits for its store.
    Asking(Pending),
    /// Its turn is over, and nobody knows yet.
    Replying(Done),
}

/// A call on its way: each part takes effect at a moment of its own.
pub struct Pending {
    pub call: Call,
    /// Which parts are still to take effect.
    pub left: Vec<usize>,
    pub parts: Vec<Option<Part>>,
}

/// The answer to one part of a call.
#[derive(Debug)]
pub enum Part {
    Page(Result<Page, Unavailable>),
    Tip(Result<Option<Tip>, Unavailable>),
    Appended(Appended),
    Snapshot(Option<Vec<u8>>),
}

impl Desk {
    pub fn new(seat: Seat) -> Self {
        Self {
            seat,
            queue: VecDeque::new(),
            doing: Doing::Nothing,
            is_idle: true,
            taken_back: Vec::new(),
            forget_at: None,
            is_cut: false,
        }
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.doing, Doing::Nothing) && self.is_idle && self.queue.is_empty() && self.taken_back.is_empty()
    }
}

impl Replica {
    pub fn is_at_rest(&self) -> bool {
        self.desks.iter().all(Desk::is_at_rest) && self.long.is_empty() && self.sharing.is_at_rest()
    }
}

impl Pending {
    pub fn new(call: Call) -> Self {
        let len = match &call {
            Call::Read(reads) => reads.len(),
            Call::Tips(persons) | Call::Load(persons) => persons.len(),
            Call::Append(appends) => appends.len(),
        };
        Self { call, left: (0..len).collect(), parts: (0..len).map(|_| None).collect() }
    }

    /// The whole answer, once every part took effect.
    pub fn answered(self) -> Answered {
        let parts = self.parts.into_iter().flatten();
        match self.call {
            Call::Read(_) => Answered::Pages(
                parts.map(|part| if let Part::Page(page) = part { page } else { unreachable!("a page") }).collect(),
            ),
            Call::Tips(_) => Answered::Tips(
                parts.map(|part| if let Part::Tip(tip) = part { tip } else { unreachable!("a tip") }).collect(),
            ),
            Call::Append(_) => Answered::Appended(
                parts.map(|part| if let Part::Appended(it) = part { it } else { unreachable!("an append") }).collect(),
            ),
            Call::Load(_) => Answered::Snapshots(
                parts.map(|part| if let Part::Snapshot(it) = part { it } else { unreachable!("a snapshot") }).collect(),
            ),
        }
    }
}
