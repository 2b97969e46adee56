//! Replicas that share a person follow what the others store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cim_domain_person::daemon::clock::Clock;
use cim_domain_person::daemon::follower::{Ear, Follower};
use cim_domain_person::daemon::pulse::Pulses;
use cim_domain_person::engine::history::Budget;
use cim_domain_person::engine::ports::Sequence;
use cim_domain_person::engine::turn::{Limits, Moment};
use cim_domain_person::engine::worker::Worker;
use cim_domain_person::memory::{MemoryLog, MemorySnapshots};
use cim_domain_person::nats::{Feed, Intake, Layout, Store};
use serde_json::{Value, json};

use super::client::{Client, Command};
use super::flood::Flood;
use super::process::Service;
use super::{check_answer, checked_history, create, record, somebody};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;

/// How many consumers the stream has.
fn consumers(client: &mut Client) -> u64 {
    client.api("STREAM.INFO.PERSON_EVENTS", &json!({}))["state"]["consumer_count"].as_u64().expect("a number")
}

/// What the last line about what was done says of a figure, over all services.
fn total(services: &[Service], figure: &str) -> u64 {
    let value = |service: &Service| {
        let log = service.log();
        let line = log.lines().rfind(|line| line.contains("commands/s")).expect("a line");
        let (_, after) = line.split_once(&format!(" {figure} ")).expect("the figure");
        after.split(',').next().and_then(|value| value.trim().parse::<u64>().ok()).expect("a number")
    };
    services.iter().map(value).sum()
}

/// A round of commands, 20 for each person.
fn round(persons: &[String], words: &str) -> Vec<Command> {
    let command = |person: &String| Command::new(person, &record(person, words));
    (0..20).flat_map(|_| persons.iter().map(command)).collect()
}

/// Also beside a commit of a stranger that the client cannot parse: it reaches the feed of each replica and costs its
/// connection for commands a reconnect, and no promise.
#[test]
fn replicas_that_share_persons_follow_each_other_and_stop_when_they_are_done() {
    let server = NatsServer::start();
    let mut services: Vec<Service> = (0..2).map(|_| Service::start(&server.url(), &[("SNAPSHOT_FREQ", "0")])).collect();
    let mut client = Client::connect(server.port());
    let persons: Vec<String> = (0..20).map(|_| somebody()).collect();
    let mut commands: Vec<Command> = persons.iter().map(|person| Command::new(person, &create(person))).collect();
    let mut answers = client.flood(&commands, Flood::careful(16), |_| {}).all_accepted().into_iter().cloned().collect();
    let mut flood = |client: &mut Client, answers: &mut Vec<Value>, words: &str| {
        let more = round(&persons, words);
        answers.extend(client.flood(&more, Flood::careful(16), |_| {}).all_accepted().into_iter().cloned());
        commands.extend(more);
    };
    eventually("they follow", || {
        flood(&mut client, &mut answers, "x");
        consumers(&mut client) == 2
    });
    (0..5).for_each(|_| flood(&mut client, &mut answers, "y"));
    let history = checked_history(&mut client);
    let poison = "NATS/1.0\r\nno colon\r\n\r\n";
    let line = format!("HPUB person.events.{} {} {}\r\n{poison}\r\n", somebody(), poison.len(), poison.len());
    client.send(line.as_bytes());
    let known = answers.len();
    (0..5).for_each(|_| flood(&mut client, &mut answers, "z"));
    for (command, answer) in std::iter::zip(&commands, &answers[..known]) {
        check_answer(&history, &command.id, answer);
    }
    // Each of those after it has a version of its own.
    let mut versions: Vec<u64> = answers.iter().filter_map(|answer| answer["version"].as_u64()).collect();
    versions.sort_unstable();
    let each = u64::try_from(answers.len() / persons.len()).unwrap();
    let expected: Vec<u64> = (1..=each).flat_map(|version| persons.iter().map(move |_| version)).collect();
    assert_eq!(versions, expected);

    services.iter_mut().for_each(Service::stop);
    assert!(total(&services, "followed") > 0);
    assert!(services.iter().all(|service| !service.log().contains("ERROR")));
    eventually("the server takes their consumers away", || consumers(&mut client) == 0);
}

/// A worker beside a server's stream: it shows what is heard there, by the positions alone.
struct Listener {
    ear: Ear,
    worker: Worker,
    clock: Clock,
}

impl Listener {
    fn hears(&mut self) -> Option<Sequence> {
        self.ear.listen(self.clock.now(), &mut self.worker)
    }
}

/// A worker whose memory proved stale again and again.
fn worried() -> Worker {
    let log = MemoryLog::new();
    let reading = Budget::of_a_turn(1 << 20);
    let limits = Limits { cache_bytes: 1 << 20, snapshot_frequency: 0, append_micros_max: 1, reading };
    let mut worker = Worker::new(Box::new(log.clone()), Box::new(MemorySnapshots::new()), limits);
    let person = somebody();
    let mut rival = Worker::new(Box::new(log), Box::new(MemorySnapshots::new()), limits);
    let tell = |worker: &mut Worker, body: &Value| {
        let task = super::threads::task(Clock::start(), body, None);
        let mut turn = worker.turn(Moment(0), vec![task]);
        while turn.answers.is_empty() {
            turn = worker.turn(Moment(0), Vec::new());
        }
    };
    tell(&mut worker, &create(&person));
    for number in 0..200 {
        tell(&mut rival, &record(&person, &format!("theirs {number}")));
        tell(&mut worker, &record(&person, &format!("ours {number}")));
    }
    assert!(worker.wants_to_follow());
    worker
}

/// What was handed over before a reconnect, or before everything was to be forgotten, may be of a stream that lost its
/// newest part since. It was heard all the same, and believed.
#[test]
fn what_is_under_way_is_not_heard_after_a_reconnect_or_when_all_is_forgotten() {
    let server = NatsServer::start();
    let config = crate::support::config(&server.url());
    let store = Store::new(Arc::new(cim_domain_person::nats::Connection::open(&config.nats, "store").unwrap()));
    cim_domain_person::nats::prepare(&store, &config).unwrap();
    let (intake, layout) = (Intake::open(&config.nats).unwrap(), Layout::new(&config));
    let life = Arc::new(AtomicU64::new(0));
    let generation = Arc::clone(&life);
    let (follower, mut ears) = Follower::new(1, Arc::new(move || generation.load(SeqCst)));
    let (hearsay, clock) = (follower.hearsay(), Clock::start());
    let mut listener = Listener { ear: ears.pop().unwrap(), worker: worried(), clock };
    let pulse = Pulses::new(clock).add("follower");
    let mut client = Client::connect(server.port());
    let store_one = |client: &mut Client| {
        let reply = client.ask(&format!("person.events.{}", somebody()), &[], b"{}", crate::support::PATIENCE);
        reply.expect("an acknowledgement").json()["seq"].as_u64().expect("a sequence")
    };
    std::thread::scope(|scope| {
        let open = || Feed::open(&store, &intake, &layout, &somebody(), crate::support::PATIENCE);
        let thread = scope.spawn(move || follower.run(clock, &pulse, open));
        let hears = |client: &mut Client, listener: &mut Listener| {
            eventually("it hears", || {
                let stored = store_one(client);
                let until = Instant::now() + Duration::from_secs(1);
                while listener.hears() != Some(stored) {
                    if Instant::now() > until {
                        return false;
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                true
            });
        };
        hears(&mut client, &mut listener);
        for is_reconnect in [true, false] {
            store_one(&mut client);
            // Long enough for it to be under way, and if it is not, nothing is heard either.
            std::thread::sleep(Duration::from_millis(100));
            match is_reconnect {
                true => _ = life.fetch_add(1, SeqCst),
                false => hearsay.forget(),
            }
            assert_eq!(listener.hears(), None, "{is_reconnect}");
            hears(&mut client, &mut listener);
        }
        drop(listener);
        thread.join().expect("it ends with the last worker");
    });
}
