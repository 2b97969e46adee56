//! The service as real processes on a real server: what the contract promises, seen from outside.

mod batches;
mod budgets;
pub mod client;
mod clocks;
mod contract;
mod drain;
pub mod flood;
mod latency;
mod monitoring;
mod outages;
mod overload;
mod privacy;
pub mod process;
mod readiness;
mod reconnect;
mod replies;
mod reply_subjects;
mod sharing;
mod storm;
mod strangers_at_the_intake;
mod stream_changed;
mod stream_conflicts;
mod stream_gone;
mod threads;
mod three_replicas;
mod tls;
mod unread;

use std::collections::HashMap;

use serde_json::{Value, json};

use client::{Client, Message};

use crate::support::skip;

/// The stream of commits.
const STREAM: &str = "PERSON_EVENTS";

/// A person that no test has heard of.
pub fn somebody() -> String {
    uuid::Uuid::now_v7().to_string()
}

pub fn create(person: &str) -> Value {
    json!({"CreatePerson": {"person_id": person, "name": name("Ada", "Lovelace"), "source": "registry"}})
}

fn name(given: &str, family: &str) -> Value {
    json!({"components": {"given_names": [given], "family_names": [family], "prefixes": [], "suffixes": []}})
}

pub fn rename(person: &str, given: &str) -> Value {
    json!({"UpdateName": {"person_id": person, "name": name(given, "Lovelace")}})
}

/// What the system says of the process, in KiB: `VmRSS`, `VmHWM`. Only Linux says it.
pub fn memory_kib(service: &process::Service, what: &str) -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    Some(line.split_whitespace().nth(1).unwrap().parse().unwrap())
}

/// The memory has not grown by so much; where nobody knows, this part of the test is skipped.
#[track_caller]
pub fn check_growth(test: &str, before: Option<u64>, after: Option<u64>, kib_max: u64) {
    match (before, after) {
        (Some(before), Some(after)) => assert!(after < before + kib_max, "from {before} to {after} KiB"),
        _ => skip(&format!("the memory in {test}"), "this system has no /proc/PID/status"),
    }
}

/// Always makes an event, however often it was done.
pub fn record(person: &str, words: &str) -> Value {
    let kind = json!({"Custom": {"organization": "tests", "attribute_name": "note", "category": "any"}});
    let provenance = json!({"source": "SelfReported", "confidence": "Certain"});
    let attribute = json!({"attribute_type": kind, "value": {"Text": words}, "provenance": provenance});
    json!({"RecordAttribute": {"person_id": person, "attribute": attribute}})
}

/// What the stream holds, checked message by message: one order for each person and nothing missing from it.
#[derive(Debug, Default)]
pub struct History {
    /// Each person's version.
    pub versions: HashMap<String, u64>,
    /// The version and the sequence of the stream at which each command's events ended, and how many they are.
    pub commands: HashMap<String, Stored>,
    pub commits: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    person: String,
    version: u64,
    sequence: u64,
    events: Vec<String>,
}

/// Reads the whole stream and checks it: versions 1, 2, 3 without gap, an intact chain, no command id twice.
#[track_caller]
pub fn checked_history(client: &mut Client) -> History {
    let mut history = History::default();
    let mut chain: HashMap<String, String> = HashMap::new();
    for message in client.stored(STREAM) {
        let commit = message.json();
        let person = commit["aggregate_id"].as_str().expect("an id").to_owned();
        assert_eq!(message.header("Nats-Subject"), Some(format!("person.events.{person}").as_str()));
        let previous = chain.insert(person.clone(), digest(&message)).unwrap_or_else(|| "0".repeat(32));
        assert_eq!(commit["previous"], previous, "the chain of {person}");
        take_commit(&mut history, &person, &commit, &message);
        history.commits += 1;
    }
    history
}

#[track_caller]
fn take_commit(history: &mut History, person: &str, commit: &Value, message: &Message) {
    let sequence = message.header("Nats-Sequence").and_then(|number| number.parse().ok()).expect("a sequence");
    let mut version = history.versions.get(person).copied().unwrap_or(0);
    let mut events = commit["events"].as_array().expect("events").iter();
    for command in commit["commands"].as_array().expect("commands") {
        let mut kinds = Vec::new();
        for _ in 0..command["events"].as_u64().expect("a count") {
            let event = events.next().expect("as many events as the commands say");
            version += 1;
            assert_eq!(event["sequence"], version, "{person} has a gap");
            assert_eq!(event["causation_id"], command["command_id"]);
            kinds.extend(event["event"].as_object().expect("an event").keys().cloned());
        }
        let id = command["command_id"].as_str().expect("an id").to_owned();
        let stored = Stored { person: person.to_owned(), version, sequence, events: kinds };
        let before = history.commands.insert(id.clone(), stored);
        assert_eq!(before, None, "command {id} was carried out twice");
    }
    assert!(events.next().is_none(), "events that no command made");
    assert_eq!(commit["version"], version);
    history.versions.insert(person.to_owned(), version);
}

fn digest(message: &Message) -> String {
    blake3::hash(&message.payload).to_hex().as_str()[..32].to_owned()
}

/// Whether an acceptance says what is stored.
#[track_caller]
pub fn check_answer(history: &History, command_id: &str, answer: &Value) {
    let stored = history.commands.get(command_id).unwrap_or_else(|| panic!("{command_id} is not stored: {answer}"));
    assert_eq!(answer["command_id"], command_id);
    assert_eq!(answer["version"], stored.version, "{answer}");
    assert_eq!(answer["sequence"], stored.sequence, "{answer}");
    assert_eq!(answer["events"], json!(stored.events), "{answer}");
}
