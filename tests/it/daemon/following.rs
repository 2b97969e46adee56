//! Replicas that share a person follow what the others store.

use serde_json::{Value, json};

use super::client::{Client, Command};
use super::flood::Flood;
use super::process::Service;
use super::{check_answer, checked_history, create, record, somebody};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;

/// How many consumers the stream has.
fn consumers(client: &mut Client) -> u64 {
    client.api("STREAM.INFO.PERSON_EVENTS", &json!({}))["state"]["consumer_count"].as_u64().expect("a number")
}

/// What the last line about what was done says of a figure, over all services.
fn total(services: &[Service], figure: &str) -> u64 {
    let value = |service: &Service| {
        let log = service.log();
        let line = log.lines().rfind(|line| line.contains("commands/s")).expect("a line");
        let (_, after) = line.split_once(&format!(" {figure} ")).expect("the figure");
        after.split(',').next().and_then(|value| value.trim().parse::<u64>().ok()).expect("a number")
    };
    services.iter().map(value).sum()
}

/// A round of commands, 20 for each person.
fn round(persons: &[String], words: &str) -> Vec<Command> {
    let command = |person: &String| Command::new(person, &record(person, words));
    (0..20).flat_map(|_| persons.iter().map(command)).collect()
}

/// Also beside a commit of a stranger that the client cannot parse: it reaches the feed of each replica and costs its
/// connection for commands a reconnect, and no promise.
#[test]
fn replicas_that_share_persons_follow_each_other_and_stop_when_they_are_done() {
    let server = NatsServer::start();
    let mut services: Vec<Service> = (0..2).map(|_| Service::start(&server.url(), &[("SNAPSHOT_FREQ", "0")])).collect();
    let mut client = Client::connect(server.port());
    let persons: Vec<String> = (0..20).map(|_| somebody()).collect();
    let mut commands: Vec<Command> = persons.iter().map(|person| Command::new(person, &create(person))).collect();
    let mut answers = client.flood(&commands, Flood::careful(16), |_| {}).all_accepted().into_iter().cloned().collect();
    let mut flood = |client: &mut Client, answers: &mut Vec<Value>, words: &str| {
        let more = round(&persons, words);
        answers.extend(client.flood(&more, Flood::careful(16), |_| {}).all_accepted().into_iter().cloned());
        commands.extend(more);
    };
    eventually("they follow", || {
        flood(&mut client, &mut answers, "x");
        consumers(&mut client) == 2
    });
    (0..5).for_each(|_| flood(&mut client, &mut answers, "y"));
    let history = checked_history(&mut client);
    let poison = "NATS/1.0\r\nno colon\r\n\r\n";
    let line = format!("HPUB person.events.{} {} {}\r\n{poison}\r\n", somebody(), poison.len(), poison.len());
    client.send(line.as_bytes());
    let known = answers.len();
    (0..5).for_each(|_| flood(&mut client, &mut answers, "z"));
    for (command, answer) in std::iter::zip(&commands, &answers[..known]) {
        check_answer(&history, &command.id, answer);
    }
    // Each of those after it has a version of its own.
    let mut versions: Vec<u64> = answers.iter().filter_map(|answer| answer["version"].as_u64()).collect();
    versions.sort_unstable();
    let each = u64::try_from(answers.len() / persons.len()).unwrap();
    let expected: Vec<u64> = (1..=each).flat_map(|version| persons.iter().map(move |_| version)).collect();
    assert_eq!(versions, expected);

    services.iter_mut().for_each(Service::stop);
    assert!(total(&services, "followed") > 0);
    assert!(services.iter().all(|service| !service.log().contains("ERROR")));
    eventually("the server takes their consumers away", || consumers(&mut client) == 0);
}
