//! Reading the newest commits of persons backwards, from a known one to the one before it.
//!
//! Every commit bears, in its header of optimistic concurrency, the sequence of the person's commit before it. A read by
//! sequence costs the server a look-up; a read by subject has it search between messages that may lie far apart. What is
//! read here is a hint until the engine has checked its chain; where anything does not fit, the read by subject decides.

use std::time::Duration;

use serde_json::json;

use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::message::Incoming;
use super::store::{NotSent, Store};
use crate::engine::ports::{Consistency, Page, Read, Sequence, Start, StoredCommit};
use crate::wire::request::Header;

/// Commits that are gone through backwards; whoever is further behind reads forwards.
const STEPS_MAX: usize = 8;

/// For each read that names the person's newest commit, the page from its start to there; `None` where it has to be read
/// by subject.
pub(super) fn read_backwards(inbox: &mut Inbox, layout: &Layout, reads: &[Read], wait: Duration) -> Vec<Option<Page>> {
    let subject = layout.api(&format!("DIRECT.GET.{}", layout.stream()));
    let mut walks: Vec<Walk> = reads.iter().map(|read| Walk::new(read, layout)).collect();
    for _ in 0..STEPS_MAX {
        let mut asked: Vec<&mut Walk> = walks.iter_mut().filter(|walk| walk.next.is_some()).collect();
        if asked.is_empty() {
            break;
        }
        let questions: Vec<_> = asked.iter().map(|walk| json!({ "seq": walk.next }).to_string()).collect();
        let send = |store: &Store, index: usize, reply: &str| match questions.get(index) {
            Some(question) => store.publish(&subject, Some(reply), &[], question.as_bytes()),
            None => Err(NotSent::Malformed("index")),
        };
        let answers = inbox.exchange(questions.len(), wait, send, |_, answer| Some(answer));
        asked.iter_mut().zip(answers).for_each(|(walk, answer)| walk.take(answer));
    }
    walks.into_iter().map(Walk::into_page).collect()
}

/// One person's way back.
struct Walk {
    subject: String,
    from: Sequence,
    next: Option<Sequence>,
    /// Newest first.
    commits: Vec<StoredCommit>,
    arrived: bool,
}

impl Walk {
    fn new(read: &Read, layout: &Layout) -> Self {
        let (from, next) = match (read.start, read.newest, read.consistency) {
            (Start::Sequence(from), Some(newest), Consistency::Any) if newest >= from => (from, Some(newest)),
            _ => (0, None),
        };
        Self { subject: layout.event_subject(read.person), from, next, commits: Vec::new(), arrived: false }
    }

    fn take(&mut self, answer: Exchanged<Incoming>) {
        let Some(sequence) = self.next.take() else { return };
        let Exchanged::Answered(answer) = answer else { return };
        if answer.header("Nats-Subject") != Header::One(&self.subject) {
            return;
        }
        let Header::One(before) = answer.header("Nats-Expected-Last-Subject-Sequence") else { return };
        let Ok(before) = before.parse::<Sequence>() else { return };
        self.commits.push(StoredCommit { sequence, payload: answer.into_payload().into() });
        if before < self.from {
            self.arrived = true;
        } else if before < sequence {
            self.next = Some(before);
        }
    }

    fn into_page(self) -> Option<Page> {
        let commits = self.commits.into_iter().rev().collect();
        self.arrived.then_some(Page { commits, more: false })
    }
}
