//! Snapshots and queries of the real service on a real server: a cache that may be lost, harmed and forged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper of a test may fail it, as the test may")]

mod ahead;
mod bounded;
mod bucket;
mod harm;
mod long;
mod time_travel;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cim_domain_person::domain::PersonId;
use cim_domain_person::wire::snapshot::{self, Snapshot};
use serde_json::{Value, json};

use crate::daemon::client::Client;
use crate::support::{PATIENCE, eventually};

/// The stream under the bucket.
const BUCKET: &str = "KV_PERSON_EVENTS_SNAPSHOTS";
const OFTEN: (&str, &str) = ("SNAPSHOT_FREQ", "10");

/// A person that no test has heard of.
fn somebody() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn name(given: &str) -> Value {
    json!({ "components": { "given_names": [given], "family_names": ["Lovelace"] } })
}

fn create(person: &str) -> Value {
    json!({ "CreatePerson": { "person_id": person, "name": name("Ada 1"), "source": "registry" } })
}

/// Makes an event; the person's version is in the name, so that what is shown tells whether it is the newest.
fn rename(person: &str, version: u64) -> Value {
    json!({ "UpdateName": { "person_id": person, "name": name(&format!("Ada {version}")) } })
}

/// Something large to remember.
fn large(person: &str, bytes: usize) -> Value {
    let kind = json!({ "Custom": { "organization": "tests", "attribute_name": "note", "category": "any" } });
    let items: Vec<String> = (0..bytes / 4_000).map(|_| "x".repeat(4_000)).collect();
    json!({ "RecordAttribute": { "person_id": person, "attribute": {
        "attribute_type": kind, "value": { "TextList": items },
        "provenance": { "source": "SelfReported", "confidence": "Certain" },
    } } })
}

/// A person with as many events.
fn given(client: &mut Client, person: &str, events: u64) {
    client.accepted(person, &create(person));
    let versions: Vec<u64> = (2..=events).collect();
    for versions in versions.chunks(100) {
        let commands: Vec<Value> = versions.iter().map(|version| rename(person, *version)).collect();
        client.accepted(person, &json!(commands));
    }
}

fn ask(client: &mut Client, name: &str, query: &Value) -> Value {
    let answer = client.ask(&format!("person.queries.{name}"), &[], query.to_string().as_bytes(), PATIENCE);
    answer.unwrap_or_else(|| panic!("no answer to {name} {query}")).json()
}

fn get(client: &mut Client, person: &str) -> Value {
    ask(client, "get", &json!({ "person_id": person }))
}

/// Whether an answer shows exactly this version, as this version left the person.
#[track_caller]
fn check_shown(answer: &Value, current: u64, shown: u64) {
    assert_eq!(answer["status"], "ok", "{answer}");
    assert_eq!((&answer["version"], &answer["person"]["version"]), (&json!(current), &json!(shown)), "{answer}");
    let given_name = &answer["person"]["name"]["components"]["given_names"][0];
    assert_eq!(given_name, &format!("Ada {shown}"), "{answer}");
}

fn key(person: &str) -> String {
    format!("$KV.PERSON_EVENTS_SNAPSHOTS.v1.{person}")
}

/// The bytes that lie in the bucket.
fn stored_snapshot(client: &mut Client, person: &str) -> Option<Vec<u8>> {
    let shown = client.api(&format!("STREAM.MSG.GET.{BUCKET}"), &json!({ "last_by_subj": key(person) }));
    STANDARD.decode(shown["message"]["data"].as_str()?).ok()
}

/// Waits until the snapshot in the bucket has at least this version.
#[track_caller]
fn snapshot_of(client: &mut Client, person: &str, version_min: u64) -> Snapshot {
    let id: PersonId = person.parse().unwrap();
    let mut found = None;
    eventually(&format!("a snapshot of version {version_min}"), || {
        let decoded = stored_snapshot(client, person).and_then(|bytes| snapshot::decode(id, &bytes).ok());
        found = decoded.filter(|snapshot| snapshot.version >= version_min);
        found.is_some()
    });
    found.unwrap()
}

/// Puts any bytes in the place of a snapshot.
fn forge(client: &mut Client, person: &str, bytes: &[u8]) {
    let ack = client.ask(&key(person), &[], bytes, PATIENCE).expect("the bucket answers").json();
    assert!(ack["seq"].is_u64(), "{ack}");
}
