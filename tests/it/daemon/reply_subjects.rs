//! What becomes of a client's inbox on its way through accounts and clusters, as the service sees it.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use super::client::{Client, Command};
use super::process::Service;
use super::{create, rename, somebody};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;

const ACCOUNTS: &str = r#"accounts {
    OWNERS { jetstream: enabled, users: [{ user: service, password: s }]
             exports: [{ service: "person.commands.>" }] }
    GUESTS { users: [{ user: guest, password: g }]
             imports: [{ service: { account: OWNERS, subject: "person.commands.>" } }] }
}"#;
const OWNER: &str = r#""user":"service","pass":"s","#;
const GUEST: &str = r#""user":"guest","pass":"g","#;

/// The server puts a subject of its own, `_R_.x`, in place of an inbox of another account.
#[test]
fn across_accounts() {
    let server = NatsServer::with(ACCOUNTS);
    let _service = Service::start(&server.url(), &[("NATS_USER", "service"), ("NATS_PASSWORD", "s")]);
    let mut witness = Client::sign_in(server.port(), OWNER);
    witness.subscribe("person.commands.>");
    let mut guest = Client::sign_in(server.port(), GUEST);
    let person = somebody();
    guest.accepted(&person, &create(&person));
    assert!(seen_reply(&witness).starts_with("_R_."));
}

/// The same from behind a gateway, account and all.
#[test]
fn across_accounts_and_clusters() {
    let [near, far] = two_clusters(ACCOUNTS);
    let _service = served(&near, &[("NATS_USER", "service"), ("NATS_PASSWORD", "s")]);
    let mut witness = Client::sign_in(near.port(), OWNER);
    witness.subscribe("person.commands.>");
    let person = somebody();
    through_the_gateway(|| Client::sign_in(far.port(), GUEST), &Command::new(&person, &create(&person)));
    println!("behind a gateway and in another account: {}", seen_reply(&witness));
    check_many(|| Client::sign_in(far.port(), GUEST), &person);
}

/// A gateway marks the inbox of a client that subscribed to it a moment ago.
#[test]
fn across_clusters() {
    let [near, far] = two_clusters("");
    let _service = served(&near, &[]);
    let mut witness = Client::connect(near.port());
    witness.subscribe("person.commands.>");
    let person = somebody();
    through_the_gateway(|| Client::connect(far.port()), &Command::new(&person, &create(&person)));
    println!("behind a gateway: {}", seen_reply(&witness));
    check_many(|| Client::connect(far.port()), &person);
}

/// New clients and such as have been there for long are answered all the same.
#[track_caller]
fn check_many(connect: impl Fn() -> Client, person: &str) {
    let mut old = connect();
    for number in 0..5 {
        let reply = connect().tell(person, &rename(person, &format!("new {number}")));
        assert_eq!(reply["status"], "accepted", "{reply}");
    }
    std::thread::sleep(Duration::from_secs(3));
    for number in 0..5 {
        let reply = old.tell(person, &rename(person, &format!("old {number}")));
        assert_eq!(reply["status"], "accepted", "{reply}");
    }
}

fn seen_reply(witness: &Client) -> String {
    let message = witness.next(Duration::from_secs(10)).expect("the command");
    message.reply.expect("it has a reply subject")
}

/// Sends until there is an answer: the gateways learn of the service's interest only after a while.
#[track_caller]
fn through_the_gateway(connect: impl Fn() -> Client, command: &Command) {
    eventually("the command is answered", || {
        let mut client = connect();
        let answer = client.ask(&command.subject(), &command.headers, &command.payload, Duration::from_millis(1500));
        answer.is_some_and(|answer| answer.json()["status"] == "accepted")
    });
}

fn served(server: &NatsServer, environment: &[(&str, &str)]) -> Service {
    Service::start(&server.url(), environment)
}

const CLUSTERS: [&str; 2] = ["near", "far"];

/// Two clusters of one server each, joined by a gateway.
fn two_clusters(extra: &str) -> [NatsServer; 2] {
    // Found free and given back: the servers have to know each other's before they start.
    let listeners: Vec<TcpListener> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    drop(listeners);
    let gateway = |at: usize| format!("{{ name: {}, url: \"nats://127.0.0.1:{}\" }}", CLUSTERS[at], ports[at]);
    let start = |at: usize| {
        let (name, port, routes) = (CLUSTERS[at], ports[at], ports[2 + at]);
        // A cluster of one: JetStream wants to see a route, were it to itself.
        NatsServer::with(&format!(
            "server_name: {name}
             cluster {{ name: {name}, listen: \"127.0.0.1:{routes}\", routes: [\"nats-route://127.0.0.1:{routes}\"] }}
             gateway {{ name: {name}, listen: \"127.0.0.1:{port}\", gateways: [{}, {}] }}
             {extra}",
            gateway(0),
            gateway(1),
        ))
    };
    // Neither is up before the other one is.
    let servers = std::thread::scope(|scope| {
        let far = scope.spawn(|| start(1));
        [start(0), far.join().expect("it starts")]
    });
    let members = if extra.is_empty() { "" } else { OWNER };
    eventually("JetStream has a leader", || {
        Client::sign_in(servers[0].port(), members)
            .ask("$JS.API.INFO", &[], b"", Duration::from_millis(500))
            .is_some_and(|answer| answer.json().get("error").is_none_or(Value::is_null) && !answer.is_no_responders())
    });
    servers
}
