//! The JSON of JetStream, as far as the service speaks it.
//!
//! The client's own JetStream types are those of server 2.9, and an error that they do not know comes out of them as
//! success. Here whatever holds an `error` is one, and an acknowledgement without a sequence acknowledges nothing.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::engine::ports::{Appended, Sequence, Unavailable};

/// An error as JetStream puts it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ApiError {
    pub(super) code: u16,
    pub(super) err_code: u16,
    pub(super) description: String,
}

impl ApiError {
    /// Whether it says "not now": JetStream is still looking for its leader.
    pub(super) const fn is_temporary(&self) -> bool {
        self.err_code == TEMPORARILY_UNAVAILABLE
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.description, self.code, self.err_code)
    }
}

/// The person's newest message has another sequence than expected, which the description names.
const WRONG_LAST_SEQUENCE: u16 = 10071;

/// The same, while a rival's message is on its way into the stream: its sequence is not known yet. The other two are
/// kin: "try again" and "the same message is on its way".
const WRONG_LAST_SEQUENCE_IN_FLIGHT: [u16; 3] = [10164, 10163, 10158];

/// The message could not be written: a limit of the stream, or the disk.
const STORE_FAILED: u16 = 10077;

/// An atomic batch was given up before its last message: one got lost, or the leader changed.
const BATCH_INCOMPLETE: u16 = 10176;

/// There is no message like that.
pub(super) const MESSAGE_NOT_FOUND: u16 = 10037;

/// There is no stream of that name.
pub const STREAM_NOT_FOUND: u16 = 10059;

/// There is a stream of that name already, with another configuration.
pub(super) const STREAM_NAME_IN_USE: u16 = 10058;

/// JetStream is still looking for its leader.
pub const TEMPORARILY_UNAVAILABLE: u16 = 10008;

/// What came back for a published message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PubAck<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    domain: Cow<'a, str>,
    seq: Sequence,
    count: usize,
    error: Option<ApiError>,
}

/// What an acknowledgement says about a message that was to be stored in a certain stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Ack {
    /// That stream has spoken.
    Ours(Appended),
    /// Another stream has: it takes our subject too, in another domain or in place of ours. Says nothing about ours.
    Foreign(String),
    /// It makes no sense.
    Garbled,
}

/// Reads an acknowledgement. Errors do not name their domain, so that of a stream of our name in another domain cannot be
/// told from ours; an acceptance can.
pub fn read_ack(payload: &[u8], stream: &str, is_our_domain: impl Fn(&str) -> bool) -> Ack {
    let Ok(ack) = serde_json::from_slice::<PubAck>(payload) else { return Ack::Garbled };
    if ack.stream != stream && !(ack.stream.is_empty() && ack.error.is_some()) {
        return Ack::Foreign(ack.stream.into_owned());
    }
    if ack.error.is_none() && !is_our_domain(&ack.domain) {
        return Ack::Foreign(format!("{} of the domain {:?}", ack.stream, ack.domain));
    }
    match ack.error {
        None if ack.seq > 0 => Ack::Ours(Appended::Stored(ack.seq)),
        None => Ack::Garbled,
        Some(error) => Ack::Ours(refused(&error)),
    }
}

/// How many messages an atomic batch was that is acknowledged; 0 where the server took them for single ones.
pub fn batch_len(payload: &[u8]) -> usize {
    serde_json::from_slice::<PubAck>(payload).map_or(0, |ack| ack.count)
}

fn refused(error: &ApiError) -> Appended {
    match error.err_code {
        WRONG_LAST_SEQUENCE => Appended::Conflict(last_sequence(&error.description)),
        code if WRONG_LAST_SEQUENCE_IN_FLIGHT.contains(&code) => Appended::Conflict(None),
        // A limit of the stream is decisive. A leader whose disk fails is not: the other copies may have stored it.
        STORE_FAILED if !error.description.contains("maximum") => Appended::Unknown,
        STORE_FAILED => Appended::Refused(Unavailable(error.to_string())),
        BATCH_INCOMPLETE => Appended::Unavailable(Unavailable(error.to_string())),
        _ if error.code == 400 => Appended::Refused(Unavailable(error.to_string())),
        _ => Appended::Unavailable(Unavailable(error.to_string())),
    }
}

/// The number in `wrong last sequence: 17`.
fn last_sequence(description: &str) -> Option<Sequence> {
    description.rsplit_once(": ")?.1.trim().parse().ok()
}

/// A message that a stream's leader showed.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    /// Under which subject it lies.
    pub subject: String,
    /// Where it lies in the stream.
    pub sequence: Sequence,
    /// Its bytes.
    pub payload: Vec<u8>,
}

#[derive(Deserialize)]
struct MessageAnswer<'a> {
    error: Option<ApiError>,
    #[serde(borrow)]
    message: Option<RawMessage<'a>>,
}

/// A message as the leader wraps it up: its bytes and headers in base64.
#[derive(Debug, Deserialize)]
pub(super) struct RawMessage<'a> {
    #[serde(default, borrow)]
    pub(super) subject: Cow<'a, str>,
    pub(super) seq: Sequence,
    #[serde(default, borrow)]
    hdrs: Cow<'a, str>,
    #[serde(default, borrow)]
    data: Cow<'a, str>,
    #[serde(default, borrow)]
    pub(super) time: Cow<'a, str>,
}

impl RawMessage<'_> {
    pub(super) fn payload(&self) -> Result<Vec<u8>, Unavailable> {
        STANDARD.decode(self.data.as_ref()).map_err(|_| garbled())
    }

    /// Whether it says that something was deleted.
    pub(super) fn is_tombstone(&self) -> Result<bool, Unavailable> {
        let headers = STANDARD.decode(self.hdrs.as_ref()).map_err(|_| garbled())?;
        let headers = String::from_utf8_lossy(&headers);
        Ok(headers.contains("\nKV-Operation:") || headers.contains("\nNats-Marker-Reason:"))
    }
}

/// Reads the answer to `STREAM.MSG.GET`; `None` when there is no such message.
///
/// # Errors
/// The leader could not show it, or its answer makes no sense.
pub(super) fn read_message(payload: &[u8]) -> Result<Option<RawMessage<'_>>, Unavailable> {
    let answer: MessageAnswer = serde_json::from_slice(payload).map_err(|_| garbled())?;
    match (answer.error, answer.message) {
        (Some(error), _) if error.err_code == MESSAGE_NOT_FOUND => Ok(None),
        (Some(error), _) => Err(Unavailable(error.to_string())),
        (None, Some(message)) => Ok(Some(message)),
        (None, None) => Err(garbled()),
    }
}

/// The same, with the message's bytes.
///
/// # Errors
/// As above.
pub fn read_shown(payload: &[u8]) -> Result<Option<Shown>, Unavailable> {
    let Some(message) = read_message(payload)? else { return Ok(None) };
    let payload = message.payload()?;
    Ok(Some(Shown { subject: message.subject.into_owned(), sequence: message.seq, payload }))
}

fn garbled() -> Unavailable {
    Unavailable("the stream's leader gave an answer that makes no sense".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "PERSON_EVENTS";

    fn read(json: &str) -> Ack {
        read_ack(json.as_bytes(), OURS, |_| true)
    }

    /// The acknowledgement of our stream with this error.
    fn error(code: u16, err_code: u16, description: &str) -> Appended {
        let error = format!(r#"{{"code":{code},"err_code":{err_code},"description":"{description}"}}"#);
        match read(&format!(r#"{{"error":{error},"stream":"PERSON_EVENTS","seq":0}}"#)) {
            Ack::Ours(appended) => appended,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn stored() {
        assert_eq!(read(r#"{"stream":"PERSON_EVENTS","seq":7}"#), Ack::Ours(Appended::Stored(7)));
        let hub = r#"{"stream":"PERSON_EVENTS","domain":"hub","seq":7,"duplicate":true}"#;
        assert_eq!(read(hub), Ack::Ours(Appended::Stored(7)));
    }

    #[test]
    fn conflicts() {
        assert_eq!(error(400, 10071, "wrong last sequence: 17"), Appended::Conflict(Some(17)));
        assert_eq!(error(400, 10071, "wrong last sequence"), Appended::Conflict(None));
        assert_eq!(error(400, 10164, "wrong last sequence"), Appended::Conflict(None));
        assert_eq!(error(503, 10163, "temporarily unavailable"), Appended::Conflict(None));
        assert_eq!(error(409, 10158, "duplicate message id is in process"), Appended::Conflict(None));
    }

    #[test]
    fn decisive_refusals() {
        for (code, err_code, description) in [
            (400, 10060, "expected stream does not match"),
            (503, 10077, "maximum messages per subject exceeded"),
            (503, 10077, "maximum bytes exceeded"),
            (400, 10054, "message size exceeds maximum allowed"),
            (400, 10174, "atomic publish is disabled"),
            (429, 10167, "too many requests"),
            (500, 19999, "an error that nobody knew when this was written"),
            (503, 0, "raft: not leader"),
        ] {
            let refused = error(code, err_code, description);
            let (Appended::Unavailable(Unavailable(why)) | Appended::Refused(Unavailable(why))) = &refused else {
                panic!("{description}: {refused:?}")
            };
            assert!(why.contains(description), "{why}");
            let for_good = code == 400 || description.contains("maximum");
            assert_eq!(matches!(refused, Appended::Refused(_)), for_good, "{description}");
        }
    }

    /// Found by reading: a batch that a change of leader cut short was "refused", as if it would be so for ever.
    #[test]
    fn a_batch_that_was_cut_short_may_be_tried_again() {
        assert!(matches!(error(400, 10176, "batch publish is incomplete"), Appended::Unavailable(_)));
        assert!(matches!(error(429, 10210, "too many in flight"), Appended::Unavailable(_)));
    }

    /// A replicated message is agreed on before it is written, and one copy's disk may fail alone.
    #[test]
    fn a_disk_that_fails_leaves_it_open() {
        assert_eq!(error(503, 10077, "no space left on device"), Appended::Unknown);
    }

    #[test]
    fn what_is_no_acknowledgement_acknowledges_nothing() {
        for json in ["", "{}x", "null", r#"{"stream":"PERSON_EVENTS","seq":0}"#, r#"{"stream":"PERSON_EVENTS"}"#] {
            assert_eq!(read(json), Ack::Garbled, "{json:?}");
        }
    }

    /// Found with two regions joined by a leaf node, both with the default names: each took the other's word.
    #[test]
    fn another_domains_word_does_not_count() {
        let read = |json: &str| read_ack(json.as_bytes(), OURS, |domain| domain == "eu");
        assert_eq!(read(r#"{"stream":"PERSON_EVENTS","domain":"eu","seq":7}"#), Ack::Ours(Appended::Stored(7)));
        for json in [r#"{"stream":"PERSON_EVENTS","domain":"hub","seq":7}"#, r#"{"stream":"PERSON_EVENTS","seq":7}"#] {
            assert!(matches!(read(json), Ack::Foreign(_)), "{json}");
        }
    }

    #[test]
    fn another_streams_word_does_not_count() {
        assert_eq!(read(r#"{"stream":"OTHER","seq":7}"#), Ack::Foreign("OTHER".to_owned()));
        let conflict =
            r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"},"stream":"OTHER"}"#;
        assert_eq!(read(conflict), Ack::Foreign("OTHER".to_owned()));
        assert_eq!(read(r#"{"seq":7}"#), Ack::Foreign(String::new()));
    }

    #[test]
    fn shown_messages() {
        let shown = |payload: &[u8]| Shown { subject: "s".to_owned(), sequence: 9, payload: payload.to_vec() };
        let found = r#"{"type":"x","message":{"subject":"s","seq":9,"data":"aGk=","time":"2026-01-01T00:00:00Z"}}"#;
        assert_eq!(read_shown(found.as_bytes()), Ok(Some(shown(b"hi"))));
        let empty = r#"{"message":{"subject":"s","seq":9,"time":"2026-01-01T00:00:00Z"}}"#;
        assert_eq!(read_shown(empty.as_bytes()), Ok(Some(shown(b""))));
        let none = r#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
        assert_eq!(read_shown(none.as_bytes()), Ok(None));
        let gone = r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
        assert!(read_shown(gone.as_bytes()).is_err());
        for garbled in ["", "{}", r#"{"message":{"seq":9,"data":"%"}}"#] {
            assert!(read_shown(garbled.as_bytes()).is_err(), "{garbled}");
        }
    }
}
