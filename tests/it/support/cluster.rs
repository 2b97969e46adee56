//! Three servers that know each other.

use std::time::Duration;

use serde_json::Value;

use super::eventually;
use super::nats_server::NatsServer;
use super::ports::free_ports;
use super::raw::Raw;

/// Their names.
pub const NAMES: [&str; 3] = ["one", "two", "three"];

/// Starts them, and waits until JetStream has a leader.
pub fn start() -> Vec<NatsServer> {
    let ports = free_ports::<3>();
    let routes = ports.map(|port| format!("nats-route://127.0.0.1:{port}"));
    let start = |(name, port): (&str, u16)| {
        NatsServer::with(&format!(
            "server_name: {name}\ncluster {{ name: trio, listen: \"127.0.0.1:{port}\", routes: {routes:?} }}"
        ))
    };
    let servers: Vec<NatsServer> = std::iter::zip(NAMES, ports).map(start).collect();
    eventually("JetStream has a leader", || has_leader(servers[0].port()));
    servers
}

/// Without a leader there is no answer.
fn has_leader(port: u16) -> bool {
    let mut client = Raw::connect(port);
    client.subscribe("_INBOX.leader", 1);
    client.publish("$JS.API.INFO", "_INBOX.leader", b"");
    let answer = client.next(Duration::from_secs(1));
    let answer = answer.and_then(|answer| serde_json::from_slice::<Value>(&answer.payload).ok());
    answer.is_some_and(|answer| answer["error"].is_null())
}
