//! Replies go to inboxes only: nobody writes with the service's rights by naming a reply subject.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Command};
use super::process::Service;
use super::{STREAM, create, rename, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::{PATIENCE, eventually};

const USERS: &str = r#"authorization { users: [
    { user: service, password: s }
    { user: limited, password: l
      permissions: { publish: ["person.commands.>"], subscribe: ["_INBOX.>"] } }
] }"#;

#[test]
fn a_request_whose_reply_would_go_elsewhere_is_dropped() {
    let server = NatsServer::with(USERS);
    let environment = [("NATS_USER", "service"), ("NATS_PASSWORD", "s")];
    let service = Service::start(&server.url(), &environment);
    let mut owner = Client::sign_in(server.port(), r#""user":"service","pass":"s","#);
    let mut limited = Client::sign_in(server.port(), r#""user":"limited","pass":"l","#);
    let person = somebody();
    limited.accepted(&person, &create(&person));

    let body = rename(&person, "x").to_string();
    limited.publish("person.events.x", "", &[], b"forged");
    let victim = somebody();
    let forwarded = format!("person.commands.{victim}");
    for reply in [
        "person.events.x",
        "$JS.API.STREAM.PURGE.PERSON_EVENTS",
        "$JS.API.STREAM.DELETE.PERSON_EVENTS",
        &forwarded,
        "$KV.PERSON_EVENTS_SNAPSHOTS.v1.x",
        "$SRV.PING",
        "_INBOX",
        "_INBOXES.x",
    ] {
        limited.publish(&format!("person.commands.{person}"), reply, &[], body.as_bytes());
    }
    for subject in ["person.queries.get", "$SRV.PING.person-service"] {
        owner.publish(subject, "person.commands.x", &[], b"{}");
    }
    // Whatever was to happen has happened when a later command is answered.
    assert_eq!(limited.tell(&person, &json!({"Nonsense": {}}))["error"]["code"], "malformed");
    eventually("all that was dropped is counted, at every door", || {
        let stats = owner.ask("$SRV.STATS.person-service", &[], b"", PATIENCE).expect("discovery").json();
        stats["endpoints"][0]["data"]["requests_dropped"] == 10
    });
    std::thread::sleep(Duration::from_millis(300));

    let state = owner.api("STREAM.INFO.PERSON_EVENTS", &Value::Null)["state"].clone();
    assert_eq!((&state["messages"], &state["last_seq"]), (&json!(1), &json!(1)), "{state}");
    assert_eq!(owner.stored(STREAM).len(), 1);
    let log = service.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("reply subject")).collect();
    assert_eq!(warnings.len(), 1, "limited in rate: {log}");
    assert!(warnings[0].contains("WARN"), "{warnings:?}");
    let complaints = limited.complaints.lock().unwrap().clone();
    assert!(complaints.iter().any(|line| line.contains("person.events.x")), "{complaints:?}");
    assert_eq!(limited.command(&Command::new(&person, &body_of(&person))).json()["version"], 2);
}

fn body_of(person: &str) -> Value {
    rename(person, "y")
}

/// What is configured holds in place of the default.
#[test]
fn other_reply_subjects_can_be_configured() {
    let server = NatsServer::start();
    let service = Service::start(&server.url(), &[("REPLY_SUBJECTS", "answers.*.mine")]);
    let mut client = Client::connect(server.port());
    client.subscribe("answers.>");
    let person = somebody();
    let payload = create(&person).to_string();
    client.publish("person.commands.a", "_INBOX.x", &[], payload.as_bytes());
    client.publish("person.commands.a", "answers.7.yours", &[], payload.as_bytes());
    client.publish("person.commands.a", "answers.7.mine", &[], payload.as_bytes());
    let answer = client.answer_to("answers.7.mine", Duration::from_secs(10)).expect("an answer").json();
    assert_eq!((&answer["status"], &answer["duplicate"]), (&json!("accepted"), &json!(false)));
    assert!(client.next(Duration::from_millis(200)).is_none());
    drop(service);
}
