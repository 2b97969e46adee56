//! What is read at once: the peak of memory after a restart, and quick questions beside a long one.

use std::time::Instant;

use cim_domain_person::domain::PersonId;
use serde_json::json;

use super::client::{Client, Command};
use super::memory_kib;
use super::process::Service;
use crate::support::histories::{History, Writer};
use crate::support::nats_server::NatsServer;
use crate::support::{PATIENCE, skip};

/// Half of what `docs/operations.md` says is plenty for the defaults, for half of the persons who took most of it once.
const PLENTY_KIB: u64 = 256 * 1024;
const PERSONS: u128 = 256;
/// Characters of a name; each renaming has the old one and the new one.
const NAME_CHARS: usize = 170_000;

fn person(number: u128) -> PersonId {
    PersonId::from_uuid(uuid::Uuid::from_u128(number))
}

/// A person with 1 MiB of history, in four commits.
fn write_large(writer: &mut Writer, person: PersonId) {
    let mut history = History::of(person);
    let created = history.created(&"a".repeat(NAME_CHARS));
    let payload = history.commit(vec![created]);
    writer.write(&history, "PersonCreated", &payload);
    for pair in ["ab", "bc", "cd"] {
        let (old, new) = pair.split_at(1);
        let renamed = history.renamed(&old.repeat(NAME_CHARS), &new.repeat(NAME_CHARS));
        let payload = history.commit(vec![renamed]);
        writer.write(&history, "NameUpdated", &payload);
    }
}

/// The histories of all who were asked for after a restart were in memory at once, 192 MiB for each worker and more: what a
/// reading may take was looked at after it.
#[test]
fn hundreds_of_persons_of_a_mebibyte_fit_into_half_of_what_is_called_plenty() {
    let server = NatsServer::start();
    let mut writer = Writer::connect(server.port());
    (1..=PERSONS).for_each(|number| write_large(&mut writer, person(number)));
    writer.finish();
    let environment = [("WORKERS", "4"), ("COMMAND_TIMEOUT", "120s"), ("LOG_LEVEL", "info"), ("SNAPSHOT_FREQ", "0")];
    for what in ["commands", "queries"] {
        let mut service = Service::start(&server.url(), &environment);
        let mut client = Client::connect(server.port());
        let began = Instant::now();
        let ask = |client: &mut Client, person: &str| {
            let reply = client.new_reply();
            if what == "commands" {
                let command =
                    Command::new(person, &json!({ "DeactivatePerson": { "person_id": person, "reason": "test" } }));
                client.publish(&command.subject(), &reply, &command.headers, &command.payload);
            } else {
                let query = json!({ "person_id": person }).to_string();
                client.publish("person.queries.get", &reply, &[], query.as_bytes());
            }
        };
        (1..=PERSONS).for_each(|number| ask(&mut client, &person(number).to_string()));
        let mut answered = 0;
        while answered < PERSONS {
            let answer =
                client.next(4 * PATIENCE).unwrap_or_else(|| panic!("{answered} answers\n{}", service.log())).json();
            if answer["error"]["retryable"] == true {
                ask(&mut client, answer["aggregate_id"].as_str().expect("whose"));
                continue;
            }
            let is_done = answer["status"] == "accepted" || answer["status"] == "ok";
            assert!(is_done || answer["error"]["code"] == "invalid_state", "{answer:.200}");
            answered += 1;
        }
        match memory_kib(&service, "VmHWM") {
            Some(peak) => {
                println!("{what}: a peak of {} MiB, {:?}", peak / 1024, began.elapsed());
                assert!(peak < PLENTY_KIB, "{what}: a peak of {} MiB", peak / 1024);
            }
            None => skip("the peak of memory", "this system has no /proc/PID/status"),
        }
        service.stop();
    }
}

/// One question about a person with a long history and no snapshot held up all that were asked after it, until its time was
/// over.
#[test]
fn quick_questions_are_answered_beside_a_long_one() {
    const COMMITS: u64 = 20_000;
    let server = NatsServer::start();
    let mut writer = Writer::connect(server.port());
    let (long, short) = (person(1), person(2));
    writer.person(short, 3);
    writer.person(long, COMMITS);
    writer.finish();
    let mut service = Service::start(&server.url(), &[("COMMAND_TIMEOUT", "60s"), ("SNAPSHOT_FREQ", "0")]);
    let mut client = Client::connect(server.port());
    let ask = |client: &mut Client, person: PersonId| {
        let reply = client.new_reply();
        client.publish("person.queries.get", &reply, &[], json!({ "person_id": person }).to_string().as_bytes());
    };
    ask(&mut client, long);
    let began = Instant::now();
    let mut took = Vec::new();
    loop {
        let asked = Instant::now();
        ask(&mut client, short);
        let answer = client.next(PATIENCE).expect("an answer").json();
        assert_eq!(answer["status"], "ok", "{answer}");
        if answer["version"] == COMMITS {
            break;
        }
        assert_eq!(answer["version"], 3);
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    println!("the long one took {:?}; of {} others the slowest {:?}", began.elapsed(), took.len(), took.last());
    assert!(took.len() > 2, "{} were answered before it", took.len());
    service.stop();
}
