//! What nobody reads: a full stderr stopped a whole service once, commands, signals and all, while `/readyz` said ready;
//! so did the service manager's socket, stdout, and a disk that hangs.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Client, Command};
use super::monitoring::{free_address, get, samples};
use super::process::Service;
use super::{create, rename, somebody};
use crate::binary::person_service;
use crate::support::full_pipe::{fill, pipe};
use crate::support::nats_server::NatsServer;
use crate::support::{PATIENCE, eventually};

/// Not one line of it was read, and all of it comes when somebody reads again, with the times at which it happened.
#[test]
fn a_log_that_nobody_reads_stops_neither_commands_nor_probes_nor_the_end() {
    let server = NatsServer::start();
    let address = free_address();
    let (reader, writer) = pipe();
    let ours = writer.try_clone().expect("a descriptor");
    let mut service = Service::launch_with(&server.url(), &[("METRICS_ADDR", &address)], writer);
    service.wait_for("READY=1");
    let unread = fill(reader, ours);
    let mut client = Client::connect(server.port());
    // Each is a line of the supervisor, of a door, of a worker.
    client.publish("person.commands.x", "", &[], b"no command");
    let nobody = somebody();
    client.publish(&format!("person.commands.{nobody}"), "", &[], rename(&nobody, "x").to_string().as_bytes());
    let waiting = || samples(&get(&address, "/metrics").expect("an answer").1)["person_service_log_lines_waiting"];
    eventually("lines wait", || {
        service.signal("HUP");
        waiting() >= 3.0
    });
    for _ in 0..100 {
        let person = somebody();
        client.accepted(&person, &create(&person));
        let question = json!({ "person_id": person }).to_string();
        let answer = client.ask("person.queries.get", &[], question.as_bytes(), PATIENCE).expect("an answer");
        assert_eq!(answer.json()["person"]["id"], person);
    }
    assert_eq!(get(&address, "/readyz").map(|(status, _)| status), Some(200), "it is");
    assert_eq!(get(&address, "/healthz").map(|(status, _)| status), Some(200));
    let resumed = jiff::Timestamp::now();
    let reading = std::thread::spawn(move || unread.read().collect::<Vec<_>>());
    eventually("the lines are written", || waiting() < 3.0);
    service.signal("TERM");
    assert_eq!(service.wait(PATIENCE).0, 0);
    let lines = reading.join().expect("it ends with the process");
    let reloads: Vec<&String> = lines.iter().filter(|line| line.contains("LOG_LEVEL stays debug")).collect();
    assert!(!reloads.is_empty(), "{lines:#?}");
    for line in reloads {
        let time: jiff::Timestamp = line.split(' ').next().expect("a time").parse().expect("RFC 3339");
        assert!(time < resumed, "{line} happened while nobody read");
    }
    assert!(lines.last().is_some_and(|line| line.contains("drained: every command that was taken is answered")));
}

/// SIGTERM did nothing any more: the process waited for its own last line.
#[test]
fn a_log_that_nobody_reads_does_not_hold_up_the_end() {
    let server = NatsServer::start();
    let (reader, writer) = pipe();
    let ours = writer.try_clone().expect("a descriptor");
    let mut service = Service::launch_with(&server.url(), &[], writer);
    service.wait_for("READY=1");
    let _unread = fill(reader, ours);
    service.signal("TERM");
    let (status, took) = service.wait(PATIENCE);
    println!("ended after {took:?}");
    assert_eq!(status, 0);
    assert!(service.told().contains(&"STATUS=draining".to_owned()));
}

/// Ends whose reason nobody can be told: they end all the same, with the status that says as much as there is to say.
#[test]
fn an_end_before_the_start_is_not_held_up_either() {
    let nowhere = [("NATS_URL", "nats://127.0.0.1:1"), ("METRICS_ADDR", "192.0.2.1:1")];
    for (args, environment, expected) in
        [(&["--nonsense"][..], &[][..], 64), (&[], &[("WORKERS", "x")], 78), (&[], &nowhere, 69)]
    {
        let (reader, writer) = pipe();
        let ours = writer.try_clone().expect("a descriptor");
        let _unread = fill(reader, ours);
        let mut child = person_service(args, environment).stderr(writer).spawn().expect("it runs");
        let mut status = None;
        eventually("it ends", || {
            status = child.try_wait().expect("it can be asked");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(expected), "{args:?} {environment:?}");
    }
}

/// A client has nobody to answer: it waits for its reader, as any tool does, and nothing that it says is lost.
#[test]
fn a_client_says_everything_however_late_it_is_read() {
    let (reader, writer) = pipe();
    let ours = writer.try_clone().expect("a descriptor");
    let unread = fill(reader, ours);
    let environment = [("NATS_URL", "nats://127.0.0.1:1")];
    let args = ["show", &somebody(), "--log-level", "trace"];
    let mut child = person_service(&args, &environment).stderr(writer).spawn().expect("it runs");
    // Longer than a service would wait for its last line.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(child.try_wait().expect("it can be asked"), None, "it waits");
    let lines: Vec<String> = unread.read().collect();
    assert!(lines.last().is_some_and(|line| line.contains("NATS is away")), "{lines:#?}");
    assert_eq!(child.wait().expect("it ends").code(), Some(69));
}

/// The definitions that an operator is to create went to a pipe that nobody reads, and SIGTERM no longer ended anything; or
/// to one that was closed, which was a panic.
#[test]
fn stdout_that_nobody_reads_does_not_hold_up_the_end() {
    let server = NatsServer::start();
    let by_hand = [("NATS_URL", server.url()), ("STREAM_CREATE", "false".to_owned())];
    let by_hand = [("NATS_URL", by_hand[0].1.as_str()), ("STREAM_CREATE", by_hand[1].1.as_str())];
    let run = |stdout: Stdio| {
        let child = person_service(&[], &by_hand).stdout(stdout).stderr(Stdio::piped()).spawn().expect("it runs");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(69));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let (reader, writer) = pipe();
    let ours = writer.try_clone().expect("a descriptor");
    let _unread = fill(reader, ours);
    let (closed, broken) = pipe();
    drop(closed);
    for stdout in [Stdio::from(writer), Stdio::from(broken)] {
        let said = run(stdout);
        assert!(said.contains("PERSON_EVENTS") && !said.contains("panicked"), "{said}");
    }
}

/// A service manager that hangs got a datagram more than its socket takes, and the supervisor waited with it.
#[test]
fn a_service_manager_that_does_not_listen_holds_nothing_up() {
    let server = NatsServer::start();
    let address = free_address();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deaf");
    let _deaf = UnixDatagram::bind(&path).expect("a socket");
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.set_nonblocking(true).expect("it can be");
    while sender.send_to(b"WATCHDOG=1", &path).is_ok() {}
    let socket = path.to_str().expect("UTF-8");
    let environment = [("METRICS_ADDR", address.as_str()), ("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "100000")];
    let mut service = Service::launch(&server.url(), &environment);
    eventually("it is ready", || get(&address, "/readyz").is_some_and(|(status, _)| status == 200));
    let mut client = Client::connect(server.port());
    // The watchdog is due many times meanwhile.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let person = somebody();
        client.accepted(&person, &create(&person));
    }
    assert_eq!(get(&address, "/healthz"), Some((200, "alive\n".to_owned())));
    service.stop();
}

/// The first writing of the file was waited for before anything else, signals included.
#[test]
fn a_metrics_file_on_a_disk_that_hangs_holds_nothing_up() {
    let server = NatsServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("person.prom");
    // To open a named pipe takes as long as nobody reads it.
    let made = Process::new("mkfifo").arg(folder.path().join("person.prom.new")).status().expect("mkfifo runs");
    assert!(made.success());
    let mut service = Service::start(&server.url(), &[("METRICS_FILE", file.to_str().expect("UTF-8"))]);
    let mut client = Client::connect(server.port());
    let person = somebody();
    client.accepted(&person, &create(&person));
    service.wait_for_log("could not be written: timed out");
    service.stop();
}

/// SIGHUP has a file read, and the supervisor waited for its disk: the SIGTERM that came next did nothing.
#[test]
fn an_environment_file_on_a_disk_that_hangs_holds_nothing_up() {
    let server = NatsServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("environment");
    std::fs::write(&file, "LOG_LEVEL=debug").expect("it is written");
    let mut service = Service::start(&server.url(), &[("ENVIRONMENT_FILE", file.to_str().expect("UTF-8"))]);
    std::fs::remove_file(&file).expect("it is there");
    // To open a named pipe takes as long as nobody writes to it.
    assert!(Process::new("mkfifo").arg(&file).status().expect("mkfifo runs").success());
    // Two that come before the first is heard are one.
    eventually("the log says that the file is still being read", || {
        service.signal("HUP");
        service.log().contains("the file is still being read")
    });
    let mut client = Client::connect(server.port());
    let person = somebody();
    client.accepted(&person, &create(&person));
    service.stop();
}

/// The log of a service and what it answers do not depend on each other: the same commands, the same answers.
#[test]
fn every_command_is_answered_beside_a_replica_whose_log_nobody_reads() {
    let server = NatsServer::start();
    let _healthy = Service::start(&server.url(), &[]);
    let (reader, writer) = pipe();
    let ours = writer.try_clone().expect("a descriptor");
    let mut unread = Service::launch_with(&server.url(), &[], writer);
    unread.wait_for("READY=1");
    let _pipe = fill(reader, ours);
    let mut client = Client::connect(server.port());
    let mut waiting = BTreeSet::new();
    for number in 0..340 {
        let person = somebody();
        // Every tenth is refused, and every other of those has nobody to hear it: lines in the log.
        let body = if number % 10 == 0 { json!("nonsense") } else { create(&person) };
        let reply = client.new_reply();
        let command = Command::new(&person, &body);
        client.publish(&command.subject(), &reply, &command.headers, &command.payload);
        if number % 20 == 0 {
            client.publish(&command.subject(), "", &command.headers, &command.payload);
        }
        waiting.insert(reply);
    }
    while !waiting.is_empty() {
        let answer = client.next(PATIENCE).unwrap_or_else(|| panic!("{} of 340 are not answered", waiting.len()));
        waiting.remove(&answer.subject);
    }
}
