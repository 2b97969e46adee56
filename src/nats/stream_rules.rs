//! What the service demands of the streams that it finds: at its start, while it runs, and when `doctor` asks.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::definitions::new_salt;
use super::fault::{Fault, OF_THE_SERVER};
use super::layout::Layout;
use super::replies::covers;
use crate::config::{self, overlap};
use crate::domain::PersonId;
use crate::wire::salt::IdentifierSalt;

/// A stream has to take messages of this many bytes: the largest commit with its headers.
const MESSAGE_BYTES_MIN: i64 = 576 * 1024;

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
    deny_purge: bool,
    allow_direct: bool,
    allow_atomic: bool,
    allow_rollup_hdrs: bool,
    sealed: bool,
    no_ack: bool,
    allow_msg_counter: bool,
    persist_mode: String,
    mirror: Option<Value>,
    sources: Vec<Value>,
    subject_transform: Option<Value>,
    metadata: BTreeMap<String, String>,
}

impl StreamConfig {
    /// Reads the configuration that a server shows. What is null is not there.
    ///
    /// # Errors
    /// It is none, in words.
    pub(super) fn read(shown: &Value) -> Result<Self, String> {
        let mut shown = shown.clone();
        if let Some(members) = shown.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        serde_json::from_value(shown).map_err(|error| format!("its configuration makes no sense: {error}"))
    }

    /// The salt in its metadata, where there is one.
    pub(super) fn salt(&self) -> Option<IdentifierSalt> {
        self.metadata.get(IdentifierSalt::METADATA)?.parse().ok()
    }

    /// Its metadata with this salt, and without what the server adds by itself.
    fn metadata_with(&self, salt: IdentifierSalt) -> Value {
        let ours = self.metadata.iter().filter(|(name, _)| !name.starts_with(OF_THE_SERVER));
        let mut metadata: BTreeMap<&str, String> = ours.map(|(name, value)| (&**name, value.clone())).collect();
        metadata.insert(IdentifierSalt::METADATA, salt.to_string());
        json!(metadata)
    }
}

/// What the rules say of a stream.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// With these the service does not start, and takes no commands.
    pub(super) faults: Vec<Fault>,
    /// These are worth a line in the log.
    pub(super) warnings: Vec<String>,
}

/// Judges a stream that is to hold the commits. Where the salt is `known` it has to be that one.
pub(super) fn judge_stream(
    config: &StreamConfig,
    layout: &Layout,
    wanted: &config::Store,
    known: Option<IdentifierSalt>,
) -> Verdict {
    let all = [subject_faults(config, layout), retention_faults(config), flag_faults(config)];
    let faults = all.into_iter().flatten().chain(salt_fault(config, known)).collect();
    Verdict { faults, warnings: warnings(config, wanted) }
}

fn subject_faults(config: &StreamConfig, layout: &Layout) -> Vec<Fault> {
    let takes = |subject: &str| config.subjects.iter().any(|pattern| covers(pattern, subject));
    // A pattern that takes one person's commits takes everybody's: it is not spelt out for this one.
    let lacking: Vec<String> = [
        (layout.event_subject(anybody()), layout.event_subjects()),
        (layout.identifier_subjects(), layout.identifier_subjects()),
    ]
    .into_iter()
    .filter(|(one, _)| !takes(one))
    .map(|(_, all)| all)
    .collect();
    let wide: Vec<String> = layout.requests().into_iter().filter(|all| takes_some(config, all)).collect();
    let cure = || json!(mended_subjects(config, layout));
    let lacks = || format!("it does not take the subjects {}", lacking.join(" and "));
    let takes_too_much = || {
        let wide = wide.join(", ");
        format!("it takes the subjects {wide}, where its acknowledgement would reach clients in place of the reply")
    };
    [
        (!lacking.is_empty()).then(|| Fault::curable("subjects", lacks(), cure())),
        (!wide.is_empty()).then(|| Fault::curable("subjects", takes_too_much(), cure())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn takes_some(config: &StreamConfig, subjects: &str) -> bool {
    config.subjects.iter().any(|pattern| overlap(pattern, subjects))
}

/// The subjects as they should be, with whatever else somebody has put there.
fn mended_subjects(config: &StreamConfig, layout: &Layout) -> Vec<String> {
    let requests = layout.requests();
    let is_harmless = |pattern: &&String| !requests.iter().any(|subjects| overlap(pattern, subjects));
    let mut subjects: Vec<String> = config.subjects.iter().filter(is_harmless).cloned().collect();
    for own in [layout.event_subjects(), layout.identifier_subjects()] {
        if !subjects.iter().any(|pattern| covers(pattern, &own)) {
            // A stream's own patterns may not overlap.
            subjects.retain(|pattern| !overlap(pattern, &own));
            subjects.push(own);
        }
    }
    subjects
}

fn retention_faults(config: &StreamConfig) -> Vec<Fault> {
    let StreamConfig { retention, max_age, max_msgs_per_subject: per_subject, max_msg_size, .. } = config;
    let drops_by = |retention: &str| format!("its retention is {retention:?}, not \"limits\"");
    let age = Duration::from_nanos(max_age.unsigned_abs());
    let discards = config.is_limited() && config.discard != "new";
    [
        match retention.as_str() {
            "limits" => None,
            "workqueue" => Some(Fault::for_good("retention", drops_by(retention))),
            _ => Some(Fault::curable("retention", drops_by(retention), json!("limits"))),
        },
        (*max_age > 0).then(|| {
            Fault::curable("max_age", format!("its max_age drops commits that are older than {age:?}"), json!(0))
        }),
        (*per_subject > 0).then(|| {
            let why = format!("its max_msgs_per_subject keeps no more than {per_subject} of a person's commits");
            Fault::curable("max_msgs_per_subject", why, json!(-1))
        }),
        discards
            .then(|| Fault::curable("discard", "its limits drop old commits (discard is not \"new\")", json!("new"))),
        (1..MESSAGE_BYTES_MIN).contains(max_msg_size).then(|| {
            let why = format!("its max_msg_size is below {MESSAGE_BYTES_MIN} bytes");
            Fault::curable("max_msg_size", why, json!(-1))
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn flag_faults(config: &StreamConfig) -> Vec<Fault> {
    let on = |is_on: bool, field, why: &str| (!is_on).then(|| Fault::curable(field, why, Value::Bool(true)));
    let rollup = if config.deny_purge {
        Some(Fault::for_good("deny_purge", "deny_purge is on, with which it takes no rollups (allow_rollup_hdrs)"))
    } else {
        on(config.allow_rollup_hdrs, "allow_rollup_hdrs", "allow_rollup_hdrs is off")
    };
    [
        on(config.allow_direct, "allow_direct", "allow_direct is off"),
        on(config.allow_atomic, "allow_atomic", "allow_atomic is off"),
        rollup,
        config.sealed.then(|| Fault::for_good("sealed", "it is sealed")),
        config.mirror.is_some().then(|| Fault::for_good("mirror", "it is a mirror")),
        config
            .no_ack
            .then(|| Fault::curable("no_ack", "no_ack is on: nothing would be acknowledged", Value::Bool(false))),
        config.allow_msg_counter.then(|| {
            Fault::for_good("allow_msg_counter", "it counts (allow_msg_counter) and takes no expected sequence")
        }),
        (config.persist_mode == "async")
            .then(|| Fault::for_good("persist_mode", "persist_mode is \"async\": it acknowledges before it writes")),
        config.subject_transform.is_some().then(|| {
            Fault::curable("subject_transform", "a subject_transform moves commits to other subjects", Value::Null)
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn salt_fault(config: &StreamConfig, known: Option<IdentifierSalt>) -> Option<Fault> {
    let name = IdentifierSalt::METADATA;
    let why = match (config.salt(), known) {
        (Some(found), Some(known)) if found != known => {
            format!("{name} in its metadata is another one than it was, with which exclusive identifiers are lost")
        }
        (Some(_), _) => return None,
        (None, _) => format!("its metadata has no {name} of 32 hex digits"),
    };
    Some(Fault::curable("metadata", why, config.metadata_with(known.unwrap_or_else(new_salt))))
}

impl StreamConfig {
    fn is_limited(&self) -> bool {
        self.max_msgs > 0 || self.max_bytes > 0
    }
}

fn warnings(config: &StreamConfig, wanted: &config::Store) -> Vec<String> {
    let warnings = [
        (config.storage == "memory", "it lies in memory: a restart of the server loses it".to_owned()),
        (!config.deny_delete, "deny_delete is off: single commits can be deleted".to_owned()),
        (
            !config.sources.is_empty(),
            "it has sources: their messages must never lie on the service's subjects".to_owned(),
        ),
        (
            config.num_replicas < wanted.replicas,
            format!("it has {} copies, {} are configured", config.num_replicas.max(1), wanted.replicas),
        ),
    ];
    warnings.into_iter().filter_map(|(applies, words)| applies.then_some(words)).collect()
}

/// Judges the stream under the snapshot bucket: with these no snapshots can be kept in it.
pub(super) fn judge_bucket(config: &StreamConfig, layout: &Layout) -> Vec<Fault> {
    let takes_all = config.subjects.iter().any(|pattern| covers(pattern, &layout.snapshot_subject(anybody())));
    let lacks = || {
        let why = format!("it does not take the subjects {}", layout.bucket_subjects());
        Fault::curable("subjects", why, json!([layout.bucket_subjects()]))
    };
    let matters = ["allow_direct", "sealed", "mirror", "no_ack", "allow_msg_counter", "subject_transform"];
    let flags = flag_faults(config).into_iter().filter(|fault| matters.contains(&fault.field));
    (!takes_all).then(lacks).into_iter().chain(flags).collect()
}

fn anybody() -> PersonId {
    PersonId::from_uuid(uuid::Uuid::nil())
}

#[cfg(test)]
mod tests {
    use super::super::definitions::{bucket, stream};
    use super::super::fault::mended;
    use super::super::layout::tests::{layout, wanted};
    use super::*;

    const SALT: &str = "00112233445566778899aabbccddeeff";

    /// The verdict on the stream that the service itself would make, changed like this.
    fn judge(changes: Value) -> Verdict {
        judge_stream(&read(&found(changes)), &layout(None), &wanted(), SALT.parse().ok())
    }

    fn found(changes: Value) -> Value {
        let mut config = stream(&layout(None), &wanted(), SALT.parse().expect("a salt"));
        for (name, value) in changes.as_object().expect("an object") {
            config[name] = value.clone();
        }
        config
    }

    fn read(config: &Value) -> StreamConfig {
        StreamConfig::read(config).expect("a configuration")
    }

    #[test]
    fn what_the_service_makes_it_takes() {
        assert_eq!(judge(json!({})), Verdict::default());
        assert_eq!(judge_bucket(&read(&bucket(&layout(None), 1)), &layout(None)), []);
        assert_ne!(new_salt(), new_salt());
    }

    /// Each names its field, and where it can be mended the mended configuration has no fault and keeps the rest.
    #[test]
    fn what_would_lose_or_damage_commits_is_a_fault_and_is_mended() {
        for (changes, field, words, is_curable) in [
            (json!({"subjects": ["other.events.>"]}), "subjects", "does not take", true),
            (json!({"subjects": ["person.events.>"]}), "subjects", "does not take the subjects person.identif", true),
            (json!({"subjects": ["person.>"]}), "subjects", "takes the subjects person.commands.>, person.q", true),
            (json!({"subjects": [">"], "no_ack": true}), "subjects", "person.intake.>, $SRV.>", true),
            (json!({"subjects": ["*.events.>", "*.identifiers.*", "$SRV.INFO"]}), "subjects", "$SRV.>", true),
            (json!({"retention": "workqueue"}), "retention", "workqueue", false),
            (json!({"retention": "interest"}), "retention", "interest", true),
            (json!({"max_age": 3_600_000_000_000_u64}), "max_age", "older than 3600s", true),
            (json!({"max_msgs_per_subject": 5}), "max_msgs_per_subject", "no more than 5", true),
            (json!({"discard": "old", "max_bytes": 1000}), "discard", "drop old commits", true),
            (json!({"allow_direct": false}), "allow_direct", "allow_direct", true),
            (json!({"allow_atomic": false}), "allow_atomic", "allow_atomic", true),
            (json!({"allow_rollup_hdrs": false}), "allow_rollup_hdrs", "allow_rollup_hdrs", true),
            (json!({"allow_rollup_hdrs": false, "deny_purge": true}), "deny_purge", "allow_rollup_hdrs", false),
            (json!({"sealed": true}), "sealed", "sealed", false),
            (json!({"mirror": {"name": "X"}}), "mirror", "mirror", false),
            (json!({"no_ack": true}), "no_ack", "no_ack", true),
            (json!({"persist_mode": "async"}), "persist_mode", "persist_mode", false),
            (json!({"subject_transform": {"src": "a", "dest": "b"}}), "subject_transform", "transform", true),
            (json!({"allow_msg_counter": true}), "allow_msg_counter", "counts", false),
            (json!({"max_msg_size": 1000}), "max_msg_size", "max_msg_size", true),
            (json!({"metadata": {"team": "a"}}), "metadata", "has no person-service.identifier-salt", true),
            (json!({"metadata": {IdentifierSalt::METADATA: "x"}}), "metadata", "32 hex digits", true),
            (json!({"metadata": {IdentifierSalt::METADATA: "0".repeat(32)}}), "metadata", "another one", true),
        ] {
            let mut found = found(changes.clone());
            found["description"] = json!("ours");
            let verdict = judge_stream(&read(&found), &layout(None), &wanted(), SALT.parse().ok());
            let fault = verdict.faults.iter().find(|fault| fault.field == field && fault.why.contains(words));
            let fault = fault.unwrap_or_else(|| panic!("{changes}: {verdict:?}"));
            assert_eq!(fault.cure.is_some(), is_curable, "{changes}");
            assert!(fault.advice().contains(field), "{fault}");
            let mended = mended(&found, &verdict.faults);
            assert_eq!(mended.is_some(), is_curable, "{changes}");
            let Some(mended) = mended else { continue };
            let again = judge_stream(&read(&mended), &layout(None), &wanted(), SALT.parse().ok());
            assert_eq!(again.faults, [], "{changes}: {mended}");
            assert_eq!(mended["description"], "ours");
        }
    }

    #[test]
    fn what_is_only_unwise_is_a_warning() {
        for (changes, words) in [
            (json!({"storage": "memory"}), "memory"),
            (json!({"deny_delete": false}), "deny_delete"),
            (json!({"sources": [{"name": "X"}]}), "sources"),
            (json!({"num_replicas": 0}), "copies"),
        ] {
            let verdict = judge(changes.clone());
            assert_eq!(verdict.faults, [], "{changes}");
            assert!(verdict.warnings.iter().any(|why| why.contains(words)), "{changes}: {verdict:?}");
        }
    }

    /// What the server notes for itself, and what somebody else put there, is no concern of the service.
    #[test]
    fn what_is_somebody_elses_is_fine() {
        for changes in [
            json!({"subjects": ["x", "person.events.>", "person.identifiers.*"]}),
            json!({"subjects": ["person.events.*", "person.identifiers.>"]}),
            json!({"discard": "old"}),
            json!({"metadata": {"team": "a", "_nats.level": "2", IdentifierSalt::METADATA: SALT.to_uppercase()}}),
        ] {
            assert_eq!(judge(changes.clone()), Verdict::default(), "{changes}");
        }
    }

    /// The operator's own subjects and metadata survive the mending; the server's are its own to write.
    #[test]
    fn mending_keeps_what_is_the_operators() {
        let found = found(json!({
            "subjects": ["x.>", "person.>"], "metadata": {"team": "a", "_nats.ver": "2.15.1"}, "max_bytes": 1_000_000,
        }));
        let verdict = judge_stream(&read(&found), &layout(None), &wanted(), None);
        let mended = mended(&found, &verdict.faults).expect("it can be mended");
        assert_eq!(mended["subjects"], json!(["x.>", "person.events.>", "person.identifiers.*"]));
        assert_eq!((&mended["max_bytes"], &mended["metadata"]["team"]), (&json!(1_000_000), &json!("a")));
        assert_eq!(mended["metadata"].get("_nats.ver"), None);
        assert!(read(&mended).salt().is_some());
    }
}
