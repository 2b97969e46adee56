//! What JetStream says of itself and of a stream, when it is asked.

use serde::Deserialize;
use serde_json::Value;

use super::api::ApiError;
use super::inbox::Exchanged;
use super::message::Incoming;
use super::stream_rules::StreamConfig;
use crate::engine::ports::Sequence;

/// What tells a stream from one that was restored or lost its tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// When it was created, as the server writes it.
    pub created: String,
    /// The sequence of its newest message; 0 when there never was one.
    pub last_sequence: Sequence,
    /// Whether there are several copies, and so leaders that may be replaced without knowing it yet.
    pub has_copies: bool,
}

/// Why a call brought nothing.
pub(super) enum Trouble {
    Away(String),
    Refused(ApiError),
}

/// What JetStream says of itself and of our account.
pub(super) fn account(answer: &Incoming) -> Result<AccountInfo, Trouble> {
    read_answer(answer)
}

/// The stream that its leader shows, and how it is configured.
pub(super) fn read_stream(answer: &Incoming) -> Result<(StreamState, StreamConfig), Trouble> {
    let info: StreamInfo = read_answer(answer)?;
    let config = info.config()?;
    Ok((info.into_state(), config))
}

/// How the stream that its leader shows is configured.
pub(super) fn read_config(answer: &Incoming) -> Result<StreamConfig, Trouble> {
    read_stream(answer).map(|(_, config)| config)
}

/// Reads an answer of JetStream; an error in it is one.
pub(super) fn read_answer<T: for<'de> Deserialize<'de>>(answer: &Incoming) -> Result<T, Trouble> {
    if answer.is_no_responders() {
        return Err(Trouble::Away("nobody answers JetStream calls (is it off, or the domain another one?)".to_owned()));
    }
    let garbled = |error: serde_json::Error| Trouble::Away(format!("JetStream's answer makes no sense: {error}"));
    let error: ErrorPart = serde_json::from_slice(answer.payload()).map_err(garbled)?;
    match error.error {
        Some(error) => Err(Trouble::Refused(error)),
        None => serde_json::from_slice(answer.payload()).map_err(garbled),
    }
}

/// Why there is no answer, in words.
pub(super) fn no_answer<T>(exchanged: &Exchanged<T>) -> String {
    match exchanged {
        Exchanged::NotSent(why) => why.to_string(),
        Exchanged::Answered(_) | Exchanged::Silent => {
            "JetStream gave no answer in time (or we have no right to ask it)".to_owned()
        }
    }
}

#[derive(Deserialize)]
struct ErrorPart {
    error: Option<ApiError>,
}

#[derive(Deserialize)]
pub(super) struct AccountInfo {
    #[serde(default)]
    pub(super) api: ApiPart,
    #[serde(default)]
    pub(super) domain: String,
}

#[derive(Default, Deserialize)]
pub(super) struct ApiPart {
    #[serde(default)]
    pub(super) level: u64,
}

#[derive(Deserialize)]
pub(super) struct StreamInfo {
    pub(super) config: Value,
    created: String,
    state: StatePart,
}

#[derive(Deserialize)]
struct StatePart {
    last_seq: Sequence,
}

impl StreamInfo {
    /// How it is configured.
    pub(super) fn config(&self) -> Result<StreamConfig, Trouble> {
        StreamConfig::read(&self.config).map_err(Trouble::Away)
    }

    pub(super) fn into_state(self) -> StreamState {
        let has_copies = self.config.get("num_replicas").and_then(Value::as_u64) > Some(1);
        StreamState { created: self.created, last_sequence: self.state.last_seq, has_copies }
    }
}
