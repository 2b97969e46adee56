//! The engine: turns of workers over one log in memory, with and without faults.

mod bounds;
mod budgets;
#[path = "../../simulation/chance.rs"]
#[allow(dead_code, reason = "the simulation draws more from it")]
pub mod chance;
mod damage;
mod deadlines;
pub mod faults;
mod folding;
mod freshness;
mod merges;
mod outages;
mod outcomes;
mod receipts;
mod sharing;
mod snapshots;
mod unsettled;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cim_domain_person::domain::{Person, PersonId, Timestamp, evolve};
use cim_domain_person::engine::aggregate::{Aggregate, receipts_in};
use cim_domain_person::engine::history::{self, Budget, Errand, Freshness, Loading};
use cim_domain_person::engine::ports::{SnapshotStore, StoredCommit};
use cim_domain_person::engine::turn::{Answer, Counts, DueSnapshot, Limits, Moment, Notice, Task};
use cim_domain_person::engine::worker::Worker;
use cim_domain_person::memory::{MemoryLog, MemorySnapshots};
use cim_domain_person::wire::commit;
use cim_domain_person::wire::digest::Digest;
use cim_domain_person::wire::reply::Outcome;
use cim_domain_person::wire::request::{self, Header, Headers, Request, Stamp};
use cim_domain_person::wire::snapshot::Receipt;
use cim_domain_person::wire::subject::Subjects;
use faults::{Faults, FaultyLog};
use serde_json::{Value, json};

pub use crate::domain::{ANN, BOB, CAT, NOW, id, time};

pub const MILLI: u64 = 1_000;
pub const SECOND: u64 = 1_000_000;
pub const MINUTE: u64 = 60 * SECOND;

pub const LIMITS: Limits = Limits {
    cache_bytes: 1 << 20,
    snapshot_frequency: 0,
    append_micros_max: SECOND,
    reading: Budget::of_a_turn(4 << 20),
};

/// What all replicas share: the log, the snapshots, and the time.
#[derive(Clone)]
pub struct World {
    pub log: MemoryLog,
    pub snapshots: MemorySnapshots,
    micros: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
}

impl World {
    pub fn new() -> Self {
        let world = Self {
            log: MemoryLog::new(),
            snapshots: MemorySnapshots::new(),
            micros: Arc::default(),
            asked: Arc::default(),
        };
        world.pass(MINUTE);
        world
    }

    /// Time passes.
    pub fn pass(&self, micros: u64) {
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub fn moment(&self) -> Moment {
        Moment(self.micros.load(Ordering::Relaxed))
    }

    /// By the clock on the wall.
    pub fn now(&self) -> Timestamp {
        time(NOW).plus_micros(i64::try_from(self.moment().0).unwrap())
    }

    pub fn replica(&self) -> Replica {
        self.replica_with(LIMITS)
    }

    /// A replica that has nothing in memory.
    pub fn replica_with(&self, limits: Limits) -> Replica {
        let faults = Faults::default();
        let log = FaultyLog::new(self.log.clone(), faults.clone());
        Replica {
            worker: Worker::new(Box::new(log), Box::new(self.snapshots.clone()), limits),
            faults,
            world: self.clone(),
            notices: Vec::new(),
            counts: Counts::default(),
            snapshots: Vec::new(),
            errands: Vec::new(),
            asked: 0,
        }
    }

    /// Lets a replica without faults, which is gone afterwards, do this.
    pub fn given(&self, asks: impl IntoIterator<Item = Ask>) {
        let mut replica = self.replica();
        for ask in asks {
            let told = replica.tell([ask.clone()]);
            assert!(told[0].starts_with("accepted"), "{:?}: {told:?}", ask.commands);
        }
    }

    fn request(&self, ask: &Ask) -> Request {
        let id = uuid::Uuid::from_u128(u128::from(self.asked.fetch_add(1, Ordering::Relaxed)) << 64 | 7);
        let stamp = Stamp { at: self.now().plus_micros(ask.skew_micros), id };
        let payload = serde_json::to_vec(&ask.commands).unwrap();
        request::decode(&Subjects::new("person"), "person.commands.x", ask, &payload, stamp)
            .unwrap_or_else(|not| panic!("{:?}: {:?}", ask.commands, not.problem))
    }

    pub fn task(&self, ask: &Ask, reply_to: String) -> Task {
        let arrived = self.moment();
        let deadline = Moment(arrived.0 + ask.time_micros);
        Task { request: self.request(ask).into(), reply_to: Some(reply_to), arrived, deadline, may_be_elsewhere: false }
    }

    /// The whole truth about a person, checked on the way by nothing that the engine uses but the decoding.
    pub fn history(&self, person: &str) -> History {
        History::of(id(person), &self.log.commits(id(person)))
    }
}

/// A person as a replica without anything in memory loads it.
pub fn loaded(world: &World, person: &str) -> Box<Aggregate> {
    let loading = Loading::cold(id(person), Freshness::Newest);
    let (log, snapshots) = (&mut world.log.clone(), &mut world.snapshots.clone());
    let (done, _) = history::run(log, snapshots, vec![loading], &Budget::of_bytes(usize::MAX));
    done.into_iter().next().unwrap().finish(&mut Vec::new()).unwrap()
}

/// A person's history, read by somebody who trusts nothing.
#[derive(Debug, Default, PartialEq)]
pub struct History {
    pub state: Option<Person>,
    pub version: u64,
    /// By their correlation ids, which are their own ids where none were sent.
    pub commands: Vec<String>,
    pub receipts: Vec<Receipt>,
    pub kinds: Vec<&'static str>,
    /// How many events each commit has.
    pub commits: Vec<usize>,
}

impl History {
    pub fn of(person: PersonId, commits: &[StoredCommit]) -> Self {
        let mut history = Self::default();
        let (mut previous, mut last_at, mut last_sequence) = (Digest::ZERO, None, 0);
        for stored in commits {
            let commit = commit::decode(&stored.payload).unwrap();
            assert_eq!(commit.aggregate_id, person);
            assert_eq!(commit.previous, previous, "the chain at version {}", commit.version);
            assert!(stored.sequence > last_sequence);
            for record in &commit.events {
                assert_eq!(record.sequence, history.version + 1, "a gap");
                assert!(last_at <= Some(record.timestamp), "time runs backwards");
                assert_eq!(record.event.happened_at(), record.timestamp);
                evolve(&mut history.state, &record.event);
                (history.version, last_at) = (record.sequence, Some(record.timestamp));
                history.kinds.push(record.event.kind().as_str());
            }
            assert_eq!(commit.version, history.version);
            history.commands.extend(commit.by_command().map(|(_, own)| own[0].correlation_id.clone()));
            history.receipts.extend(receipts_in(&commit, stored.sequence).map(|(receipt, _)| receipt));
            history.commits.push(commit.events.len());
            (previous, last_sequence) = (Digest::of(&stored.payload), stored.sequence);
        }
        history
    }

    /// How often a command stands in the history.
    pub fn times(&self, command_id: &str) -> usize {
        self.commands.iter().filter(|id| *id == command_id).count()
    }
}

/// A worker with a faulty log, and what it said so far.
pub struct Replica {
    pub worker: Worker,
    pub faults: Faults,
    pub world: World,
    pub notices: Vec<Notice>,
    pub counts: Counts,
    /// Every snapshot that was due, also stored.
    pub snapshots: Vec<DueSnapshot>,
    /// What is to be read outside the turn, until [`read_long_histories`](Self::read_long_histories).
    pub errands: Vec<Errand>,
    asked: usize,
}

impl Replica {
    /// One turn. What is answered in it, as (number of the ask since the beginning, outcome).
    pub fn turn(&mut self, asks: impl IntoIterator<Item = Ask>) -> Vec<(usize, String)> {
        let answers = self.answers(asks);
        answers.iter().map(|answer| (number(answer), told(&answer.outcome))).collect()
    }

    pub fn answers(&mut self, asks: impl IntoIterator<Item = Ask>) -> Vec<Answer> {
        let tasks: Vec<Task> = asks
            .into_iter()
            .map(|ask| {
                self.asked += 1;
                self.world.task(&ask, (self.asked - 1).to_string())
            })
            .collect();
        let turn = self.worker.turn(self.world.moment(), tasks);
        self.notices.extend(turn.notices);
        self.counts.add(&turn.counts);
        self.errands.extend(turn.errands);
        for due in turn.snapshots {
            self.world.snapshots.clone().store(due.person, due.version, &due.bytes).unwrap();
            self.snapshots.push(due);
        }
        turn.answers
    }

    /// As many turns as it takes, a millisecond apart, until all of these are answered; their outcomes in their order.
    pub fn tell(&mut self, asks: impl IntoIterator<Item = Ask>) -> Vec<String> {
        let asks: Vec<Ask> = asks.into_iter().collect();
        let (first, len) = (self.asked, asks.len());
        let mut outcomes = vec![None; len];
        let mut asks = Some(asks);
        for _ in 0..10_000 {
            for (number, outcome) in self.turn(asks.take().unwrap_or_default()) {
                if let Some(place) = number.checked_sub(first).and_then(|index| outcomes.get_mut(index)) {
                    assert!(place.is_none(), "answered twice: {place:?} and {outcome}");
                    *place = Some(outcome);
                }
            }
            if outcomes.iter().all(Option::is_some) {
                return outcomes.into_iter().flatten().collect();
            }
            self.world.pass(MILLI);
            self.read_long_histories();
        }
        panic!("not answered in 10 seconds: {outcomes:?}")
    }

    /// What the thread for long histories does.
    pub fn read_long_histories(&mut self) {
        let (log, snapshots) = (&mut self.world.log, &mut self.world.snapshots);
        let budget = Budget::of_bytes(usize::MAX);
        let (done, open) = history::run(log, snapshots, std::mem::take(&mut self.errands), &budget);
        assert!(open.is_empty());
        done.into_iter().for_each(|errand| self.worker.take_back(errand));
    }
}

fn number(answer: &Answer) -> usize {
    answer.task.reply_to.as_deref().unwrap().parse().unwrap()
}

/// An outcome in a few words.
pub fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(accepted) => {
            let kinds: String = accepted.events.iter().map(|kind| format!(" {}", kind.as_str())).collect();
            let sequence = accepted.sequence.map(|sequence| format!(" #{sequence}")).unwrap_or_default();
            let again = if accepted.duplicate { " again" } else { "" };
            format!("accepted v{}{sequence}{kinds}{again}", accepted.version)
        }
        Outcome::Problem(problem) => {
            let version = problem.version.map(|version| format!(" v{version}")).unwrap_or_default();
            let index = problem.index.map(|index| format!(" [{index}]")).unwrap_or_default();
            let moved = match problem.moved_to.map(|person| person.to_string()).as_deref() {
                None => "",
                Some(ANN) => " -> ann",
                Some(BOB) => " -> bob",
                Some(CAT) => " -> cat",
                Some(_) => " -> somebody",
            };
            format!("{}{version}{index}{moved}", problem.code.as_str())
        }
    }
}

/// A message to the service.
#[derive(Debug, Clone)]
pub struct Ask {
    pub commands: Value,
    headers: Vec<(&'static str, String)>,
    skew_micros: i64,
    time_micros: u64,
}

/// These commands under this id; an empty one lets the service make it.
pub fn ask(command_id: &str, commands: Value) -> Ask {
    let headers = Vec::from_iter((!command_id.is_empty()).then(|| ("Nats-Msg-Id", command_id.to_owned())));
    Ask { commands, headers, skew_micros: 0, time_micros: 5 * SECOND }
}

impl Ask {
    pub fn expecting(mut self, version: u64) -> Self {
        self.headers.push(("Expected-Version", version.to_string()));
        self
    }

    pub fn with(mut self, header: &'static str, value: &str) -> Self {
        self.headers.push((header, value.to_owned()));
        self
    }

    /// It comes to a replica whose clock is wrong by this.
    pub fn skewed(self, micros: i64) -> Self {
        Self { skew_micros: micros, ..self }
    }

    /// It has this much time.
    pub fn within(self, micros: u64) -> Self {
        Self { time_micros: micros, ..self }
    }
}

impl Headers for Ask {
    fn get(&self, name: &str) -> Header<'_> {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map_or(Header::Absent, |(_, value)| Header::One(value))
    }
}

pub fn name_json(given: &str) -> Value {
    json!({ "components": { "given_names": [given], "family_names": ["Lee"] } })
}

pub fn create(person: &str) -> Value {
    json!({ "CreatePerson": { "person_id": person, "name": name_json("Ann"), "source": "test" } })
}

pub fn rename(person: &str, given: &str) -> Value {
    json!({ "UpdateName": { "person_id": person, "name": name_json(given) } })
}

pub fn birth(person: &str, birth_date: &str) -> Value {
    json!({ "SetBirthDate": { "person_id": person, "birth_date": birth_date } })
}

pub fn deactivate(person: &str) -> Value {
    json!({ "DeactivatePerson": { "person_id": person, "reason": "test" } })
}

pub fn reactivate(person: &str) -> Value {
    json!({ "ReactivatePerson": { "person_id": person, "reason": "test" } })
}

pub fn archive(person: &str) -> Value {
    json!({ "ArchivePerson": { "person_id": person, "reason": "test" } })
}

pub fn merge(source: &str, target: &str) -> Value {
    json!({ "MergePersons": {
        "source_person_id": source, "target_person_id": target, "merge_reason": "DuplicateIdentity"
    } })
}

/// Records an attribute with this text.
pub fn note(person: &str, text: &str) -> Value {
    json!({ "RecordAttribute": { "person_id": person, "attribute": attribute_json(json!({ "Text": text })) } })
}

/// Replaces the latest attribute that [`note`] made.
pub fn note_again(person: &str, text: &str) -> Value {
    json!({ "UpdateAttribute": {
        "person_id": person,
        "attribute_type": { "Identifying": "NationalId" },
        "new_attribute": attribute_json(json!({ "Text": text })),
    } })
}

/// Records an attribute with a value as large as this.
pub fn large_note(person: &str, bytes: usize) -> Value {
    let items: Vec<String> = (0..bytes / 4000).map(|_| "x".repeat(4000 - 3)).collect();
    let custom = json!({ "Custom": { "organization": "o", "attribute_name": "a", "category": "c" } });
    let mut attribute = attribute_json(json!({ "TextList": items }));
    attribute["attribute_type"] = custom;
    json!({ "RecordAttribute": { "person_id": person, "attribute": attribute } })
}

fn attribute_json(value: Value) -> Value {
    json!({
        "attribute_type": { "Identifying": "NationalId" },
        "value": value,
        "provenance": { "source": "SelfReported", "confidence": "Certain" },
    })
}

/// A UUIDv7 made at this time, the `number`th of its kind.
pub fn uuid_v7(made_at: Timestamp, number: u64) -> String {
    let millis = u64::try_from(made_at.as_micros() / 1000).unwrap();
    let mut random = [0x5A; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}
