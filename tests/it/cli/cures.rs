//! What `doctor` prints to mend a stream is typed in as it is printed.
//!
//! Only the calls behind it had been tried. So the tool was told to edit the stream of a bucket, for which it wants a
//! terminal and a second thought, and behind a leaf node it asked the wrong JetStream.

use super::*;
use crate::support::raw::Raw;
use crate::support::{nats_cli, skip};

/// Each cure that the doctor prints: the command, and the configuration that it reads from a file.
fn cures(said: &str) -> Vec<(String, String)> {
    let mut lines = said.lines().map(str::trim);
    let mut cures = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(command) = line.strip_prefix("to repair it: ") {
            let command = command.strip_suffix(", with in FILE").expect("a file");
            cures.push((command.to_owned(), lines.next().expect("a configuration").to_owned()));
        }
    }
    cures
}

/// Applies all that the doctor says, as somebody does who has read it, and lets the doctor look again.
#[track_caller]
fn cured(server: &NatsServer, environment: &[(&str, &str)], cures_expected: usize) {
    let url = server.url();
    let environment = [&[("NATS_URL", url.as_str()), ("STREAM_CREATE", "false")], environment].concat();
    let doctor = || {
        let output = person_service(&["doctor"], &environment).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let before = doctor();
    let cures = cures(&before);
    assert_eq!(cures.len(), cures_expected, "{before}");
    for (command, configuration) in cures {
        assert!(nats_cli::typed(&command, &configuration, &environment));
    }
    let after = doctor();
    for name in ["PERSON_EVENTS", "KV_PERSON_EVENTS_SNAPSHOTS"] {
        assert!(after.contains(&format!("{name} is configured as the service would have it")), "{before}\n{after}");
    }
}

/// Both streams are missing, then both are drifted, on the first server; the doctor asks at the second.
#[track_caller]
fn made_and_mended(kept_at: &NatsServer, asked_at: &NatsServer, environment: &[(&str, &str)]) {
    if nats_cli::binary().is_none() {
        return skip("the cures of doctor", "the real nats cannot be had, see tests/nats-cli");
    }
    cured(asked_at, environment, 2);
    let mut client = Raw::connect(kept_at.port());
    for (name, changes) in [
        ("PERSON_EVENTS", json!({"max_age": 86_400_000_000_000_u64, "discard": "old", "description": "ours"})),
        ("KV_PERSON_EVENTS_SNAPSHOTS", json!({"max_msgs_per_subject": 5})),
    ] {
        let mut config = client.api(&format!("STREAM.INFO.{name}"), &Value::Null)["config"].clone();
        changes.as_object().expect("an object").iter().for_each(|(field, value)| config[field] = value.clone());
        let answer = client.api(&format!("STREAM.UPDATE.{name}"), &config);
        assert!(answer.get("error").is_none(), "{answer}");
    }
    cured(asked_at, environment, 2);
}

#[test]
fn what_the_doctor_prints_makes_and_mends_both_streams() {
    let server = NatsServer::start();
    made_and_mended(&server, &server, &[]);
}

#[test]
fn behind_a_leaf_node_it_does_so_at_the_hub() {
    let hub = NatsServer::with_jetstream("domain: hub", "leafnodes { listen: \"127.0.0.1:-1\" }");
    let remote = format!("leafnodes {{ remotes: [ {{ url: \"nats-leaf://127.0.0.1:{}\" }} ] }}", hub.leaf_port());
    let leaf = NatsServer::with_jetstream("domain: eu", &format!("server_name: eu\n{remote}"));
    eventually("the leaf node is joined to the hub", || {
        let answer = Raw::connect(leaf.port()).request("$JS.hub.API.INFO", b"");
        serde_json::from_slice::<Value>(&answer.payload).is_ok_and(|info| info["error"].is_null())
    });
    made_and_mended(&hub, &leaf, &[("JETSTREAM_DOMAIN", "hub")]);
}
