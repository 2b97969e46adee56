//! The threads between door and reply under stress: pool, workers, replier and flusher as the service puts them together,
//! over a store that hesitates, fails and panics by chance, while a drain begins at any moment.
//!
//! The seed decides what the threads do when, not how the system runs them: a failure may need some tries to come again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cim_domain_person::daemon::admission::Bounds;
use cim_domain_person::daemon::background::{Background, Inlets};
use cim_domain_person::daemon::clock::{Clock, stamp};
use cim_domain_person::daemon::notices::Notices;
use cim_domain_person::daemon::pool::{Pool, Seat, Surroundings, work};
use cim_domain_person::daemon::pulse::Pulses;
use cim_domain_person::daemon::replier::Replier;
use cim_domain_person::daemon::stages::StageClock;
use cim_domain_person::daemon::statistics::Statistics;
use cim_domain_person::daemon::threads::{self, Poison};
use cim_domain_person::domain::PersonId;
use cim_domain_person::engine::history::Budget;
use cim_domain_person::engine::ports::{Append, Appended, AppendedTogether, EventLog, Page, Read, Tip, Unavailable};
use cim_domain_person::engine::turn::{Limits, Moment, Task};
use cim_domain_person::engine::worker::Worker;
use cim_domain_person::memory::{MemoryLog, MemorySnapshots};
use cim_domain_person::nats::{Connection, Incoming, ReplyRule, Store};
use cim_domain_person::wire::request::decode;
use cim_domain_person::wire::subject::Subjects;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use uuid::Uuid;

use super::client::Client;
use super::{create, record};
use crate::support::nats_server::NatsServer;
use crate::support::{PATIENCE, config, eventually};

const DOORS: usize = 4;
const PERSONS_EACH: usize = 3;
const TASKS_EACH: usize = 150;
/// As in the pool: what may wait, in bytes, over all workers.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A store that takes its time, refuses now and then, and panics at a certain append.
struct Jittery {
    log: MemoryLog,
    chance: StdRng,
    panics_at: Option<u32>,
    appends: u32,
}

impl Jittery {
    fn hesitate(&mut self) {
        match self.chance.gen_range(0..8) {
            0 => std::thread::sleep(Duration::from_micros(self.chance.gen_range(0..800))),
            1..=4 => std::thread::yield_now(),
            _ => {}
        }
    }
}

impl EventLog for Jittery {
    fn payload_bytes_max(&self) -> usize {
        self.log.payload_bytes_max()
    }

    fn read(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        self.hesitate();
        self.log.read(reads, bytes_max)
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<Tip>, Unavailable>> {
        self.hesitate();
        self.log.tips(persons)
    }

    fn append(&mut self, appends: &[Append]) -> Vec<Appended> {
        self.hesitate();
        self.appends += 1;
        assert!(self.panics_at != Some(self.appends), "the store makes its worker panic, as it was told to");
        if self.chance.gen_ratio(1, 16) {
            let away = || Appended::Unavailable(Unavailable("away for a moment".to_owned()));
            return appends.iter().map(|_| away()).collect();
        }
        self.log.append(appends)
    }

    fn append_together(&mut self, appends: &[Append]) -> AppendedTogether {
        self.hesitate();
        self.log.append_together(appends)
    }
}

/// The threads, as `Service::start` makes them.
struct Threads {
    pool: Arc<Pool>,
    workers: Vec<JoinHandle<()>>,
    poison: Poison,
    clock: Clock,
    statistics: Arc<Statistics>,
    /// Nobody stores snapshots or reads long histories here.
    _inlets: Inlets,
}

impl Threads {
    fn start(store: &Store, seed: u64, workers: usize, queue_len_max: usize, panics_at: Option<u32>) -> Self {
        let bounds = Bounds { queue_len_max, command_timeout: PATIENCE, answer_wait: PATIENCE };
        let (pool, seats) = Pool::new(workers, bounds);
        let (clock, poison, statistics) = (Clock::start(), Poison::default(), Arc::new(Statistics::default()));
        let (background, inlets) = Background::new();
        let around = Surroundings {
            clock,
            // Also with turns that wait for company.
            in_batches: seed.is_multiple_of(2),
            replier: Replier::new(store.clone(), ReplyRule::new(&["_INBOX.>".to_owned()]), Arc::clone(&statistics)),
            statistics: Arc::clone(&statistics),
            notices: Arc::new(Notices::default()),
            background,
        };
        let (pulses, shared) = (Pulses::new(clock), MemoryLog::new());
        let reading = Budget::of_a_turn(1 << 20);
        let limits = Limits { cache_bytes: 1 << 20, snapshot_frequency: 0, append_micros_max: 1, reading };
        let start = |(number, seat): (usize, Seat)| {
            let log = Jittery {
                log: shared.clone(),
                chance: StdRng::seed_from_u64(seed * 100 + number as u64),
                panics_at: panics_at.filter(|_| number == 0),
                appends: 0,
            };
            let worker = Worker::new(Box::new(log), Box::new(MemorySnapshots::new()), limits);
            let (pulse, around, stages) = (pulses.add("worker"), around.clone(), StageClock::default());
            threads::start("worker", &poison, move || work(worker, &seat, &stages, &pulse, &around)).unwrap()
        };
        let workers = seats.into_iter().enumerate().map(start).collect();
        Self { pool: Arc::new(pool), workers, poison, clock, statistics, _inlets: inlets }
    }
}

/// A command, to be answered at this subject.
pub fn task(clock: Clock, body: &Value, reply_to: Option<String>) -> Task {
    let message = Incoming::parse("person.commands.x", None, None, body.to_string().as_bytes()).unwrap();
    let request = decode(&Subjects::new("person"), message.subject(), &message, message.payload(), stamp());
    let arrived = clock.now();
    let request = request.map_err(|refused| refused.problem).unwrap();
    Task {
        request: request.into(),
        reply_to,
        arrived,
        deadline: Moment(arrived.0 + 60_000_000),
        may_be_elsewhere: false,
    }
}

/// What a door handed over, by the reply subject: whose it was, and whether the pool took it.
type Handed = Vec<(String, PersonId, bool)>;

/// Sends commands of its own persons until all are sent or the drain begins.
fn door(number: usize, seed: u64, inbox: &str, pool: &Pool, clock: Clock, drains: &AtomicBool) -> Handed {
    let mut chance = StdRng::seed_from_u64(seed * 1000 + number as u64);
    let persons: Vec<PersonId> =
        (0..PERSONS_EACH).map(|_| PersonId::from_uuid(Uuid::from_u128(chance.r#gen()))).collect();
    let mut created = HashSet::new();
    let mut handed = Vec::new();
    for count in 0..TASKS_EACH {
        if drains.load(Ordering::SeqCst) {
            break;
        }
        let person = persons[chance.gen_range(0..persons.len())];
        let id = person.to_string();
        let body = if created.contains(&person) { record(&id, &count.to_string()) } else { create(&id) };
        let reply_to = format!("{inbox}.{number}-{count}");
        let taken = pool.submit(task(clock, &body, Some(reply_to.clone())), chance.gen_range(0..4096)).is_ok();
        if taken {
            created.insert(person);
        }
        handed.push((reply_to, person, taken));
        match chance.gen_range(0..10) {
            0 => std::thread::sleep(Duration::from_micros(chance.gen_range(0..500))),
            1..=3 => std::thread::yield_now(),
            _ => {}
        }
    }
    handed
}

/// Lets all doors send, and drains at a moment that the seed says, or when all is sent. What was handed over.
fn storm(threads: &Threads, seed: u64, inbox: &str, drains_after: Option<Duration>) -> Vec<Handed> {
    let drains = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let doors: Vec<_> = (0..DOORS)
            .map(|number| {
                let (pool, drains) = (&threads.pool, &drains);
                scope.spawn(move || door(number, seed, inbox, pool, threads.clock, drains))
            })
            .collect();
        if let Some(after) = drains_after {
            std::thread::sleep(after);
            drains.store(true, Ordering::SeqCst);
        }
        doors.into_iter().map(|door| door.join().unwrap()).collect()
    })
}

fn join(workers: &[JoinHandle<()>]) {
    eventually("every worker ends", || workers.iter().all(JoinHandle::is_finished));
}

/// The replies that came, by their subject.
fn note_replies(client: &Client, replies: &mut HashMap<String, Value>) {
    while let Some(reply) = client.waiting() {
        let json = reply.json();
        assert!(replies.insert(reply.subject.clone(), json).is_none(), "answered twice: {}", reply.subject);
    }
}

/// What was taken is answered, what was not is not; each person's commands are carried out in the order of arrival.
fn check(handed: &[Handed], replies: &HashMap<String, Value>, is_lossy: bool) {
    let mut versions: HashMap<PersonId, u64> = HashMap::new();
    for (reply_to, person, taken) in handed.iter().flatten() {
        let Some(reply) = replies.get(reply_to) else {
            assert!(!taken || is_lossy, "{reply_to} was taken and not answered");
            // It was carried out, as far as anybody knows.
            *versions.entry(*person).or_insert(0) += u64::from(*taken);
            continue;
        };
        assert!(taken, "{reply_to} was given back and yet answered");
        assert_eq!(reply["status"], "accepted", "{reply}");
        let version = reply["version"].as_u64().unwrap();
        let before = versions.insert(*person, version).unwrap_or(0);
        assert_eq!(version, before + 1, "{person}: one event for each command, in the order of arrival");
    }
}

struct Stage {
    _server: NatsServer,
    store: Store,
    client: Client,
}

fn stage() -> Stage {
    let server = NatsServer::start();
    let store = Store::new(Arc::new(Connection::open(&config(&server.url()).nats, "store").unwrap()));
    let mut client = Client::connect(server.port());
    client.subscribe("_INBOX.>");
    Stage { _server: server, store, client }
}

#[test]
fn a_task_that_was_taken_is_answered_once_whenever_the_drain_begins() {
    let stage = stage();
    let (mut handed_over, mut given_back) = (0, 0);
    for seed in 1..=48_u64 {
        let mut chance = StdRng::seed_from_u64(seed);
        let (workers, queue_len_max) = (chance.gen_range(1..=4), chance.gen_range(2..=64));
        // A third of them drain when everything is sent.
        let drains_after = (seed % 3 != 0).then(|| Duration::from_micros(chance.gen_range(0..15_000)));
        let threads = Threads::start(&stage.store, seed, workers, queue_len_max, None);
        let inbox = format!("_INBOX.{seed}");
        let handed = storm(&threads, seed, &inbox, drains_after);
        threads.pool.finish();
        join(&threads.workers);
        assert_eq!(threads.pool.waiting(), 0, "seed {seed}");
        assert!(!threads.poison.is_set(), "seed {seed}");
        // No round trip is asked for: whoever published left a mark, and that alone has to send it off.
        let taken = handed.iter().flatten().filter(|(_, _, taken)| *taken).count();
        let mut replies = HashMap::new();
        // On a machine that has no time for it, NATS may seem mute.
        let unsent = usize::try_from(threads.statistics.since_start().unsent).unwrap();
        eventually("a mark is followed by a flush", || {
            note_replies(&stage.client, &mut replies);
            replies.len() + unsent >= taken
        });
        assert!(stage.store.connection().round_trip(PATIENCE));
        note_replies(&stage.client, &mut replies);
        check(&handed, &replies, unsent > 0);
        assert_eq!(replies.len() + unsent, taken, "seed {seed}");
        assert_eq!(threads.pool.taken(), taken as u64, "seed {seed}");
        handed_over += taken;
        given_back += handed.iter().flatten().count() - taken;
    }
    println!("{handed_over} tasks taken and answered, {given_back} given back");
    assert!(handed_over > 0 && given_back > 0, "a storm that fills no queue tries nothing");
}

/// A worker that had something left when its pool was dropped found its queues ready for ever, with nothing in them: it took
/// turn after turn without a pause. It goes on as after the order to finish: what was taken is answered, and it ends.
#[test]
fn a_pool_that_is_dropped_lets_its_workers_end() {
    let stage = stage();
    for seed in 1..=16_u64 {
        let threads = Threads::start(&stage.store, seed, 2, 64, None);
        let handed = storm(&threads, seed, &format!("_INBOX.{seed}"), Some(Duration::from_millis(seed)));
        drop(threads.pool);
        join(&threads.workers);
        assert!(stage.store.connection().round_trip(PATIENCE));
        let mut replies = HashMap::new();
        let taken = handed.iter().flatten().filter(|(_, _, taken)| *taken).count();
        let unsent = usize::try_from(threads.statistics.since_start().unsent).unwrap();
        eventually("what was taken is answered", || {
            note_replies(&stage.client, &mut replies);
            replies.len() + unsent >= taken
        });
        check(&handed, &replies, unsent > 0);
    }
}

/// A leak of a few bytes for each task would refuse everything some day.
#[test]
fn what_waits_is_counted_back_to_nothing() {
    let stage = stage();
    for workers in [1, 3] {
        let threads = Threads::start(&stage.store, 7, workers, 16, None);
        storm(&threads, 7, "_INBOX.bytes", None);
        let most = WAITING_BYTES_MAX / workers;
        for number in 0..16_u128 {
            // It fits only when nothing else is counted.
            let task = || {
                let person = PersonId::from_uuid(Uuid::from_u128(number));
                task(threads.clock, &create(&person.to_string()), None)
            };
            eventually("all the room is there again", || threads.pool.submit(task(), most).is_ok());
            assert!(threads.pool.submit(task(), most + 1).is_err(), "more than there is room for");
        }
        threads.pool.finish();
        join(&threads.workers);
    }
}

#[test]
fn a_worker_that_panics_takes_nobody_with_it() {
    let stage = stage();
    for seed in 1..=8_u64 {
        let threads = Threads::start(&stage.store, seed, 3, 64, Some(1 + seed as u32 / 2));
        let inbox = format!("_INBOX.{seed}");
        let handed = storm(&threads, seed, &inbox, None);
        threads.pool.finish();
        join(&threads.workers);
        assert!(threads.poison.is_set(), "seed {seed}: the process is to be told");
        assert!(stage.store.connection().round_trip(PATIENCE));
        let mut replies = HashMap::new();
        eventually("a mark is followed by a flush", || {
            note_replies(&stage.client, &mut replies);
            unanswered_elsewhere(&handed, &replies) == 0
        });
        check(&handed, &replies, true);
    }
}

/// Tasks of the workers that live on which were taken and not answered.
fn unanswered_elsewhere(handed: &[Handed], replies: &HashMap<String, Value>) -> usize {
    let lives_on = |person: PersonId| cim_domain_person::engine::router::worker_of(person, 3) != 0;
    let open = |(reply_to, person, taken): &&(String, PersonId, bool)| {
        *taken && lives_on(*person) && !replies.contains_key(reply_to)
    };
    handed.iter().flatten().filter(open).count()
}
