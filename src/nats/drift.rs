//! How far a stream that is there differs from the one that the service would make, and what would mend it.

use serde_json::{Map, Value};

use super::definitions::{bucket, new_salt, stream};
use super::fault::{Fault, changed};
use super::layout::Layout;
use super::stream_rules::{StreamConfig, judge_bucket, judge_stream};
use crate::config;

/// What lies in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The commits.
    Commits,
    /// The snapshots.
    Snapshots,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// Its name in the stream's configuration.
    pub field: String,
    /// What is there; `null` where nothing is.
    pub found: Value,
    /// What the service would have set; `null` where nothing.
    pub expected: Value,
    /// Whether nats-server lets it be changed on a stream that is there.
    pub changeable: bool,
}

/// What there is to say of a stream's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// With these the service does not start, or keeps no snapshots.
    pub fatal: Vec<Fault>,
    /// These the service warns of.
    pub warnings: Vec<String>,
    /// All differences, whatever they do.
    pub drift: Vec<Drift>,
    /// The configuration that is there, with all that can be changed as it should be.
    pub repaired: Value,
}

/// Fields that are off in what the service makes, and matter when they are on.
const OFF: [&str; 11] = [
    "sealed",
    "mirror",
    "sources",
    "no_ack",
    "persist_mode",
    "subject_transform",
    "republish",
    "allow_msg_counter",
    "allow_msg_ttl",
    "allow_msg_schedules",
    "mirror_direct",
];

/// Fields that nats-server does not let anybody change on a stream that is there, at least not in this direction.
const FIXED: [&str; 9] = [
    "name",
    "retention",
    "storage",
    "max_consumers",
    "sealed",
    "mirror",
    "persist_mode",
    "allow_msg_counter",
    "allow_msg_ttl",
];

/// Fields that can be turned on and not off.
const ONLY_ON: [&str; 2] = ["deny_delete", "deny_purge"];

/// The stream as the service would make it.
pub fn expected(kept: Kept, layout: &Layout, wanted: &config::Store) -> Value {
    match kept {
        Kept::Commits => stream(layout, wanted, new_salt()),
        Kept::Snapshots => bucket(layout, wanted.replicas),
    }
}

/// Judges the configuration of a stream as nats-server shows it.
pub fn judge(kept: Kept, layout: &Layout, wanted: &config::Store, found: &Value) -> Judgement {
    let expected = expected(kept, layout, wanted);
    let (fatal, warnings) = match (kept, StreamConfig::read(found)) {
        (_, Err(why)) => (vec![Fault::for_good("config", why)], Vec::new()),
        (Kept::Commits, Ok(config)) => {
            let verdict = judge_stream(&config, layout, wanted, None);
            (verdict.faults, verdict.warnings)
        }
        (Kept::Snapshots, Ok(config)) => (judge_bucket(&config, layout), Vec::new()),
    };
    let mut drift = drift(found, &expected);
    drift.retain_mut(|drift| match (drift.field.as_str(), fatal.iter().find(|fault| fault.field == drift.field)) {
        (_, Some(fault)) => {
            // It says what is to be set with what is the operator's kept in it.
            drift.changeable = fault.cure.is_some();
            drift.expected = fault.cure.clone().unwrap_or_else(|| drift.expected.take());
            true
        }
        // More copies, more subjects, and whatever else stands in the metadata, are somebody's good reason.
        ("subjects" | "metadata", None) => false,
        // A limit that refuses what is too much is somebody's choice, or the account's demand.
        ("max_bytes" | "max_msgs", None) => found.get("discard").and_then(Value::as_str) != Some("new"),
        ("num_replicas", None) => drift.found.as_u64().unwrap_or_default() < u64::from(wanted.replicas),
        _ => true,
    });
    let changes = drift.iter().filter(|drift| drift.changeable).map(|drift| (drift.field.as_str(), &drift.expected));
    let repaired = changed(found, changes).unwrap_or_else(|| found.clone());
    Judgement { fatal, warnings, drift, repaired }
}

fn drift(found: &Value, expected: &Value) -> Vec<Drift> {
    let empty = Map::new();
    let fields = expected.as_object().unwrap_or(&empty).keys().map(String::as_str).chain(OFF);
    let member = |of: &Value, field: &str| of.get(field).cloned().unwrap_or_default();
    let compare = |field: &str| {
        let (found, expected) = (member(found, field), member(expected, field));
        let stuck = ONLY_ON.contains(&field) && found == true;
        let changeable = !FIXED.contains(&field) && !stuck;
        (!alike(&found, &expected)).then(|| Drift { field: field.to_owned(), found, expected, changeable })
    };
    fields.filter_map(compare).collect()
}

/// nats-server leaves out what is off, and shows no limit as -1 or 0.
fn alike(one: &Value, other: &Value) -> bool {
    let is_off = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_i64().is_some_and(|number| number <= 0),
        Value::String(text) => text.is_empty() || text == "none" || text == "default",
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
    };
    one == other || (is_off(one) && is_off(other))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::layout::tests::{layout, wanted};
    use super::*;

    fn judged(changes: Value) -> Judgement {
        let mut found = stream(&layout(None), &wanted(), new_salt());
        if let Some(metadata) = found["metadata"].as_object_mut() {
            metadata.insert("_nats.ver".to_owned(), json!("2.15.1"));
        }
        for (name, value) in changes.as_object().expect("an object") {
            found[name] = value.clone();
        }
        judge(Kept::Commits, &layout(None), &wanted(), &found)
    }

    #[test]
    fn what_is_off_is_off_however_it_is_written() {
        let shown = json!({
            "max_age": -1, "max_msg_size": 0, "deny_purge": null, "sources": [],
            "placement": {"tags": ["ssd"]}, "num_replicas": 3, "subjects": ["person.events.>", "person.identifiers.>"], "duplicate_window": 120_000_000_000_u64, "description": "ours",
        });
        let judgement = judged(shown);
        assert_eq!((judgement.drift, judgement.fatal), (Vec::new(), Vec::new()));
        assert_eq!(judgement.repaired["placement"], json!({"tags": ["ssd"]}));
    }

    #[test]
    fn each_field_that_differs_is_named_and_mended_where_that_can_be() {
        let judgement = judged(json!({
            "max_age": 5, "storage": "memory", "deny_purge": true, "no_ack": true, "num_replicas": 0, "description": "x",
        }));
        let fields: Vec<(&str, bool)> = judgement.drift.iter().map(|d| (d.field.as_str(), d.changeable)).collect();
        let all =
            [("deny_purge", false), ("max_age", true), ("num_replicas", true), ("storage", false), ("no_ack", true)];
        assert!(all.iter().all(|one| fields.contains(one)) && fields.len() == all.len(), "{fields:?}");
        let fatal: Vec<&str> = judgement.fatal.iter().map(|fault| fault.field).collect();
        assert_eq!(fatal, ["max_age", "deny_purge", "no_ack"]);
        let config = &judgement.repaired;
        assert_eq!(
            (&config["max_age"], &config["storage"], &config["no_ack"]),
            (&json!(0), &json!("memory"), &json!(false))
        );
        assert_eq!(config["description"], "x", "what the service does not mind stays");
    }
}
