//! The whole promise at once: 10,000 commands over 1,000 persons through three replicas.

use std::time::Instant;

use serde_json::json;

use super::client::{Client, Command};
use super::flood::{Flood, Flooded};
use super::process::Service;
use super::{check_answer, checked_history, create, record, rename, somebody};
use crate::support::nats_server::NatsServer;

const PERSONS: usize = 1_000;
const COMMANDS: usize = 10_000;

#[test]
fn ten_thousand_commands_through_three_replicas() {
    ten_thousand_commands(&[("SNAPSHOT_FREQ", "5")]);
}

/// With many commands under way for few persons: batches that rivals make stale, and others.
#[test]
fn ten_thousand_commands_through_three_replicas_in_atomic_batches() {
    ten_thousand_commands(&[("SNAPSHOT_FREQ", "5"), ("STREAM_BATCH", "40")]);
}

fn ten_thousand_commands(environment: &[(&str, &str)]) {
    let server = NatsServer::start();
    let services: Vec<Service> = (0..3).map(|_| Service::start(&server.url(), environment)).collect();
    let mut client = Client::connect(server.port());
    let persons: Vec<String> = (0..PERSONS).map(|_| somebody()).collect();
    let how = Flood { twice_every: 20, ..Flood::careful(64) };

    let creations: Vec<Command> = persons.iter().map(|person| Command::new(person, &create(person))).collect();
    let begun = Instant::now();
    let created = client.flood(&creations, how, |_| {});
    let others = others(&persons);
    let carried_out = client.flood(&others, how, |_| {});
    let took = begun.elapsed();

    let history = checked_history(&mut client);
    assert_eq!(history.versions.len(), PERSONS);
    // Every command made one event, so that one effect each is as many versions as commands.
    assert_eq!(history.commands.len(), COMMANDS);
    assert_eq!(history.versions.values().sum::<u64>(), COMMANDS as u64);
    for (commands, flooded) in [(&creations, &created), (&others, &carried_out)] {
        for (command, answer) in std::iter::zip(commands, flooded.all_accepted()) {
            check_answer(&history, &command.id, answer);
        }
        check_duplicates(commands.len().div_ceil(20), flooded);
    }
    println!(
        "{COMMANDS} commands in {took:?}, {} commits, {} retries, {} failures, p50 {:?}, p99 {:?}",
        history.commits,
        created.retries + carried_out.retries,
        created.failures.len() + carried_out.failures.len(),
        carried_out.latency(0.5),
        carried_out.latency(0.99),
    );
    for mut service in services {
        service.stop();
        assert!(!service.log().contains("ERROR"), "{}", service.log());
    }
}

/// Half of them side by side for the same person, where the replicas meet, and half of them far apart.
fn others(persons: &[String]) -> Vec<Command> {
    let each = COMMANDS / PERSONS - 1;
    let command = |person: &String, number: usize| match number % 3 {
        0 => Command::new(person, &rename(person, &format!("Ada {number}"))),
        _ => Command::new(person, &record(person, &number.to_string())),
    };
    let near = persons.iter().flat_map(|person| (0..each / 2).map(move |number| command(person, number)));
    let far = (each / 2..each).flat_map(|number| persons.iter().map(move |person| command(person, number)));
    near.chain(far).collect()
}

/// What was sent twice on purpose got the same outcome twice, once as a duplicate.
#[track_caller]
fn check_duplicates(sent_twice: usize, flooded: &Flooded) {
    assert!(flooded.more.len() >= sent_twice, "{} further answers to {sent_twice}", flooded.more.len());
    let mut duplicates = 0;
    for (index, second) in &flooded.more {
        let first = flooded.answers[*index].as_ref().expect("an answer");
        if second["status"] != "accepted" {
            assert_eq!(second["error"]["retryable"], true, "{first} and then {second}");
            continue;
        }
        for member in ["command_id", "aggregate_id", "version", "sequence", "events", "events_generated"] {
            assert_eq!(first[member], second[member], "{member} of {first} and {second}");
        }
        let one_is_new = first["duplicate"] == json!(false) || second["duplicate"] == json!(false);
        duplicates += usize::from(one_is_new && first["duplicate"] != second["duplicate"]);
    }
    assert!(duplicates > 0);
}
