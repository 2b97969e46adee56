//! Questions to a stream's leader, which alone knows the newest message for certain.
//!
//! A direct read may be answered by a copy that lags; `STREAM.MSG.GET` never is. It shows one message at a time, wrapped
//! in JSON, so it is for the last word, not for the bulk.

use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Shown, read_shown};
use super::inbox::{Exchanged, Inbox};
use super::message::Incoming;
use super::store::Store;
use crate::engine::ports::{Sequence, StoredCommit, Unavailable};

/// What a commit counts for that is wrapped in JSON: there are both, for a moment.
const SHOWN_COMMITS: usize = 2;

/// Asks for the newest message on a subject.
pub(super) fn last_of_subject(subject: &str) -> Value {
    json!({ "last_by_subj": subject })
}

/// Asks for the message at a sequence, whatever its subject.
pub(super) fn at_sequence(sequence: Sequence) -> Value {
    json!({ "seq": sequence })
}

/// Asks for the first message on a subject from a sequence on, that one included.
pub(super) fn next_of_subject(subject: &str, from: Sequence) -> Value {
    json!({ "seq": from.max(1), "next_by_subj": subject })
}

/// Asks the leader behind `subject`, a `STREAM.MSG.GET` call, all questions at once as far as there is room for the answers.
/// What is shown is made into what is kept of it as soon as it is there.
pub(super) fn ask_leader<T>(
    inbox: &mut Inbox,
    subject: &str,
    questions: &[Value],
    wait: Duration,
    keep: impl Fn(Shown) -> T,
) -> Vec<Result<Option<T>, Unavailable>> {
    let send = |store: &Store, question: &Value, reply: &str| {
        store.publish(subject, Some(reply), &[], question.to_string().as_bytes())
    };
    let take = |_, answer: Incoming| Some(shown(&answer).map(|shown| shown.map(&keep)));
    let answers = inbox.exchange_in_waves(questions, SHOWN_COMMITS, wait, || false, send, take);
    answers.into_iter().map(|answer| answered(answer).and_then(|shown| shown)).collect()
}

/// The answer, or the words for why there is none.
pub(super) fn answered<T>(exchanged: Exchanged<T>) -> Result<T, Unavailable> {
    match exchanged {
        Exchanged::Answered(answer) => Ok(answer),
        Exchanged::NotSent(why) => Err(Unavailable(why.to_string())),
        Exchanged::Silent => Err(Unavailable("the store gave no answer in time".to_owned())),
    }
}

fn shown(answer: &Incoming) -> Result<Option<Shown>, Unavailable> {
    if answer.is_no_responders() {
        return Err(Unavailable("JetStream is away".to_owned()));
    }
    read_shown(answer.payload())
}

impl From<Shown> for StoredCommit {
    fn from(shown: Shown) -> Self {
        Self { sequence: shown.sequence, payload: shown.payload.into() }
    }
}
