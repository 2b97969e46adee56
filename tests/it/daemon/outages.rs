//! Servers that restart and connections that break, under load.

use std::time::{Duration, Instant};

use super::client::{Client, Command};
use super::flood::{Flood, Flooded};
use super::process::Service;
use super::{check_answer, checked_history, create, record, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::proxy::Proxy;
use crate::support::{PATIENCE, eventually};

const PERSONS: usize = 100;

/// Persons, and notes on them that meet each other.
fn persons_and_notes(client: &mut Client, notes: usize) -> (Vec<Command>, Vec<Command>) {
    let persons: Vec<String> = (0..PERSONS).map(|_| somebody()).collect();
    let creations: Vec<Command> = persons.iter().map(|person| Command::new(person, &create(person))).collect();
    client.flood(&creations, Flood::careful(64), |_| {}).all_accepted();
    let note = |number: usize| {
        let person = &persons[(number / 3) % PERSONS];
        Command::new(person, &record(person, &number.to_string()))
    };
    (creations, (0..notes).map(note).collect())
}

#[track_caller]
fn check(client: &mut Client, creations: &[Command], notes: &[Command], flooded: &Flooded) {
    let history = checked_history(client);
    assert_eq!(history.commands.len(), creations.len() + notes.len(), "one effect each");
    for (note, answer) in std::iter::zip(notes, flooded.all_accepted()) {
        check_answer(&history, &note.id, answer);
    }
    println!(
        "{} retries, {} failures, slowest {:?}",
        flooded.retries,
        flooded.failures.len(),
        flooded.latencies.iter().max()
    );
}

/// The client is never cut off itself; all that lies between the service and the server is, again and again.
#[test]
fn connections_that_are_cut() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let _service = Service::start(&proxy.url(), &[]);
    let mut client = Client::connect(server.port());
    let (creations, notes) = persons_and_notes(&mut client, 4_000);
    let flooded = client.flood(&notes, Flood::careful(64), |done| {
        if done % 500 == 250 {
            proxy.cut();
        }
    });
    check(&mut client, &creations, &notes, &flooded);
}

/// Answers get lost: appends that happened and were never acknowledged.
#[test]
fn answers_that_are_lost() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let _service = Service::start(&proxy.url(), &[]);
    let mut client = Client::connect(server.port());
    let (creations, notes) = persons_and_notes(&mut client, 2_000);
    let flooded = client.flood(&notes, Flood::careful(64), |done| {
        if done % 500 == 250 {
            proxy.lose_answers(true);
            std::thread::sleep(Duration::from_millis(30));
            proxy.cut();
            proxy.lose_answers(false);
        }
    });
    check(&mut client, &creations, &notes, &flooded);
}

/// The server itself is killed and started anew.
#[test]
fn a_server_that_restarts() {
    let mut server = NatsServer::start();
    let service = Service::start(&server.url(), &[("WATCHDOG_USEC", "1000000")]);
    let mut client = Client::connect(server.port());
    let (mut creations, mut notes) = persons_and_notes(&mut client, 1_500);
    for round in 0..3 {
        let part: Vec<Command> = notes.drain(..500).collect();
        // The client goes with the server; a new one sends everything again that it has no answer to.
        let killer = std::thread::scope(|scope| {
            let client = &mut client;
            let commands = &part;
            let flood = scope.spawn(move || {
                let how = Flood { patience: Duration::from_secs(1), ..Flood::careless(64) };
                client.flood(commands, how, |_| {})
            });
            std::thread::sleep(Duration::from_millis(30 * (round + 1)));
            server.restart();
            flood.join()
        });
        drop(killer);
        client = Client::connect(server.port());
        let flooded = client.flood(&part, Flood::careful(64), |_| {});
        creations.extend(part.iter().cloned());
        check_all(&mut client, &part, &flooded);
    }
    assert_eq!(checked_history(&mut client).commands.len(), creations.len());
    service.wait_for_log("connected to NATS again");
}

#[track_caller]
fn check_all(client: &mut Client, commands: &[Command], flooded: &Flooded) {
    let history = checked_history(client);
    for (command, answer) in std::iter::zip(commands, flooded.all_accepted()) {
        check_answer(&history, &command.id, answer);
    }
}

/// Who cannot store leaves the commands to others, and takes them again when it can.
#[test]
fn a_replica_without_a_store_leaves_the_group() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let mut lame = Service::start(&proxy.url(), &[]);
    let mut sound = Service::start(&server.url(), &[]);
    let mut client = Client::connect(server.port());
    let begun = Instant::now();
    proxy.stall(true);
    lame.wait_for_log("commands are left to other replicas");
    let left_after = begun.elapsed();
    lame.wait_since(Some(begun), "STATUS=NATS is away");
    proxy.cut();
    // The server forgets the subscription with its connection, and all goes to the sound one.
    eventually("only the sound replica is asked", || {
        (0..20).all(|_| {
            let person = somebody();
            let command = Command::new(&person, &create(&person));
            client.ask(&command.subject(), &command.headers, &command.payload, Duration::from_secs(2)).is_some()
        })
    });
    sound.stop();
    let back = Instant::now();
    proxy.stall(false);
    lame.wait_since(Some(back), "STATUS=serving");
    println!("left after {left_after:?}, back after {:?}", back.elapsed());
    let person = somebody();
    client.accepted(&person, &create(&person));
}

/// Waits until the watchdog was fed again and again since this moment.
#[track_caller]
fn wait_until_fed(service: &Service, since: Instant) {
    eventually("the watchdog is fed six times", || {
        service.told_since(since).iter().filter(|words| *words == "WATCHDOG=1").count() >= 6
    });
}

/// The connection is simply gone: within about a second others get the commands.
#[test]
fn nats_that_is_gone_is_no_hang() {
    let mut server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[("WATCHDOG_USEC", "1000000")]);
    let begun = Instant::now();
    server.kill();
    service.wait_since(Some(begun), "STATUS=NATS is away");
    let away_after = begun.elapsed();
    wait_until_fed(&service, begun);
    let back = Instant::now();
    server.restart();
    service.wait_since(Some(back), "STATUS=serving");
    println!("away after {away_after:?}, serving {:?} after the server's start", back.elapsed());
    let person = somebody();
    Client::connect(server.port()).accepted(&person, &create(&person));
    service.stop();
}

/// What the manager is told changes with what is, not with the next look.
#[test]
fn a_short_absence_is_told_and_its_end_too() {
    let mut server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[]);
    let begun = Instant::now();
    server.kill();
    service.wait_since(Some(begun), "STATUS=NATS is away");
    server.restart();
    let back = Instant::now();
    service.wait_since(Some(begun), "STATUS=serving");
    println!("serving {:?} after the server's start", back.elapsed());
    assert!(service.told_since(begun).len() <= 8, "{:?}", service.told());
}

/// A server that stands still and keeps its connections: the watchdog is fed all the same, and life goes on after it.
#[test]
fn a_server_that_freezes() {
    let server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[("WATCHDOG_USEC", "1000000")]);
    let mut client = Client::connect(server.port());
    let (creations, notes) = persons_and_notes(&mut client, 600);
    let flooded = client.flood(&notes, Flood::careful(64), |done| {
        if done == 300 {
            server.freeze();
            wait_until_fed(&service, Instant::now());
            server.thaw();
        }
    });
    check(&mut client, &creations, &notes, &flooded);
    service.signal("TERM");
    assert_eq!(service.wait(PATIENCE).0, 0);
}
