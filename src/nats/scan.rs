//! Reading a whole stream from end to end: pages by sequence, several under way at the same time.
//!
//! A page without a subject filter costs the server no search, and needs no rights beyond those that the service has
//! anyway. What a copy of the stream does not show, the leader is asked for: a copy may lag, and a stored message with
//! malformed headers loses the connection of whoever reads it directly.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{ApiError, read_message};
use super::inbox::Inbox;
use super::layout::Layout;
use super::leader::{answered, last_of_subject, next_of_subject};
use super::message::Incoming;
use super::store::{NotSent, Store};
use crate::engine::audit::Hints;
use crate::engine::ports::{Sequence, Unavailable};
use crate::wire::request::Header;

/// Messages in a page.
const PAGE_MESSAGES: u64 = 512;
/// Bytes in a page; the message that goes beyond is still in it.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Pages under way at once.
const PAGES_AT_ONCE: u64 = 4;
/// Messages that the leader is asked for in a row before pages are tried again.
const FROM_LEADER_MAX: usize = 256;
/// What an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How long a store that is away is waited for, and the pause between two attempts.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);

/// How far a stream reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extent {
    /// When the stream was created, as the server writes it.
    pub created: String,
    /// The sequence of its first message.
    pub first: Sequence,
    /// The sequence of its last message; 0 when there never was one.
    pub last: Sequence,
    /// How many messages it has.
    pub messages: u64,
    /// How many subjects they lie on.
    pub subjects: u64,
}

/// A message as it lies in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Its position.
    pub sequence: Sequence,
    /// Its subject.
    pub subject: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// What stands beside it; `None` where the leader showed it, who wraps headers up.
    pub hints: Option<Hints>,
    /// Whether it says that something was deleted.
    pub is_tombstone: bool,
    /// When it was stored, as the server writes it.
    pub time: String,
}

/// Reads one stream.
#[derive(Debug)]
pub struct Scan {
    inbox: Inbox,
    info: String,
    direct: String,
    leader: String,
}

impl Scan {
    /// Of the commits.
    pub fn events(store: &Store, layout: &Layout) -> Result<Self, NotSent> {
        Self::of(store, layout, layout.stream())
    }

    /// Of the snapshots.
    pub fn snapshots(store: &Store, layout: &Layout) -> Result<Self, NotSent> {
        Self::of(store, layout, &layout.bucket_stream())
    }

    fn of(store: &Store, layout: &Layout, stream: &str) -> Result<Self, NotSent> {
        let info = layout.api(&format!("STREAM.INFO.{stream}"));
        Ok(Self { inbox: store.inbox()?, info, direct: layout.direct_get(stream), leader: layout.leader_get(stream) })
    }

    /// How far the stream reaches, by its leader's word; `None` where there is no such stream.
    pub fn extent(&mut self) -> Result<Option<Extent>, Unavailable> {
        let subject = self.info.clone();
        let answer = patiently(|| answered(self.inbox.request(&subject, b"", ANSWER_WAIT)))?;
        read_extent(&answer)
    }

    /// The next messages with sequences from `from` to `to`, in order: empty only where there are none.
    pub fn next(&mut self, from: Sequence, to: Sequence) -> Result<Vec<Scanned>, Unavailable> {
        if from > to {
            return Ok(Vec::new());
        }
        patiently(|| {
            let mut messages = self.pages(from, to);
            if messages.is_empty() {
                messages = self.ask_leader_for(from, to)?;
            }
            Ok(messages)
        })
    }

    /// As much as copies of the stream show without a gap.
    fn pages(&mut self, from: Sequence, to: Sequence) -> Vec<Scanned> {
        let starts: Vec<Sequence> =
            (0..PAGES_AT_ONCE).map(|page| from + page * PAGE_MESSAGES).take_while(|start| *start <= to).collect();
        let mut pages: Vec<Page> = starts.iter().map(|start| Page::begin(*start)).collect();
        let direct = &self.direct;
        let send = |store: &Store, start: &Sequence, reply: &str| {
            let question = json!({ "seq": start, "batch": PAGE_MESSAGES, "max_bytes": PAGE_BYTES_MAX }).to_string();
            store.publish(direct, Some(reply), &[], question.as_bytes())
        };
        let take = |index: usize, answer: Incoming| pages.get_mut(index).and_then(|page| page.take(answer));
        self.inbox.exchange(&starts, ANSWER_WAIT, send, take);
        in_a_row(from, to, pages)
    }

    /// A few messages as the leader shows them, one after the other.
    fn ask_leader_for(&mut self, from: Sequence, to: Sequence) -> Result<Vec<Scanned>, Unavailable> {
        let (mut next, mut messages) = (from, Vec::new());
        while next <= to && messages.len() < FROM_LEADER_MAX {
            match self.ask_leader(&next_of_subject(">", next))? {
                Some(message) if message.sequence >= next && message.sequence <= to => {
                    next = message.sequence + 1;
                    messages.push(message);
                }
                _ => break,
            }
        }
        Ok(messages)
    }

    /// The newest message on a subject, by the leader's word; `None` where there is none. Asks once.
    pub fn newest(&mut self, subject: &str) -> Result<Option<Scanned>, Unavailable> {
        self.ask_leader(&last_of_subject(subject))
    }

    fn ask_leader(&mut self, question: &Value) -> Result<Option<Scanned>, Unavailable> {
        let answer = self.inbox.request(&self.leader, question.to_string().as_bytes(), ANSWER_WAIT);
        read_scanned(&answered(answer)?)
    }
}

/// Tries until it succeeds, as long as there is patience.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Unavailable>) -> Result<T, Unavailable> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
}

/// A page while it arrives.
struct Page {
    start: Sequence,
    messages: Vec<Scanned>,
    /// Whether every message up to the last one here was seen.
    is_whole: bool,
}

impl Page {
    fn begin(start: Sequence) -> Self {
        Self { start, messages: Vec::new(), is_whole: false }
    }

    /// Takes one message of the answer; says when it was the last.
    fn take(&mut self, answer: Incoming) -> Option<()> {
        let number = |name| match answer.header(name) {
            Header::One(value) => value.parse::<u64>().ok(),
            Header::Absent | Header::Several => None,
        };
        let last = self.messages.last().map_or(0, |message| message.sequence);
        match number("Nats-Sequence") {
            None => {
                self.is_whole = answer.status() == Some(204);
                Some(())
            }
            // Each names the one before it. One that does not, such as a stored message with headers of the server's
            // names, ends what can be trusted.
            Some(sequence) if sequence > last && number("Nats-Last-Sequence") == Some(last) => {
                self.messages.push(scanned(sequence, answer));
                None
            }
            Some(_) => Some(()),
        }
    }
}

fn scanned(sequence: Sequence, answer: Incoming) -> Scanned {
    let text = |name| match answer.header(name) {
        Header::One(value) => Some(value.to_owned()),
        Header::Absent | Header::Several => None,
    };
    Scanned {
        sequence,
        subject: text("Nats-Subject").unwrap_or_default(),
        hints: Some(Hints { event_types: text("Event-Type"), person_version: text("Person-Version") }),
        is_tombstone: text("KV-Operation").is_some() || text("Nats-Marker-Reason").is_some(),
        time: text("Nats-Time-Stamp").unwrap_or_default(),
        payload: answer.into_payload(),
    }
}

/// The messages of the pages, each once, up to the first place where one may be missing.
fn in_a_row(from: Sequence, to: Sequence, pages: Vec<Page>) -> Vec<Scanned> {
    let (mut next, mut messages) = (from, Vec::new());
    for page in pages {
        if page.start > next {
            break;
        }
        for message in page.messages {
            if message.sequence >= next && message.sequence <= to {
                next = message.sequence + 1;
                messages.push(message);
            }
        }
        if !page.is_whole {
            break;
        }
    }
    messages
}

fn read_extent(answer: &Incoming) -> Result<Option<Extent>, Unavailable> {
    #[derive(Deserialize)]
    struct Info {
        error: Option<ApiError>,
        #[serde(default)]
        created: String,
        state: Option<State>,
    }
    #[derive(Deserialize)]
    struct State {
        first_seq: Sequence,
        last_seq: Sequence,
        messages: u64,
        #[serde(default)]
        num_subjects: u64,
    }
    if answer.is_no_responders() {
        return Err(Unavailable("JetStream is away".to_owned()));
    }
    let garbled = |_| Unavailable("JetStream gave an answer that makes no sense".to_owned());
    let Info { error, created, state } = serde_json::from_slice(answer.payload()).map_err(garbled)?;
    match (error, state) {
        (Some(error), _) if error.err_code == super::api::STREAM_NOT_FOUND => Ok(None),
        (Some(error), _) => Err(Unavailable(error.to_string())),
        (None, None) => Err(Unavailable("JetStream gave an answer that makes no sense".to_owned())),
        (None, Some(state)) => Ok(Some(Extent {
            created,
            first: state.first_seq,
            last: state.last_seq,
            messages: state.messages,
            subjects: state.num_subjects,
        })),
    }
}

/// Reads the leader's answer; `None` when there is no such message.
fn read_scanned(answer: &Incoming) -> Result<Option<Scanned>, Unavailable> {
    if answer.is_no_responders() {
        return Err(Unavailable("JetStream is away".to_owned()));
    }
    let Some(message) = read_message(answer.payload())? else { return Ok(None) };
    Ok(Some(Scanned {
        sequence: message.seq,
        payload: message.payload()?,
        hints: None,
        is_tombstone: message.is_tombstone()?,
        subject: message.subject.into_owned(),
        time: message.time.into_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: Sequence) -> Scanned {
        let (subject, time) = ("s".to_owned(), String::new());
        Scanned { sequence, subject, payload: Vec::new(), hints: None, is_tombstone: false, time }
    }

    fn page(start: Sequence, sequences: &[Sequence], is_whole: bool) -> Page {
        Page { start, messages: sequences.iter().map(|sequence| message(*sequence)).collect(), is_whole }
    }

    #[test]
    fn pages_are_put_together_without_repetition_and_without_a_gap() {
        for (pages, expected) in [
            (vec![page(1, &[1, 2], true), page(3, &[3, 4], true)], &[1, 2, 3, 4][..]),
            // Messages are missing in the stream, so the first page reaches into the second.
            (vec![page(1, &[1, 5], true), page(3, &[5, 7], true)], &[1, 5, 7]),
            // The first was cut short: the second may not follow it.
            (vec![page(1, &[1], false), page(3, &[3, 4], true)], &[1]),
            (vec![page(1, &[1], true), page(3, &[3, 4], true)], &[1]),
            (vec![page(1, &[], true), page(3, &[3], true)], &[]),
            (vec![page(1, &[1, 2, 11], true)], &[1, 2]),
        ] {
            let row: Vec<Sequence> = in_a_row(1, 10, pages).into_iter().map(|message| message.sequence).collect();
            assert_eq!(row, expected);
        }
    }
}
