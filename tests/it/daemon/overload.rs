//! More than fits: refused at once, and nothing grows.

use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Client, Command};
use super::flood::Flood;
use super::process::Service;
use super::storm::{PIECE, Pace, percentile, storm};
use super::{check_answer, check_growth, checked_history, create, memory_kib, record, somebody};
use crate::support::PATIENCE;
use crate::support::nats_server::NatsServer;
use crate::support::proxy::Proxy;

#[test]
fn a_full_queue_answers_at_once() {
    let server = NatsServer::start();
    for capacity in ["1", "2", "50"] {
        let proxy = Proxy::before(server.port());
        let _service = Service::start(&proxy.url(), &[("QUEUE_CAPACITY", capacity), ("WORKERS", "1")]);
        let mut client = Client::connect(server.port());
        let commands: Vec<Command> = (0..500)
            .map(|_| {
                let person = somebody();
                Command::new(&person, &create(&person))
            })
            .collect();
        // Each append takes its time, so that the queue stays full.
        proxy.delay(Duration::from_millis(20));
        let flooded = client.flood(&commands, Flood::careless(500), |_| {});
        proxy.delay(Duration::ZERO);
        assert_eq!(flooded.unanswered(), 0);
        let overloaded: Vec<_> = flooded.failures.iter().collect();
        assert!(overloaded.len() > 100, "capacity {capacity}: {} of 500", overloaded.len());
        for failure in overloaded {
            assert_eq!(failure["status"], "failed", "{failure}");
            assert_eq!(failure["error"]["code"], "overloaded", "{failure}");
            assert_eq!(failure["error"]["retryable"], true, "{failure}");
            assert!(failure["command_id"].is_string() && failure["aggregate_id"].is_string(), "{failure}");
        }
        // Sent again, they all get through in the end.
        let again = client.flood(&commands, Flood::careful(64), |_| {});
        let history = checked_history(&mut client);
        for (command, answer) in std::iter::zip(&commands, again.all_accepted()) {
            check_answer(&history, &command.id, answer);
        }
        println!("capacity {capacity}: {} overloaded, {} later", flooded.failures.len(), again.failures.len());
    }
}

/// While the store does not answer, what fits waits for its deadline and the rest is refused at once.
#[test]
fn a_store_that_hangs_fills_the_queue_and_no_more() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let environment = [("QUEUE_CAPACITY", "8"), ("WORKERS", "1"), ("COMMAND_TIMEOUT", "800ms")];
    let _service = Service::start(&proxy.url(), &environment);
    let mut client = Client::connect(server.port());
    let person = somebody();
    client.flood(&[Command::new(&person, &create(&person))], Flood::careful(1), |_| {}).all_accepted();
    proxy.delay(Duration::from_millis(150));
    let commands: Vec<Command> = (0..100).map(|n| Command::new(&person, &record(&person, &n.to_string()))).collect();
    let begun = Instant::now();
    let flooded = client.flood(&commands, Flood::careless(100), |_| {});
    assert_eq!(flooded.unanswered(), 0);
    let codes: Vec<&str> = flooded.failures.iter().filter_map(|failure| failure["error"]["code"].as_str()).collect();
    assert!(codes.contains(&"overloaded"), "{codes:?}");
    println!("{} of 100 failed, in {:?}", codes.len(), begun.elapsed());
    proxy.delay(Duration::ZERO);
    let again = client.flood(&commands, Flood::careful(8), |_| {});
    again.all_accepted();
    assert_eq!(checked_history(&mut client).versions[&person], 101);
    assert_eq!(
        client.ask("person.commands.x", &[], b"", PATIENCE).unwrap().json()["error"]["code"],
        json!("malformed")
    );
}

/// Far more than can be served, for a while, sent without regard for the answers: memory stays bounded, nobody is
/// answered twice, who is accepted is stored, and afterwards all is as before.
#[test]
fn a_storm_passes() {
    let server = NatsServer::start();
    let service = Service::start(&server.url(), &[("QUEUE_CAPACITY", "64"), ("WORKERS", "1"), ("LOG_LEVEL", "info")]);
    let before = memory_kib(&service, "VmRSS");
    let weather = storm(server.port(), Pace::Rate(12_000), Duration::from_secs(2), PATIENCE);
    let peak = memory_kib(&service, "VmHWM");
    println!(
        "{} sent, {} accepted, {} overloaded (median after {:?}), memory {} to {} MiB",
        weather.sent,
        weather.accepted.len(),
        weather.overloaded,
        percentile(&weather.overloaded_after, 50),
        mib(before),
        mib(peak)
    );
    assert_eq!(weather.answered_twice, 0);
    assert!(weather.other.is_empty(), "{:?}", weather.other.first());
    assert!(weather.overloaded > 0 && !weather.accepted.is_empty());
    check_growth("a_storm_passes", before, peak, 96 * 1024);
    let mut client = Client::connect(server.port());
    let history = checked_history(&mut client);
    for id in &weather.accepted {
        assert!(history.commands.contains_key(id), "{id} is accepted and not stored");
    }
    // The other way round too: who was refused is not stored, and all were answered unless the log says otherwise.
    if !service.log().contains("some are dropped") {
        assert_eq!(weather.answered(), weather.sent, "answered and sent");
    }
    assert_eq!(history.commands.len(), weather.accepted.len());
    let person = somebody();
    client.accepted(&person, &create(&person));
}

/// What docs/testing.md says of overload where the store is what is slow: a server that flushes every commit to disk.
#[test]
#[ignore = "a measurement of a minute: it asserts nothing about time"]
fn ten_times_more_than_the_store_can_take() {
    let server = NatsServer::with_jetstream("sync_interval: always", "");
    let service = Service::start(&server.url(), &[("LOG_LEVEL", "info"), ("WORKERS", "2")]);
    ten_times_more(&server, &service);
}

/// The same where the service itself is: it has a tenth of a core, as a container may give it.
#[test]
#[ignore = "a measurement of a minute, as root: it limits the service's share of a core"]
fn ten_times_more_than_it_can_serve() {
    let server = NatsServer::start();
    // Before the service, so that it is dropped after it: a group with a process in it cannot be removed.
    let quota = Quota::of(10);
    let service = Service::start(&server.url(), &[("LOG_LEVEL", "info"), ("WORKERS", "2")]);
    quota.hold(service.pid());
    ten_times_more(&server, &service);
}

/// The throughput with 512 in flight, then ten times as many a second for 20 s, then 512 in flight again.
fn ten_times_more(server: &NatsServer, service: &Service) {
    let seconds = Duration::from_secs;
    let calm = storm(server.port(), Pace::InFlight(512), seconds(6), seconds(1));
    let peak = calm.throughput(seconds(1), seconds(6));
    let rate = (peak * 10.0) as usize;
    assert!(rate > 0, "it answers nothing");
    let before = memory_kib(service, "VmRSS");
    println!("peak {peak:.0}/s with 512 in flight, memory {} MiB; {rate}/s follow", mib(before));
    let port = server.port();
    let flood = std::thread::spawn(move || storm(port, Pace::Rate(rate), seconds(20), seconds(8)));
    // As soon as the flood is over the calm begins, beside what is still to be answered.
    std::thread::sleep(seconds(20));
    let after = storm(port, Pace::InFlight(512), seconds(6), seconds(1));
    let weather = flood.join().expect("the flood's end");
    println!(
        "{} sent ({:.0}/s), {} accepted, {} overloaded, {} told by NATS that nobody is there, {} without an answer, others {:?}",
        weather.sent,
        weather.sent as f64 / 20.0,
        weather.accepted.len(),
        weather.overloaded,
        weather.nobody,
        weather.sent - weather.answered(),
        weather.other.first(),
    );
    for (from, to) in [(0, 5), (5, 10), (10, 15), (15, 20), (20, 21), (21, 28)] {
        let accepted = weather.throughput(seconds(from), seconds(to));
        println!("  second {from} to {to}: {accepted:.0}/s, {:.0} % of the peak", accepted * 100.0 / peak);
    }
    for (what, times) in [("overloaded", &weather.overloaded_after), ("accepted", &weather.accepted_after)] {
        println!(
            "  {what} after {:?} (p50), {:?} (p90), {:?} (p99)",
            percentile(times, 50),
            percentile(times, 90),
            percentile(times, 99)
        );
    }
    println!(
        "  memory {} MiB at the end, peak {} MiB",
        mib(memory_kib(service, "VmRSS")),
        mib(memory_kib(service, "VmHWM"))
    );
    assert_eq!(weather.answered_twice, 0);
    println!("  afterwards {:.0}/s with 512 in flight", after.throughput(seconds(1), seconds(6)));
    println!(
        "  by {PIECE:?} from the flood's end on, in % of the peak: {:?}",
        percents(&after.accepted_by_piece, peak)
    );
    println!(
        "{}",
        service
            .log()
            .lines()
            .filter(|line| line.contains("WARN") && !line.contains("a request failed"))
            .collect::<Vec<_>>()
            .join("\n")
    );
    println!("{}", server.log().lines().filter(|line| line.contains("Slow")).collect::<Vec<_>>().join("\n"));
}

/// For people.
fn mib(kib: Option<u64>) -> String {
    kib.map_or_else(|| "?".to_owned(), |kib| (kib / 1024).to_string())
}

/// What was accepted in each piece of time, in per cent of this many a second.
fn percents(pieces: &[usize], a_second: f64) -> Vec<u32> {
    pieces.iter().map(|count| (*count as f64 * 100.0 / PIECE.as_secs_f64() / a_second) as u32).collect()
}

/// A share of one core for processes and no more, as a container gives it.
struct Quota(std::path::PathBuf);

impl Quota {
    fn of(percent: u32) -> Self {
        let (v1, v2) = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup");
        let is_v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let name = format!("person-service-test-{}", std::process::id());
        let folder = std::path::Path::new(if is_v2 { v2 } else { v1 }).join(name);
        std::fs::create_dir(&folder).expect("control groups, and the right to make one");
        let quota = Self(folder);
        if is_v2 {
            quota.write("cpu.max", &format!("{} 100000", percent * 1000));
        } else {
            quota.write("cpu.cfs_quota_us", &(percent * 1000).to_string());
        }
        quota
    }

    fn hold(&self, process: u32) {
        self.write("cgroup.procs", &process.to_string());
    }

    fn write(&self, file: &str, text: &str) {
        let file = self.0.join(file);
        std::fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir(&self.0) {
            eprintln!("left behind: {}: {error}", self.0.display());
        }
    }
}
