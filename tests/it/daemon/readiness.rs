//! When the service says that it is ready, and how it ends when it never can be.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use super::client::Client;
use super::process::Service;
use super::{create, somebody};
use crate::binary::person_service;
use crate::support::PATIENCE;
use crate::support::nats_server::{self, NatsServer};
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::streams;

/// The moment it says READY a command is answered, not a moment later.
#[test]
fn ready_means_that_a_command_is_answered() {
    let server = NatsServer::start();
    let mut client = Client::connect(server.port());
    for _ in 0..5 {
        let mut service = Service::launch(&server.url(), &[]);
        service.wait_for("READY=1");
        let person = somebody();
        assert_eq!(client.tell(&person, &create(&person))["status"], "accepted", "sent once");
        service.stop();
        // And nobody is there any more: the server itself says so.
        let answer = client.ask("person.commands.x", &[], b"{}", PATIENCE).unwrap();
        assert!(answer.is_no_responders());
    }
}

#[test]
fn nats_may_come_later() {
    let mut server = NatsServer::start();
    server.kill();
    let mut service = Service::launch(&server.url(), &[]);
    service.wait_for(&format!("STATUS=waiting for NATS at {}", server.url()));
    service.wait_for_log("waiting for NATS");
    assert!(!service.is_ready());
    server.restart();
    service.wait_for("READY=1");
    let person = somebody();
    Client::connect(server.port()).accepted(&person, &create(&person));
    service.stop();
}

/// A port that takes connections and says nothing is NATS being away, whatever it is.
#[test]
fn a_mute_port_is_waited_for() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", mute.local_addr().unwrap());
    let mut service = Service::launch(&url, &[]);
    service.wait_for(&format!("STATUS=waiting for NATS at {url}"));
    assert!(!service.is_ready());
    service.signal("TERM");
    let (status, took) = service.wait(PATIENCE);
    assert_eq!(status, 0);
    println!("left a mute port after {took:?}");
    assert!(service.told().contains(&"STOPPING=1".to_owned()), "{:?}", service.told());
}

/// A server that greets and then says nothing: an attempt waits ten seconds for the sign-in, who is told to stop does not.
#[test]
fn a_signal_is_heard_during_an_attempt_to_start() {
    let greeting = Raw::greeting(NatsServer::start().port()).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", silent.local_addr().unwrap());
    let mut service = Service::launch(&url, &[]);
    // The first connection only looks whether somebody greets; the second one is the client's, which signs in.
    let [_looking, client] = [(); 2].map(|()| {
        let (mut connection, _) = silent.accept().unwrap();
        connection.write_all(format!("INFO {greeting}\r\n").as_bytes()).unwrap();
        connection
    });
    let said = BufReader::new(&client).lines().next().expect("it signs in").unwrap();
    assert!(said.starts_with("CONNECT "), "{said}");
    service.signal("TERM");
    let (status, _) = service.wait(PATIENCE);
    assert_eq!(status, 0, "{}", service.log());
    assert!(service.log().contains("told to stop before it began to serve"), "{}", service.log());
    assert!(!service.log().contains("waiting for NATS"), "the attempt was not over: {}", service.log());
    assert!(service.told().contains(&"STOPPING=1".to_owned()), "{:?}", service.told());
}

/// Its end: the status, the last line, and that it was never ready.
#[track_caller]
fn check_end(url: &str, environment: &[(&str, &str)], status: i32, words: &[&str]) -> Service {
    let mut service = Service::launch(url, environment);
    let (found, _) = service.wait(PATIENCE);
    let last = service.last_line();
    assert_eq!(found, status, "{last}");
    words.iter().for_each(|word| assert!(last.contains(word), "no {word:?} in {last:?}"));
    assert!(!service.is_ready());
    service
}

#[test]
fn bad_configuration_is_78() {
    check_end("nats://127.0.0.1:1", &[("WORKERS", "many")], 78, &["WORKERS", "many"]);
    check_end("nats://127.0.0.1:1", &[("NATS_CREDS", "/nonexistent.creds")], 78, &["NATS_CREDS", "/nonexistent.creds"]);
    check_end("nats://127.0.0.1:1", &[("REPLY_SUBJECTS", ">")], 78, &["REPLY_SUBJECTS"]);
}

#[test]
fn bad_usage_is_64() {
    for args in [&["--nonsense"][..], &["walk"], &["--workers"]] {
        let output = person_service(args, &[]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).lines().last().unwrap().contains("bad usage"));
    }
}

#[test]
fn a_refused_sign_in_is_77() {
    let server = NatsServer::with("authorization { user: a, password: right }");
    let environment = [("NATS_USER", "a"), ("NATS_PASSWORD", "hunter2")];
    let service = check_end(&server.url(), &environment, 77, &["sign-in", "Authorization Violation"]);
    assert!(!service.log().contains("hunter2"));
    check_end(&server.url(), &[], 77, &["sign-in"]);
}

#[test]
fn no_jetstream_is_69() {
    let server = NatsServer::configured("");
    check_end(&server.url(), &[], 69, &["JetStream"]);
}

#[test]
fn an_old_server_is_69() {
    let server = NatsServer::start();
    let greeting = Raw::greeting(server.port()).unwrap();
    let version = greeting["version"].as_str().unwrap();
    let old = version.replacen('2', "1", 1);
    let proxy = Proxy::before(server.port());
    proxy.disguise(version, &old);
    check_end(&proxy.url(), &[], 69, &[&old, "2.12"]);
}

/// The same with a real one.
#[test]
fn a_server_that_is_really_old_is_69() {
    let Some(binary) = nats_server::too_old("a_server_that_is_really_old_is_69") else { return };
    let server = NatsServer::of(&binary, "jetstream { store_dir: \"$DIR/store\" }");
    check_end(&server.url(), &[], 69, &["2.11", "2.12"]);
}

/// What it may not create it prints, and what it prints can be created as it is.
#[test]
fn what_is_to_be_created_by_hand_is_printed() {
    let server = NatsServer::start();
    let service = check_end(&server.url(), &[("STREAM_CREATE", "false")], 69, &["missing", "PERSON_EVENTS"]);
    let mut client = Client::connect(server.port());
    let printed = service.stdout();
    let definitions: Vec<Value> =
        serde_json::Deserializer::from_str(&printed).into_iter().collect::<Result<_, _>>().expect("JSON");
    let names: Vec<&Value> = definitions.iter().map(|definition| &definition["name"]).collect();
    assert_eq!(names, ["PERSON_EVENTS", "KV_PERSON_EVENTS_SNAPSHOTS"], "{printed}");
    for definition in &definitions {
        let created = client.api(&format!("STREAM.CREATE.{}", definition["name"].as_str().unwrap()), definition);
        assert_eq!(created.get("error"), None, "{created}");
    }
    let mut service = Service::start(&server.url(), &[("STREAM_CREATE", "false")]);
    let person = somebody();
    client.accepted(&person, &create(&person));
    service.stop();
    let by_hand = configurations(&mut client);
    // The same that it makes by itself.
    let fresh = NatsServer::start();
    let _service = Service::start(&fresh.url(), &[]);
    assert_eq!(by_hand, configurations(&mut Client::connect(fresh.port())));
}

/// Without the salt, which is another one in each stream.
fn configurations(client: &mut Client) -> Vec<Value> {
    let mut configuration = |name| {
        let mut config = client.api(&format!("STREAM.INFO.{name}"), &Value::Null)["config"].take();
        let salt = config["metadata"].as_object_mut().and_then(|all| all.remove("person-service.identifier-salt"));
        assert_eq!(salt.is_some(), name == "PERSON_EVENTS", "{name}");
        config
    };
    ["PERSON_EVENTS", "KV_PERSON_EVENTS_SNAPSHOTS"].map(&mut configuration).into()
}

/// A stream that exists and would lose commits is as bad as none. What is printed mends it, and the service starts.
#[test]
fn an_unusable_stream_is_69_and_comes_with_what_mends_it() {
    let server = NatsServer::start();
    let old = json!({"subjects": ["person.events.>"], "max_age": 3_600_000_000_000_u64, "metadata": {"team": "a"},
        "allow_atomic": null, "allow_rollup_hdrs": null});
    streams::create(server.port(), &streams::commits(&old));
    let words = [
        "PERSON_EVENTS",
        "set max_age to 0",
        "allow_atomic",
        "identifier-salt",
        "'nats stream edit PERSON_EVENTS --config FILE'",
    ];
    let service = check_end(&server.url(), &[], 69, &words);
    streams::update(server.port(), &serde_json::from_str(&service.stdout()).expect("one JSON"));
    Service::start(&server.url(), &[]).stop();
}

/// The service's own stream over `person.>` took every command in and acknowledged it: clients got that in place of the
/// reply, and nothing said so.
#[test]
fn a_stream_that_takes_the_commands_is_69() {
    let server = NatsServer::start();
    streams::create(server.port(), &streams::commits(&json!({"subjects": ["person.>"]})));
    let words = ["PERSON_EVENTS", "person.commands.>", "person.queries.>", "person.intake.>"];
    let service = check_end(&server.url(), &[], 69, &words);
    let mended: Value = serde_json::from_str(&service.stdout()).expect("one JSON");
    assert_eq!(mended["subjects"], json!(["person.events.>", "person.identifiers.*"]));
}

/// SIGHUP takes the level from the file that `ENVIRONMENT_FILE` names, and comes back to the start's without one.
#[test]
fn the_log_level_is_read_again() {
    let server = NatsServer::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("environment");
    let named = path.to_str().unwrap();
    let service = Service::start(&server.url(), &[("LOG_LEVEL", "info"), ("ENVIRONMENT_FILE", named)]);
    std::fs::File::create(&path).unwrap().write_all(b"# levels\nNATS_URL=elsewhere\nLOG_LEVEL=debug\n").unwrap();
    service.signal("HUP");
    service.wait_for_log("LOG_LEVEL is now debug, it was info");
    std::fs::write(&path, "LOG_LEVEL=loud\n").unwrap();
    service.signal("HUP");
    service.wait_for_log("LOG_LEVEL stays debug");
    std::fs::remove_file(&path).unwrap();
    service.signal("HUP");
    service.wait_for_log("LOG_LEVEL is now info, it was debug");
    let person = somebody();
    Client::connect(server.port()).accepted(&person, &create(&person));
}
