//! Another team's stream takes the commands in and acknowledges them. Every client got JetStream's acknowledgement in
//! place of the reply and took it for success; the service noticed nothing, and `doctor` said healthy.

use serde_json::{Value, json};

use super::client::{Client, Command};
use super::process::Service;
use super::{create, somebody};
use crate::binary::person_service;
use crate::support::nats_server::NatsServer;
use crate::support::{PATIENCE, eventually, streams};

/// What the service counts, by the services protocol.
fn conflicts(client: &mut Client) -> Value {
    let told = client.ask("$SRV.STATS.person-service", &[], b"", PATIENCE).expect("an answer").json();
    let endpoints = told["endpoints"].as_array().cloned().unwrap_or_default();
    let data = endpoints.iter().find(|one| one["name"] == "commands").map(|one| one["data"].clone());
    data.unwrap_or_default()["stream_conflicts"].clone()
}

/// The status of `doctor`, and what it says that is wrong.
fn doctor(server: &NatsServer) -> (Option<i32>, Vec<String>) {
    let url = server.url();
    let output = person_service(&["doctor", "--json"], &[("NATS_URL", &url)]).output().expect("it runs");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let wrong = found["findings"].as_array().expect("a list").iter().filter(|finding| finding["verdict"] == "wrong");
    let says = wrong.map(|finding| finding["says"].as_str().expect("words").to_owned()).collect();
    (output.status.code(), says)
}

#[test]
fn a_stream_that_answers_commands_is_told_of_until_it_does_not() {
    let server = NatsServer::start();
    let service = Service::start(&server.url(), &[]);
    let mut client = Client::connect(server.port());
    let person = somebody();
    client.accepted(&person, &create(&person));
    eventually("no conflict", || conflicts(&mut client) == 0);
    assert_eq!(doctor(&server), (Some(0), Vec::new()));

    let audit = json!({ "name": "AUDIT", "subjects": ["person.commands.>"], "storage": "file" });
    streams::create(server.port(), &audit);
    let other = somebody();
    let (command, reply) = (Command::new(&other, &create(&other)), client.new_reply());
    client.publish(&command.subject(), &reply, &command.headers, &command.payload);
    // Which of the two comes first is chance.
    let is_the_harm = || client.answer_to(&reply, PATIENCE).expect("two answers").json()["stream"] == "AUDIT";
    assert!(is_the_harm() || is_the_harm());
    let says = "stream AUDIT also takes person.commands.> and acknowledges";
    service.wait_for_log(says);
    assert!(service.log().lines().any(|line| line.contains(says) && line.contains("ERROR")), "{}", service.log());
    eventually("it is counted", || conflicts(&mut client) == 1);
    let (status, wrong) = doctor(&server);
    assert_eq!((status, wrong.len()), (Some(69), 1), "{wrong:?}");
    assert!(wrong[0].contains(says), "{wrong:?}");

    // Somebody who listens and says nothing is nobody's business.
    streams::update(server.port(), &streams::changed(audit, &json!({ "no_ack": true })));
    eventually("it is no longer counted", || conflicts(&mut client) == 0);
    assert_eq!(doctor(&server), (Some(0), Vec::new()));
    let one_more = somebody();
    client.accepted(&one_more, &create(&one_more));
}

/// Any subject on which the service answers, also one that a later release will, and discovery.
#[test]
fn each_subject_that_is_answered_counts() {
    let server = NatsServer::start();
    let _service = Service::start(&server.url(), &[]);
    let mut client = Client::connect(server.port());
    for (number, subjects) in
        [["person.queries.get"], ["person.privacy.>"], ["person.search.*"], ["$SRV.STATS"]].iter().enumerate()
    {
        let name = format!("AUDIT_{number}");
        let config = json!({ "name": name, "subjects": subjects, "storage": "memory" });
        streams::create(server.port(), &config);
        let (status, wrong) = doctor(&server);
        assert_eq!((status, wrong.len()), (Some(69), 1), "{subjects:?}: {wrong:?}");
        assert!(wrong[0].contains(&name), "{wrong:?}");
        if subjects[0] != "$SRV.STATS" {
            eventually(&format!("{subjects:?} is counted"), || conflicts(&mut client) == 1);
        }
        client.api(&format!("STREAM.DELETE.{name}"), &Value::Null);
    }
    // These take nothing from anybody.
    for subjects in [["persons.>"], ["person.ledger.>"], ["person.other.>"]] {
        streams::create(server.port(), &json!({ "name": "OTHER", "subjects": subjects, "storage": "memory" }));
        assert_eq!(doctor(&server), (Some(0), Vec::new()), "{subjects:?}");
        client.api("STREAM.DELETE.OTHER", &Value::Null);
    }
}
