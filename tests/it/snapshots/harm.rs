//! Whatever is done to the bucket while the service is used: no answer changes and nothing fails.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    BUCKET, OFTEN, ask, check_shown, create, forge, get, key, large, rename, snapshot_of, somebody, stored_snapshot,
};
use crate::daemon::client::Client;
use crate::daemon::process::Service;
use crate::support::nats_server::NatsServer;
use crate::support::{PATIENCE, eventually};

const USERS: usize = 3;
const PERSONS_EACH: usize = 6;
/// A worker has room for a few persons of this size, so that snapshots are read all the time.
const FORGETFUL: (&str, &str) = ("CACHE_BYTES", "1MiB");
const STATE_BYTES: usize = 40_000;

/// Changes persons and looks at them until it is told to stop; every answer has to be right.
fn use_it(port: u16, persons: &[String], stop: &AtomicBool, rounds: &AtomicU64) {
    let mut client = Client::connect(port);
    let mut version = 3;
    while !stop.load(Ordering::Relaxed) {
        version += 1;
        for person in persons {
            let reply = client.accepted(person, &rename(person, version));
            assert_eq!(reply["version"], version);
            check_shown(&get(&mut client, person), version, version);
        }
        let then = ask(&mut client, "get", &json!({ "person_id": persons[0], "at_version": version / 2 + 1 }));
        check_shown(&then, version, version / 2 + 1);
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// Replaces every replica by a new one, which has nothing in memory, without leaving anybody unserved.
fn replace(services: &mut Vec<Service>, url: &str, logs: &mut Vec<(String, Duration)>, since: &mut Instant) {
    for _ in 0..services.len() {
        services.push(Service::start(url, &[OFTEN, FORGETFUL]));
        let mut old = services.remove(0);
        old.stop();
        logs.push((old.log(), since.elapsed()));
    }
    *since = Instant::now();
}

#[test]
fn a_bucket_that_is_harmed_changes_no_answer() {
    let server = NatsServer::start();
    let (port, url) = (server.port(), server.url());
    let mut services: Vec<Service> = (0..3).map(|_| Service::start(&url, &[OFTEN, FORGETFUL])).collect();
    let mut client = Client::connect(port);
    let persons: Vec<String> = (0..USERS * PERSONS_EACH).map(|_| somebody()).collect();
    for person in &persons {
        client.accepted(person, &json!([create(person), large(person, STATE_BYTES), rename(person, 3)]));
    }
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut logs, mut since) = (Vec::new(), Instant::now());
    std::thread::scope(|scope| {
        for own in persons.chunks(PERSONS_EACH) {
            let (stop, rounds) = (&stop, &rounds);
            scope.spawn(move || {
                // Whoever panics ends the test instead of leaving it to wait.
                let _stop = StopAll(stop);
                use_it(port, own, stop, rounds);
            });
        }
        let _stop = StopAll(&stop);
        let old: Vec<Vec<u8>> = persons
            .iter()
            .map(|person| {
                snapshot_of(&mut client, person, 10);
                stored_snapshot(&mut client, person).unwrap()
            })
            .collect();
        let goes_on = |what: &str| {
            let before = rounds.load(Ordering::Relaxed);
            eventually(what, || stop.load(Ordering::Relaxed) || rounds.load(Ordering::Relaxed) > before + 12);
            assert!(!stop.load(Ordering::Relaxed), "{what}");
        };
        for what in ["garbage", "cut short", "a flipped bit", "another format", "old", "somebody else's", "deleted"] {
            harm_all(&mut client, what, &persons, &old);
            goes_on(what);
            if what == "a flipped bit" || what == "somebody else's" {
                replace(&mut services, &url, &mut logs, &mut since);
            }
        }
        assert_eq!(client.api(&format!("STREAM.PURGE.{BUCKET}"), &Value::Null)["success"], true);
        goes_on("purged");
        assert_eq!(client.api(&format!("STREAM.DELETE.{BUCKET}"), &Value::Null)["success"], true);
        goes_on("deleted as a whole");
        for person in &persons {
            check_alive(&get(&mut client, person));
        }
        eventually("a service that runs makes it anew", || {
            client.api(&format!("STREAM.INFO.{BUCKET}"), &Value::Null)["error"].is_null()
        });
        replace(&mut services, &url, &mut logs, &mut since);
        for person in &persons {
            snapshot_of(&mut client, person, 20);
        }
    });
    logs.extend(services.iter_mut().map(|service| {
        service.stop();
        (service.log(), since.elapsed())
    }));
    let mut warned = 0;
    for (log, time) in logs {
        assert!(!log.contains("ERROR"), "{log}");
        let warnings = log.lines().filter(|line| line.contains("its snapshot is ignored")).count();
        assert!(warnings as u64 <= time.as_secs() + 2, "{warnings} in {time:?}:\n{log}");
        warned += warnings;
    }
    println!("{} rounds, {warned} warnings", rounds.load(Ordering::Relaxed));
    assert!(warned > 0);
}

struct StopAll<'a>(&'a AtomicBool);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does this to everybody's snapshot and looks at everybody.
fn harm_all(client: &mut Client, what: &str, persons: &[String], old: &[Vec<u8>]) {
    for (at, person) in persons.iter().enumerate() {
        let Some(good) = stored_snapshot(client, person).filter(|bytes| bytes.len() > 70) else { continue };
        if what == "deleted" {
            let headers = [("KV-Operation".to_owned(), "DEL".to_owned())];
            client.ask(&key(person), &headers, b"", PATIENCE).unwrap();
        } else {
            forge(client, person, &harmed(what, &good, old, at));
        }
        check_alive(&get(client, person));
    }
}

fn harmed(what: &str, good: &[u8], old: &[Vec<u8>], at: usize) -> Vec<u8> {
    let mut bytes = good.to_vec();
    match what {
        "garbage" => bytes = b"garbage".repeat(20),
        "cut short" => bytes.truncate(good.len() - 1 - at),
        "a flipped bit" => bytes[(at * 7) % good.len()] ^= 1,
        "another format" => bytes[0] = 2,
        "old" => bytes = old[at].clone(),
        "somebody else's" => bytes = old[(at + 1) % old.len()].clone(),
        _ => {}
    }
    bytes
}

fn check_alive(answer: &Value) {
    check_shown(answer, answer["version"].as_u64().unwrap_or(0), answer["version"].as_u64().unwrap_or(0));
}
