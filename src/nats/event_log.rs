//! The log of commits on a JetStream stream: one literal subject a person, optimistic concurrency by its last sequence.
//!
//! The server checks the expected sequence and stores in one step, so two writers cannot both win. No filter header and
//! no message id go along: neither is needed for that, and both cost the server more than the check itself.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use uuid::Uuid;

use super::api::{Ack, Shown, batch_len, read_ack};
use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::leader::{ask_leader, last_of_subject};
use super::message::Incoming;
use super::pages::Reading;
use super::place;
use super::shunned::Shunned;
use super::steps::{NotFound, read_backwards};
use super::store::{NotSent, Store};
use crate::domain::{EventKind, PersonId};
use crate::engine::ports::{
    Append, Appended, AppendedTogether, Consistency, EventLog, Page, Read, Sequence, Tip, Unavailable, unfit_together,
};
use crate::log_limit::RateLimited;
use crate::wire::digest::Digest;

/// Persons whose histories are read together.
const READ_TOGETHER_MAX: usize = 128;

/// Fewer commits are appended each by itself: a batch costs the server about as many syncs as so many messages.
pub const BATCH_LEN_MIN: usize = 6;

/// As many headers as a commit has outside of a batch, and one more.
const USUAL_HEADERS: usize = 8;

/// Another stream answers each append.
static FOREIGN: RateLimited = RateLimited::new(Duration::from_secs(10));

/// The header that bears a commit's trail.
pub(super) const TRAIL: &str = "Earlier-Commits";

/// The log, for one worker.
#[derive(Debug)]
pub struct NatsLog {
    inbox: Inbox,
    layout: Layout,
    wait_max: Duration,
    /// Commits that are appended in one atomic batch, at most; 0: each by itself.
    batch_len_max: usize,
    /// Persons during whose direct reading the connection was lost.
    shunned: Shunned,
}

impl NatsLog {
    /// The log over this connection; no round of answers is waited for longer than `wait_max`.
    pub fn new(store: &Store, layout: &Layout, wait_max: Duration) -> Result<Self, NotSent> {
        let (inbox, layout) = (store.inbox()?, layout.clone());
        Ok(Self { inbox, layout, wait_max, batch_len_max: 0, shunned: Shunned::default() })
    }

    /// The same log, which appends so many commits together where there are that many.
    pub fn in_batches(self, batch_len_max: usize) -> Self {
        Self { batch_len_max, ..self }
    }

    /// What is not too much is read backwards, the rest by subject.
    fn read_chunk(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        let generation = self.inbox.generation();
        self.shunned.forgive(Instant::now());
        let direct: Vec<Read> = reads.iter().map(|read| self.unless_shunned(read)).collect();
        let found = read_backwards(&mut self.inbox, &self.layout, &direct, self.wait_max, bytes_max);
        let same_connection = self.inbox.generation() == generation;
        if !same_connection {
            let unanswered = direct.iter().zip(&found).filter(|(_, found)| matches!(found, Err(NotFound::Silent)));
            self.shunned.add(unanswered.map(|(read, _)| read.person), Instant::now());
        }
        let mut pages: Vec<Option<Result<Page, Unavailable>>> = found
            .into_iter()
            .map(|found| match found {
                Ok(page) => Some(Ok(page)),
                // A store that is too slow for one question is not to be asked a second, larger one.
                Err(NotFound::Silent) if same_connection => {
                    Some(Err(Unavailable("the store gave no answer in time".to_owned())))
                }
                Err(NotFound::NoRoom) => Some(Ok(Page::without_room())),
                Err(NotFound::Silent | NotFound::GivenUp) => None,
            })
            .collect();
        // Somebody has to get on: who has no room this way reads by subject.
        if pages.iter().all(|page| matches!(page, Some(Ok(page)) if page.has_no_room()))
            && let Some(first) = pages.first_mut()
        {
            *first = None;
        }
        let bytes: usize = pages.iter().flatten().flatten().map(Page::bytes).sum();
        let rest: Vec<Read> =
            reads.iter().zip(&pages).filter(|(_, page)| page.is_none()).map(|(read, _)| *read).collect();
        let mut by_subject = self.read_by_subject(&rest, bytes_max.saturating_sub(bytes)).into_iter();
        let not_read = || Err(Unavailable("the store was not asked".to_owned()));
        pages.into_iter().map(|page| page.unwrap_or_else(|| by_subject.next().unwrap_or_else(not_read))).collect()
    }

    fn read_by_subject(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        if reads.is_empty() {
            return Vec::new();
        }
        let generation = self.inbox.generation();
        let mut reading = Reading::new(&self.layout, reads, &self.shunned, bytes_max);
        reading.ask_any_copy(&mut self.inbox, self.wait_max);
        if self.inbox.generation() != generation {
            self.shunned.add(reading.unanswered(), Instant::now());
        }
        reading.ask_leader(&mut self.inbox, self.wait_max);
        reading.into_pages()
    }

    /// The read, by the leader's word alone for a person who is better not read directly.
    fn unless_shunned(&self, read: &Read) -> Read {
        let shunned = self.shunned.contains(read.person);
        Read { consistency: if shunned { Consistency::Leader } else { read.consistency }, ..*read }
    }
}

impl EventLog for NatsLog {
    fn payload_bytes_max(&self) -> usize {
        self.inbox.store().payload_bytes_max()
    }

    fn read(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        let (mut pages, mut bytes) = (Vec::with_capacity(reads.len()), 0_usize);
        for chunk in reads.chunks(READ_TOGETHER_MAX) {
            let some = match bytes >= bytes_max && bytes > 0 {
                true => chunk.iter().map(|_| Ok(Page::without_room())).collect(),
                false => self.read_chunk(chunk, bytes_max.saturating_sub(bytes)),
            };
            bytes += some.iter().flatten().map(Page::bytes).sum::<usize>();
            pages.extend(some);
        }
        Page::cut(&mut pages, bytes_max);
        pages
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<Tip>, Unavailable>> {
        let question = |person: &PersonId| last_of_subject(&self.layout.event_subject(*person));
        let questions: Vec<_> = persons.iter().map(question).collect();
        let subject = self.layout.leader_get(self.layout.stream());
        let tip = |shown: Shown| Tip { sequence: shown.sequence, digest: Digest::of(&shown.payload) };
        ask_leader(&mut self.inbox, &subject, &questions, self.wait_max, tip)
    }

    fn append(&mut self, appends: &[Append]) -> Vec<Appended> {
        let began = Instant::now();
        let together = self.append_in_batches(appends);
        let singly: Vec<&Append> =
            appends.iter().zip(&together).filter(|(_, outcome)| outcome.is_none()).map(|(append, _)| append).collect();
        let mut singly = self.append_singly(&singly).into_iter();
        let outcomes = together
            .into_iter()
            .map(|outcome| outcome.or_else(|| singly.next()).unwrap_or(Appended::Unknown))
            .collect();
        self.in_place(began, appends, outcomes)
    }

    fn append_together(&mut self, appends: &[Append]) -> AppendedTogether {
        if let Some(why) = unfit_together(appends, self.payload_bytes_max()) {
            return AppendedTogether::Refused(why);
        }
        if appends.is_empty() {
            return AppendedTogether::Stored(Vec::new());
        }
        let began = Instant::now();
        let answer = self.exchange_batches(&[appends]).pop().unwrap_or(Exchanged::Silent);
        match batch_outcome(answer, appends.len()) {
            Batch::Stored(sequences) => self.together_in_place(began, appends, sequences),
            Batch::Not(Appended::Conflict(_)) => AppendedTogether::Conflict,
            Batch::Not(Appended::Unavailable(why)) => AppendedTogether::Unavailable(why),
            Batch::Not(Appended::Refused(why)) => AppendedTogether::Refused(why),
            Batch::Not(Appended::Stored(_) | Appended::Unknown) => AppendedTogether::Unknown,
        }
    }
}

impl NatsLog {
    /// The outcomes, once it is seen that what was stored lies where it was sent. Together with the append that takes no
    /// longer than one round of answers may take, and a quarter.
    fn in_place(&mut self, began: Instant, appends: &[Append], outcomes: Vec<Appended>) -> Vec<Appended> {
        let deadline = (began + self.wait_max).max(Instant::now() + self.wait_max / 4);
        place::checked(&mut self.inbox, &self.layout, deadline, appends, outcomes)
    }

    /// All that was stored together lies where it was sent, or nothing counts.
    fn together_in_place(&mut self, began: Instant, appends: &[Append], sequences: Vec<Sequence>) -> AppendedTogether {
        let outcomes = sequences.iter().map(|sequence| Appended::Stored(*sequence)).collect();
        let outcomes = self.in_place(began, appends, outcomes);
        if outcomes.iter().all(|outcome| matches!(outcome, Appended::Stored(_))) {
            return AppendedTogether::Stored(sequences);
        }
        match outcomes.iter().all(|outcome| matches!(outcome, Appended::Refused(_))) {
            true => AppendedTogether::Refused(place::moved()),
            false => AppendedTogether::Unknown,
        }
    }

    /// The outcome of each commit that went in a batch; `None` for those that are to be appended singly. Also for those of
    /// a batch that was refused: what one of them is refused for is nothing to the others.
    fn append_in_batches(&mut self, commits: &[Append]) -> Vec<Option<Appended>> {
        if self.batch_len_max == 0 {
            return vec![None; commits.len()];
        }
        // The last one may be short, and is among those that are appended singly then.
        let batches: Vec<&[Append]> =
            commits.chunks(self.batch_len_max).filter(|batch| batch.len() >= BATCH_LEN_MIN).collect();
        let answers = self.exchange_batches(&batches);
        let of_each = batches
            .iter()
            .zip(answers)
            .flat_map(|(batch, answer)| batch_outcome(answer, batch.len()).of_each(batch.len()));
        let mut outcomes: Vec<Option<Appended>> = of_each.collect();
        outcomes.resize(commits.len(), None);
        outcomes
    }

    /// Sends each of these as one atomic batch. The answer is that to its last message, with the number of messages that
    /// the server counted.
    fn exchange_batches(&mut self, batches: &[&[Append]]) -> Vec<Exchanged<(Appended, usize)>> {
        let layout = &self.layout;
        let mut foreign = Foreign::default();
        let send = |store: &Store, batch: &&[Append], reply: &str| publish_batch(store, layout, batch, reply);
        let take = |_, answer: Incoming| {
            let appended = settle(&answer, layout, &mut foreign)?;
            Some((appended, batch_len(answer.payload())))
        };
        let answers = self.inbox.exchange(batches, self.wait_max, send, take);
        foreign.complain(layout);
        answers
    }

    /// The outcomes of these commits, each appended by itself.
    fn append_singly(&mut self, commits: &[&Append]) -> Vec<Appended> {
        let layout = &self.layout;
        let mut foreign = Foreign::default();
        let send = |store: &Store, append: &&Append, reply: &str| publish(store, layout, append, Some(reply), &[]);
        let take = |_, answer: Incoming| settle(&answer, layout, &mut foreign);
        let answers = self.inbox.exchange(commits, self.wait_max, send, take);
        foreign.complain(layout);
        answers.into_iter().map(outcome).collect()
    }
}

/// Another stream that answered.
#[derive(Default)]
struct Foreign(Option<String>);

impl Foreign {
    fn complain(self, layout: &Layout) {
        if let Some(other) = self.0
            && let Some(held_back) = FOREIGN.pass(Instant::now())
        {
            let subjects = layout.event_subjects();
            log::error!("stream {other} also takes {subjects}: subjects of one stream alone are safe{held_back}");
        }
    }
}

/// Publishes a batch: the server stages it and stores all of it, or nothing, once the last message is there. Only that
/// one is answered; where it cannot be sent, what was sent before it is dropped after a while.
fn publish_batch(store: &Store, layout: &Layout, batch: &[Append], reply: &str) -> Result<(), NotSent> {
    let id = Uuid::new_v4().simple().to_string();
    for (number, append) in (1..).zip(batch) {
        let number_text = number.to_string();
        let place = [("Nats-Batch-Id", id.as_str()), ("Nats-Batch-Sequence", &number_text), ("Nats-Batch-Commit", "1")];
        match number == batch.len() {
            false => publish(store, layout, append, None, &place[..2])?,
            true => publish(store, layout, append, Some(reply), &place)?,
        }
    }
    Ok(())
}

/// What became of one atomic batch.
enum Batch {
    /// All is stored, at these positions.
    Stored(Vec<Sequence>),
    /// This, as of a single append; never [`Appended::Stored`].
    Not(Appended),
}

impl Batch {
    /// The outcome of each of so many commits, in order; `None` where each is to be appended by itself.
    fn of_each(self, len: usize) -> Vec<Option<Appended>> {
        match self {
            Self::Stored(sequences) => sequences.into_iter().map(|sequence| Some(Appended::Stored(sequence))).collect(),
            Self::Not(Appended::Stored(_) | Appended::Unknown) => vec![Some(Appended::Unknown); len],
            Self::Not(Appended::Conflict(_) | Appended::Refused(_) | Appended::Unavailable(_)) => vec![None; len],
        }
    }
}

/// The outcome of a batch of so many commits.
fn batch_outcome(answer: Exchanged<(Appended, usize)>, len: usize) -> Batch {
    match answer {
        // They lie one after the other, the last one where the answer says.
        Exchanged::Answered((Appended::Stored(last), stored)) if stored == len => {
            Batch::Stored((0..len as u64).rev().map(|later| last.saturating_sub(later)).collect())
        }
        // A server that took the last message for a single one has stored that alone, or something else.
        Exchanged::Answered((Appended::Stored(_), _)) => Batch::Not(Appended::Unknown),
        Exchanged::Answered((not_stored, _)) => Batch::Not(not_stored),
        Exchanged::NotSent(why) => Batch::Not(outcome(Exchanged::NotSent(why))),
        Exchanged::Silent => Batch::Not(Appended::Unknown),
    }
}

fn publish(
    store: &Store,
    layout: &Layout,
    append: &Append,
    reply: Option<&str>,
    place_in_batch: &[(&str, &str)],
) -> Result<(), NotSent> {
    let subject = layout.event_subject(append.person);
    let (mut expected, mut version) = (itoa::Buffer::new(), itoa::Buffer::new());
    let event_types = event_types(&append.headers.event_types);
    let mut headers: SmallVec<[(&str, &str); USUAL_HEADERS]> = SmallVec::new();
    headers.extend([
        ("Nats-Expected-Last-Subject-Sequence", expected.format(append.expected)),
        ("Event-Type", &event_types),
        ("Person-Version", version.format(append.headers.person_version)),
        ("Content-Type", "application/json"),
    ]);
    if let Some(trail) = &append.headers.trail {
        headers.push((TRAIL, trail));
    }
    if append.expected == 0 {
        headers.push(("Nats-Expected-Stream", layout.stream()));
    }
    if let Some(traceparent) = &append.headers.traceparent {
        headers.push(("traceparent", traceparent));
    }
    headers.extend_from_slice(place_in_batch);
    store.publish(&subject, reply, &headers, &append.payload)
}

/// The types, joined by commas; nearly always it is a single one.
fn event_types(kinds: &[EventKind]) -> Cow<'static, str> {
    match kinds {
        [only] => Cow::Borrowed(only.as_str()),
        _ => Cow::Owned(kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(",")),
    }
}

/// The outcome, once a message decides it. Another stream's word leaves it open, and so does what makes no sense: our
/// own stream's may be on its way.
fn settle(answer: &Incoming, layout: &Layout, foreign: &mut Foreign) -> Option<Appended> {
    if answer.is_no_responders() {
        return Some(Appended::Unavailable(Unavailable("no stream takes the commits at the moment".to_owned())));
    }
    match read_ack(answer.payload(), layout.stream(), |domain| layout.is_ours(domain)) {
        Ack::Ours(appended) => Some(appended),
        Ack::Garbled => None,
        Ack::Foreign(other) => {
            foreign.0 = Some(other);
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
        Exchanged::NotSent(why @ (NotSent::Away | NotSent::Mute(_) | NotSent::NoRoom)) => {
            Appended::Unavailable(Unavailable(why.to_string()))
        }
        Exchanged::Silent => Appended::Unknown,
    }
}
