//! Other streams that take in what is sent to the service, or what it stores.
//!
//! JetStream acknowledges whatever a stream takes in to whoever sent it. A client whose command lies in somebody's stream
//! gets that acknowledgement first, and takes it for the reply: it looks like success. With `no_ack` a stream takes in
//! what it likes and nobody notices.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::api::ApiError;
use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::message::Incoming;
use super::store::{NotSent, Store};
use crate::config::overlap;

/// Pages of the list of streams that are asked for: with 256 streams a page more than any account has.
const PAGES_MAX: usize = 64;

/// The call that lists streams. Rights are given by this name.
const LIST: &str = "STREAM.LIST";

/// A stream that answers in place of the service, or of the service's own stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Its name.
    pub stream: String,
    /// The service's subjects that it takes, as patterns.
    pub subjects: Vec<String>,
    /// Whether these are among those that the service stores under; else only requests are.
    pub stores: bool,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, subjects, stores } = self;
        let harm = if *stores {
            "commits lie in two streams"
        } else {
            "clients get its acknowledgement in place of the service's reply"
        };
        write!(f, "stream {stream} also takes {} and acknowledges: {harm}", subjects.join(", "))
    }
}

/// The calls that list all streams in question: the subject of the call, and what streams are asked for.
pub fn listings(layout: &Layout) -> Vec<(String, String)> {
    let call = layout.api(LIST);
    [layout.all_subjects(), layout.services()].map(|subjects| (call.clone(), subjects)).into()
}

/// The payload of such a call, from this place in the list on.
pub fn listing(subjects: &str, offset: usize) -> Value {
    json!({ "offset": offset, "subject": subjects })
}

/// A page of the list of streams.
#[derive(Debug, Default)]
pub struct Page {
    /// Those of its streams that are in conflict.
    pub conflicts: Vec<Conflict>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<usize>,
}

/// Reads an answer of the server.
///
/// # Errors
/// It is none, or an error of JetStream; in words.
pub fn read_page(answer: &[u8], layout: &Layout) -> Result<Page, String> {
    let garbled = |error: serde_json::Error| format!("JetStream's answer makes no sense: {error}");
    let Listed { error, total, offset, streams } = serde_json::from_slice(answer).map_err(garbled)?;
    if let Some(error) = error {
        return Err(error.to_string());
    }
    let Some(total) = total else { return Err("JetStream's answer is no list of streams".to_owned()) };
    let listed = streams.unwrap_or_default();
    let next = offset.saturating_add(listed.len());
    let next = (!listed.is_empty() && next < total).then_some(next);
    Ok(Page { conflicts: listed.into_iter().filter_map(|listed| conflict(listed, layout)).collect(), next })
}

fn conflict(Stream { config, domain }: Stream, layout: &Layout) -> Option<Conflict> {
    let is_own = config.name == layout.stream() && layout.is_ours(&domain);
    if is_own || config.no_ack {
        return None;
    }
    let taken = |subjects: Vec<String>| -> Vec<String> {
        subjects.into_iter().filter(|own| config.subjects.iter().any(|theirs| overlap(theirs, own))).collect()
    };
    let stored = taken(vec![layout.event_subjects(), layout.identifier_subjects()]);
    let stores = !stored.is_empty();
    let subjects: Vec<String> = taken(layout.requests()).into_iter().chain(stored).collect();
    (!subjects.is_empty()).then_some(Conflict { stream: config.name, subjects, stores })
}

#[derive(Deserialize)]
struct Listed {
    error: Option<ApiError>,
    total: Option<usize>,
    #[serde(default)]
    offset: usize,
    streams: Option<Vec<Stream>>,
}

#[derive(Deserialize)]
struct Stream {
    config: Config,
    #[serde(default)]
    domain: String,
}

#[derive(Deserialize)]
struct Config {
    name: String,
    #[serde(default)]
    subjects: Vec<String>,
    #[serde(default)]
    no_ack: bool,
}

/// Why it is not known which streams there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotListed {
    /// The server denies this user the call.
    #[error("this user may not publish to {0}")]
    Denied(String),
    /// No answer came, or none that helps.
    #[error("{0}")]
    Unanswered(String),
}

/// Asks for other streams, by an inbox of its own.
#[derive(Debug)]
pub struct Conflicts {
    inbox: Inbox,
    layout: Layout,
}

impl Conflicts {
    /// Over this connection.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn new(store: &Store, layout: &Layout) -> Result<Self, NotSent> {
        Ok(Self { inbox: store.inbox()?, layout: layout.clone() })
    }

    /// All conflicts of now, each stream once. No answer is waited for longer than this.
    ///
    /// # Errors
    /// See [`NotListed`].
    pub fn find(&mut self, wait: Duration) -> Result<Vec<Conflict>, NotListed> {
        let mut found: Vec<Conflict> = Vec::new();
        for (call, subjects) in listings(&self.layout) {
            let mut next = Some(0);
            for _ in 0..PAGES_MAX {
                let Some(offset) = next else { break };
                let question = listing(&subjects, offset).to_string();
                let answer = match self.inbox.request(&call, question.as_bytes(), wait) {
                    Exchanged::Answered(answer) => answer,
                    Exchanged::NotSent(why) => return Err(NotListed::Unanswered(why.to_string())),
                    Exchanged::Silent => return Err(self.silence(call)),
                };
                let page = self.read(&answer)?;
                next = page.next;
                found.extend(page.conflicts);
            }
        }
        found.sort_by(|a, b| a.stream.cmp(&b.stream));
        found.dedup();
        Ok(found)
    }

    fn read(&self, answer: &Incoming) -> Result<Page, NotListed> {
        if answer.is_no_responders() {
            return Err(NotListed::Unanswered("nobody answers JetStream calls".to_owned()));
        }
        read_page(answer.payload(), &self.layout).map_err(NotListed::Unanswered)
    }

    /// A denial comes on the connection, not as an answer.
    fn silence(&self, call: String) -> NotListed {
        let denied = self.inbox.store().connection().denied();
        match denied.is_some_and(|said| said.contains(&call)) {
            true => NotListed::Denied(call),
            false => NotListed::Unanswered("JetStream gave no answer in time".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::layout;
    use super::*;

    fn page(streams: &Value) -> Page {
        let answer = json!({ "total": 3, "offset": 0, "limit": 256, "streams": streams });
        read_page(answer.to_string().as_bytes(), &layout(None)).expect("a page")
    }

    #[test]
    fn whoever_takes_requests_and_acknowledges_is_a_conflict() {
        for (subjects, taken, stores) in [
            (json!(["person.commands.>"]), &["person.commands.>"][..], false),
            (json!(["x", "person.commands.*.create"]), &["person.commands.>"], false),
            (json!(["$SRV.PING"]), &["$SRV.>"], false),
            (json!(["person.intake.a"]), &["person.intake.>"], false),
            (json!(["person.queries.*"]), &["person.queries.>"], false),
            (json!(["person.events.>"]), &["person.events.>"], true),
            (json!(["person.identifiers.x"]), &["person.identifiers.*"], true),
            (json!(["person.ledger.>", "persons.>", "$KV.PERSON_EVENTS_SNAPSHOTS.>"]), &[], false),
            (json!(null), &[], false),
        ] {
            let config = match &subjects {
                Value::Null => json!({ "name": "AUDIT", "mirror": { "name": "X" } }),
                subjects => json!({ "name": "AUDIT", "subjects": subjects }),
            };
            let found = page(&json!([{ "config": config }])).conflicts;
            let taken: Vec<String> = taken.iter().map(|subject| (*subject).to_owned()).collect();
            let expected = Conflict { stream: "AUDIT".to_owned(), subjects: taken.clone(), stores };
            assert_eq!(found, if taken.is_empty() { vec![] } else { vec![expected] }, "{subjects}");
        }
    }

    #[test]
    fn without_acknowledgements_and_under_our_own_name_it_is_none() {
        let silent = json!({ "config": { "name": "AUDIT", "subjects": ["person.>"], "no_ack": true } });
        let own = json!({ "config": { "name": "PERSON_EVENTS", "subjects": ["person.events.>"] } });
        assert_eq!(page(&json!([silent, own])).conflicts, []);
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let one = json!({ "config": { "name": "X" } });
        assert_eq!(page(&json!([one, one])).next, Some(2));
        assert_eq!(page(&json!([one, one, one])).next, None);
        assert_eq!(page(&json!([])).next, None, "a list that shrinks has an end, too");
        assert_eq!(page(&json!(null)).next, None);
    }

    #[test]
    fn errors_and_rubbish_are_no_empty_list() {
        let refused = json!({ "error": { "code": 503, "err_code": 10008, "description": "no leader" } });
        for answer in [refused.to_string(), "{".to_owned(), String::new(), "[]".to_owned(), "{}".to_owned()] {
            assert!(read_page(answer.as_bytes(), &layout(None)).is_err(), "{answer}");
        }
    }
}
