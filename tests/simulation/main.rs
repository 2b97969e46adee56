//! The deterministic simulation: several replicas over one log on which anything may go wrong, judged by the checkers.
//!
//! Everything that happens is drawn from a seed. `SEED=n cargo test --test simulation` replays it and tells the story of
//! the person in whose history a promise was broken. docs/testing.md says more.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what fails here is to fail the test, and what is printed is for who reads it"
)]

mod chance;
#[path = "../checkers/mod.rs"]
mod checkers;
mod ledger;
mod mutations;
mod plan;
mod replica;
mod seat;
mod sharing;
mod troubles;
mod workload;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use checkers::Violation;

/// Seeds that are run each time, whatever else.
const FIXED: u64 = 200;
/// Every so many seeds one is run twice.
const TWICE: u64 = 20;
/// How long fresh seeds are run, unless `SIMULATION_SECONDS` says otherwise.
const FRESH_SECONDS: u64 = 10;

/// What was run.
#[derive(Default)]
struct Tally {
    seeds: AtomicU64,
    requests: AtomicU64,
    deliveries: AtomicU64,
    commits: AtomicU64,
    steps: AtomicU64,
    /// By checker: the first seed and what it found. Empty if all is well.
    broken: Mutex<BTreeMap<&'static str, (u64, String)>>,
}

#[test]
fn simulation() {
    if let Some(seed) = number_from("SEED") {
        return replay(seed);
    }
    if let Ok(checker) = std::env::var("CAUGHT_BY") {
        return catch(&checker);
    }
    let first = number_from("FIRST_SEED");
    let fixed = Tally::default();
    if first.is_none() {
        run_all(&fixed, 0, |seed| seed < FIXED);
        report("fixed", &fixed);
    }
    let time = Duration::from_secs(number_from("SIMULATION_SECONDS").unwrap_or(FRESH_SECONDS));
    let began = Instant::now();
    let fresh = Tally::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let first = first.unwrap_or_else(|| u64::try_from(now.as_micros()).expect("a few centuries"));
    run_all(&fresh, first, |_| began.elapsed() < time);
    report("fresh", &fresh);
}

/// Runs seeds until this checker finds something.
fn catch(checker: &str) {
    let time = Duration::from_secs(number_from("SIMULATION_SECONDS").unwrap_or(FRESH_SECONDS));
    let (began, tally) = (Instant::now(), Tally::default());
    let is_caught = || tally.broken.lock().unwrap().contains_key(checker);
    for seed in number_from("FIRST_SEED").unwrap_or(0).. {
        run_one(&tally, seed);
        if is_caught() || began.elapsed() > time {
            break;
        }
    }
    let (seeds, broken) = (tally.seeds.load(Ordering::Relaxed), tally.broken.lock().unwrap());
    match broken.get(checker) {
        Some((seed, _)) => println!("\ncaught by {checker} with seed {seed}; all: {:?}", broken.keys()),
        None => panic!("not caught by {checker} in {seeds} seeds, but by {broken:?}"),
    }
}

fn number_from(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs one seed after the other, two at a time, until it is enough or something is broken.
fn run_all(tally: &Tally, first: u64, go_on: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !go_on(seed) || !tally.broken.lock().unwrap().is_empty() {
                        return;
                    }
                    run_one(tally, seed);
                }
            });
        }
    });
}

fn run_one(tally: &Tally, seed: u64) {
    let run = world::run(seed, false);
    let mut found: Vec<Violation> = checkers::judge(&run.record);
    found.extend(run.faults.iter().map(|what| of_the_simulation(what.clone())));
    if seed.is_multiple_of(TWICE) && format!("{:?}", world::run(seed, false).record) != format!("{:?}", run.record) {
        found.push(of_the_simulation("run twice it has two histories".to_owned()));
    }
    let count = |counter: &AtomicU64, by: usize| counter.fetch_add(u64::try_from(by).unwrap(), Ordering::Relaxed);
    let requests: BTreeSet<_> =
        run.record.deliveries.iter().map(|sent| sent.header("Nats-Msg-Id").or(sent.header("Correlation-Id"))).collect();
    count(&tally.seeds, 1);
    count(&tally.requests, requests.len());
    count(&tally.deliveries, run.record.deliveries.len());
    count(&tally.commits, run.record.log.len());
    tally.steps.fetch_add(run.steps, Ordering::Relaxed);
    for violation in found {
        tally.broken.lock().unwrap().entry(violation.checker).or_insert((seed, violation.what));
    }
}

fn of_the_simulation(what: String) -> Violation {
    Violation { checker: "simulation", person: None, what }
}

fn report(what: &str, tally: &Tally) {
    let [seeds, requests, deliveries, commits, steps] =
        [&tally.seeds, &tally.requests, &tally.deliveries, &tally.commits, &tally.steps]
            .map(|counter| counter.load(Ordering::Relaxed));
    println!("{what}: {seeds} seeds, {requests} commands in {deliveries} deliveries, {commits} commits, {steps} steps");
    let broken = tally.broken.lock().unwrap();
    for (checker, (seed, what)) in broken.iter() {
        println!("\n{checker} is broken:\n  {what}\n  replay it: SEED={seed} cargo test --test simulation\n");
    }
    assert!(broken.is_empty(), "broken by {:?}", broken.iter().map(|(by, (seed, _))| (by, seed)).collect::<Vec<_>>());
}

/// Runs one seed and tells what happened to those in whose history something is broken.
fn replay(seed: u64) {
    let run = world::run(seed, true);
    let mut found = checkers::judge(&run.record);
    found.extend(run.faults.iter().map(|what| of_the_simulation(what.clone())));
    // With `STORY=all`, and where all is well, everybody's story.
    let persons: BTreeSet<_> = match std::env::var_os("STORY") {
        Some(_) => BTreeSet::new(),
        None => found.iter().filter_map(|violation| violation.person).take(2).collect(),
    };
    println!("seed {seed}\n{}", world::told_of(&run.story, &persons));
    for Violation { checker, person, what } in &found {
        println!("{checker}: {}: {what}", person.map(|person| person.to_string()).unwrap_or_default());
    }
    assert!(found.is_empty(), "seed {seed} breaks {} promises", found.len());
}
