//! Asking the store whether a command would be answered now, through the connection and in the way that appends use.
//!
//! What the start found of server, JetStream and stream may be another after each connect, and a stream may be changed or
//! replaced without any connection being lost. So all of it is asked again, after each connect and every few seconds.

use std::time::Duration;

use semver::Version;
use serde::Deserialize;

use super::answers::{StreamState, Trouble, account, read_stream};
use super::clock_offset::ClockOffset;
use super::fault::Fault;
use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::message::Incoming;
use super::provision::too_old;
use super::store::{NotSent, Store};
use super::stream_rules::{StreamConfig, judge_stream};
use crate::config;
use crate::domain::Timestamp;
use crate::wire::salt::IdentifierSalt;

/// What a checkup found.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The version of the server that we are connected to.
    pub server: Version,
    /// The JetStream domain that the stream lies in; empty where the server names none.
    pub domain: String,
    /// The stream, by its leader's word.
    pub stream: StreamState,
    /// What is wrong with its configuration: with these it cannot hold what is accepted.
    pub faults: Vec<Fault>,
    /// Our clock against that of the stream's leader; `None` where it does not tell its time.
    pub clock: Option<ClockOffset>,
}

/// Why a command would not be answered, or why it is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Nothing was asked: the connection says why.
    #[error("{0}")]
    NotAsked(NotSent),
    /// No answer came in time, or one that says "not now".
    #[error("{0}")]
    NoAnswer(String),
    /// The server is older than what the service needs.
    #[error("{0}")]
    ServerTooOld(String),
    /// There is no JetStream for us.
    #[error("JetStream is not available: {0}")]
    NoJetStream(String),
    /// There is no such stream, or it cannot be shown.
    #[error("the stream cannot be looked at: {0}")]
    StreamMissing(String),
}

/// Asks, by an inbox of its own.
#[derive(Debug)]
pub struct Checkup {
    inbox: Inbox,
    layout: Layout,
    wanted: config::Store,
    /// When the stream was created whose salt is known, and that salt.
    known: (String, IdentifierSalt),
    /// In which of the connection's lives it is known that the server answered while all inboxes had their places.
    had_places: Option<u64>,
}

impl Checkup {
    /// Over this connection, of the stream that was found to be like this.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn new(
        store: &Store,
        layout: &Layout,
        wanted: &config::Store,
        stream: &StreamState,
        salt: IdentifierSalt,
    ) -> Result<Self, NotSent> {
        let known = (stream.created.clone(), salt);
        Ok(Self { inbox: store.inbox()?, layout: layout.clone(), wanted: wanted.clone(), known, had_places: None })
    }

    /// Asks JetStream and the stream's leader, both at once, and waits for the answers no longer than this.
    ///
    /// An inbox listens on a new session with its next question, which would be a command's. So for the first answer on each
    /// the others' places are taken, too: what the server denies of them is known when the answer is there.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub fn run(&mut self, wait: Duration) -> Result<Seen, CheckError> {
        let subjects = [self.layout.api("INFO"), self.layout.api(&format!("STREAM.INFO.{}", self.layout.stream()))];
        let send = |store: &Store, subject: &String, reply: &str| store.publish(subject, Some(reply), &[], b"");
        let generation = self.inbox.generation();
        let places = if self.had_places == Some(generation) { Vec::new() } else { self.inbox.places_for_all() };
        let asked = Timestamp::now();
        let mut answers = self.inbox.exchange(&subjects, wait, send, |_, answer| Some(answer)).into_iter().map(taken);
        let answered = Timestamp::now();
        drop(places);
        let mut next = || answers.next().unwrap_or_else(|| Err(silence()));
        let (info, stream) = (next()?, next());
        self.had_places = Some(generation);
        let (server, found) = (info.server_version().unwrap_or(Version::new(0, 0, 0)), account(&info));
        if let Some(why) = too_old(&server, found.as_ref().ok()) {
            return Err(CheckError::ServerTooOld(why.to_string()));
        }
        let found = found.map_err(|trouble| match trouble {
            Trouble::Refused(error) if error.is_temporary() => CheckError::NoAnswer(error.to_string()),
            Trouble::Refused(error) => CheckError::NoJetStream(error.to_string()),
            Trouble::Away(why) => CheckError::NoJetStream(why),
        })?;
        let stream = stream?;
        let clock = told_time(&stream).map(|said| ClockOffset::between(asked, said, answered));
        let (stream, config) = read_stream(&stream).map_err(|trouble| match trouble {
            Trouble::Refused(error) if error.is_temporary() => CheckError::NoAnswer(error.to_string()),
            Trouble::Refused(error) => CheckError::StreamMissing(error.to_string()),
            Trouble::Away(why) => CheckError::NoAnswer(why),
        })?;
        let faults = self.judge(&stream, &config);
        Ok(Seen { server, domain: found.domain, stream, faults, clock })
    }

    /// A stream keeps its salt; another stream in its place has its own.
    fn judge(&mut self, stream: &StreamState, config: &StreamConfig) -> Vec<Fault> {
        let (created, salt) = &self.known;
        let known = (*created == stream.created).then_some(*salt);
        let faults = judge_stream(config, &self.layout, &self.wanted, known).faults;
        if let Some(salt) = config.salt().filter(|_| faults.is_empty()) {
            self.known = (stream.created.clone(), salt);
        }
        faults
    }
}

/// The time at which a server answered, by its own clock.
fn told_time(answer: &Incoming) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Told {
        ts: Timestamp,
    }
    serde_json::from_slice::<Told>(answer.payload()).ok().map(|told| told.ts)
}

fn taken(answer: Exchanged<Incoming>) -> Result<Incoming, CheckError> {
    match answer {
        Exchanged::Answered(answer) => Ok(answer),
        Exchanged::NotSent(why) => Err(CheckError::NotAsked(why)),
        Exchanged::Silent => Err(silence()),
    }
}

fn silence() -> CheckError {
    CheckError::NoAnswer("the stream's leader gives no answer".to_owned())
}
