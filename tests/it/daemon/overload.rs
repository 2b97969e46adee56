//! More than fits: refused at once, and nothing grows.

use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Client, Command};
use super::flood::Flood;
use super::process::Service;
use super::{check_answer, checked_history, create, record, somebody};
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
    client.accepted(&person, &create(&person));
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
