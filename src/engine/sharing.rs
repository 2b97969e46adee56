//! Which replicas share the persons, and what is on its way between them. No socket, no clock: whoever uses it says what was
//! heard, and when.
//!
//! A replica says each second that it is there. Who was heard within [`HEARD_MICROS_MAX`] counts, and each person has its
//! home among those who count ([`home_of`]). What arrives elsewhere goes into a parcel for its home. The sender keeps the
//! parcel until the home has taken it. If it does not, within a few round trips, the sender carries the commands out itself.
//!
//! It proves nothing. Two replicas that disagree, or a home that took a parcel and could not say so, meet in a conflict as
//! ever, and the command id makes one effect of it. What it saves is that a person is in the memory of one replica alone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::domain::PersonId;
use crate::engine::router::home_of;
use crate::engine::turn::Moment;
use crate::wire::beacon::{Beacon, ReplicaId, Standing};
use crate::wire::parcel::{self, Head, Item, PARCEL_BYTES_MAX, PARCEL_COMMANDS_MAX, PROTOCOL, Receipt};

/// Who was not heard for so long does not count, in microseconds.
pub const HEARD_MICROS_MAX: u64 = 3_000_000;
/// The most other replicas that count; more are passed over.
pub const MEMBERS_MAX: usize = 256;
/// What may be on its way to others, in bytes; what is more is carried out where it arrived.
pub const ON_ITS_WAY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The shortest and the longest wait for a home's answer, in microseconds.
pub const PATIENCE_MICROS_MIN: u64 = 50_000;
/// See [`PATIENCE_MICROS_MIN`].
pub const PATIENCE_MICROS_MAX: u64 = 250_000;
/// Of so many of its own beacons a replica remembers when it said them: parcels that know only of earlier ones are late.
const BEATS_LEN_MAX: usize = 8;

/// What one replica knows of the others.
#[derive(Debug)]
pub struct Sharing {
    own: ReplicaId,
    cluster: String,
    standing: Standing,
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
    answer_time: AnswerTime,
}

/// Another replica.
#[derive(Debug)]
struct Member {
    beat: u64,
    heard: Moment,
    /// Not until it is heard again, if it left a parcel unanswered.
    counts: bool,
}

/// A parcel that is being filled.
#[derive(Debug, Default)]
struct Draft {
    body: Vec<u8>,
    commands: usize,
}

/// A parcel that was sent.
#[derive(Debug)]
struct OnItsWay {
    parcel: Parcel,
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
    /// The time since it was sent, in microseconds.
    pub away_micros: u64,
}

impl Sharing {
    /// A replica that has heard nobody, and does not serve yet.
    pub fn new(own: ReplicaId, cluster: &str) -> Self {
        Self {
            own,
            cluster: cluster.to_owned(),
            standing: Standing::Leaving,
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
            answer_time: AnswerTime::default(),
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

    /// Whether nothing can be handed to anybody.
    pub fn is_alone(&self) -> bool {
        self.homes.iter().all(|home| *home == self.own)
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
    pub fn stand(&mut self, standing: Standing, now: Moment) {
        self.standing = standing;
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
            state: self.standing,
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
        } else if beacon.state == Standing::Leaving {
            self.others.remove(&beacon.replica);
        } else if self.others.len() < MEMBERS_MAX || self.others.contains_key(&beacon.replica) {
            let member = Member { beat: beacon.beat, heard: now, counts: true };
            is_newcomer = self.others.insert(beacon.replica, member).is_none();
        }
        self.count_homes(now);
        is_newcomer
    }

    /// Lets time pass: who was not heard for long does not count any more.
    pub fn count_homes(&mut self, now: Moment) {
        self.others.retain(|_, member| is_recent(member.heard, now));
        self.homes.clear();
        if self.hears_itself(now) {
            self.homes.extend(self.others.iter().filter(|(_, member)| member.counts).map(|(id, _)| *id));
        }
        if self.standing == Standing::Serving {
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
    pub fn pack(&mut self, home: ReplicaId, item: &Item<'_>) -> bool {
        if self.on_its_way_bytes >= ON_ITS_WAY_BYTES_MAX {
            return false;
        }
        let draft = self.drafts.entry(home).or_default();
        if draft.commands == PARCEL_COMMANDS_MAX || draft.body.len() + item.payload.len() >= PARCEL_BYTES_MAX / 2 {
            self.full.extend(self.drafts.remove(&home).filter(|draft| draft.commands > 0).map(|draft| (home, draft)));
        }
        let draft = self.drafts.entry(home).or_default();
        let before = draft.body.len();
        if item.append_to(&mut draft.body).is_err() {
            self.drafts.retain(|_, draft| draft.commands > 0);
            return false;
        }
        draft.commands += 1;
        self.on_its_way_bytes += draft.body.len() - before;
        true
    }

    /// The parcels that are to be sent now: each counts as sent. One is under way to each home; what comes meanwhile goes
    /// together when that is answered, so that a lone command waits for nobody and a crowd shares the costs.
    pub fn send(&mut self, now: Moment) -> Vec<Parcel> {
        let mut ready = std::mem::take(&mut self.full);
        let waits = |home: &ReplicaId| self.on_their_way.values().any(|on_its_way| on_its_way.parcel.home == *home);
        let (waiting, others) = std::mem::take(&mut self.drafts).into_iter().partition(|(home, _)| waits(home));
        self.drafts = waiting;
        ready.extend::<BTreeMap<_, _>>(others);
        let patience_micros = self.answer_time.patience_micros();
        let parcels = ready.into_iter().map(|(home, draft)| {
            let parcel = self.close(home, draft, patience_micros, now);
            let overdue = Moment(now.0.saturating_add(patience_micros));
            self.on_their_way.insert(parcel.number, OnItsWay { parcel: parcel.clone(), sent: now, overdue });
            parcel
        });
        parcels.collect()
    }

    fn close(&mut self, home: ReplicaId, draft: Draft, patience_micros: u64, now: Moment) -> Parcel {
        let Draft { body, commands } = draft;
        let (beat, heard) = self.others.get(&home).map_or((0, now), |member| (member.beat, member.heard));
        let head = Head { beat, beat_age_micros: now.0.saturating_sub(heard.0), patience_micros };
        self.parcels += 1;
        let parcel = Parcel { number: self.parcels, home, commands, bytes: parcel::encode(head, &body).into() };
        self.on_its_way_bytes += parcel.bytes.len() - body.len();
        parcel
    }

    /// Takes in a home's answer to a parcel, `None` for whatever is none. What is not taken is to be carried out here, with
    /// all else that waits for that home, which does not count until it is heard again.
    pub fn answered(&mut self, number: u64, receipt: Option<Receipt>, now: Moment) -> Vec<TakenBack> {
        let is_taken = |parcel: &Parcel| receipt == Some(Receipt::Taken { commands: parcel.commands });
        let Some(on_its_way) = self.on_their_way.get(&number) else { return Vec::new() };
        if !is_taken(&on_its_way.parcel) {
            return self.take_back(number, now);
        }
        self.answer_time.note(now.0.saturating_sub(on_its_way.sent.0));
        self.remove(number);
        Vec::new()
    }

    /// What was not answered in time: to be carried out here.
    pub fn overdue(&mut self, now: Moment) -> Vec<TakenBack> {
        let is_overdue = |on_its_way: &OnItsWay| on_its_way.overdue <= now;
        let numbers = self.on_their_way.iter().filter(|(_, one)| is_overdue(one)).map(|(number, _)| *number);
        let numbers: Vec<u64> = numbers.collect();
        numbers.into_iter().flat_map(|number| self.take_back(number, now)).collect()
    }

    /// When the next parcel will be overdue.
    pub fn next_overdue(&self) -> Option<Moment> {
        self.on_their_way.values().map(|on_its_way| on_its_way.overdue).min()
    }

    fn take_back(&mut self, number: u64, now: Moment) -> Vec<TakenBack> {
        let Some(OnItsWay { parcel, sent, .. }) = self.remove(number) else { return Vec::new() };
        let home = parcel.home;
        if let Some(member) = self.others.get_mut(&home) {
            member.counts = false;
        }
        self.count_homes(now);
        let mut back = vec![TakenBack { parcel, away_micros: now.0.saturating_sub(sent.0) }];
        let waiting: Vec<_> = self.full.extract_if(.., |(full, _)| *full == home).map(|(_, draft)| draft).collect();
        for draft in waiting.into_iter().chain(self.drafts.remove(&home)) {
            let parcel = self.close(home, draft, 0, now);
            self.on_its_way_bytes -= parcel.bytes.len();
            back.push(TakenBack { parcel, away_micros: 0 });
        }
        back
    }

    fn remove(&mut self, number: u64) -> Option<OnItsWay> {
        let removed = self.on_their_way.remove(&number)?;
        self.on_its_way_bytes -= removed.parcel.bytes.len();
        Some(removed)
    }

    /// How old a parcel that arrives now is at most, in microseconds; `None` where its sender may have given up waiting:
    /// then nothing in it may be carried out here, since it may be answered there already.
    pub fn age(&self, head: &Head, now: Moment) -> Option<u64> {
        let (_, said) = self.beats.iter().find(|(beat, _)| *beat == head.beat)?;
        let age = now.0.saturating_sub(said.0).saturating_sub(head.beat_age_micros);
        (age < head.patience_micros.min(PATIENCE_MICROS_MAX)).then_some(age)
    }
}

fn is_recent(heard: Moment, now: Moment) -> bool {
    now.0.saturating_sub(heard.0) <= HEARD_MICROS_MAX
}

/// How long homes take to answer: a mean, and how far from it answers are, as TCP has it (RFC 6298).
#[derive(Debug, Clone, Copy, Default)]
struct AnswerTime {
    mean_micros: u64,
    deviation_micros: u64,
}

impl AnswerTime {
    fn note(&mut self, took_micros: u64) {
        if self.mean_micros == 0 {
            (self.mean_micros, self.deviation_micros) = (took_micros, took_micros / 2);
            return;
        }
        self.deviation_micros = (3 * self.deviation_micros + took_micros.abs_diff(self.mean_micros)) / 4;
        self.mean_micros = (7 * self.mean_micros + took_micros) / 8;
    }

    fn patience_micros(self) -> u64 {
        if self.mean_micros == 0 {
            return PATIENCE_MICROS_MAX;
        }
        (self.mean_micros + 4 * self.deviation_micros).clamp(PATIENCE_MICROS_MIN, PATIENCE_MICROS_MAX)
    }
}
