//! Clocks that are wrong: the client's, and the service's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::client::{Client, Command};
use super::monitoring::{free_address, get, samples};
use super::process::Service;
use super::{checked_history, create, rename, somebody};
use crate::binary::person_service;
use crate::support::histories::Writer;
use crate::support::nats_server::NatsServer;
use crate::support::proxy::Proxy;
use crate::support::{PATIENCE, eventually};

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// A UUIDv7 made at this time.
fn id_of(made_at: Duration) -> String {
    let millis = u64::try_from(made_at.as_millis()).expect("a few centuries");
    let mut random = [0; 10];
    random.copy_from_slice(&uuid::Uuid::now_v7().as_bytes()[6..]);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

/// A client's clock was ahead. Its command was stored, more than 128 of the person followed, and a service that had not the
/// person in memory got the retry when the id's time had come: it was later than that of all that was forgotten, and the
/// command was carried out twice.
#[test]
fn a_retry_is_recognised_by_another_service_whatever_the_clients_clock_says() {
    const AHEAD: Duration = Duration::from_secs(3);
    const HOUR: Duration = Duration::from_secs(3600);
    let server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[]);
    let mut client = Client::connect(server.port());
    let person = somebody();
    client.accepted(&person, &create(&person));
    let began = now();
    let ids = [began + AHEAD, began - HOUR, began + HOUR, began].map(id_of);
    let sent: Vec<Command> =
        ids.iter().map(|id| Command::with_id(id, &person, &rename(&person, &format!("N{id}")))).collect();
    let first: Vec<_> = sent.iter().map(|command| client.command(command).json()).collect();
    for number in 0..200 {
        client.accepted(&person, &rename(&person, &format!("N{number}")));
    }
    service.stop();
    eventually("the id's time has come", || now() > began + AHEAD + Duration::from_millis(1_100));
    let _another = Service::start(&server.url(), &[]);
    for (command, first) in sent.iter().zip(&first) {
        let again = client.command(command).json();
        assert_eq!(
            (&again["duplicate"], &again["version"], &again["sequence"]),
            (&json!(true), &first["version"], &first["sequence"])
        );
    }
    assert_eq!(checked_history(&mut client).versions[&person], 205);
}

/// What a server says of its time, and the same with another year.
fn years() -> [String; 2] {
    [0, 2].map(|years| format!("\"ts\":\"{}-", 1970 + now().as_secs() / 31_556_952 - years))
}

/// Like a service, a repair stamps what it writes with the time of its machine, for ever.
#[test]
fn a_repair_on_a_machine_whose_clock_is_wrong_changes_nothing() {
    let server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[]);
    let mut client = Client::connect(server.port());
    let person = somebody();
    client.accepted(&person, &create(&person));
    service.stop();
    Writer::connect(server.port()).write_raw(person.parse().expect("a UUID"), "", b"garbage");
    let proxy = Proxy::before(server.port());
    let [right, wrong] = years();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("saved");
    let args =
        ["repair", &person, "--yes", "--confirmed-by", "me", "--reason", "test", "--save", file.to_str().unwrap()];
    let repair = || person_service(&args, &[("NATS_URL", &proxy.url())]).output().expect("it runs");
    proxy.disguise(&right, &wrong);
    let before = client.stored("PERSON_EVENTS").len();
    let refused = repair();
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && says.contains("the clock of this machine is 7"), "{says}");
    assert!(client.stored("PERSON_EVENTS").len() == before && !file.exists(), "nothing was changed");
    proxy.disguise(&right, &right);
    let done = repair();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
}

/// A service whose clock was two years ahead stamped its events with it for ever, and nothing said so. Here it is the server
/// that says another year, which is the same to the service.
#[test]
fn a_service_whose_clock_is_wrong_takes_no_commands_until_it_is_right() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let [right, wrong] = years();
    let address = free_address();
    proxy.disguise(&right, &wrong);
    let mut service = Service::launch(&proxy.url(), &[("METRICS_ADDR", &address)]);
    const SAYS: &str = "the clock of this machine is 7";
    service.wait_for(&format!("STATUS={SAYS}"));
    assert!(!service.is_ready());
    service.wait_for_log("more than 2 min");
    let (status, words) = get(&address, "/readyz").expect("an answer");
    assert!(status == 503 && words.starts_with(SAYS), "{status} {words}");
    let figures = samples(&get(&address, "/metrics").expect("an answer").1);
    assert!(figures["person_service_clock_offset_seconds"] > 700.0 * 86_400.0, "{figures:?}");
    assert_eq!(figures["person_service_not_serving{reason=\"clock_off\"}"], 1.0);
    let doctor = person_service(&["doctor", "--json"], &[("NATS_URL", &proxy.url())]).output().expect("it runs");
    let doctor: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let clock = doctor["findings"].as_array().expect("findings").iter().find(|one| one["about"] == "clock");
    let clock = clock.expect("it looks at the clock");
    assert!(clock["verdict"] == "wrong" && clock["says"].as_str().unwrap().starts_with(SAYS), "{clock}");
    let mut client = Client::connect(server.port());
    let person = somebody();
    let command = Command::new(&person, &create(&person));
    assert!(client.ask(&command.subject(), &[], &command.payload, PATIENCE).expect("an answer").is_no_responders());

    // Each check measured another offset, in its last digits, and so the same error was logged anew every five seconds.
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(service.log().matches("error_code=clock_off").count(), 1, "{}", service.log());

    // It goes on by itself when the clock is right again, and leaves when it is wrong again.
    proxy.disguise(&right, &right);
    service.wait_for("READY=1");
    client.accepted(&person, &create(&person));
    proxy.disguise(&right, &wrong);
    eventually("it leaves the commands to others", || {
        client.ask("person.commands.x", &[], b"{}", PATIENCE).is_some_and(|answer| answer.is_no_responders())
    });
    proxy.disguise(&right, &right);
    eventually("it is back", || get(&address, "/readyz").is_some_and(|(status, _)| status == 200));
    client.accepted(&person, &rename(&person, "Grace"));
    service.stop();
}
