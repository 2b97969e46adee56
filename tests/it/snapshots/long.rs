//! How long it takes to load a long history, and how much memory: a measurement, for `docs/performance.md`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{BUCKET, check_shown, create, get, rename, snapshot_of, somebody};
use crate::daemon::client::{Client, Command};
use crate::daemon::memory_kib;
use crate::daemon::process::Service;
use crate::support::PATIENCE;
use crate::support::nats_server::NatsServer;

const LONG: u64 = 100_000;
const SHORT: u64 = 10;
const TIMES: usize = 5;

/// One command a message, so many under way, so that there are few events in a commit.
fn given_one_by_one(client: &mut Client, person: &str, events: u64) {
    const UNDER_WAY: u64 = 8;
    client.accepted(person, &create(person));
    let mut answered = 1;
    for version in 2..=events {
        let command = Command::new(person, &rename(person, version));
        let reply = client.new_reply();
        client.publish(&command.subject(), &reply, &command.headers, &command.payload);
        while version - answered >= UNDER_WAY || version == events && answered < events {
            let answer = client.next(PATIENCE).expect("an answer").json();
            assert_eq!(answer["status"], "accepted", "{answer}");
            answered += 1;
        }
    }
    // Several replicas could have changed the order; with one the last name is the last command's.
    check_shown(&get(client, person), events, events);
}

/// The first answer of a fresh process to a query or a command, the median of some; and the highest peak of memory.
fn cold(server: &NatsServer, person: &str, version: u64, with_snapshot: bool, command: bool) -> (Duration, u64) {
    let mut took = Vec::new();
    let mut peak = 0;
    for _ in 0..TIMES {
        let mut client = Client::connect(server.port());
        if !with_snapshot {
            client.api(&format!("STREAM.PURGE.{BUCKET}"), &Value::Null);
        }
        let mut service = Service::start(&server.url(), &[("LOG_LEVEL", "info")]);
        // The connection and the threads have to have been used once.
        assert_eq!(get(&mut client, &somebody())["error"]["code"], "person_not_found");
        let begun = Instant::now();
        if command {
            // Nothing changes, so that the next time finds the same.
            let reply = client.accepted(person, &rename(person, version));
            assert_eq!((&reply["version"], &reply["events_generated"]), (&json!(version), &json!(0)));
        } else {
            check_shown(&get(&mut client, person), version, version);
        }
        took.push(begun.elapsed());
        peak = peak.max(memory_kib(&service, "VmHWM").expect("measured on Linux"));
        service.stop();
    }
    took.sort_unstable();
    (took[TIMES / 2], peak)
}

#[test]
#[ignore = "a measurement: cargo build --release && PERSON_SERVICE_BIN=target/release/person-service cargo test \
            --test it snapshots::long -- --ignored --nocapture"]
fn cold_loads_of_long_and_short_histories() {
    let server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[("LOG_LEVEL", "info")]);
    let mut client = Client::connect(server.port());
    let (long, short) = (somebody(), somebody());
    given_one_by_one(&mut client, &long, LONG);
    given_one_by_one(&mut client, &short, SHORT);
    snapshot_of(&mut client, &long, LONG - 100);
    let state = client.api("STREAM.INFO.PERSON_EVENTS", &Value::Null)["state"].clone();
    println!("{} commits, {} bytes", state["messages"], state["bytes"]);
    service.stop();
    println!("| person | snapshot | first query | first command | peak memory |\n|---|---|---|---|---|");
    for (what, person, version, with) in [
        ("100,000 events", &long, LONG, true),
        ("100,000 events", &long, LONG, false),
        ("10 events", &short, SHORT, false),
    ] {
        let (query, by_query) = cold(&server, person, version, with, false);
        let (command, by_command) = cold(&server, person, version, with, true);
        let (query, command) = (query.as_secs_f64() * 1e3, command.as_secs_f64() * 1e3);
        let peak = by_query.max(by_command).div_ceil(1024);
        let with = if with { "yes" } else { "no" };
        println!("| {what} | {with} | {query:.1} ms | {command:.1} ms | {peak} MiB |");
    }
}
