//! Backup and restore of the stream by the protocol that `nats stream backup` and `nats stream restore` speak.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use serde_json::{Value, json};

use super::ask;
use crate::daemon::client::{Client, Command};
use crate::daemon::flood::Flood;
use crate::daemon::process::Service;
use crate::daemon::{checked_history, create, rename, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::{PATIENCE, eventually};

const STREAM: &str = "PERSON_EVENTS";
const BUCKET: &str = "KV_PERSON_EVENTS_SNAPSHOTS";
/// What one message of a backup may have, in bytes.
const CHUNK_BYTES: usize = 128 * 1024;

/// What `nats stream backup` writes to `backup.json` and `stream.tar.s2`.
struct Backup {
    about: Value,
    chunks: Vec<Vec<u8>>,
}

impl Backup {
    fn bytes(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    fn of(client: &mut Client, stream: &str) -> Self {
        // Subscribed to as it is: for a wildcard the server waits two seconds before it believes that anybody listens.
        let deliver = format!("_BACKUP.{}", somebody());
        client.subscribe(&deliver);
        let body = json!({ "deliver_subject": deliver, "chunk_size": CHUNK_BYTES });
        let reply = client.new_reply();
        client.publish(&format!("$JS.API.STREAM.SNAPSHOT.{stream}"), &reply, &[], body.to_string().as_bytes());
        let (mut about, mut chunks) = (Value::Null, Vec::new());
        loop {
            let message = client.next(PATIENCE).expect("the backup goes on");
            if message.subject == reply {
                about = message.json();
                assert_eq!(about["error"], Value::Null, "{about}");
            } else if message.payload.is_empty() {
                break;
            } else {
                if let Some(reply) = &message.reply {
                    client.publish(reply, "", &[], b"");
                }
                chunks.push(message.payload);
            }
        }
        Self { about, chunks }
    }

    fn restore(&self, client: &mut Client, stream: &str) {
        let body = json!({ "config": self.about["config"], "state": self.about["state"] });
        let started = client.api(&format!("STREAM.RESTORE.{stream}"), &body);
        let deliver = started["deliver_subject"].as_str().unwrap_or_else(|| panic!("{started}")).to_owned();
        for chunk in &self.chunks {
            let answer = client.ask(&deliver, &[], chunk, PATIENCE).expect("the restore goes on");
            assert!(answer.json()["error"].is_null(), "{answer:?}");
        }
        let end = client.ask(&deliver, &[], b"", PATIENCE).expect("the end of the restore").json();
        assert!(end["config"].is_object(), "{end}");
    }
}

/// How many renames each person of a test gets: enough for a snapshot.
const RENAMES: usize = 14;
const OFTEN: (&str, &str) = ("SNAPSHOT_FREQ", "5");

/// A server with persons on it, and the client that made them.
struct Place {
    server: NatsServer,
    client: Client,
    people: Vec<String>,
}

impl Place {
    fn with_people(count: usize) -> (Self, Service) {
        let server = NatsServer::start();
        let service = Service::start(&server.url(), &[OFTEN]);
        let mut client = Client::connect(server.port());
        let people: Vec<String> = (0..count).map(|_| somebody()).collect();
        for person in &people {
            client.accepted(person, &create(person));
        }
        let mut place = Self { server, client, people };
        place.rename_all("kept");
        (place, service)
    }

    fn rename_all(&mut self, word: &str) {
        for person in &self.people {
            for number in 0..RENAMES {
                self.client.accepted(person, &rename(person, &format!("{word} {number}")));
            }
        }
    }

    /// `nats stream rm` and `nats stream restore`.
    fn replace_stream(&mut self, backup: &Backup) {
        let deleted = self.client.api(&format!("STREAM.DELETE.{STREAM}"), &Value::Null);
        assert_eq!(deleted["success"], true, "{deleted}");
        backup.restore(&mut self.client, STREAM);
    }

    /// `nats stream purge`.
    fn purge_snapshots(&mut self) {
        let purged = self.client.api(&format!("STREAM.PURGE.{BUCKET}"), &Value::Null);
        assert_eq!(purged["success"], true, "{purged}");
    }

    fn snapshots(&mut self) -> Value {
        self.client.api(&format!("STREAM.INFO.{BUCKET}"), &Value::Null)["state"]["messages"].clone()
    }
}

#[test]
fn a_backup_that_is_restored_while_nothing_serves() {
    let (mut place, mut service) = Place::with_people(5);
    let stored = place.client.stored(STREAM);
    let backup = Backup::of(&mut place.client, STREAM);
    let person = place.people[0].clone();
    let lost = Command::new(&person, &rename(&person, "lost at first"));
    assert_eq!(place.client.command(&lost).json()["version"], RENAMES + 2);
    place.rename_all("lost");
    service.stop();
    place.replace_stream(&backup);
    place.purge_snapshots();

    let restored = place.client.stored(STREAM);
    assert_eq!(restored.len(), stored.len());
    for (before, after) in std::iter::zip(&stored, &restored) {
        assert_eq!((&before.payload, before.header("Nats-Sequence")), (&after.payload, after.header("Nats-Sequence")));
        assert_eq!(before.header("Nats-Time-Stamp"), after.header("Nats-Time-Stamp"));
    }
    let mut service = Service::start(&place.server.url(), &[OFTEN]);
    // What came after the backup is gone, also for whoever was told that it is stored: sent again, it is carried out.
    let again = place.client.command(&lost).json();
    assert_eq!((&again["version"], &again["duplicate"]), (&json!(RENAMES + 2), &json!(false)), "{again}");
    place.rename_all("after");
    let history = checked_history(&mut place.client);
    for (index, person) in place.people.iter().enumerate() {
        assert_eq!(history.versions[person], (1 + 2 * RENAMES + usize::from(index == 0)) as u64);
    }
    service.stop();
    assert!(!service.log().contains("ERROR"), "{}", service.log());
}

/// Not how it is to be done, but survived: until it notices, a replica answers from its memory.
#[test]
fn a_backup_that_is_restored_under_a_running_service() {
    let (mut place, mut service) = Place::with_people(3);
    let backup = Backup::of(&mut place.client, STREAM);
    let person = place.people[0].clone();
    let lost = Command::new(&person, &rename(&person, "lost"));
    place.client.command(&lost);
    place.purge_snapshots();
    place.replace_stream(&backup);
    service.wait_for_log("the stream is not the one that it was");
    eventually("what was lost is carried out anew", || {
        let answer = place.client.command(&lost).json();
        answer["duplicate"] == false && answer["version"] == RENAMES + 2
    });
    place.rename_all("after");
    checked_history(&mut place.client);
    service.stop();
    assert_eq!(service.log().matches("ERROR").count(), 1, "{}", service.log());
}

/// Snapshots that were taken after the backup are ahead of the restored stream: those persons wait for the purge.
#[test]
fn snapshots_that_are_newer_than_the_backup_are_in_the_way() {
    let (mut place, mut service) = Place::with_people(2);
    let backup = Backup::of(&mut place.client, STREAM);
    place.people.pop();
    place.rename_all("lost");
    eventually("both have a snapshot", || place.snapshots() == 2);
    service.stop();
    place.replace_stream(&backup);
    let service = Service::start(&place.server.url(), &[OFTEN]);
    let person = place.people[0].clone();
    let answer = place.client.tell(&person, &rename(&person, "Ada"));
    assert_eq!(answer["error"]["code"], "history_damaged", "{answer}");
    service.wait_for_log("the snapshot is ahead of the log: the stream lost its newest part");
    place.purge_snapshots();
    eventually("the person is served", || place.client.tell(&person, &rename(&person, "Ada"))["status"] == "accepted");
    let known = json!({ "person_id": person });
    assert_eq!(ask(&mut place.client, "get", &known)["version"], RENAMES + 2);
}

/// What docs/operations.md says about privacy: two purges and a restart, and nothing of the person is left.
#[test]
fn a_person_who_is_erased() {
    let (mut place, mut service) = Place::with_people(2);
    let (erased, other) = (place.people[0].clone(), place.people[1].clone());
    let key = format!("$KV.PERSON_EVENTS_SNAPSHOTS.v1.{erased}");
    for (stream, subject) in [(STREAM, format!("person.events.{erased}")), (BUCKET, key)] {
        let purged = place.client.api(&format!("STREAM.PURGE.{stream}"), &json!({ "filter": subject }));
        assert_eq!(purged["success"], true, "{purged}");
    }
    service.stop();
    let mut service = Service::start(&place.server.url(), &[OFTEN]);
    let shown = ask(&mut place.client, "get", &json!({ "person_id": erased }));
    assert_eq!(shown["error"]["code"], "person_not_found", "{shown}");
    assert_eq!(place.client.tell(&erased, &rename(&erased, "Ada"))["error"]["code"], "person_not_found");
    let shown = ask(&mut place.client, "get", &json!({ "person_id": other }));
    assert_eq!(shown["version"], RENAMES + 1);
    assert_eq!(place.client.accepted(&erased, &create(&erased))["version"], 1);
    service.stop();
    assert!(!service.log().contains("ERROR"), "{}", service.log());
}

/// Figures for docs/operations.md: `BACKUP_COMMITS=100000 cargo test --test it a_backup_while_it -- --nocapture`.
#[test]
fn a_backup_while_it_is_written_to_is_a_whole_of_its_own() {
    let commits: usize = std::env::var("BACKUP_COMMITS").map_or(2_000, |count| count.parse().unwrap());
    let server = NatsServer::start();
    let _service = Service::start(&server.url(), &[]);
    let mut client = Client::connect(server.port());
    let commands: Vec<Command> = (0..commits).map(|_| somebody()).map(|id| Command::new(&id, &create(&id))).collect();
    client.flood(&commands, Flood::careful(256), |_| {}).all_accepted();
    let stop = AtomicBool::new(false);
    let (backup, written) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = Client::connect(server.port());
            let mut latencies = Vec::new();
            while !stop.load(SeqCst) {
                let (person, begun) = (somebody(), Instant::now());
                client.accepted(&person, &create(&person));
                latencies.push(begun.elapsed());
            }
            latencies
        });
        let begun = Instant::now();
        let backup = Backup::of(&mut client, STREAM);
        println!("backup of {commits} commits: {:?}, {} bytes", begun.elapsed(), backup.bytes());
        stop.store(true, SeqCst);
        (backup, writer.join().expect("commands are accepted meanwhile"))
    });
    println!("  meanwhile {} commands one after the other, the slowest {:?}", written.len(), written.iter().max());
    let other = NatsServer::start();
    let mut client = Client::connect(other.port());
    let begun = Instant::now();
    backup.restore(&mut client, STREAM);
    println!("restored to another server: {:?}", begun.elapsed());
    let begun = Instant::now();
    let _service = Service::start(&other.url(), &[]);
    println!("  a service is ready on it after {:?}", begun.elapsed());
    let restored = checked_history(&mut client).commits;
    assert!((commits..=commits + written.len()).contains(&restored), "{restored} of {commits} and {}", written.len());
}
