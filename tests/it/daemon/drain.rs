//! Leaving under load: what was taken is answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Client, Command};
use super::flood::{Flood, Flooded};
use super::process::Service;
use super::{check_answer, checked_history, create, record, somebody};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::proxy::Proxy;
use crate::support::{PATIENCE, cluster};

/// Notes of new persons: each creates one, so that all of them can be under way at once.
fn creations(count: usize) -> Vec<Command> {
    let persons = (0..count).map(|_| somebody());
    persons.map(|person| Command::new(&person, &create(&person))).collect()
}

/// Every acceptance says what is stored.
fn check(client: &mut Client, commands: &[Command], flooded: &Flooded) {
    let history = checked_history(client);
    for (command, answer) in std::iter::zip(commands, &flooded.answers) {
        if let Some(answer) = answer.as_ref().filter(|answer| answer["status"] == "accepted") {
            check_answer(&history, &command.id, answer);
        }
    }
}

/// One replica alone: what reached it is answered, and what comes later finds nobody and is told so by the server.
#[test]
fn every_command_that_was_delivered_is_answered() {
    let server = NatsServer::start();
    // A service manager sends the one, a terminal the other.
    for (in_flight, signal) in [(64, "TERM"), (512, "INT")] {
        let mut service = Service::start(&server.url(), &[]);
        let mut client = Client::connect(server.port());
        let commands = creations(6_000);
        let mut signalled = None;
        let flooded = client.flood(&commands, Flood::careless(in_flight), |done| {
            if done == 2_000 {
                signalled = Some(Instant::now());
                service.signal(signal);
            }
        });
        let (status, _) = service.wait(PATIENCE);
        let took = signalled.unwrap().elapsed();
        assert_eq!(status, 0, "{}", service.log());
        let told = service.told_since(signalled.unwrap());
        // It may have said how far it is just before.
        let after = told.iter().skip_while(|words| words.starts_with("STATUS=serving")).collect::<Vec<_>>();
        assert_eq!(after.first().map(|words| words.as_str()), Some("STOPPING=1"), "{told:?}");
        assert!(told.contains(&"STATUS=draining".to_owned()));
        service.wait_for_log("drained: every command that was taken is answered");
        assert_eq!(flooded.unanswered(), 0, "of {in_flight} in flight: {}", service.log());
        let accepted = flooded.answers.iter().flatten().filter(|answer| answer["status"] == "accepted").count();
        assert!(accepted >= 2_000 && accepted < commands.len(), "{accepted}");
        println!("{in_flight} in flight: {accepted} accepted, {} found nobody, {took:?}", flooded.failures.len());
        check(&mut client, &commands, &flooded);
    }
}

/// NATS took the subscription and said so too late. The service had given up those who joined, and an end at that moment
/// left what they had been sent unanswered.
#[test]
fn what_came_before_nats_confirmed_the_membership_is_answered() {
    let server = NatsServer::start();
    // Leaving ends after a second without a confirmation: then it came too late, and is tried again.
    let deadline = Instant::now() + 2 * PATIENCE;
    while !ends_while_it_leaves(&server) {
        assert!(Instant::now() < deadline, "never in time");
    }
}

/// Whether it was told to end between joining in vain and having left.
fn ends_while_it_leaves(server: &NatsServer) -> bool {
    let proxy = Proxy::before(server.port());
    proxy.mute_after(Some("SUB person.commands.>"));
    let mut service = Service::launch(&proxy.url(), &[]);
    let mut client = Client::connect(server.port());
    let mut delivered = Vec::new();
    eventually("it joins, and leaves again", || {
        let person = somebody();
        let (command, reply) = (Command::new(&person, &create(&person)), client.new_reply());
        client.publish(&command.subject(), &reply, &command.headers, &command.payload);
        // The server answers in order: by now it has said that nobody is there, if so.
        client.settle();
        let is_refused = client.waiting().is_some_and(|answer| answer.is_no_responders());
        if !is_refused {
            delivered.push(reply);
        }
        is_refused && !delivered.is_empty()
    });
    service.signal("TERM");
    service.wait_for_log("draining");
    proxy.mute_after(None);
    let (status, _) = service.wait(PATIENCE);
    if service.log().contains("without NATS confirming it") {
        return false;
    }
    assert_eq!(status, 0, "{}", service.log());
    client.settle();
    let answers: Vec<_> = std::iter::from_fn(|| client.waiting()).collect();
    for reply in &delivered {
        let answer = answers.iter().find(|answer| answer.subject == *reply);
        let answer = answer.unwrap_or_else(|| panic!("{reply} has no answer: {}", service.log()));
        assert_eq!(answer.json()["status"], "accepted");
    }
    true
}

/// With a second replica nothing is lost even for clients that never send anything twice.
#[test]
fn a_second_replica_takes_over() {
    let server = NatsServer::start();
    let mut leaving = Service::start(&server.url(), &[]);
    let mut staying = Service::start(&server.url(), &[]);
    let mut client = Client::connect(server.port());
    let commands = creations(8_000);
    let flooded = client.flood(&commands, Flood::careless(256), |done| {
        if done == 2_000 {
            leaving.signal("TERM");
        }
    });
    assert_eq!(leaving.wait(PATIENCE).0, 0);
    assert_eq!(flooded.failures, Vec::<Value>::new());
    flooded.all_accepted();
    check(&mut client, &commands, &flooded);
    staying.stop();
}

/// In a cluster a command may be on its way from the client's server to that of the replica that leaves. Such a one may be
/// lost between the servers, and its client sends it again.
#[test]
fn a_replica_behind_another_server_leaves() {
    let servers = cluster::start();
    let mut leaving = Service::start(&servers[1].url(), &[]);
    let _staying = Service::start(&servers[2].url(), &[]);
    let mut client = Client::connect(servers[0].port());
    let commands = creations(6_000);
    let flooded = client.flood(&commands, Flood::careful(256), |done| {
        if done == 2_000 {
            leaving.signal("TERM");
        }
    });
    assert_eq!(leaving.wait(PATIENCE).0, 0, "{}", leaving.log());
    println!("{} sent again, {} failures", flooded.retries, flooded.failures.len());
    assert!(!leaving.log().contains(" accepted 0 "), "it had its share: {}", leaving.log());
    flooded.all_accepted();
    check(&mut client, &commands, &flooded);
}

/// Rolling restarts, again and again, under clients that never send anything twice.
#[test]
fn replicas_come_and_go() {
    let server = NatsServer::start();
    let commands = creations(9_000);
    let over = AtomicBool::new(false);
    let mut client = Client::connect(server.port());
    let _staying = Service::start(&server.url(), &[]);
    let (flooded, restarts) = std::thread::scope(|scope| {
        let restarts = scope.spawn(|| {
            let mut restarts = 0;
            while restarts == 0 || !over.load(Ordering::SeqCst) {
                let mut passing = Service::start(&server.url(), &[]);
                std::thread::sleep(Duration::from_millis(200));
                passing.stop();
                restarts += 1;
            }
            restarts
        });
        let flooded = client.flood(&commands, Flood::careless(128), |_| {});
        over.store(true, Ordering::SeqCst);
        (flooded, restarts.join().unwrap())
    });
    println!("{restarts} replicas came and went");
    assert_eq!(flooded.failures, Vec::<Value>::new());
    flooded.all_accepted();
    check(&mut client, &commands, &flooded);
}

/// A second signal does not wait for what hangs.
#[test]
fn a_second_signal_leaves_at_once() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let mut service = Service::start(&proxy.url(), &[("COMMAND_TIMEOUT", "2m"), ("DRAIN_TIMEOUT", "2m")]);
    let mut client = Client::connect(server.port());
    let person = somebody();
    client.accepted(&person, &create(&person));
    proxy.lose_acknowledgements(true);
    for number in 0..100 {
        client.publish("person.commands.x", "", &[], record(&person, &number.to_string()).to_string().as_bytes());
    }
    eventually("one of them is under way", || {
        client.api("STREAM.INFO.PERSON_EVENTS", &Value::Null)["state"]["messages"].as_u64() > Some(1)
    });
    proxy.lose_answers(true);
    service.signal("TERM");
    service.wait_for("STATUS=draining");
    service.signal("INT");
    let (status, took) = service.wait(PATIENCE);
    println!("left {took:?} after the second signal");
    // The drain would have taken two minutes.
    assert_eq!(status, 70, "{}", service.log());
    service.wait_for_log("told to leave at once");
}

/// NATS that is away does not keep the service from leaving in time, were the time short.
#[test]
fn it_leaves_while_nats_is_away() {
    for (commands, timeout) in [(0, "1s"), (500, "8s")] {
        let mut server = NatsServer::start();
        let environment = [("DRAIN_TIMEOUT", timeout), ("COMMAND_TIMEOUT", "3s")];
        let mut service = Service::start(&server.url(), &environment);
        let client = Client::connect(server.port());
        let person = somebody();
        for number in 0..commands {
            client.publish("person.commands.x", "", &[], record(&person, &number.to_string()).to_string().as_bytes());
        }
        server.kill();
        service.signal("TERM");
        let (status, took) = service.wait(PATIENCE);
        println!("{commands} commands, {timeout}: left after {took:?}");
        assert_eq!(status, 0, "{}", service.log());
        assert!(service.told().contains(&"STOPPING=1".to_owned()));
    }
}
