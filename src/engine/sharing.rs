//! Which replicas share the persons, and what is on its way between them. No socket, no clock: whoever uses it says what was
//! heard, and when.
//!
//! A replica says each second that it is there. Who was heard within [`HEARD_MICROS_MAX`] counts, and each person has its
//! home among those who count ([`home_of`]). What arrives elsewhere goes into a parcel for its home. The sender keeps the
//! parcel until the home has taken it. If it does not, within a few round trips, the sender carries the commands out itself.
//!
//! It proves nothing. Two replicas that disagree, or a home that took a parcel and could not say so, meet in a conflict as
//! ever, and the command id makes one effect of it. What it saves is that a person is in the memory of one replica alone.

mod answer_time;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use answer_time::AnswerTime;

use crate::domain::PersonId;
use crate::engine::router::home_of;
use crate::engine::turn::Moment;
use crate::wire::beacon::{Beacon, Presence, ReplicaId};
use crate::wire::parcel::{self, Head, Item, PARCEL_BYTES_MAX, PARCEL_COMMANDS_MAX, PROTOCOL, Receipt};

/// Who was not heard for so long does not count, in microseconds.
pub const HEARD_MICROS_MAX: u64 = 3_000_000;
/// The most other replicas that count; more are passed over.
pub const MEMBERS_MAX: usize = 256;
/// What may be on its way to others, in bytes; what is more is carried out where it arrived.
pub const ON_ITS_WAY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The shortest and the longest wait for a home's answer, in microseconds. It is less where commands have little time.
pub const PATIENCE_MICROS_MIN: u64 = 150_000;
/// See [`PATIENCE_MICROS_MIN`].
pub const PATIENCE_MICROS_MAX: u64 = 250_000;
/// The part of its sender's patience after which a home takes a parcel no more: the rest is for its answer.
const TAKE_DIVISOR: u64 = 2;
/// A home that failed in a row is to be heard as often before it counts again, up to this often.
const FAILURES_MAX: u32 = 5;
/// Of so many of its own beacons a replica remembers when it said them: parcels that know only of earlier ones are late.
const BEATS_LEN_MAX: usize = 8;

/// What one replica knows of the others.
#[derive(Debug)]
pub struct Sharing {
    own: ReplicaId,
    cluster: String,
    presence: Presence,
    /// The number of its latest beacon, and when the latest ones were said.
    beat: u64,
    beats: VecDeque<(u64, Moment)>,
    /// When its own beacon last came back to it. A replica that does not hear itself serves alone: it may not speak, or
    /// listen.
    heard_itself: Option<Moment>,
    others: BTreeMap<ReplicaId, Member>,
    /// Those among whom each person has its home, in order.
    homes: Vec<ReplicaId>,
    /// Parcels that are being filled, and those that are full.
    drafts: BTreeMap<ReplicaId, Draft>,
    full: Vec<(ReplicaId, Draft)>,
    on_their_way: BTreeMap<u64, OnItsWay>,
    on_its_way_bytes: usize,
    parcels: u64,
    handed_over: u64,
    answer_time: AnswerTime,
    patience_micros_max: u64,
}

/// Another replica.
#[derive(Debug)]
struct Member {
    beat: u64,
    heard: Moment,
    /// Parcels in a row that it left unanswered, and how often it is to be heard until it counts again.
    failures: u32,
    unheard: u32,
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
    /// The time since its first command was packed, in microseconds.
    pub away_micros: u64,
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

impl Sharing {
    /// A replica that has heard nobody, and does not serve yet. It waits for no home longer than this.
    pub fn new(own: ReplicaId, cluster: &str, patience_micros_max: u64) -> Self {
        Self {
            own,
            cluster: cluster.to_owned(),
            presence: Presence::Leaving,
            beat: 0,
            beats: VecDeque::new(),
            heard_itself: None,
            others: BTreeMap::new(),
            homes: Vec::new(),
            drafts: BTreeMap::new(),
            full: Vec::new(),
            on_their_way: BTreeMap::new(),
            on_its_way_bytes: 0,
            parcels: 0,
            handed_over: 0,
            answer_time: AnswerTime::default(),
            patience_micros_max: patience_micros_max.min(PATIENCE_MICROS_MAX),
        }
    }

    /// This replica.
    pub fn id(&self) -> ReplicaId {
        self.own
    }

    /// How many replicas share the persons, this one included; 1 for one that serves alone.
    pub fn members(&self) -> usize {
        self.homes.len().max(1)
    }

    /// How many commands were packed for others so far.
    pub fn handed_over(&self) -> u64 {
        self.handed_over
    }

    /// Whether nothing can be handed to anybody.
    pub fn is_alone(&self) -> bool {
        self.homes.iter().all(|home| *home == self.own)
    }

    /// Whether it takes commands.
    pub fn is_serving(&self) -> bool {
        self.presence == Presence::Serving
    }

    /// Whether the beacon before the last one came back to it.
    pub fn heard_its_last(&self) -> bool {
        let before = self.beats.iter().rev().nth(1);
        before.is_none_or(|(_, said)| self.heard_itself.is_some_and(|heard| heard >= *said))
    }

    /// Whether its own beacons come back to it.
    pub fn hears_itself(&self, now: Moment) -> bool {
        self.heard_itself.is_some_and(|heard| is_recent(heard, now))
    }

    /// Whether nothing is on its way, or about to be.
    pub fn is_at_rest(&self) -> bool {
        self.drafts.is_empty() && self.full.is_empty() && self.on_their_way.is_empty()
    }

    /// From now on it takes commands, or no more. Its next beacon says so.
    pub fn stand(&mut self, presence: Presence, now: Moment) {
        self.presence = presence;
        self.count_homes(now);
    }

    /// The next beacon, in the cluster that it is in now.
    pub fn beat(&mut self, cluster: String, now: Moment) -> Beacon {
        if self.cluster != cluster {
            self.cluster = cluster;
            self.others.clear();
        }
        self.beat += 1;
        self.beats.push_back((self.beat, now));
        self.beats.drain(..self.beats.len().saturating_sub(BEATS_LEN_MAX));
        self.count_homes(now);
        Beacon {
            replica: self.own,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            cluster: self.cluster.clone(),
            // Whoever cannot hear takes nothing.
            state: if self.hears_itself(now) { self.presence } else { Presence::Leaving },
            beat: self.beat,
        }
    }

    /// Takes in a beacon. Whether it is of a replica that was not known: then it is to hear of this one at once.
    pub fn hear(&mut self, beacon: &Beacon, now: Moment) -> bool {
        if !beacon.is_of(&self.cluster) {
            return false;
        }
        let mut is_newcomer = false;
        if beacon.replica == self.own {
            self.heard_itself = Some(now);
        } else if beacon.state == Presence::Leaving {
            self.others.remove(&beacon.replica);
        } else if self.others.len() < MEMBERS_MAX || self.others.contains_key(&beacon.replica) {
            is_newcomer = !self.others.contains_key(&beacon.replica);
            let unknown = Member { beat: 0, heard: now, failures: 0, unheard: 0 };
            let member = self.others.entry(beacon.replica).or_insert(unknown);
            (member.beat, member.heard, member.unheard) = (beacon.beat, now, member.unheard.saturating_sub(1));
        }
        self.count_homes(now);
        is_newcomer
    }

    /// Lets time pass: who was not heard for long does not count any more.
    pub fn count_homes(&mut self, now: Moment) {
        self.others.retain(|_, member| is_recent(member.heard, now));
        self.homes.clear();
        if self.hears_itself(now) {
            self.homes.extend(self.others.iter().filter(|(_, member)| member.unheard == 0).map(|(id, _)| *id));
        }
        if self.is_serving() {
            self.homes.push(self.own);
        }
    }

    /// The home of a person, unless that is here.
    pub fn home_elsewhere(&self, person: PersonId) -> Option<ReplicaId> {
        home_of(person, self.homes.iter().copied()).filter(|home| *home != self.own)
    }

    /// Puts a command into the parcel for a home; false where it does not fit into any, or no more may be on its way: then it
    /// is to be carried out here.
    #[must_use]
    pub fn pack(&mut self, home: ReplicaId, item: &Item<'_>, now: Moment) -> bool {
        if self.on_its_way_bytes >= ON_ITS_WAY_BYTES_MAX {
            return false;
        }
        let is_full = |draft: &Draft| {
            draft.commands == PARCEL_COMMANDS_MAX || draft.body.len() + item.payload.len() >= PARCEL_BYTES_MAX / 2
        };
        if self.drafts.get(&home).is_some_and(is_full) {
            self.full.extend(self.drafts.remove(&home).map(|draft| (home, draft)));
        }
        let draft = self.drafts.entry(home).or_insert(Draft { begun: now, body: Vec::new(), commands: 0 });
        let before = draft.body.len();
        let is_packed = item.append_to(&mut draft.body).is_ok();
        draft.commands += usize::from(is_packed);
        self.handed_over += u64::from(is_packed);
        self.on_its_way_bytes += draft.body.len() - before;
        if draft.commands == 0 {
            self.drafts.remove(&home);
        }
        is_packed
    }

    /// What is to be sent now: it counts as sent. One parcel is under way to each home; what comes meanwhile goes together
    /// when that is answered. So a lone command waits for nobody and a crowd shares the costs.
    pub fn send(&mut self, now: Moment) -> Sending {
        let mut ready = std::mem::take(&mut self.full);
        let drafts = std::mem::take(&mut self.drafts);
        let (waiting, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            drafts.into_iter().partition(|(home, _)| self.others.contains_key(home) && self.is_under_way(*home));
        self.drafts = waiting;
        ready.extend(others);
        let mut sending = Sending::default();
        for (home, draft) in ready {
            if !self.others.contains_key(&home) {
                sending.taken_back.push(self.reopen(home, draft, now));
                continue;
            }
            let begun = draft.begun;
            let parcel = self.close(home, draft, now);
            let overdue = Moment(now.0.saturating_add(self.patience_micros()));
            self.on_their_way.insert(parcel.number, OnItsWay { parcel: parcel.clone(), begun, sent: now, overdue });
            sending.parcels.push(parcel);
        }
        sending
    }

    fn is_under_way(&self, home: ReplicaId) -> bool {
        self.on_their_way.values().any(|on_its_way| on_its_way.parcel.home == home)
    }

    fn close(&mut self, home: ReplicaId, draft: Draft, now: Moment) -> Parcel {
        let Draft { begun, body, commands } = draft;
        let (beat, heard) = self.others.get(&home).map_or((0, now), |member| (member.beat, member.heard));
        let [beat_age_micros, waited_micros] = [heard, begun].map(|moment| now.0.saturating_sub(moment.0));
        let head = Head { beat, beat_age_micros, patience_micros: self.patience_micros(), waited_micros };
        self.parcels += 1;
        let parcel = Parcel { number: self.parcels, home, commands, bytes: parcel::encode(head, &body).into() };
        self.on_its_way_bytes += parcel.bytes.len() - body.len();
        parcel
    }

    /// Takes back what was not sent yet.
    fn reopen(&mut self, home: ReplicaId, draft: Draft, now: Moment) -> TakenBack {
        let away_micros = now.0.saturating_sub(draft.begun.0);
        let parcel = self.close(home, draft, now);
        self.on_its_way_bytes -= parcel.bytes.len();
        TakenBack { parcel, away_micros, may_be_taken: false }
    }

    fn patience_micros(&self) -> u64 {
        self.answer_time.patience_micros().min(self.patience_micros_max)
    }

    /// Takes in a home's answer to a parcel, `None` for whatever is none. What is not taken is to be carried out here, with
    /// all else that waits for that home, which does not count until it is heard again.
    pub fn answered(&mut self, number: u64, receipt: Option<Receipt>, now: Moment) -> Vec<TakenBack> {
        let Some(on_its_way) = self.on_their_way.get(&number) else { return Vec::new() };
        if receipt != Some(Receipt::Taken { commands: on_its_way.parcel.commands }) {
            return self.take_back(number, false, now);
        }
        self.answer_time.note(now.0.saturating_sub(on_its_way.sent.0));
        if let Some(member) = self.others.get_mut(&on_its_way.parcel.home) {
            member.failures = 0;
        }
        self.remove(number);
        Vec::new()
    }

    /// What was not answered in time: to be carried out here. The answers that have arrived are to be taken in before.
    pub fn overdue(&mut self, now: Moment) -> Vec<TakenBack> {
        let is_overdue = |on_its_way: &OnItsWay| on_its_way.overdue <= now;
        let numbers = self.on_their_way.iter().filter(|(_, one)| is_overdue(one)).map(|(number, _)| *number);
        let numbers: Vec<u64> = numbers.collect();
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
        if let Some(member) = self.others.get_mut(&home).filter(|member| member.unheard == 0) {
            member.failures = (member.failures + 1).min(FAILURES_MAX);
            member.unheard = member.failures;
        }
        self.count_homes(now);
        let mut back = vec![TakenBack { parcel, away_micros: now.0.saturating_sub(begun.0), may_be_taken }];
        let full = self.full.extract_if(.., |(full, _)| *full == home).map(|(_, draft)| draft);
        let unsent: Vec<Draft> = full.chain(self.drafts.remove(&home)).collect();
        back.extend(unsent.into_iter().map(|draft| self.reopen(home, draft, now)));
        back
    }

    fn remove(&mut self, number: u64) -> Option<OnItsWay> {
        let removed = self.on_their_way.remove(&number)?;
        self.on_its_way_bytes -= removed.parcel.bytes.len();
        Some(removed)
    }

    /// How long ago the commands of a parcel that arrives now had arrived, at most, in microseconds. `None` where its sender
    /// may have given up waiting before it hears of it: then nothing in it may be carried out here, since it may be answered
    /// there already.
    pub fn age(&self, head: &Head, now: Moment) -> Option<u64> {
        let (_, said) = self.beats.iter().find(|(beat, _)| *beat == head.beat)?;
        let age = now.0.saturating_sub(said.0).saturating_sub(head.beat_age_micros);
        let is_early = age < head.patience_micros.min(PATIENCE_MICROS_MAX) / TAKE_DIVISOR;
        is_early.then(|| age.saturating_add(head.waited_micros))
    }
}

fn is_recent(heard: Moment, now: Moment) -> bool {
    now.0.saturating_sub(heard.0) <= HEARD_MICROS_MAX
}
