//! The memory for persons is bounded, however many there are, and who was forgotten is there again when asked for.

use serde_json::{Value, json};

use super::{check_shown, create, get, large, rename, somebody};
use crate::daemon::client::{Client, Command};
use crate::daemon::process::Service;
use crate::daemon::{check_growth, memory_kib};
use crate::support::PATIENCE;
use crate::support::nats_server::NatsServer;

const PERSONS: usize = 1_500;
const STATE_BYTES: usize = 40_000;
/// What may be added to a process that has done nothing: much less than all persons take. The caches of the threads for
/// queries have 8 MiB each, and a turn and the queues of connections take theirs.
const GROWTH_KIB_MAX: u64 = 40 * 1024;

/// Sends to each person what is made for it, some at a time.
fn tell_all(client: &mut Client, persons: &[String], body: impl Fn(&str) -> Value) {
    for some in persons.chunks(64) {
        let replies: Vec<String> = some.iter().map(|_| client.new_reply()).collect();
        for (person, reply) in some.iter().zip(&replies) {
            let command = Command::new(person, &body(person));
            client.publish(&command.subject(), reply, &command.headers, &command.payload);
        }
        for _ in some {
            let answer = client.next(PATIENCE).expect("an answer").json();
            assert_eq!(answer["status"], "accepted", "{answer}");
        }
    }
}

#[test]
fn the_memory_for_persons_is_bounded() {
    let server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[("CACHE_BYTES", "1MiB"), ("SNAPSHOT_FREQ", "2")]);
    let mut client = Client::connect(server.port());
    let persons: Vec<String> = (0..PERSONS).map(|_| somebody()).collect();
    let before = memory_kib(&service, "VmRSS");
    tell_all(&mut client, &persons, |person| json!([create(person), large(person, STATE_BYTES)]));
    let created = memory_kib(&service, "VmRSS");
    tell_all(&mut client, &persons, |person| rename(person, 3));
    for person in &persons {
        let shown = get(&mut client, person);
        check_shown(&shown, 3, 3);
        assert_eq!(shown["person"]["attributes"][0]["value"]["TextList"].as_array().unwrap().len(), 10);
    }
    let (after, peak) = (memory_kib(&service, "VmRSS"), memory_kib(&service, "VmHWM"));
    println!("{PERSONS} persons of {STATE_BYTES} bytes, KiB: {before:?}, {created:?}, {after:?}, peak {peak:?}");
    check_growth("the_memory_for_persons_is_bounded", before, after, GROWTH_KIB_MAX);
    service.stop();
    assert!(!service.log().contains("ERROR"), "{}", service.log());
}
