//! What the service's streams are like when it makes them, and what it demands of those that it finds.

use serde::Deserialize;
use serde_json::{Value, json};

use super::layout::Layout;
use super::replies::covers;
use crate::config;
use crate::domain::PersonId;

/// A stream has to take messages of this many bytes: the largest commit with its headers.
const MESSAGE_BYTES_MIN: i64 = 576 * 1024;

/// How long a bucket recognises a repeated message id, as every KV bucket has it; in nanoseconds.
const BUCKET_DUPLICATE_WINDOW_NANOS: u64 = 120_000_000_000;

/// The stream of commits, as contract section 1 has it: complete for ever, with purging left open for erasure.
pub(super) fn stream(layout: &Layout, wanted: &config::Store) -> Value {
    json!({
        "name": layout.stream(),
        "subjects": [layout.event_subjects()],
        "retention": "limits",
        "storage": "file",
        "num_replicas": wanted.replicas,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "max_msgs_per_subject": -1,
        "discard": "new",
        "deny_delete": true,
        "deny_purge": false,
        "allow_rollup_hdrs": true,
        "allow_direct": true,
        "allow_atomic": true,
        "compression": "s2",
    })
}

/// The snapshot bucket: a KV bucket as all clients know it, one value a key.
pub(super) fn bucket(layout: &Layout, replicas: u8) -> Value {
    json!({
        "name": layout.bucket_stream(),
        "subjects": [layout.bucket_subjects()],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_rollup_hdrs": true,
        "deny_delete": true,
        "deny_purge": false,
        "allow_direct": true,
        "duplicate_window": BUCKET_DUPLICATE_WINDOW_NANOS,
        "compression": "s2",
    })
}

/// The parts of a stream's configuration that the rules look at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamConfig {
    pub(super) subjects: Vec<String>,
    retention: String,
    storage: String,
    discard: String,
    pub(super) num_replicas: u8,
    max_msgs: i64,
    max_bytes: i64,
    max_age: i64,
    max_msg_size: i64,
    max_msgs_per_subject: i64,
    deny_delete: bool,
    pub(super) allow_direct: bool,
    pub(super) allow_atomic: bool,
    sealed: bool,
    no_ack: bool,
    allow_msg_counter: bool,
    persist_mode: String,
    mirror: Option<Value>,
    sources: Vec<Value>,
    subject_transform: Option<Value>,
}

/// What the rules say of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// With these, commits would be lost, damaged or not found: the service does not start.
    pub(super) fatal: Vec<String>,
    /// These are worth a line in the log.
    pub(super) warnings: Vec<String>,
}

/// Judges a stream that is to hold the commits.
pub(super) fn judge_stream(config: &StreamConfig, layout: &Layout, wanted: &config::Store) -> Verdict {
    let limited = config.max_msgs > 0 || config.max_bytes > 0;
    let drops_old = config.discard != "new";
    let fatal = [
        (!takes_commits(config, layout), format!("it does not take the subjects {}", layout.event_subjects())),
        (config.retention != "limits", format!("its retention is {:?}, not \"limits\"", config.retention)),
        (config.max_age > 0, "its max_age drops old commits".to_owned()),
        (config.max_msgs_per_subject > 0, "its max_msgs_per_subject drops a person's old commits".to_owned()),
        (limited && drops_old, "its limits drop old commits (discard is not \"new\")".to_owned()),
        (!config.allow_direct, "allow_direct is off".to_owned()),
        (config.sealed, "it is sealed".to_owned()),
        (config.mirror.is_some(), "it is a mirror".to_owned()),
        (config.no_ack, "no_ack is on: nothing would be acknowledged".to_owned()),
        (config.allow_msg_counter, "it counts (allow_msg_counter) and takes no expected sequence".to_owned()),
        (config.persist_mode == "async", "persist_mode is \"async\": it acknowledges before it writes".to_owned()),
        (config.subject_transform.is_some(), "a subject_transform moves the commits to other subjects".to_owned()),
        (
            (1..MESSAGE_BYTES_MIN).contains(&config.max_msg_size),
            format!("its max_msg_size is below {MESSAGE_BYTES_MIN} bytes"),
        ),
    ];
    let warnings = [
        (config.storage == "memory", "it lies in memory: a restart of the server loses it".to_owned()),
        (limited && !drops_old, "it has limits: when they are reached, nothing more can be stored".to_owned()),
        (!config.deny_delete, "deny_delete is off: single commits can be deleted".to_owned()),
        (
            !config.sources.is_empty(),
            "it has sources: their messages must never lie on the service's subjects".to_owned(),
        ),
        (
            config.num_replicas < wanted.replicas,
            format!("it has {} copies, {} are configured", config.num_replicas.max(1), wanted.replicas),
        ),
        (
            wanted.batch_len_max > 0 && !config.allow_atomic,
            "allow_atomic is off: commits are stored one by one, in spite of STREAM_BATCH".to_owned(),
        ),
    ];
    Verdict { fatal: applying(fatal), warnings: applying(warnings) }
}

/// Judges the stream under the snapshot bucket: true when snapshots can be kept in it.
pub(super) fn is_bucket_usable(config: &StreamConfig, layout: &Layout) -> bool {
    let takes_all = config.subjects.iter().any(|pattern| covers(pattern, &layout.snapshot_subject(anybody())));
    takes_all && config.allow_direct && !config.sealed && config.mirror.is_none() && !config.no_ack
}

/// A pattern that takes one person's commits takes everybody's: it is not spelt out for this one.
pub(super) fn takes_commits(config: &StreamConfig, layout: &Layout) -> bool {
    config.subjects.iter().any(|pattern| covers(pattern, &layout.event_subject(anybody())))
}

fn anybody() -> PersonId {
    PersonId::from_uuid(uuid::Uuid::nil())
}

fn applying<const N: usize>(rules: [(bool, String); N]) -> Vec<String> {
    rules.into_iter().filter_map(|(applies, words)| applies.then_some(words)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::{layout, wanted};
    use super::*;

    /// The verdict on the stream that the service itself would make, changed like this.
    fn judge(changes: Value) -> Verdict {
        let mut config = stream(&layout(None), &wanted());
        for (name, value) in changes.as_object().expect("an object") {
            config[name] = value.clone();
        }
        judge_stream(&serde_json::from_value(config).expect("a configuration"), &layout(None), &wanted())
    }

    #[test]
    fn what_the_service_makes_it_takes() {
        assert_eq!(judge(json!({})), Verdict::default());
        let bucket: StreamConfig = serde_json::from_value(bucket(&layout(None), 1)).expect("a configuration");
        assert!(is_bucket_usable(&bucket, &layout(None)));
    }

    #[test]
    fn what_would_lose_or_damage_commits_is_fatal() {
        for (changes, words) in [
            (json!({"subjects": ["other.events.>"]}), "does not take"),
            (json!({"retention": "workqueue"}), "retention"),
            (json!({"max_age": 1}), "max_age"),
            (json!({"max_msgs_per_subject": 5}), "max_msgs_per_subject"),
            (json!({"discard": "old", "max_bytes": 1000}), "drop old commits"),
            (json!({"allow_direct": false}), "allow_direct"),
            (json!({"sealed": true}), "sealed"),
            (json!({"mirror": {"name": "X"}}), "mirror"),
            (json!({"no_ack": true}), "no_ack"),
            (json!({"persist_mode": "async"}), "persist_mode"),
            (json!({"subject_transform": {"src": "a", "dest": "b"}}), "subject_transform"),
            (json!({"allow_msg_counter": true}), "counts"),
            (json!({"max_msg_size": 1000}), "max_msg_size"),
        ] {
            let verdict = judge(changes.clone());
            assert!(verdict.fatal.iter().any(|why| why.contains(words)), "{changes}: {verdict:?}");
        }
    }

    #[test]
    fn what_is_only_unwise_is_a_warning() {
        for (changes, words) in [
            (json!({"storage": "memory"}), "memory"),
            (json!({"max_msgs": 10}), "limits"),
            (json!({"deny_delete": false}), "deny_delete"),
            (json!({"sources": [{"name": "X"}]}), "sources"),
            (json!({"num_replicas": 0}), "copies"),
            (json!({"allow_atomic": false}), "STREAM_BATCH"),
        ] {
            let verdict = judge(changes.clone());
            assert_eq!(verdict.fatal, [""; 0], "{changes}");
            assert!(verdict.warnings.iter().any(|why| why.contains(words)), "{changes}: {verdict:?}");
        }
    }

    #[test]
    fn wider_subjects_and_old_discard_without_limits_are_fine() {
        for changes in [
            json!({"subjects": ["x", "person.>"]}),
            json!({"subjects": ["person.events.*"]}),
            json!({"discard": "old"}),
        ] {
            assert_eq!(judge(changes.clone()), Verdict::default(), "{changes}");
        }
    }
}
