//! What becomes of a client's inbox on its way through accounts and clusters, as the service sees it.

use std::time::Duration;

use super::client::{Client, Command};
use super::flood::Flood;
use super::process::Service;
use super::{create, rename, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::ports::free_ports;
use crate::support::proxy::Proxy;
use crate::support::{PATIENCE, eventually};

const ACCOUNTS: &str = r#"accounts {
    OWNERS { jetstream: enabled, users: [{ user: service, password: s }]
             exports: [{ service: "person.commands.>" }] }
    GUESTS { users: [{ user: guest, password: g }]
             imports: [{ service: { account: OWNERS, subject: "person.commands.>" } }] }
}"#;
const OWNER: &str = r#""user":"service","pass":"s","#;
const GUEST: &str = r#""user":"guest","pass":"g","#;
const SIGN_IN: [(&str, &str); 2] = [("NATS_USER", "service"), ("NATS_PASSWORD", "s")];

/// The server puts a subject of its own, `_R_.x`, in place of an inbox of another account.
#[test]
fn across_accounts() {
    let server = NatsServer::with(ACCOUNTS);
    let _service = Service::start(&server.url(), &SIGN_IN);
    let mut witness = Client::sign_in(server.port(), OWNER);
    witness.subscribe("person.commands.>");
    witness.settle();
    let person = somebody();
    Client::sign_in(server.port(), GUEST).accepted(&person, &create(&person));
    let reply = seen_reply(&witness);
    assert!(reply.starts_with("_R_."), "{reply}");
}

/// The same from behind a gateway.
#[test]
fn across_accounts_and_clusters() {
    let clusters = Clusters::start(ACCOUNTS, OWNER, Duration::ZERO);
    let _service = Service::start(&clusters.near.url(), &SIGN_IN);
    let mut witness = Client::sign_in(clusters.near.port(), OWNER);
    witness.subscribe("person.commands.>");
    witness.settle();
    check_new_and_old(|| Client::sign_in(clusters.far.port(), GUEST));
    let reply = seen_reply(&witness);
    assert!(reply.starts_with("_R_."), "{reply}");
}

/// From another cluster an inbox comes as it is: the server keeps to itself what it adds to find the way back.
#[test]
fn across_clusters() {
    let clusters = Clusters::start("", "", Duration::ZERO);
    let _service = Service::start(&clusters.near.url(), &[]);
    let mut witness = Client::connect(clusters.near.port());
    witness.subscribe("person.commands.>");
    witness.settle();
    check_new_and_old(|| Client::connect(clusters.far.port()));
    let reply = seen_reply(&witness);
    assert!(reply.starts_with("_INBOX."), "{reply}");
}

/// A new client's command may overtake the word that its inbox is there, which goes over another connection between the
/// clusters. Then there is nowhere to reply to, and the client has to send it again.
#[test]
fn across_clusters_where_the_inbox_becomes_known_late() {
    let clusters = Clusters::start("", "", Duration::from_millis(20));
    let _service = Service::start(&clusters.near.url(), &[]);
    check_new_and_old(|| Client::connect(clusters.far.port()));
}

/// Clients that connect a moment before and such as have been there for long are answered.
#[track_caller]
fn check_new_and_old(connect: impl Fn() -> Client) {
    let mut old = connect();
    let person = somebody();
    let how = Flood { retry_after: Some(Duration::from_millis(300)), ..Flood::careful(1) };
    let first = old.flood(&[Command::new(&person, &create(&person))], how, |_| {});
    first.all_accepted();
    println!("the first command was sent again {} times, {} of them at once", first.retries, first.failures.len());
    let mut sent_again = 0;
    for number in 0..20 {
        let command = Command::new(&person, &rename(&person, &format!("new {number}")));
        let flooded = connect().flood(&[command], how, |_| {});
        flooded.all_accepted();
        sent_again += flooded.retries;
    }
    println!("of 20 new clients {sent_again} had to send again");
    for number in 0..20 {
        let reply = old.tell(&person, &rename(&person, &format!("old {number}")));
        assert_eq!(reply["status"], "accepted", "{reply}");
    }
}

fn seen_reply(witness: &Client) -> String {
    let message = witness.next(PATIENCE).expect("the command");
    message.reply.expect("it has a reply subject")
}

/// Two clusters of one server each, joined by gateways.
struct Clusters {
    near: NatsServer,
    far: NatsServer,
    _slow: Proxy,
}

impl Clusters {
    /// With this much more configuration, an owner who signs in so, and the near one's gateway slow by this much.
    fn start(extra: &str, owner: &str, delay: Duration) -> Self {
        let (gateways, routes) = (free_ports::<2>(), free_ports::<2>());
        let slow = Proxy::before(gateways[1]);
        slow.delay(delay);
        let start = |name: &str, at: usize, to_far: &str| {
            let (gateway, route, near) = (gateways[at], routes[at], gateways[0]);
            // A cluster of one: JetStream wants to see a route, were it to itself.
            NatsServer::with(&format!(
                "server_name: {name}
                 cluster {{ name: {name}, listen: \"127.0.0.1:{route}\", routes: [\"nats-route://127.0.0.1:{route}\"] }}
                 gateway {{ name: {name}, listen: \"127.0.0.1:{gateway}\", gateways: [
                     {{ name: near, url: \"nats://127.0.0.1:{near}\" }}, {{ name: far, url: \"{to_far}\" }}] }}
                 {extra}"
            ))
        };
        let direct = format!("nats://127.0.0.1:{}", gateways[1]);
        // Neither is up before the other one is.
        let (near, far) = std::thread::scope(|scope| {
            let far = scope.spawn(|| start("far", 1, &direct));
            (start("near", 0, &slow.url()), far.join().expect("it starts"))
        });
        eventually("JetStream has a leader", || {
            let mut client = Client::sign_in(near.port(), owner);
            let answer = client.ask("$JS.API.INFO", &[], b"", Duration::from_secs(1));
            answer.is_some_and(|answer| !answer.is_no_responders() && answer.json().get("error").is_none())
        });
        Self { near, far, _slow: slow }
    }
}
