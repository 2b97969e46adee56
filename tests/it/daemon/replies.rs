//! Replies go to inboxes only: nobody writes with the service's rights by naming a reply subject.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::process::Service;
use super::{STREAM, create, rename, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::{PATIENCE, eventually};

/// When a question is asked again that got no answer.
const SOON: Duration = Duration::from_secs(10);

const USERS: &str = r#"authorization { users: [
    { user: service, password: s }
    { user: limited, password: l
      permissions: { publish: ["person.commands.>", "person.queries.>", "$SRV.>"], subscribe: ["_INBOX.>"] } }
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

    limited.publish("person.events.x", "", &[], b"forged");
    let victim = somebody();
    let forwarded = format!("person.commands.{victim}");
    let forged = [
        "person.events.x",
        "$JS.API.STREAM.PURGE.PERSON_EVENTS",
        "$JS.API.STREAM.DELETE.PERSON_EVENTS",
        &forwarded,
        "$KV.PERSON_EVENTS_SNAPSHOTS.v1.x",
        "$SRV.PING",
        "_INBOX",
        "_INBOXES.x",
    ];
    forged.iter().for_each(|reply| owner.subscribe(reply));
    owner.settle();
    let body = rename(&person, "x").to_string();
    let get = json!({ "person_id": person }).to_string();
    let command = format!("person.commands.{person}");
    // A request of each kind, and one that is refused before it is one.
    let requests = [
        (command.as_str(), body.as_str()),
        ("person.commands.x", "{"),
        ("person.queries.get", get.as_str()),
        ("person.queries.x", ""),
        ("$SRV.PING", ""),
        ("$SRV.STATS.person-service", ""),
    ];
    for (subject, payload) in requests {
        forged.iter().for_each(|reply| limited.publish(subject, reply, &[], payload.as_bytes()));
    }
    // Each kind is answered in the order in which it came: whatever was to happen has happened when a later request of
    // the same kind is answered.
    let renamed = limited.accepted(&person, &rename(&person, "y"));
    assert_eq!(renamed["version"], 2, "{renamed}");
    for (subject, payload) in &requests[1..] {
        // A service that did not hear of its server for a second and a half, on a busy machine, sends no reply.
        eventually(&format!("{subject} is answered"), || {
            let answer = limited.ask(subject, &[], payload.as_bytes(), SOON);
            answer.is_some_and(|answer| !answer.is_no_responders())
        });
    }
    owner.settle();
    while let Some(seen) = owner.waiting() {
        // Requests have somewhere to reply to; what the service sends has not.
        assert!(seen.reply.is_some(), "the service wrote to {}: {seen:?}", seen.subject);
    }
    eventually("all that was dropped is counted, at every door", || {
        let stats = owner.ask("$SRV.STATS.person-service", &[], b"", PATIENCE).expect("discovery").json();
        stats["endpoints"][0]["data"]["requests_dropped"] == requests.len() * forged.len()
    });

    let state = owner.api("STREAM.INFO.PERSON_EVENTS", &Value::Null)["state"].clone();
    assert_eq!((&state["messages"], &state["last_seq"]), (&json!(2), &json!(2)), "{state}");
    assert_eq!(owner.stored(STREAM).len(), 2);
    let log = service.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("reply subject")).collect();
    assert_eq!(warnings.len(), 1, "limited in rate: {log}");
    assert!(warnings[0].contains("WARN"), "{warnings:?}");
    let complaints = limited.complaints.lock().unwrap().clone();
    assert!(complaints.iter().any(|line| line.contains("person.events.x")), "{complaints:?}");
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
    let answer = client.answer_to("answers.7.mine", PATIENCE).expect("an answer").json();
    assert_eq!((&answer["status"], &answer["duplicate"]), (&json!("accepted"), &json!(false)));
    assert!(client.next(Duration::from_millis(200)).is_none());
    drop(service);
}
