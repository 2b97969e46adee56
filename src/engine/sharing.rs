//! Which replicas share the persons, and what is on its way between them. No socket, no clock: whoever uses it says what was
//! heard, and when.
//!
//! A replica says each second that it is there. Who was heard within [`HEARD_MICROS_MAX`](members::HEARD_MICROS_MAX) counts, and each person has its
//! home among those who count ([`home_of`](crate::engine::router::home_of)). What arrives elsewhere goes into a parcel for its home. The sender keeps the
//! parcel until the home has taken it. If it does not, within a few round trips, the sender carries the commands out itself.
//!
//! It proves nothing. Two replicas that disagree, or a home that took a parcel and could not say so, meet in a conflict as
//! ever, and the command id makes one effect of it. What it saves is that a person is in the memory of one replica alone.

mod answer_time;
pub mod members;

use std::collections::BTreeMap;
use std::sync::Arc;

use answer_time::AnswerTime;
use members::Members;

use crate::engine::turn::Moment;
use crate::wire::beacon::ReplicaId;
use crate::wire::parcel::{self, Head, Item, PARCEL_BYTES_MAX, PARCEL_COMMANDS_MAX, Receipt, Refused, Taken};

/// What may be on its way to others, in bytes; what is more is carried out where it arrived.
pub const ON_ITS_WAY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The shortest and the longest wait for a home's answer, in microseconds. It is less where commands have little time.
pub const PATIENCE_MICROS_MIN: u64 = 150_000;
/// See [`PATIENCE_MICROS_MIN`].
pub const PATIENCE_MICROS_MAX: u64 = 250_000;
/// The part of its sender's patience after which a home takes a parcel no more: the rest is for its answer.
const TAKE_DIVISOR: u64 = 2;
/// Who does not look for so long stood still, in microseconds, as under SIGSTOP: answers may have come that it has not read.
const STOOD_STILL_MICROS: u64 = 500_000;
/// By how much a parcel may seem to come before it was sent, in microseconds: clocks do not run alike. More says that the home's
/// clock stood still.
const EARLY_MICROS_MAX: u64 = 5_000;

/// What one replica knows of the others.
#[derive(Debug)]
pub struct Sharing {
    /// Who is there.
    pub members: Members,
    /// What waits for each home, and what is under way to it. Only homes of which there is something.
    lanes: BTreeMap<ReplicaId, Lane>,
    on_their_way: BTreeMap<u64, OnItsWay>,
    on_its_way_bytes: usize,
    parcels: u64,
    handed_over: u64,
    /// When it was last looked for parcels that are overdue.
    looked: Moment,
    answer_time: AnswerTime,
    patience_micros_max: u64,
}

/// The way to one home.
#[derive(Debug, Default)]
struct Lane {
    /// Parcels that are not sent yet. The last one is being filled, the others are full.
    waiting: Vec<Draft>,
    /// How many were sent and are not answered.
    under_way: usize,
}

/// A parcel that is being filled, since this moment.
#[derive(Debug)]
struct Draft {
    begun: Moment,
    body: Vec<u8>,
    commands: usize,
}

/// A parcel that was sent.
#[derive(Debug)]
struct OnItsWay {
    parcel: Parcel,
    begun: Moment,
    sent: Moment,
    overdue: Moment,
}

/// Commands that are handed over.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Its number, which the answer is to bear.
    pub number: u64,
    /// Where it goes.
    pub home: ReplicaId,
    /// How many commands are in it.
    pub commands: usize,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

/// A parcel whose commands are to be carried out here after all.
#[derive(Debug)]
pub struct TakenBack {
    /// The parcel.
    pub parcel: Parcel,
    /// When its first command was packed.
    pub arrived: Moment,
    /// Whether the home may carry it out as well: it was not heard.
    pub may_be_taken: bool,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub struct Sending {
    /// Sent to their homes.
    pub parcels: Vec<Parcel>,
    /// Carried out here: their homes are gone.
    pub taken_back: Vec<TakenBack>,
}

impl Draft {
    /// Whether no more commands of about this size are to be added.
    fn is_full(&self, payload_bytes: usize) -> bool {
        self.commands == PARCEL_COMMANDS_MAX || self.body.len() + payload_bytes >= PARCEL_BYTES_MAX / 2
    }
}

impl Sharing {
    /// A replica that has heard nobody, and does not serve yet. It waits for no home longer than this.
    pub fn new(own: ReplicaId, cluster: &str, patience_micros_max: u64) -> Self {
        Self {
            members: Members::new(own, cluster),
            lanes: BTreeMap::new(),
            on_their_way: BTreeMap::new(),
            on_its_way_bytes: 0,
            parcels: 0,
            handed_over: 0,
            looked: Moment(0),
            answer_time: AnswerTime::default(),
            patience_micros_max: patience_micros_max.min(PATIENCE_MICROS_MAX),
        }
    }

    /// How many commands were packed for others so far.
    pub fn handed_over(&self) -> u64 {
        self.handed_over
    }

    /// Whether nothing is on its way, or about to be.
    pub fn is_at_rest(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Puts a command into the parcel for a home; false where it does not fit into any, or no more may be on its way: then it
    /// is to be carried out here.
    #[must_use]
    pub fn pack(&mut self, home: ReplicaId, item: &Item<'_>, now: Moment) -> bool {
        if self.on_its_way_bytes >= ON_ITS_WAY_BYTES_MAX {
            return false;
        }
        let waiting = &mut self.lanes.entry(home).or_default().waiting;
        let mut draft = waiting.pop_if(|draft| !draft.is_full(item.payload.len())).unwrap_or(Draft {
            begun: now,
            body: Vec::new(),
            commands: 0,
        });
        let before = draft.body.len();
        let is_packed = item.append_to(&mut draft.body).is_ok();
        draft.commands += usize::from(is_packed);
        self.handed_over += u64::from(is_packed);
        self.on_its_way_bytes += draft.body.len() - before;
        if draft.commands > 0 {
            waiting.push(draft);
        } else {
            self.forget_unused(home);
        }
        is_packed
    }

    /// What is to be sent now: it counts as sent. What is full goes. Else one parcel is under way to each home, and what comes
    /// meanwhile goes together when that is answered. So a lone command waits for nobody and a crowd shares the costs.
    pub fn send(&mut self, now: Moment) -> Sending {
        let mut sending = Sending::default();
        let waiting = self.lanes.iter().filter(|(_, lane)| !lane.waiting.is_empty());
        let homes: Vec<ReplicaId> = waiting.map(|(home, _)| *home).collect();
        for home in homes {
            if !self.members.is_there(home) {
                sending.taken_back.extend(self.reopen(home, now));
                continue;
            }
            let Some(lane) = self.lanes.get_mut(&home) else { continue };
            let is_filled_on = lane.under_way > 0 && lane.waiting.last().is_some_and(|last| !last.is_full(0));
            let ready: Vec<Draft> = lane.waiting.drain(..lane.waiting.len() - usize::from(is_filled_on)).collect();
            sending.parcels.extend(ready.into_iter().map(|draft| self.send_one(home, draft, None, now)));
        }
        sending
    }

    /// Answers a parcel of another replica with the one that waits for that replica, if one does: both ways then need half the
    /// messages. `None` where none waits: the answer is to go alone.
    pub fn answer(&mut self, to: ReplicaId, taken: Taken, now: Moment) -> Option<Parcel> {
        let lane = self.lanes.get_mut(&to).filter(|lane| !lane.waiting.is_empty() && self.members.is_there(to))?;
        let draft = lane.waiting.remove(0);
        Some(self.send_one(to, draft, Some(taken), now))
    }

    fn send_one(&mut self, home: ReplicaId, draft: Draft, taken: Option<Taken>, now: Moment) -> Parcel {
        let begun = draft.begun;
        let parcel = self.close(home, draft, taken, now);
        let overdue = Moment(now.0.saturating_add(self.patience_micros()));
        self.on_their_way.insert(parcel.number, OnItsWay { parcel: parcel.clone(), begun, sent: now, overdue });
        self.lanes.entry(home).or_default().under_way += 1;
        parcel
    }

    fn close(&mut self, home: ReplicaId, draft: Draft, taken: Option<Taken>, now: Moment) -> Parcel {
        let Draft { begun, body, commands } = draft;
        let (beat, heard) = self.members.latest_beat(home).unwrap_or((0, now));
        let [beat_age_micros, waited_micros] = [heard, begun].map(|moment| now.0.saturating_sub(moment.0));
        self.parcels += 1;
        let number = self.parcels;
        let (from, patience_micros) = (self.members.own().as_u128(), self.patience_micros());
        let head = Head { from, number, beat, beat_age_micros, patience_micros, waited_micros, taken };
        let parcel = Parcel { number, home, commands, bytes: parcel::encode(head, &body).into() };
        self.on_its_way_bytes += parcel.bytes.len() - body.len();
        parcel
    }

    /// Takes back what was not sent yet.
    fn reopen(&mut self, home: ReplicaId, now: Moment) -> Vec<TakenBack> {
        let waiting = self.lanes.get_mut(&home).map(|lane| std::mem::take(&mut lane.waiting)).unwrap_or_default();
        self.forget_unused(home);
        let reopen = |draft: Draft| {
            let arrived = draft.begun;
            let parcel = self.close(home, draft, None, now);
            self.on_its_way_bytes -= parcel.bytes.len();
            TakenBack { parcel, arrived, may_be_taken: false }
        };
        waiting.into_iter().map(reopen).collect()
    }

    fn patience_micros(&self) -> u64 {
        self.answer_time.patience_micros().min(self.patience_micros_max)
    }

    /// Takes in a home's answer to a parcel. What is refused is to be carried out here, with all else that waits for that home,
    /// which does not count until it is heard again. An answer that does not fit is passed over.
    pub fn answered(&mut self, number: u64, receipt: Receipt, now: Moment) -> Vec<TakenBack> {
        let Some(on_its_way) = self.on_their_way.get(&number) else { return Vec::new() };
        match receipt {
            Receipt::Taken { commands } if commands == on_its_way.parcel.commands => {
                self.answer_time.note(now.0.saturating_sub(on_its_way.sent.0));
                self.members.succeeded(on_its_way.parcel.home);
                self.remove(number);
                Vec::new()
            }
            Receipt::Taken { .. } => Vec::new(),
            Receipt::Refused { reason } => {
                if reason == Refused::Late {
                    // It would be late again if it were waited for no longer.
                    self.answer_time.note(PATIENCE_MICROS_MAX);
                }
                self.take_back(number, false, now)
            }
        }
    }

    /// Nobody listens where a parcel was to go, or it could not be sent.
    pub fn not_taken(&mut self, number: u64, now: Moment) -> Vec<TakenBack> {
        self.take_back(number, false, now)
    }

    /// Takes in an answer that came in a parcel of this replica. Nobody else may give it.
    pub fn answered_by(&mut self, home: ReplicaId, taken: Taken, now: Moment) -> Vec<TakenBack> {
        let is_its = self.on_their_way.get(&taken.number).is_some_and(|on_its_way| on_its_way.parcel.home == home);
        let receipt = Receipt::Taken { commands: taken.commands };
        if is_its { self.answered(taken.number, receipt, now) } else { Vec::new() }
    }

    /// What was not answered in time: to be carried out here. The answers that have arrived are to be taken in before. Who stood
    /// still has not read them yet, and waits a little longer.
    pub fn overdue(&mut self, now: Moment) -> Vec<TakenBack> {
        let looked = std::mem::replace(&mut self.looked, now);
        let overdue = self.on_their_way.iter_mut().filter(|(_, one)| one.overdue <= now);
        if now.0.saturating_sub(looked.0) > STOOD_STILL_MICROS {
            overdue.for_each(|(_, one)| one.overdue = Moment(now.0.saturating_add(PATIENCE_MICROS_MIN)));
            return Vec::new();
        }
        let numbers: Vec<u64> = overdue.map(|(number, _)| *number).collect();
        numbers.into_iter().flat_map(|number| self.take_back(number, true, now)).collect()
    }

    /// When the next parcel will be overdue.
    pub fn next_overdue(&self) -> Option<Moment> {
        self.on_their_way.values().map(|on_its_way| on_its_way.overdue).min()
    }

    fn take_back(&mut self, number: u64, may_be_taken: bool, now: Moment) -> Vec<TakenBack> {
        let Some(OnItsWay { parcel, begun, sent, .. }) = self.remove(number) else { return Vec::new() };
        let home = parcel.home;
        if may_be_taken {
            // The next ones are waited for longer.
            self.answer_time.note(now.0.saturating_sub(sent.0));
        }
        self.members.failed(home, now);
        let mut back = vec![TakenBack { parcel, arrived: begun, may_be_taken }];
        back.extend(self.reopen(home, now));
        back
    }

    fn remove(&mut self, number: u64) -> Option<OnItsWay> {
        let removed = self.on_their_way.remove(&number)?;
        self.on_its_way_bytes -= removed.parcel.bytes.len();
        let home = removed.parcel.home;
        if let Some(lane) = self.lanes.get_mut(&home) {
            lane.under_way -= 1;
        }
        self.forget_unused(home);
        Some(removed)
    }

    fn forget_unused(&mut self, home: ReplicaId) {
        if self.lanes.get(&home).is_some_and(|lane| lane.waiting.is_empty() && lane.under_way == 0) {
            self.lanes.remove(&home);
        }
    }

    /// When the first command of a parcel that is here now had arrived, by this replica's clock: not later than that. `None` where
    /// its sender may have given up waiting before it hears of it: then nothing in it may be carried out here, since it may be
    /// answered there already.
    pub fn arrival(&self, head: &Head, now: Moment) -> Option<Moment> {
        let said = self.members.said(head.beat)?;
        let since = now.0.saturating_sub(said.0).saturating_add(EARLY_MICROS_MAX);
        let age = since.checked_sub(head.beat_age_micros)?.saturating_sub(EARLY_MICROS_MAX);
        let is_in_time = age < head.patience_micros.min(PATIENCE_MICROS_MAX) / TAKE_DIVISOR;
        let waited = head.waited_micros.min(PATIENCE_MICROS_MAX);
        is_in_time.then(|| Moment(now.0.saturating_sub(age).saturating_sub(waited)))
    }
}
