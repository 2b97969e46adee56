//! Taking messages out of stream and bucket: the one place that does, for a person whose history is repaired.

use serde::Deserialize;
use serde_json::json;

use super::api::ApiError;
use super::clock_offset::ClockOffset;
use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::leader::answered;
use super::store::{NotSent, Store};
use crate::domain::{PersonId, Timestamp};
use crate::engine::ports::{Sequence, Unavailable};

/// What a call may take.
const CALL_WAIT: std::time::Duration = std::time::Duration::from_secs(10);

/// Takes messages out.
#[derive(Debug)]
pub struct Mend {
    inbox: Inbox,
    layout: Layout,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<ApiError>,
    #[serde(default)]
    purged: u64,
    config: Option<Rules>,
    ts: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Rules {
    #[serde(default)]
    deny_purge: bool,
}

/// What has to be known before a history is repaired.
#[derive(Debug, Clone, Copy)]
pub struct Ground {
    /// Whether the stream lets messages be taken out at all.
    pub is_purge_allowed: bool,
    /// Our clock against that of the stream's leader; `None` where it does not tell its time.
    pub clock: Option<ClockOffset>,
}

impl Mend {
    /// Over this connection.
    pub fn new(store: &Store, layout: &Layout) -> Result<Self, NotSent> {
        Ok(Self { inbox: store.inbox()?, layout: layout.clone() })
    }

    /// Looks at the ground on which it is to be done.
    pub fn ground(&mut self) -> Result<Ground, Unavailable> {
        let info = self.layout.api(&format!("STREAM.INFO.{}", self.layout.stream()));
        let asked = Timestamp::now();
        let answer = self.call(&info, b"")?;
        let answered = Timestamp::now();
        Ok(Ground {
            is_purge_allowed: !answer.config.is_some_and(|rules| rules.deny_purge),
            clock: answer.ts.map(|said| ClockOffset::between(asked, said, answered)),
        })
    }

    /// Takes out all of a person's commits before this sequence, in one step. How many they were.
    pub fn purge_before(&mut self, person: PersonId, sequence: Sequence) -> Result<u64, Unavailable> {
        let call = self.layout.api(&format!("STREAM.PURGE.{}", self.layout.stream()));
        let what = json!({ "filter": self.layout.event_subject(person), "seq": sequence });
        Ok(self.call(&call, what.to_string().as_bytes())?.purged)
    }

    /// Takes out a person's snapshot, leaving a tombstone as any client of the bucket would.
    pub fn delete_snapshot(&mut self, person: PersonId) -> Result<(), Unavailable> {
        let subject = self.layout.snapshot_target(person);
        let headers = [("KV-Operation", "PURGE"), ("Nats-Rollup", "sub")];
        let send =
            |store: &Store, nothing: &&[u8], reply: &str| store.publish(&subject, Some(reply), &headers, nothing);
        let answer = self.inbox.exchange(&[b"".as_slice()], CALL_WAIT, send, |_, answer| Some(answer)).pop();
        let answer = answered(answer.unwrap_or(Exchanged::Silent))?;
        // Without a bucket there is no snapshot.
        if answer.is_no_responders() { Ok(()) } else { read(answer.payload()).map(drop) }
    }

    fn call(&mut self, subject: &str, payload: &[u8]) -> Result<Answer, Unavailable> {
        let answer = answered(self.inbox.request(subject, payload, CALL_WAIT))?;
        if answer.is_no_responders() {
            return Err(Unavailable("JetStream is away".to_owned()));
        }
        read(answer.payload())
    }
}

fn read(payload: &[u8]) -> Result<Answer, Unavailable> {
    let answer: Answer = serde_json::from_slice(payload)
        .map_err(|_| Unavailable("JetStream gave an answer that makes no sense".to_owned()))?;
    match answer.error {
        Some(error) => Err(Unavailable(error.to_string())),
        None => Ok(answer),
    }
}
