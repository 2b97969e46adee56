//! Who is there, and which person has its home where.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::PersonId;
use crate::engine::router::home_of;
use crate::engine::turn::Moment;
use crate::wire::beacon::{Beacon, Presence, ReplicaId};
use crate::wire::parcel::PROTOCOL;

/// Who was not heard for so long does not count, in microseconds.
pub const HEARD_MICROS_MAX: u64 = 3_000_000;
/// The most other replicas that count; more are passed over.
pub const MEMBERS_MAX: usize = 256;
/// A home that failed in a row is to be heard as often before it counts again, up to this often.
const FAILURES_MAX: u32 = 5;
/// Of so many of its own beacons a replica remembers when it said them: parcels that know only of earlier ones are late. All
/// that it says while another one counts it.
const BEATS_LEN_MAX: usize = 64;

/// The replicas that share the persons, as one of them sees it.
#[derive(Debug)]
pub struct Members {
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
}

/// Another replica.
#[derive(Debug)]
struct Member {
    /// Its latest beacon, and when it was heard.
    beat: u64,
    heard: Moment,
    /// Parcels in a row that it left unanswered, and how often it is to be heard until it counts again.
    failures: u32,
    unheard: u32,
}

impl Members {
    /// A replica that has heard nobody, and does not serve yet.
    pub(super) fn new(own: ReplicaId, cluster: &str) -> Self {
        Self {
            own,
            cluster: cluster.to_owned(),
            presence: Presence::Leaving,
            beat: 0,
            beats: VecDeque::new(),
            heard_itself: None,
            others: BTreeMap::new(),
            homes: Vec::new(),
        }
    }

    /// This replica.
    pub fn own(&self) -> ReplicaId {
        self.own
    }

    /// How many replicas share the persons, this one included; 1 for one that serves alone.
    pub fn count(&self) -> usize {
        self.homes.len().max(1)
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

    /// Whether a replica is there, if only to hear that a parcel is for it.
    pub(super) fn is_there(&self, replica: ReplicaId) -> bool {
        self.others.contains_key(&replica)
    }

    /// The latest beacon that was heard of a replica, and when.
    pub(super) fn latest_beat(&self, replica: ReplicaId) -> Option<(u64, Moment)> {
        self.others.get(&replica).map(|member| (member.beat, member.heard))
    }

    /// When this replica said a beacon, if it remembers that.
    pub(super) fn said(&self, beat: u64) -> Option<Moment> {
        self.beats.iter().find(|(said, _)| *said == beat).map(|(_, at)| *at)
    }

    /// A home took a parcel.
    pub(super) fn succeeded(&mut self, home: ReplicaId) {
        if let Some(member) = self.others.get_mut(&home) {
            member.failures = 0;
        }
    }

    /// A home did not take a parcel: it does not count until it is heard again.
    pub(super) fn failed(&mut self, home: ReplicaId, now: Moment) {
        if let Some(member) = self.others.get_mut(&home).filter(|member| member.unheard == 0) {
            member.failures = (member.failures + 1).min(FAILURES_MAX);
            member.unheard = member.failures;
        }
        self.count_homes(now);
    }
}

fn is_recent(heard: Moment, now: Moment) -> bool {
    now.0.saturating_sub(heard.0) <= HEARD_MICROS_MAX
}
