//! What one command after the other takes, beside a bare question and answer. It is printed; nothing is asserted of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::client::{Client, Command};
use super::process::Service;
use super::{create, record, somebody};
use crate::support::PATIENCE;
use crate::support::nats_server::NatsServer;

const COMMANDS: usize = 500;

#[test]
fn one_command_after_the_other() {
    let server = NatsServer::start();
    let _service = Service::start(&server.url(), &[]);
    let mut client = Client::connect(server.port());

    let persons: Vec<String> = (0..COMMANDS).map(|_| somebody()).collect();
    let creations: Vec<Command> = persons.iter().map(|person| Command::new(person, &create(person))).collect();
    let person = &persons[0];
    let creation = measure(&mut client, &creations);
    let notes: Vec<Command> = (0..COMMANDS).map(|n| Command::new(person, &record(person, &n.to_string()))).collect();
    let note = measure(&mut client, &notes);
    let retry = measure(&mut client, &creations[1..]);

    let is_over = Arc::new(AtomicBool::new(false));
    let echo = responder(server.port(), Arc::clone(&is_over));
    let bare: Vec<Duration> = (0..COMMANDS)
        .map(|_| {
            let begun = Instant::now();
            client.ask("echo", &[], &creations[0].payload, PATIENCE).expect("an echo");
            begun.elapsed()
        })
        .collect();
    is_over.store(true, Relaxed);
    echo.join().expect("its end");
    for (what, times) in [("bare", &bare), ("create", &creation), ("note", &note), ("duplicate", &retry)] {
        println!("{what}: p50 {:?}, p90 {:?}, p99 {:?}", part(times, 50), part(times, 90), part(times, 99));
    }
}

fn measure(client: &mut Client, commands: &[Command]) -> Vec<Duration> {
    let times = commands.iter().map(|command| {
        let begun = Instant::now();
        let reply = client.command(command);
        let took = begun.elapsed();
        assert_eq!(reply.json()["status"], "accepted");
        took
    });
    times.collect()
}

fn part(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() * percent / 100]
}

/// A client that answers everything at once with what it was sent, until all is over.
fn responder(port: u16, is_over: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let mut client = Client::connect(port);
    client.subscribe("echo");
    client.settle();
    std::thread::spawn(move || {
        while !is_over.load(Relaxed) {
            let Some(message) = client.next(Duration::from_millis(100)) else { continue };
            client.publish(message.reply.as_deref().unwrap_or("nowhere"), "", &[], &message.payload);
        }
    })
}
