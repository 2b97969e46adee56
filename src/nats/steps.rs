//! Reading the newest commits of persons backwards, by their sequences.
//!
//! Every commit bears, in its header of optimistic concurrency, the sequence of the person's commit before it, and in its
//! [trail](Trail) those of others before that. A read by sequence costs the server a look-up, and many are asked
//! for at once; a read by subject has it search between messages that may lie far apart. What is read here is a hint
//! until the engine has checked its chain; where anything does not fit, the read by subject decides.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::event_log::TRAIL;
use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::leader::last_of_subject;
use super::message::Incoming;
use super::store::{NotSent, Store};
use crate::engine::ports::{Consistency, Page, Read, Sequence, StoredCommit};
use crate::engine::trail::Trail;
use crate::wire::request::Header;

/// Rounds of questions; whoever has not arrived by then reads forwards.
const ROUNDS_MAX: usize = 16;

/// Commits of one person that are gone through backwards; whoever has more to read reads forwards.
const COMMITS_MAX: usize = 2048;

/// Bytes of one person that are read backwards; whoever goes beyond reads forwards.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// Why nothing was found: it has to be read by subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotFound {
    /// It is better read so, or was not asked for.
    GivenUp,
    /// It was asked for, and no answer came.
    Silent,
    /// It may be read so, once there is room for it.
    NoRoom,
}

/// For each read the page from its start to the newest commit, or to the one that it names, as far as all of them together
/// have room in so many bytes. How many bytes a history has is told by how many commits it has, and by the newest one.
pub(super) fn read_backwards(
    inbox: &mut Inbox,
    layout: &Layout,
    reads: &[Read],
    wait: Duration,
    bytes_max: usize,
) -> Vec<Result<Page, NotFound>> {
    let subject = layout.direct_get(layout.stream());
    let mut walks: Vec<Walk> = reads.iter().map(|read| Walk::new(read, layout)).collect();
    for _ in 0..ROUNDS_MAX {
        let mut asked: Vec<(usize, Question)> = walks
            .iter_mut()
            .enumerate()
            .flat_map(|(walk, of)| of.questions().map(move |asked| (walk, asked)))
            .collect();
        if asked.is_empty() {
            break;
        }
        // The server keeps a block of the stream in memory for a while: it is to read each once, not once a person.
        asked.sort_by_key(|(_, question)| question.sequence);
        let send = |store: &Store, (_, question): &(usize, Question), reply: &str| {
            store.publish(&subject, Some(reply), &[], question.json.as_bytes())
        };
        let bytes = Cell::new(walks.iter().map(|walk| walk.bytes).sum::<usize>());
        // Whoever was admitted alone arrives, however little room there is.
        let enough = || bytes.get() > bytes_max.max(BYTES_MAX);
        let take = |_, answer: Incoming| {
            bytes.set(bytes.get() + answer.payload().len());
            Some(answer)
        };
        let answers = inbox.exchange_in_waves(&asked, 1, wait, enough, send, take);
        for ((walk, question), answer) in asked.iter().zip(answers) {
            if let Some(walk) = walks.get_mut(*walk) {
                walk.take(question, answer);
            }
        }
        admit(&mut walks, bytes_max);
    }
    walks.into_iter().map(Walk::into_page).collect()
}

/// Of those that go on, only so many do as there is room for; the first one has room if it is not too long for this.
fn admit(walks: &mut [Walk], bytes_max: usize) {
    let arrived: usize = walks.iter().filter(|walk| walk.wanted.is_empty()).map(|walk| walk.bytes).sum();
    let (mut bytes, mut is_first) = (arrived, arrived == 0);
    for walk in walks.iter_mut().filter(|walk| walk.end.is_none() && !walk.wanted.is_empty()) {
        let expected = walk.bytes_expected();
        if expected > BYTES_MAX {
            walk.give_up(NotFound::GivenUp);
        } else if bytes.saturating_add(expected) > bytes_max && !is_first {
            walk.give_up(NotFound::NoRoom);
        } else {
            (bytes, is_first) = (bytes.saturating_add(expected), false);
        }
    }
}

struct Question {
    /// `None` when it asks for the newest.
    sequence: Option<Sequence>,
    json: String,
}

/// One person's way back.
struct Walk {
    subject: String,
    from: Sequence,
    /// Whether the newest commit has to be found first.
    asks_newest: bool,
    /// To be asked for.
    wanted: BTreeSet<Sequence>,
    /// All that was asked for.
    asked: BTreeSet<Sequence>,
    /// By sequence: the sequence of the one before, and the commit.
    commits: BTreeMap<Sequence, (Sequence, StoredCommit)>,
    /// The commit that was found first, with its trail if it has one.
    newest: Option<(Sequence, Option<Trail>)>,
    /// How many commits and bytes are gone through at most.
    commits_max: usize,
    bytes: usize,
    end: Option<End>,
}

/// How a walk ended before it arrived.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The person has no commit.
    Nothing,
    /// It has to be read by subject.
    NotFound(NotFound),
}

impl Walk {
    fn new(read: &Read, layout: &Layout) -> Self {
        let (from, end) = match (read.start, read.consistency) {
            (from, Consistency::Any) if read.newest.is_none_or(|newest| newest >= from) => (from, None),
            _ => (0, Some(End::NotFound(NotFound::GivenUp))),
        };
        Self {
            subject: layout.event_subject(read.person),
            from,
            asks_newest: read.newest.is_none(),
            wanted: read.newest.into_iter().collect(),
            asked: BTreeSet::new(),
            commits: BTreeMap::new(),
            newest: None,
            commits_max: read.commits_max.min(COMMITS_MAX),
            bytes: 0,
            end,
        }
    }

    /// What to ask next.
    fn questions(&mut self) -> impl Iterator<Item = Question> + use<> {
        let wanted = if self.end.is_some() { BTreeSet::new() } else { std::mem::take(&mut self.wanted) };
        let newest = (self.end.is_none() && std::mem::take(&mut self.asks_newest))
            .then(|| Question { sequence: None, json: last_of_subject(&self.subject).to_string() });
        self.asked.extend(&wanted);
        let by_sequence =
            |sequence| Question { sequence: Some(sequence), json: json!({ "seq": sequence }).to_string() };
        newest.into_iter().chain(wanted.into_iter().map(by_sequence))
    }

    /// It is not read so, or not now: nothing of it is kept.
    fn give_up(&mut self, why: NotFound) {
        self.end = Some(End::NotFound(why));
        (self.bytes, self.commits, self.wanted) = (0, BTreeMap::new(), BTreeSet::new());
    }

    /// How many bytes all of it has, when all commits are as large as those that were read.
    fn bytes_expected(&self) -> usize {
        let read = self.commits.len().max(1);
        let of_trail = self.newest.as_ref().and_then(|(_, trail)| Some(trail.as_ref()?.count()));
        let all = match of_trail {
            Some(count) if self.from <= 1 => usize::try_from(count.saturating_add(1)).unwrap_or(usize::MAX),
            _ => read + self.wanted.len(),
        };
        (self.bytes / read).saturating_mul(all.max(read))
    }

    fn take(&mut self, question: &Question, answer: Exchanged<Incoming>) {
        if self.end.is_some() {
            return;
        }
        let answer = match answer {
            Exchanged::Answered(answer) => answer,
            Exchanged::Silent => return self.give_up(NotFound::Silent),
            Exchanged::NotSent(NotSent::NoRoom) => return self.give_up(NotFound::NoRoom),
            Exchanged::NotSent(_) => return self.give_up(NotFound::GivenUp),
        };
        if question.sequence.is_none() && answer.status() == Some(404) {
            self.end = Some(End::Nothing);
            return;
        }
        // What a trail names wrongly is passed over: whether anything is missing shows in the end.
        let Some((sequence, before, trail)) = self.read_headers(&answer) else { return };
        if question.sequence.is_some_and(|asked| asked != sequence) {
            return;
        }
        let too_many = self.commits.len() >= self.commits_max || self.bytes > BYTES_MAX;
        if too_many || (self.newest.is_none() && self.looks_long(&answer, trail.as_ref())) {
            return self.give_up(NotFound::GivenUp);
        }
        let named = trail.iter().flat_map(|trail| trail.named().iter().copied()).chain([before]);
        let unasked =
            named.filter(|named| *named >= self.from.max(1) && *named < sequence && !self.asked.contains(named));
        self.wanted.extend(unasked);
        if self.newest.is_none() {
            self.newest = Some((sequence, trail));
        }
        if sequence >= self.from {
            let payload = answer.into_payload();
            self.bytes += payload.len();
            self.commits.insert(sequence, (before, StoredCommit { sequence, payload: payload.into() }));
        }
    }

    /// Whether a whole history that ends with this commit is better read page by page.
    fn looks_long(&self, newest: &Incoming, trail: Option<&Trail>) -> bool {
        let Header::One(version) = newest.header("Person-Version") else { return true };
        // A commit has an event at least. Without trails each round leads one commit back.
        let (steps, steps_max) = match trail {
            Some(trail) => (trail.count(), u64::try_from(self.commits_max).unwrap_or(u64::MAX)),
            None => (version.parse().unwrap_or(u64::MAX), ROUNDS_MAX as u64),
        };
        self.from <= 1 && steps > steps_max
    }

    /// Sequence, sequence of the one before, trail.
    fn read_headers(&self, answer: &Incoming) -> Option<(Sequence, Sequence, Option<Trail>)> {
        if answer.header("Nats-Subject") != Header::One(&self.subject) {
            return None;
        }
        let number = |name| match answer.header(name) {
            Header::One(value) => value.parse::<Sequence>().ok(),
            Header::Absent | Header::Several => None,
        };
        let (sequence, before) = (number("Nats-Sequence")?, number("Nats-Expected-Last-Subject-Sequence")?);
        if before >= sequence {
            return None;
        }
        let trail = match answer.header(TRAIL) {
            Header::One(value) => Trail::read(value, before),
            Header::Absent if before == 0 => Some(Trail::of_first()),
            Header::Absent | Header::Several => None,
        };
        Some((sequence, before, trail))
    }

    /// The page, if its commits are linked from the newest back to the start without gap.
    fn into_page(self) -> Result<Page, NotFound> {
        match self.end {
            Some(End::Nothing) => return Ok(Page::default()),
            Some(End::NotFound(why)) => return Err(why),
            None => {}
        }
        let (sequence, trail) = self.newest.ok_or(NotFound::GivenUp)?;
        let newest = trail.map(|trail| (sequence, trail));
        let Some((oldest, _)) = self.commits.values().next() else {
            // The newest one comes before the start.
            return Ok(Page { newest, ..Page::default() });
        };
        let befores = self.commits.values().skip(1).map(|(before, _)| before);
        let is_linked =
            *oldest < self.from.max(1) && self.commits.keys().zip(befores).all(|(one, before)| one == before);
        let commits = self.commits.into_values().map(|(_, commit)| commit).collect();
        is_linked.then_some(Page { commits, more: false, newest }).ok_or(NotFound::GivenUp)
    }
}
