//! Reading commits: pages from whichever copy of the stream answers, or message by message from its leader.
//!
//! A direct read sends up to a page of messages of one subject and then an end marker. Its answers are trusted only as
//! far as they prove themselves: each names its sequence and the one before it. Where they do not, or where a stored
//! message's own headers get in the way, the leader is asked instead, message by message.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::leader::{answered, ask_leader, next_of_subject};
use super::message::Incoming;
use super::shunned::Shunned;
use super::store::{NotSent, Store};
use crate::domain::PersonId;
use crate::engine::ports::{Consistency, Page, Read, Sequence, StoredCommit, Unavailable};
use crate::wire::commit::COMMIT_BYTES_MAX;
use crate::wire::request::Header;

/// Commits in a page.
const PAGE_COMMITS_MAX: usize = 256;

/// Bytes in a page; the commit that goes beyond is still in it.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Persons of whom the leader is asked at once, however little room is left.
const LEADER_TOGETHER_MIN: usize = 16;

/// Some reads on their way to becoming pages.
pub(super) struct Reading<'a> {
    layout: &'a Layout,
    drafts: Vec<Draft>,
    /// Bytes in all pages; what is asked for at once may go beyond.
    bytes_max: usize,
    page_bytes_max: usize,
}

impl<'a> Reading<'a> {
    /// Those of the persons to be shunned are read from the leader alone.
    pub(super) fn new(layout: &'a Layout, reads: &[Read], shunned: &Shunned, bytes_max: usize) -> Self {
        let stage = |read: &Read| match read.consistency {
            Consistency::Any if !shunned.contains(read.person) => Stage::AnyCopy,
            Consistency::Any | Consistency::Leader => Stage::Leader,
        };
        let draft = |read: &Read| Draft {
            read: *read,
            page: Page::default(),
            bytes: 0,
            is_unanswered: false,
            stage: stage(read),
        };
        let page_bytes_max = bytes_max.clamp(1, PAGE_BYTES_MAX);
        Self { layout, drafts: reads.iter().map(draft).collect(), bytes_max, page_bytes_max }
    }

    /// One round: a page each, from any copy, as far as there is room.
    pub(super) fn ask_any_copy(&mut self, inbox: &mut Inbox, wait: Duration) {
        let subject = self.layout.direct_get(self.layout.stream());
        let (bytes_max, page_bytes_max) = (self.bytes_max, self.page_bytes_max);
        let mut asked: Vec<&mut Draft> = self.drafts.iter_mut().filter(|draft| draft.stage == Stage::AnyCopy).collect();
        let question =
            |draft: &&mut Draft| draft.question(&self.layout.event_subject(draft.read.person), page_bytes_max);
        let questions: Vec<String> = asked.iter().map(question).collect();
        let send = |store: &Store, question: &String, reply: &str| {
            store.publish(&subject, Some(reply), &[], question.as_bytes())
        };
        let bytes = Cell::new(0);
        let take = |index: usize, answer: Incoming| {
            bytes.set(bytes.get() + answer.payload().len());
            asked.get_mut(index).and_then(|draft| draft.take(answer))
        };
        // The commit that goes beyond the page comes on top.
        let weight = 1 + page_bytes_max.div_ceil(COMMIT_BYTES_MAX);
        let enough = || bytes.get() > bytes_max;
        let ends = inbox.exchange_in_waves(&questions, weight, wait, enough, send, take);
        for (draft, end) in asked.into_iter().zip(ends) {
            draft.is_unanswered = matches!(end, Exchanged::Silent);
            draft.stage = match end {
                Exchanged::NotSent(NotSent::NoRoom) => draft.ends_here(),
                end => answered(end).unwrap_or_else(Stage::Failed),
            };
        }
    }

    /// Whose direct reading was asked for and got no complete answer.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = PersonId> + '_ {
        self.drafts.iter().filter(|draft| draft.is_unanswered).map(|draft| draft.read.person)
    }

    /// As many rounds as it takes: the next message each, from the leader, until it has no more, or there is no room or time
    /// for more: pages may end anywhere.
    pub(super) fn ask_leader(&mut self, inbox: &mut Inbox, wait: Duration) {
        let subject = self.layout.leader_get(self.layout.stream());
        let deadline = Instant::now() + wait;
        let mut is_first = true;
        loop {
            let bytes: usize = self.drafts.iter().map(|draft| draft.bytes).sum();
            let has_room = bytes < self.bytes_max || bytes == 0;
            let mut asked: Vec<&mut Draft> =
                self.drafts.iter_mut().filter(|draft| draft.stage == Stage::Leader).collect();
            if asked.is_empty() {
                return;
            }
            if !has_room || (!is_first && Instant::now() >= deadline) {
                asked.into_iter().for_each(|draft| draft.stage = draft.ends_here());
                return;
            }
            is_first = false;
            // As many as there is room for, were all of their commits as large as they may be.
            asked.truncate((self.bytes_max.saturating_sub(bytes) / COMMIT_BYTES_MAX).max(LEADER_TOGETHER_MIN));
            let questions: Vec<Value> =
                asked.iter().map(|draft| draft.next_question(&self.layout.event_subject(draft.read.person))).collect();
            let shown = ask_leader(inbox, &subject, &questions, wait, StoredCommit::from);
            for (draft, shown) in asked.iter_mut().zip(shown) {
                draft.stage = match shown {
                    Ok(Some(commit)) => draft.add_from_leader(commit),
                    Ok(None) => Stage::Done,
                    Err(why) => Stage::Failed(why),
                };
            }
        }
    }

    /// What came of them, in their order.
    pub(super) fn into_pages(self) -> Vec<Result<Page, Unavailable>> {
        let result = |draft: Draft| match draft.stage {
            Stage::Done => Ok(draft.page),
            Stage::Failed(why) => Err(why),
            Stage::AnyCopy | Stage::Leader => Err(Unavailable("the store was not asked".to_owned())),
        };
        self.drafts.into_iter().map(result).collect()
    }
}

/// A page in the making.
struct Draft {
    read: Read,
    page: Page,
    bytes: usize,
    /// Whether a copy was asked and gave no complete answer.
    is_unanswered: bool,
    stage: Stage,
}

/// Who is to be asked next, or how it ended.
#[derive(PartialEq, Eq)]
enum Stage {
    AnyCopy,
    Leader,
    Done,
    Failed(Unavailable),
}

impl Draft {
    fn question(&self, subject: &str, max_bytes: usize) -> String {
        let (from, batch) = (self.read.start.max(1), self.commits_max());
        json!({ "seq": from, "next_by_subj": subject, "batch": batch, "max_bytes": max_bytes }).to_string()
    }

    fn commits_max(&self) -> usize {
        self.read.commits_max.clamp(1, PAGE_COMMITS_MAX)
    }

    /// The page is over, and there may be more.
    fn ends_here(&mut self) -> Stage {
        self.page.more = true;
        Stage::Done
    }

    /// The question to the leader for what comes after the page so far.
    fn next_question(&self, subject: &str) -> Value {
        let last = self.page.commits.last();
        next_of_subject(subject, last.map_or(self.read.start, |last| last.sequence.saturating_add(1)))
    }

    /// Takes one message of a direct answer; says what is next once it was the last.
    fn take(&mut self, answer: Incoming) -> Option<Stage> {
        match number(&answer, "Nats-Sequence") {
            Number::Absent => Some(self.end(&answer)),
            Number::Given(sequence) if self.follows(sequence, &answer) => {
                self.add(StoredCommit { sequence, payload: answer.into_payload().into() });
                None
            }
            Number::Given(_) | Number::Unclear => Some(Stage::Leader),
        }
    }

    /// Whether the message comes right after those so far, by what the server says on it.
    fn follows(&self, sequence: Sequence, answer: &Incoming) -> bool {
        let last = self.page.commits.last().map_or(0, |commit| commit.sequence);
        sequence > last && matches!(number(answer, "Nats-Last-Sequence"), Number::Given(before) if before == last)
    }

    fn end(&mut self, answer: &Incoming) -> Stage {
        match (answer.status(), number(answer, "Nats-Num-Pending")) {
            (Some(204), Number::Given(pending)) if pending > 0 => {
                self.page.more = true;
                Stage::Done
            }
            (Some(204), Number::Given(_)) | (Some(404), _) => Stage::Done,
            (Some(503), _) => Stage::Failed(Unavailable("no copy of the stream answers".to_owned())),
            _ => Stage::Failed(Unavailable(format!("the stream answered {}", answer.status_text()))),
        }
    }

    fn add(&mut self, commit: StoredCommit) {
        self.bytes += commit.payload.len();
        self.page.commits.push(commit);
    }

    fn add_from_leader(&mut self, commit: StoredCommit) -> Stage {
        if self.page.commits.last().is_some_and(|last| last.sequence >= commit.sequence) {
            return Stage::Failed(Unavailable("the stream's leader answered out of order".to_owned()));
        }
        self.add(commit);
        let is_full = self.page.commits.len() >= self.commits_max() || self.bytes >= PAGE_BYTES_MAX;
        if is_full { self.ends_here() } else { Stage::Leader }
    }
}

/// A number in a header.
#[derive(Debug, PartialEq, Eq)]
enum Number {
    Absent,
    Given(u64),
    /// It is none, or there are several: the stored message bears a header of the server's names.
    Unclear,
}

fn number(answer: &Incoming, name: &str) -> Number {
    match answer.header(name) {
        Header::Absent => Number::Absent,
        Header::One(value) => value.parse().map_or(Number::Unclear, Number::Given),
        Header::Several => Number::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nats::{HeaderMap, Message};

    fn draft() -> Draft {
        let person = PersonId::from_uuid(uuid::Uuid::nil());
        let read = Read { person, start: 1, consistency: Consistency::Any, newest: None, commits_max: 256 };
        Draft { read, page: Page::default(), bytes: 0, is_unanswered: false, stage: Stage::AnyCopy }
    }

    fn answer(headers: &[(&str, u64)]) -> Incoming {
        let map: HeaderMap = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
        Incoming::new(Message::new("_INBOX.x", None, b"commit", Some(map)))
    }

    fn stored(sequence: u64, before: u64) -> Incoming {
        answer(&[("Nats-Sequence", sequence), ("Nats-Last-Sequence", before), ("Nats-Num-Pending", 0)])
    }

    fn after(draft: &mut Draft, answers: impl IntoIterator<Item = Incoming>) -> Option<Stage> {
        answers.into_iter().find_map(|answer| draft.take(answer))
    }

    #[test]
    fn a_chain_without_gap_is_taken_up_to_the_end_marker() {
        let mut draft = draft();
        let end = answer(&[("Status", 204), ("Nats-Num-Pending", 0)]);
        assert!(after(&mut draft, [stored(3, 0), stored(7, 3), end]) == Some(Stage::Done));
        assert_eq!((draft.page.commits.len(), draft.page.more), (2, false));
    }

    #[test]
    fn where_the_chain_breaks_the_leader_goes_on() {
        let no_proof = || answer(&[("Nats-Sequence", 7)]);
        for broken in [[stored(3, 0), stored(9, 7)], [stored(3, 0), stored(2, 3)], [stored(3, 0), no_proof()]] {
            let mut draft = draft();
            assert!(after(&mut draft, broken) == Some(Stage::Leader));
            assert_eq!(draft.next_question("s"), json!({ "seq": 4, "next_by_subj": "s" }));
        }
    }

    #[test]
    fn a_full_page_has_more_behind_it() {
        let mut draft = draft();
        let end = answer(&[("Status", 204), ("Nats-Num-Pending", 5)]);
        assert!(after(&mut draft, [stored(3, 0), end]) == Some(Stage::Done));
        assert!(draft.page.more);
    }

    #[test]
    fn nothing_there_is_an_answer_and_a_complaint_is_none() {
        assert!(after(&mut draft(), [answer(&[("Status", 404)])]) == Some(Stage::Done));
        for status in [204, 408, 413, 500, 503] {
            let stage = after(&mut draft(), [answer(&[("Status", status)])]);
            assert!(matches!(stage, Some(Stage::Failed(_))), "{status}");
        }
    }

    #[test]
    fn a_leader_that_goes_in_circles_is_not_followed() {
        let mut draft = draft();
        let commit = |sequence| StoredCommit { sequence, payload: (*b"x").into() };
        assert!(draft.add_from_leader(commit(4)) == Stage::Leader);
        assert!(matches!(draft.add_from_leader(commit(4)), Stage::Failed(_)));
    }
}
