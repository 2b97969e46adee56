//! Backup and restore of the stream by the protocol that `nats stream backup` and `nats stream restore` speak.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ask;
use crate::daemon::client::{Client, Command};
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
        let deliver = client.new_reply();
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

#[test]
fn explore() {
    let server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[("SNAPSHOT_FREQ", "10")]);
    let mut client = Client::connect(server.port());
    let people: Vec<String> = (0..20).map(|_| somebody()).collect();
    for person in &people {
        client.accepted(person, &create(person));
        for number in 0..14 {
            client.accepted(person, &rename(person, &format!("Ada {number}")));
        }
    }
    let backup = Backup::of(&mut client, STREAM);
    println!("{} chunks {} bytes, {}", backup.chunks.len(), backup.bytes(), backup.about);
    let lost = Command::new(&people[0], &rename(&people[0], "lost"));
    println!("{}", client.command(&lost).json());
    for person in &people[..10] {
        for number in 0..10 {
            client.accepted(person, &rename(person, &format!("lost {number}")));
        }
    }
    println!("{}", client.api(&format!("STREAM.DELETE.{STREAM}"), &Value::Null));
    println!("deleted: {}", client.tell(&people[3], &rename(&people[3], "nowhere")));
    println!("deleted: {}", ask(&mut client, "get", &json!({"person_id": people[3]})));
    println!("deleted: {}", ask(&mut client, "get", &json!({"person_id": people[15]})));
    backup.restore(&mut client, STREAM);
    println!("{}", client.api(&format!("STREAM.INFO.{STREAM}"), &Value::Null)["created"]);
    println!("retry of lost: {}", client.command(&lost).json());
    println!("get lost: {}", ask(&mut client, "get", &json!({"person_id": people[0]})));
    println!("get lost 4: {}", ask(&mut client, "get", &json!({"person_id": people[4]}))["version"]);
    println!("rename 1: {}", client.tell(&people[1], &rename(&people[1], "after")));
    println!("rename 1: {}", client.tell(&people[1], &rename(&people[1], "after 2")));
    println!("rename 15: {}", client.tell(&people[15], &rename(&people[15], "after 2")));
    println!("retry of lost: {}", client.command(&lost).json());
    println!("get lost 4: {}", ask(&mut client, "get", &json!({"person_id": people[4]}))["version"]);
    println!("{}", service.log());
    service.stop();
    let mut service = Service::start(&server.url(), &[("SNAPSHOT_FREQ", "10")]);
    println!("cold: rename 2: {}", client.tell(&people[2], &rename(&people[2], "after")));
    println!("cold: get 5: {}", ask(&mut client, "get", &json!({"person_id": people[5]})));
    println!("{}", client.api(&format!("STREAM.DELETE.{BUCKET}"), &Value::Null));
    println!("cold: rename 2: {}", client.tell(&people[2], &rename(&people[2], "after")));
    println!("cold: get 5: {}", ask(&mut client, "get", &json!({"person_id": people[5]})));
    service.stop();
    let service = Service::start(&server.url(), &[("SNAPSHOT_FREQ", "10")]);
    println!("cold without: rename 2: {}", client.tell(&people[2], &rename(&people[2], "after")));
    println!("cold without: get 5: {}", ask(&mut client, "get", &json!({"person_id": people[5]})));
    println!("{}", service.log());
}
