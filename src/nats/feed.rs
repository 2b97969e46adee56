//! The feed of all commits, as they are stored: an ephemeral push consumer that asks for no acknowledgement.
//!
//! It lives in the memory of one server, and when that is gone, or nobody listens for a while, it is gone too. The commits
//! arrive on the intake connection: one that a stranger stored with malformed headers costs that connection a quick
//! reconnect, as a stranger's command does, and no append. Nothing is promised: whoever needs to know reads the log.

use std::time::Duration;

use serde_json::{Value, json};

use super::api::ApiError;
use super::intake::{Arrivals, Dry, Group, Intake};
use super::layout::Layout;
use super::leader::answered;
use super::message::Incoming;
use super::store::{NotSent, Store};
use crate::domain::PersonId;
use crate::engine::ports::{StoredCommit, Unavailable};

/// How long the server keeps the consumer when nobody listens.
const INACTIVE_MAX: Duration = Duration::from_secs(5);

/// The commits that are stored from now on, of all persons.
#[derive(Debug)]
pub struct Feed {
    /// Leaving it ends the interest, and with it the consumer.
    _group: Group,
    arrivals: Arrivals,
    layout: Layout,
}

impl Feed {
    /// Asks the stream's leader for it, by a name of its own, and waits for the answer no longer than this.
    ///
    /// # Errors
    /// There was no answer, as when the right to create consumers is missing, or it was a refusal.
    pub fn open(
        store: &Store,
        intake: &Intake,
        layout: &Layout,
        name: &str,
        wait: Duration,
    ) -> Result<Self, Unavailable> {
        let away = |why: NotSent| Unavailable(why.to_string());
        let deliver_to = store.connection().session().client().new_inbox();
        let group = intake.join(&deliver_to, None).map_err(away)?;
        let subject = layout.api(&format!("CONSUMER.CREATE.{}.{name}", layout.stream()));
        let payload = definition(layout.stream(), name, &deliver_to).to_string();
        let answer = answered(store.inbox().map_err(away)?.request(&subject, payload.as_bytes(), wait))?;
        match refusal(answer.payload()) {
            None => Ok(Self { arrivals: group.arrivals(), _group: group, layout: layout.clone() }),
            Some(why) => Err(why),
        }
    }

    /// Takes what has arrived, at most so many; if that is little, also the next one, waited for no longer than this.
    pub fn take_run(
        &self,
        len_max: usize,
        within: Duration,
        mut take: impl FnMut(PersonId, StoredCommit),
    ) -> Result<(), Dry> {
        self.arrivals.take_run(len_max, within, |message| {
            if let Some((person, commit)) = commit_in(message, &self.layout) {
                take(person, commit);
            }
        })
    }

    /// How many wait to be taken. The client puts no limit on it.
    pub fn waiting(&self) -> usize {
        self.arrivals.len()
    }
}

fn definition(stream: &str, name: &str, deliver_to: &str) -> Value {
    json!({
        "stream_name": stream,
        "action": "create",
        "config": {
            "name": name,
            "description": "what a replica of person-service follows",
            "deliver_subject": deliver_to,
            "deliver_policy": "new",
            "ack_policy": "none",
            "max_deliver": 1,
            "num_replicas": 1,
            "mem_storage": true,
            "inactive_threshold": u64::try_from(INACTIVE_MAX.as_nanos()).unwrap_or(0),
        },
    })
}

/// Why the consumer was not created, if it was not.
fn refusal(answer: &[u8]) -> Option<Unavailable> {
    #[derive(serde::Deserialize)]
    struct Answer {
        error: Option<ApiError>,
    }
    match serde_json::from_slice::<Answer>(answer) {
        Ok(Answer { error: None }) if !answer.is_empty() => None,
        Ok(Answer { error: Some(error) }) => Some(Unavailable(error.to_string())),
        _ => Some(Unavailable("an answer that makes no sense".to_owned())),
    }
}

/// The commit that was delivered, and whose it is.
fn commit_in(message: Incoming, layout: &Layout) -> Option<(PersonId, StoredCommit)> {
    let person = layout.person_of_event(message.subject())?;
    let sequence = stream_sequence(message.reply()?, layout.stream())?;
    Some((person, StoredCommit { sequence, payload: message.into_payload().into() }))
}

/// The position in this stream that the subject for an acknowledgement names. After `$JS.ACK.` come stream, consumer, number
/// of the delivery and this; where the server says more, domain and account come before.
fn stream_sequence(ack_subject: &str, stream: &str) -> Option<u64> {
    let tokens = ack_subject.strip_prefix("$JS.ACK.")?;
    let mut tokens = tokens.split('.').skip(if tokens.split('.').count() >= 9 { 2 } else { 0 });
    let is_ours = tokens.next() == Some(stream);
    tokens.nth(2)?.parse().ok().filter(|sequence| is_ours && *sequence > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_found_in_each_form_that_servers_write() {
        for (subject, sequence) in [
            ("$JS.ACK.PERSON_EVENTS.c.1.17.3.1700000000000000000.0", Some(17)),
            ("$JS.ACK._.hash.PERSON_EVENTS.c.1.17.3.1700000000000000000.0", Some(17)),
            ("$JS.ACK.hub.hash.PERSON_EVENTS.c.1.17.3.1700000000000000000.0.random", Some(17)),
            ("$JS.ACK.PERSON_EVENTS.c.1.0.3.1700000000000000000.0", None),
            ("$JS.ACK.PERSON_EVENTS.c.1.x.3.1700000000000000000.0", None),
            ("$JS.ACK.OTHER.c.1.17.3.1700000000000000000.0", None),
            ("$JS.ACK.hub.PERSON_EVENTS.OTHER.c.1.17.3.1700000000000000000.0", None),
            ("$JS.ACK.PERSON_EVENTS", None),
            ("_INBOX.abc", None),
        ] {
            assert_eq!(stream_sequence(subject, "PERSON_EVENTS"), sequence, "{subject}");
        }
    }

    #[test]
    fn a_refusal_is_one() {
        assert_eq!(refusal(br#"{"type":"io.nats.jetstream.api.v1.consumer_create_response","name":"c"}"#), None);
        let denied =
            refusal(br#"{"error":{"code":400,"err_code":10026,"description":"maximum consumers limit reached"}}"#);
        assert_eq!(denied, Some(Unavailable("maximum consumers limit reached (400, 10026)".to_owned())));
        assert!(refusal(b"").is_some() && refusal(b"x").is_some());
    }
}
