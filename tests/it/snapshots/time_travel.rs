//! Long journeys into the past do not hold up commands.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{ask, check_shown, create, get, given, rename, somebody};
use crate::daemon::client::Client;
use crate::daemon::process::Service;
use crate::support::nats_server::NatsServer;

const EVENTS: u64 = 20_000;

#[test]
fn commands_go_on_while_the_past_of_a_long_history_is_asked_for() {
    let server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[]);
    let port = server.port();
    let mut client = Client::connect(port);
    let (long, short) = (somebody(), somebody());
    given(&mut client, &long, EVENTS);
    client.accepted(&short, &create(&short));
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut latencies = Vec::new();
    std::thread::scope(|scope| {
        for first in [1, EVENTS / 2] {
            let (stop, asked, long) = (&stop, &asked, long.as_str());
            scope.spawn(move || {
                let mut client = Client::connect(port);
                let mut version = first;
                while !stop.load(Ordering::Relaxed) {
                    let then = ask(&mut client, "get", &json!({ "person_id": long, "at_version": version }));
                    check_shown(&then, then["version"].as_u64().unwrap(), version);
                    asked.fetch_add(1, Ordering::Relaxed);
                    version = version % (EVENTS - 1_500) + 1_321;
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(3);
        let (mut of_long, mut of_short) = (EVENTS, 1);
        while Instant::now() < until {
            for (person, version) in [(&long, &mut of_long), (&short, &mut of_short)] {
                *version += 1;
                let begun = Instant::now();
                let reply = client.tell(person, &rename(person, *version));
                latencies.push(begun.elapsed());
                // What waits past its deadline is refused.
                if reply["status"] != "accepted" {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{reply}");
                }
                check_shown(&get(&mut client, person), *version, *version);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    latencies.sort_unstable();
    let (median, longest) = (latencies[latencies.len() / 2], latencies[latencies.len() - 1]);
    let asked = asked.load(Ordering::Relaxed);
    println!("{asked} journeys, {} commands: median {median:?}, longest {longest:?}", latencies.len());
    assert!(asked > 0);
    service.stop();
    assert!(!service.log().contains("ERROR"), "{}", service.log());
}
