//! What happened to each person, in which order and when, as far as the record shows.

use std::collections::BTreeMap;

use cim_domain_person::domain::{Person, PersonId, TargetState, Timestamp, evolve};
use cim_domain_person::wire::commit::{self, CommitError, EventRecord};
use cim_domain_person::wire::digest::Digest;
use cim_domain_person::wire::request::{self, NotARequest, Request, Stamp};
use cim_domain_person::wire::subject::Subjects;
use serde::Deserialize;

use super::record::{Change, Delivery, LogChange, Record, Time};

/// A record, read.
pub struct Past<'a> {
    /// What it was made of.
    pub record: &'a Record,
    /// The deliveries, in their order.
    pub sent: Vec<Sent<'a>>,
    /// By request: where its deliveries stand in `sent`.
    pub by_key: BTreeMap<String, Vec<usize>>,
    /// Everybody who ever had a commit.
    pub lines: BTreeMap<PersonId, Line>,
}

/// A delivery, read.
pub struct Sent<'a> {
    /// As recorded.
    pub delivery: &'a Delivery,
    /// What it asks for.
    pub request: Result<Request, NotARequest>,
    /// The same for all deliveries of a request: its command id, or its correlation id if it has none.
    pub key: String,
    /// What was answered, and when.
    pub answers: Vec<(Time, Answer)>,
}

/// A reply, read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Answer {
    pub status: String,
    pub command_id: Option<String>,
    pub aggregate_id: Option<PersonId>,
    pub version: Option<u64>,
    pub events: Vec<String>,
    pub sequence: Option<u64>,
    pub duplicate: bool,
    pub error: Option<AnswerError>,
}

/// Why it was not accepted.
#[derive(Debug, Clone, Deserialize)]
pub struct AnswerError {
    pub code: String,
    #[serde(default)]
    pub index: Option<usize>,
    #[serde(default)]
    pub moved_to: Option<PersonId>,
}

/// The history of one person.
#[derive(Default)]
pub struct Line {
    /// The states that it went through, one after each request that was carried out; the first is the empty one. Where
    /// the log lost commits, the state of then stands again.
    pub spots: Vec<Spot>,
    /// The requests that were carried out, in order.
    pub carried: Vec<Carried>,
    /// The commits, in order, each with what came before it.
    pub commits: Vec<CommitSeen>,
    /// Whether the log ever lost some of it.
    pub is_harmed: bool,
}

/// A person between two requests that changed it.
#[derive(Clone)]
pub struct Spot {
    pub version: u64,
    pub state: Option<Person>,
    pub last_event_at: Timestamp,
    /// The chain's digest here; `None` in the midst of a commit.
    pub chain: Option<Digest>,
    /// Where the newest commit lies.
    pub sequence: u64,
    /// How many requests were carried out until then.
    pub requests: usize,
    /// It cannot have been so before.
    pub begin: Time,
    /// It cannot have been so after.
    pub end: Time,
}

/// A request that was carried out.
pub struct Carried {
    pub key: String,
    pub command_id: String,
    pub digest: Digest,
    pub generated: bool,
    pub events: Vec<EventRecord>,
    pub sequence: u64,
    /// The spot on which it was decided; the next one came of it.
    pub before: usize,
    /// The spot with which it was lost, and until when nobody could know.
    pub lost: Option<(usize, Time)>,
    /// When exactly it was stored, where that is known.
    pub at: Option<Time>,
    /// When it was stored by a right clock; by the commit's own word where nothing better is known.
    pub wall: Timestamp,
}

/// A commit, with what came before it.
pub struct CommitSeen {
    pub sequence: u64,
    pub decoded: Result<commit::Commit, CommitError>,
    /// The spot before it.
    pub before: Spot,
}

impl Carried {
    /// The person's version after it.
    pub fn version(&self) -> u64 {
        self.events.last().map_or(0, |event| event.sequence)
    }

    /// Whether it stands in the history of this spot.
    pub fn is_known_at(&self, spot: usize) -> bool {
        self.before < spot && self.lost.is_none_or(|(lost, _)| spot < lost)
    }
}

impl<'a> Past<'a> {
    pub fn of(record: &'a Record) -> Self {
        let sent: Vec<Sent> = record.deliveries.iter().map(Sent::of).collect();
        let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, sent) in sent.iter().enumerate() {
            by_key.entry(sent.key.clone()).or_default().push(at);
        }
        let mut past = Self { record, sent, by_key, lines: BTreeMap::new() };
        let mut lines: BTreeMap<PersonId, Line> = BTreeMap::new();
        for change in &record.log {
            match &change.what {
                Change::Stored { person, sequence, payload } => {
                    lines.entry(*person).or_insert_with(Line::empty).store(change, *sequence, payload, &past.by_key);
                }
                Change::LostAfter { sequence, known_at } => {
                    let at = change.at.unwrap_or(0);
                    lines.values_mut().for_each(|line| line.lose_after(*sequence, at, *known_at));
                }
            }
        }
        lines.values_mut().filter(|line| line.carried.iter().any(|carried| carried.at.is_none())).for_each(|line| {
            line.bound_by_what_was_seen(&past);
        });
        past.lines = lines;
        past
    }

    /// Whether the service learnt, or could have learnt, between these times that the log had lost something.
    pub fn is_loss_learnt_between(&self, from: Time, to: Time) -> bool {
        self.record.log.iter().any(|change| match change.what {
            Change::LostAfter { known_at, .. } => change.at.is_none_or(|at| at <= to) && known_at >= from,
            Change::Stored { .. } => false,
        })
    }

    /// When a request was sent first.
    pub fn first_sent(&self, key: &str) -> Option<Time> {
        let all = self.by_key.get(key)?;
        all.iter().map(|at| self.sent[*at].delivery.sent_at).min()
    }

    /// When somebody was first told that it is stored.
    pub fn first_told(&self, key: &str) -> Option<Time> {
        let answers = self.by_key.get(key)?.iter().flat_map(|at| &self.sent[*at].answers);
        answers.filter(|(_, answer)| answer.sequence.is_some()).map(|(at, _)| *at).min()
    }

    /// What a merge may have seen of its target between these moments.
    pub fn targets(&self, from: Time, to: Time) -> impl Fn(PersonId) -> Vec<TargetState> {
        move |target| {
            let Some(line) = self.lines.get(&target) else { return vec![TargetState::Missing] };
            let mut found: Vec<TargetState> = Vec::new();
            for (_, spot) in line.spots_between(from, to) {
                let state = spot.state.as_ref();
                let state = state.map_or(TargetState::Missing, |person| TargetState::Exists(person.lifecycle.clone()));
                if !found.contains(&state) {
                    found.push(state);
                }
            }
            found
        }
    }
}

impl<'a> Sent<'a> {
    fn of(delivery: &'a Delivery) -> Self {
        let stamp = Stamp { at: delivery.stamped_at, id: uuid::Uuid::nil() };
        let subjects = Subjects::new("person");
        let request = request::decode(&subjects, &delivery.subject, delivery, &delivery.payload, stamp);
        let key = delivery.header("Nats-Msg-Id").or_else(|| delivery.header("Correlation-Id"));
        let answer = |payload: &[u8]| match serde_json::from_slice::<Answer>(payload) {
            Ok(answer) => answer,
            Err(error) => Answer { status: format!("not a reply: {error}"), ..Answer::default() },
        };
        Self {
            delivery,
            request,
            key: key.unwrap_or("without any id").to_owned(),
            answers: delivery.replies.iter().map(|reply| (reply.at, answer(&reply.payload))).collect(),
        }
    }

    /// Whose, where it decodes.
    pub fn person(&self) -> Option<PersonId> {
        self.request.as_ref().ok().map(|request| request.person)
    }
}

impl Answer {
    /// The code, or "accepted".
    pub fn code(&self) -> &str {
        self.error.as_ref().map_or(&self.status, |error| &error.code)
    }

    pub fn is_accepted(&self) -> bool {
        self.status == "accepted"
    }

    /// Whether it says that nothing was done and nothing will be.
    pub fn says_nothing_done(&self) -> bool {
        !self.is_accepted() && self.code() != "outcome_unknown"
    }
}

impl Line {
    pub fn empty() -> Self {
        let nobody = Spot {
            version: 0,
            state: None,
            last_event_at: Timestamp::from_micros(i64::MIN),
            chain: Some(Digest::ZERO),
            sequence: 0,
            requests: 0,
            begin: 0,
            end: Time::MAX,
        };
        Self { spots: vec![nobody], ..Self::default() }
    }

    /// The spot that is last.
    pub fn last(&self) -> &Spot {
        self.spots.last().expect("the first one is always there")
    }

    /// The spots that may have been the person's state at some moment between these, with their places.
    pub fn spots_between(&self, from: Time, to: Time) -> impl Iterator<Item = (usize, &Spot)> {
        self.spots.iter().enumerate().filter(move |(_, spot)| spot.begin <= to && spot.end >= from)
    }

    fn store(&mut self, change: &LogChange, sequence: u64, payload: &[u8], by_key: &BTreeMap<String, Vec<usize>>) {
        let (decoded, digest) = (commit::decode(payload), Digest::of(payload));
        let before = self.last().clone();
        let at = change.at.unwrap_or(0);
        if change.at.is_some() {
            self.end_last(at);
        }
        let requests: Vec<_> = decoded.iter().flat_map(commit::Commit::by_command).collect();
        let len = requests.len();
        for (number, (command, events)) in requests.into_iter().enumerate() {
            let mut spot = self.last().clone();
            for record in events {
                evolve(&mut spot.state, &record.event);
                (spot.version, spot.last_event_at) = (record.sequence, record.timestamp);
            }
            spot.requests += 1;
            let is_end = number + 1 == len;
            (spot.begin, spot.end) = (at, if is_end || change.at.is_none() { Time::MAX } else { at });
            (spot.chain, spot.sequence) = (is_end.then_some(digest), sequence);
            // Nobody sent an id that the service made.
            let is_sent = !command.generated && by_key.contains_key(&command.command_id);
            let sent_id =
                if is_sent { Some(&command.command_id) } else { events.first().map(|one| &one.correlation_id) };
            self.carried.push(Carried {
                key: sent_id.cloned().unwrap_or_default(),
                command_id: command.command_id.clone(),
                digest: command.digest,
                generated: command.generated,
                events: events.to_vec(),
                sequence,
                before: self.spots.len() - 1,
                lost: None,
                at: change.at,
                wall: change.wall.or(events.last().map(|record| record.timestamp)).unwrap_or(spot.last_event_at),
            });
            self.spots.push(spot);
        }
        self.commits.push(CommitSeen { sequence, decoded, before });
    }

    fn lose_after(&mut self, sequence: u64, at: Time, known_at: Time) {
        if self.last().sequence <= sequence {
            return;
        }
        self.is_harmed = true;
        self.end_last(known_at);
        let new = self.spots.len();
        let lost = self.carried.iter_mut().filter(|carried| carried.sequence > sequence && carried.lost.is_none());
        lost.for_each(|carried| carried.lost = Some((new, known_at)));
        let left = self.carried.iter().rfind(|carried| carried.lost.is_none()).map_or(0, |carried| carried.before + 1);
        let spot = Spot { begin: at, end: Time::MAX, ..self.spots[left].clone() };
        self.spots.push(spot);
    }

    fn end_last(&mut self, at: Time) {
        if let Some(last) = self.spots.last_mut() {
            last.end = at;
        }
    }

    /// Where nobody saw when a commit was stored: not before the request was sent, nor before those that come earlier
    /// in the log; not after somebody was told of it, or of one that comes later.
    fn bound_by_what_was_seen(&mut self, past: &Past) {
        let mut begin = 0;
        for carried in &self.carried {
            begin = begin.max(past.first_sent(&carried.key).unwrap_or(0));
            self.spots[carried.before + 1].begin = begin;
        }
        let mut end = Time::MAX;
        for carried in self.carried.iter().rev() {
            end = end.min(past.first_told(&carried.key).unwrap_or(Time::MAX));
            self.spots[carried.before].end = end;
        }
    }
}
