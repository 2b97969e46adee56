//! The log of commits on a JetStream stream: one literal subject a person, optimistic concurrency by its last sequence.
//!
//! The server checks the expected sequence and stores in one step, so two writers cannot both win. No filter header and
//! no message id go along: neither is needed for that, and both cost the server more than the check itself.

use std::collections::HashSet;
use std::time::Duration;

use super::api::{Ack, read_ack};
use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::leader::{ask_leader, last_of_subject};
use super::message::Incoming;
use super::pages::Reading;
use super::steps::read_backwards;
use super::store::{NotSent, Store};
use crate::domain::PersonId;
use crate::engine::ports::{Append, Appended, EventLog, Page, Read, StoredCommit, Unavailable};

/// Questions under way at once whose answers may be large.
pub(super) const QUESTIONS_MAX: usize = 128;

/// Persons remembered as better not read directly. When they are that many, all are forgotten.
const SHUNNED_MAX: usize = 1024;

/// The log, for one worker.
#[derive(Debug)]
pub struct NatsLog {
    inbox: Inbox,
    layout: Layout,
    wait_max: Duration,
    /// Persons during whose direct reading the connection was lost. A stored message with malformed headers does that
    /// every time; the leader's answers wrap the headers up and do not.
    shunned: HashSet<PersonId>,
}

impl NatsLog {
    /// The log over this connection; no round of answers is waited for longer than `wait_max`.
    pub fn new(store: &Store, layout: &Layout, wait_max: Duration) -> Result<Self, NotSent> {
        Ok(Self { inbox: store.inbox()?, layout: layout.clone(), wait_max, shunned: HashSet::new() })
    }

    /// What is known to be close to the end is read backwards, the rest by subject.
    fn read_chunk(&mut self, reads: &[Read]) -> Vec<Result<Page, Unavailable>> {
        let generation = self.inbox.generation();
        let hinted: Vec<Read> = reads.iter().map(|read| self.unless_shunned(read)).collect();
        let pages = read_backwards(&mut self.inbox, &self.layout, &hinted, self.wait_max);
        let unread =
            |(read, page): (&Read, &Option<Page>)| (read.newest.is_some() && page.is_none()).then_some(read.person);
        if self.inbox.generation() != generation {
            shun(&mut self.shunned, hinted.iter().zip(&pages).filter_map(unread));
        }
        let rest: Vec<Read> =
            reads.iter().zip(&pages).filter(|(_, page)| page.is_none()).map(|(read, _)| *read).collect();
        let mut by_subject = self.read_by_subject(&rest).into_iter();
        let not_read = || Err(Unavailable("the store was not asked".to_owned()));
        pages.into_iter().map(|page| page.map_or_else(|| by_subject.next().unwrap_or_else(not_read), Ok)).collect()
    }

    fn read_by_subject(&mut self, reads: &[Read]) -> Vec<Result<Page, Unavailable>> {
        if reads.is_empty() {
            return Vec::new();
        }
        let generation = self.inbox.generation();
        let mut reading = Reading::new(&self.layout, reads, &self.shunned);
        reading.ask_any_copy(&mut self.inbox, self.wait_max);
        if self.inbox.generation() != generation {
            shun(&mut self.shunned, reading.unanswered());
        }
        reading.ask_leader(&mut self.inbox, self.wait_max);
        reading.into_pages()
    }

    /// The read without its hint, for a person who is better not read directly.
    fn unless_shunned(&self, read: &Read) -> Read {
        Read { newest: read.newest.filter(|_| !self.shunned.contains(&read.person)), ..*read }
    }
}

/// Remembers whom to read from the leader alone: those during whose direct reading the connection was lost.
fn shun(shunned: &mut HashSet<PersonId>, unread: impl Iterator<Item = PersonId>) {
    if shunned.len() >= SHUNNED_MAX {
        shunned.clear();
    }
    shunned.extend(unread);
}

impl EventLog for NatsLog {
    fn payload_bytes_max(&self) -> usize {
        self.inbox.store().payload_bytes_max()
    }

    fn read(&mut self, reads: &[Read]) -> Vec<Result<Page, Unavailable>> {
        reads.chunks(QUESTIONS_MAX).flat_map(|chunk| self.read_chunk(chunk)).collect()
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<StoredCommit>, Unavailable>> {
        let tip = |person: &PersonId| last_of_subject(&self.layout.event_subject(*person));
        let subject = self.layout.api(&format!("STREAM.MSG.GET.{}", self.layout.stream()));
        let mut results = Vec::with_capacity(persons.len());
        for chunk in persons.chunks(QUESTIONS_MAX) {
            let questions: Vec<_> = chunk.iter().map(tip).collect();
            let shown = ask_leader(&mut self.inbox, &subject, &questions, self.wait_max);
            results.extend(shown.into_iter().map(|shown| Ok(shown?.map(StoredCommit::from))));
        }
        results
    }

    fn append(&mut self, appends: &[Append]) -> Vec<Appended> {
        let layout = &self.layout;
        let mut foreign = None;
        let send = |store: &Store, index: usize, reply: &str| match appends.get(index) {
            Some(append) => publish(store, layout, append, reply),
            None => Err(NotSent::Malformed("index")),
        };
        let take = |_, answer: Incoming| settle(&answer, layout, &mut foreign);
        let answers = self.inbox.exchange(appends.len(), self.wait_max, send, take);
        if let Some(other) = foreign {
            log::error!("stream {other} also takes {}: subjects of one stream alone are safe", layout.event_subjects());
        }
        answers.into_iter().map(outcome).collect()
    }
}

fn publish(store: &Store, layout: &Layout, append: &Append, reply: &str) -> Result<(), NotSent> {
    let subject = layout.event_subject(append.person);
    let (expected, version) = (append.expected.to_string(), append.headers.person_version.to_string());
    let mut headers = vec![
        ("Nats-Expected-Last-Subject-Sequence", expected.as_str()),
        ("Event-Type", append.headers.event_types.as_str()),
        ("Person-Version", version.as_str()),
        ("Content-Type", "application/json"),
    ];
    if append.expected == 0 {
        headers.push(("Nats-Expected-Stream", layout.stream()));
    }
    if let Some(traceparent) = &append.headers.traceparent {
        headers.push(("traceparent", traceparent));
    }
    store.publish(&subject, Some(reply), &headers, &append.payload)
}

/// The outcome, once a message decides it. Another stream's word leaves it open, and so does what makes no sense: our
/// own stream's may be on its way.
fn settle(answer: &Incoming, layout: &Layout, foreign: &mut Option<String>) -> Option<Appended> {
    if answer.is_no_responders() {
        return Some(Appended::Unavailable(Unavailable("no stream takes the commits at the moment".to_owned())));
    }
    match read_ack(answer.payload(), layout.stream(), |domain| layout.is_ours(domain)) {
        Ack::Ours(appended) => Some(appended),
        Ack::Garbled => None,
        Ack::Foreign(other) => {
            *foreign = Some(other);
            None
        }
    }
}

fn outcome(answer: Exchanged<Appended>) -> Appended {
    match answer {
        Exchanged::Answered(appended) => appended,
        Exchanged::NotSent(why @ (NotSent::TooLarge { .. } | NotSent::Malformed(_))) => {
            Appended::Refused(Unavailable(why.to_string()))
        }
        Exchanged::NotSent(why @ (NotSent::Away | NotSent::Mute(_))) => {
            Appended::Unavailable(Unavailable(why.to_string()))
        }
        Exchanged::Silent => Appended::Unknown,
    }
}
