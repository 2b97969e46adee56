//! Streams made by hand, as an operator would make them.

use serde_json::{Value, json};

use super::raw::Raw;

/// The salt of streams that are made here.
pub const SALT: &str = "00112233445566778899aabbccddeeff";

/// What the service demands of the stream of commits and nothing more, changed like this; `null` takes a member away.
pub fn commits(changes: &Value) -> Value {
    let stream = json!({
        "name": "PERSON_EVENTS", "subjects": ["person.events.>", "person.identifiers.*"], "storage": "file",
        "retention": "limits", "discard": "new", "deny_delete": true, "allow_rollup_hdrs": true, "allow_direct": true,
        "allow_atomic": true, "compression": "s2", "num_replicas": 1,
        "metadata": { "person-service.identifier-salt": SALT },
    });
    changed(stream, changes)
}

/// The configuration with these members; `null` takes one away.
pub fn changed(mut config: Value, changes: &Value) -> Value {
    let members = config.as_object_mut().expect("an object");
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.clone(), value.clone())),
        }
    }
    config
}

/// Makes a stream of this configuration, which names it.
#[track_caller]
pub fn create(port: u16, config: &Value) {
    let name = config["name"].as_str().expect("a name");
    let answer = Raw::connect(port).api(&format!("STREAM.CREATE.{name}"), config);
    assert!(answer["error"].is_null(), "{answer}");
}

/// The configuration of a stream, as the server shows it.
pub fn configuration(port: u16, name: &str) -> Value {
    Raw::connect(port).api(&format!("STREAM.INFO.{name}"), &Value::Null)["config"].clone()
}

/// Changes a stream to this configuration, which names it.
#[track_caller]
pub fn update(port: u16, config: &Value) {
    let name = config["name"].as_str().expect("a name");
    let answer = Raw::connect(port).api(&format!("STREAM.UPDATE.{name}"), config);
    assert!(answer["error"].is_null(), "{answer}");
}
