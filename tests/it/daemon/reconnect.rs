//! Reconnecting is starting again: the way back has limits, files are read anew, a refusal has its reason everywhere, and what
//! depends on the server is asked again. A running service never ends for what a server may mend.

use std::time::{Duration, Instant};

use nkeys::KeyPair;
use serde_json::{Value, json};

use super::client::{Client, Command};
use super::monitoring::{free_address, get, samples};
use super::process::Service;
use super::{create, record, somebody};
use crate::nats::sign_in::Certificates;
use crate::support::nats_server::NatsServer;
use crate::support::proxy::Proxy;
use crate::support::{PATIENCE, eventually, skip};

const JETSTREAM: &str = "jetstream { store_dir: \"$DIR/store\" }";

/// A service with its probes.
struct Watched {
    service: Service,
    address: String,
}

impl Watched {
    fn start(url: &str, environment: &[(&str, &str)]) -> Self {
        let address = free_address();
        let environment = [environment, &[("METRICS_ADDR", address.as_str())]].concat();
        Self { service: Service::start(url, &environment), address }
    }

    /// It does not serve, and `STATUS=`, `/readyz`, the log and the figure say why.
    #[track_caller]
    fn says(&mut self, since: Instant, reason: &str, words: &str) {
        let figure = format!("person_service_not_serving{{reason=\"{reason}\"}}");
        eventually(&format!("/readyz says {words:?}"), || {
            get(&self.address, "/readyz").is_some_and(|(status, body)| status == 503 && body.contains(words))
        });
        eventually(&figure, || {
            let figures = samples(&get(&self.address, "/metrics").expect("an answer").1);
            figures.get(&figure) == Some(&1.0) && figures.get("person_service_ready") == Some(&0.0)
        });
        eventually("STATUS= says it", || {
            self.service.told_since(since).iter().any(|told| told.starts_with("STATUS=") && told.contains(words))
        });
        self.service.wait_for_log(&format!("error_code={reason}"));
        assert_eq!(self.service.end(), None, "{}", self.service.log());
    }

    /// It serves again; says how long that took.
    #[track_caller]
    fn serves_since(&mut self, what: &str, since: Instant) {
        self.service.wait_since(Some(since), "STATUS=serving");
        println!("{what}: serving again after {:?}", since.elapsed());
        eventually("ready", || get(&self.address, "/readyz").is_some_and(|(status, _)| status == 200));
    }

    fn connects_failed(&self, reason: &str) -> f64 {
        let name = format!("person_service_nats_connects_failed_total{{reason=\"{reason}\"}}");
        samples(&get(&self.address, "/metrics").expect("an answer").1)[&name]
    }
}

/// The server itself says so.
#[track_caller]
fn nobody_takes_commands(port: u16) {
    let mut client = Client::connect(port);
    eventually("nobody takes commands", || {
        client.ask("person.commands.x", &[], b"{}", PATIENCE).is_some_and(|answer| answer.is_no_responders())
    });
}

#[track_caller]
fn works(port: u16) {
    let person = somebody();
    Client::connect(port).accepted(&person, &create(&person));
}

/// Two servers in the list, one of them powered off. When the other one restarted, the client's attempt to reach the dead one
/// held the service up for 135 to 271 s: the system's limit, and nobody else's.
#[test]
fn a_server_that_swallows_packets_does_not_hold_up_the_way_back() {
    let mut server = NatsServer::start();
    let dead = Proxy::before(server.port());
    let url = format!("{},{}", dead.url(), server.url());
    let mut watched = Watched::start(&url, &[]);
    let begun = Instant::now();
    if !dead.power_off() {
        return skip(
            "a_server_that_swallows_packets_does_not_hold_up_the_way_back",
            "no room for connections that wait",
        );
    }
    // It may have been connected through the one that is dead now, which it learns by its silence.
    let (person, mut client) = (somebody(), Client::connect(server.port()));
    let command = Command::new(&person, &create(&person));
    eventually("a command is carried out by the other one", || {
        let answer = client.ask(&command.subject(), &command.headers, &command.payload, Duration::from_secs(2));
        answer.is_some_and(|answer| !answer.is_no_responders() && answer.json()["status"] == "accepted")
    });
    println!("one of two powered off: a command is carried out after {:?}", begun.elapsed());
    for _ in 0..2 {
        let begun = Instant::now();
        server.kill();
        watched.service.wait_since(Some(begun), "STATUS=NATS is away");
        // By now an attempt of the client's own stands before the dead one, or would.
        std::thread::sleep(Duration::from_secs(5));
        server.restart();
        let back = Instant::now();
        // What is waited for at most is far from what it took.
        watched.serves_since("two servers, one powered off, the other restarted", back);
        works(server.port());
    }
    watched.service.stop();
}

/// The authority and all certificates are renewed, as they are every few months: the files were read once and never again, and
/// the service stayed away until somebody restarted it, without a word why.
#[test]
fn renewed_certificates_are_read_again() {
    let Some(certificates) = Certificates::make("renewed_certificates_are_read_again") else { return };
    let mut server = certificates.server_with("verify: true", "allow_non_tls: true");
    let folder = tempfile::tempdir().unwrap();
    let ours = |name: &str| folder.path().join(name);
    let deploy = || {
        for name in ["ca.pem", "client.pem", "client.key"] {
            std::fs::copy(certificates.path(name), ours(name)).unwrap();
        }
    };
    deploy();
    let path = |name: &str| ours(name).display().to_string();
    let (ca, certificate, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let environment = [("NATS_CA", ca.as_str()), ("NATS_CERT", certificate.as_str()), ("NATS_KEY", key.as_str())];
    let url = server.url().replace("nats://", "tls://");
    let mut watched = Watched::start(&url, &environment);

    certificates.renew();
    let begun = Instant::now();
    server.restart();
    watched.says(begun, "certificate_untrusted", "certificate is not accepted");
    assert!(watched.connects_failed("certificate_untrusted") > 0.0);
    std::fs::remove_file(ours("client.key")).unwrap();
    watched.says(begun, "bad_file", "client.key");
    let begun = Instant::now();
    deploy();
    watched.serves_since("renewed certificates", begun);
    works(server.port());
    watched.service.stop();
}

/// The server comes back and refuses the sign-in, since the key was exchanged there. The reason was dropped by the client, and
/// the new key in the file was never read.
#[test]
fn a_refused_sign_in_is_told_and_a_renewed_key_is_read() {
    let (old, new) = (KeyPair::new_user(), KeyPair::new_user());
    let users = |pair: &KeyPair| {
        let key = pair.public_key();
        format!("{JETSTREAM}\nauthorization {{ users: [{{ nkey: {key} }}, {{ user: tests, password: tests }}] }}")
    };
    let mut server = NatsServer::configured(&users(&old));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service.nk");
    std::fs::write(&file, format!("{}\n", old.seed().unwrap())).unwrap();
    let mut watched = Watched::start(&server.url(), &[("NATS_NKEY", file.to_str().unwrap())]);

    server.configure(&users(&new));
    let begun = Instant::now();
    server.restart();
    watched.says(begun, "sign_in_refused", "the server refused the sign-in: Authorization Violation");
    let failed = watched.connects_failed("sign_in_refused");
    eventually("it goes on trying", || watched.connects_failed("sign_in_refused") > failed);
    let begun = Instant::now();
    std::fs::write(&file, format!("{}\n", new.seed().unwrap())).unwrap();
    watched.serves_since("a renewed key", begun);
    let person = somebody();
    Client::sign_in(server.port(), r#""user":"tests","pass":"tests","#).accepted(&person, &create(&person));
    watched.service.stop();
}

/// NATS came back without JetStream, and the service was ready all the same: it took commands that nobody could store.
#[test]
fn a_server_that_comes_back_without_jetstream_gets_no_commands_through_us() {
    let mut server = NatsServer::start();
    let mut watched = Watched::start(&server.url(), &[]);
    server.configure("");
    let begun = Instant::now();
    server.restart();
    watched.says(begun, "no_jetstream", "JetStream is not available");
    nobody_takes_commands(server.port());
    server.configure(JETSTREAM);
    server.restart();
    let back = Instant::now();
    watched.serves_since("JetStream is back", back);
    works(server.port());
    watched.service.stop();
}

/// `max_payload` was lowered over a restart of the server. It was asked once, at the start: larger queries got no reply ever
/// after.
#[test]
fn a_lowered_max_payload_is_asked_again() {
    const LOWERED: usize = 64 * 1024;
    let mut server = NatsServer::start();
    let mut watched = Watched::start(&server.url(), &[]);
    let mut client = Client::connect(server.port());
    let (large, small) = (somebody(), somebody());
    for person in [&large, &small] {
        client.accepted(person, &create(person));
    }
    for number in 0..30 {
        client.accepted(&large, &record(&large, &format!("{number} {}", "x".repeat(3_000))));
    }
    let question = |person: &str| json!({ "person_id": person }).to_string();
    let get = |client: &mut Client, person: &str| -> Value {
        let answer = client.ask("person.queries.get", &[], question(person).as_bytes(), PATIENCE);
        answer.expect("an answer").json()
    };
    assert_eq!(get(&mut client, &large)["status"], "ok");

    server.configure(&format!("{JETSTREAM}\nmax_payload: {LOWERED}"));
    let begun = Instant::now();
    server.restart();
    watched.serves_since("a lowered max_payload", begun);
    let mut client = Client::connect(server.port());
    eventually("a small answer comes", || get(&mut client, &small)["status"] == "ok");
    let refused = get(&mut client, &large);
    assert_eq!(refused["error"]["code"], "too_large", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains(&LOWERED.to_string()), "{refused}");
    // The history comes by pages, which are cut to what the server takes now.
    let history = client.ask("person.queries.history", &[], question(&large).as_bytes(), PATIENCE);
    let history = history.expect("a page").json();
    assert_eq!(history["status"], "ok", "{}", history["error"]);
    // A command that arrives and whose commit cannot be stored and shown again is refused by name.
    let notes: Vec<Value> = (0..15).map(|number| record(&small, &format!("{number} {}", "x".repeat(3_000)))).collect();
    let refused = client.tell(&small, &json!(notes));
    assert_eq!(refused["error"]["code"], "too_large", "{refused}");
    client.accepted(&small, &record(&small, "a small one"));
    watched.service.stop();
}

/// The server allows a connection so few subscriptions that the service's inboxes are denied: it said "serving", and every
/// command was `outcome_unknown`.
#[test]
fn a_service_that_may_have_no_inbox_takes_no_commands() {
    let mut server = NatsServer::start();
    let mut watched = Watched::start(&server.url(), &[]);
    let few = format!("{JETSTREAM}\nmax_subscriptions: 4");
    server.configure(&few);
    let begun = Instant::now();
    server.restart();
    watched.says(begun, "no_inbox", "subscriptions exceeded");
    nobody_takes_commands(server.port());
    // A service that starts then does not get ready either, and waits for it to be mended.
    let address = free_address();
    let mut next = Service::launch(&server.url(), &[("METRICS_ADDR", &address)]);
    eventually("the next one says why", || {
        get(&address, "/readyz").is_some_and(|(status, body)| status == 503 && body.contains("subscriptions exceeded"))
    });
    server.configure(JETSTREAM);
    server.restart();
    let back = Instant::now();
    watched.serves_since("subscriptions are allowed again", back);
    next.wait_for("READY=1");
    works(server.port());
    watched.service.stop();
    next.stop();
}

/// After more than two seconds the connection is opened anew, and each inbox listens on it with its next question. So the
/// checkup's own was allowed, the service said that it was ready, and the first workers to ask were denied: their commits were
/// stored and the clients heard `outcome_unknown`, every ten seconds again.
#[test]
fn a_service_whose_new_session_has_room_for_few_inboxes_takes_no_commands() {
    let mut server = NatsServer::start();
    let mut watched = Watched::start(&server.url(), &[]);
    let begun = Instant::now();
    server.kill();
    watched.service.wait_since(Some(begun), "STATUS=NATS is away");
    // The client has given up by then.
    std::thread::sleep(Duration::from_secs(5));
    server.configure(&format!("{JETSTREAM}\nmax_subscriptions: 4"));
    let begun = Instant::now();
    server.restart();
    watched.says(begun, "no_inbox", "subscriptions exceeded");
    nobody_takes_commands(server.port());
    // Another session is opened to ask again, and is denied the same.
    let anew = |service: &Service| service.log().matches("anew: store").count();
    eventually("it asks again", || anew(&watched.service) >= 2);
    std::thread::sleep(Duration::from_secs(2));
    watched.says(begun, "no_inbox", "subscriptions exceeded");
    nobody_takes_commands(server.port());
    let told = watched.service.told_since(begun);
    assert!(!told.iter().any(|told| told.starts_with("STATUS=serving")), "{told:?}");
    server.configure(JETSTREAM);
    server.restart();
    let back = Instant::now();
    watched.serves_since("subscriptions are allowed again", back);
    works(server.port());
    watched.service.stop();
}

/// A frozen server ended the process after two minutes, with a status that says "bug". It is an outage.
#[test]
fn a_server_that_stays_mute_is_an_outage() {
    let server = NatsServer::start();
    let mut watched = Watched::start(&server.url(), &[]);
    server.freeze();
    let begun = Instant::now();
    watched.says(begun, "nats_unreachable", "says nothing");
    server.thaw();
    let back = Instant::now();
    watched.serves_since("a frozen server goes on", back);
    works(server.port());
    watched.service.stop();
}

/// A worker was stuck in a write on a session that was given up, which cannot be freed. Another session was opened, the group
/// was joined again, and the commands of its persons waited until the process ended itself a minute later.
#[test]
fn a_thread_that_hangs_keeps_commands_away() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let mut watched = Watched::start(&proxy.url(), &[("WORKERS", "1"), ("COMMAND_TIMEOUT", "60s")]);
    let mut client = Client::connect(server.port());
    let mut send = |bodies: &dyn Fn(&str) -> Value| {
        let person = somebody();
        let (reply, command) = (client.new_reply(), Command::new(&person, &bodies(&person)));
        client.publish(&command.subject(), &reply, &command.headers, &command.payload);
    };
    // While the worker waits for this one's acknowledgement, the commands of its next turn gather. Their commits are more bytes
    // than the system takes in somebody's stead.
    proxy.hold_acknowledgements(true);
    send(&create);
    let words = "x".repeat(4_000);
    let large = |person: &str| {
        let notes = (0..50).map(|_| record(person, &words));
        Value::Array(std::iter::once(create(person)).chain(notes).collect())
    };
    (0..60).for_each(|_| send(&large));
    let begun = Instant::now();
    proxy.choke_after(Some(256 * 1024));
    watched.service.wait_for_log("connected to NATS again, anew: store");
    proxy.hold_acknowledgements(false);
    watched.serves_since("another session, beside a thread that hangs", Instant::now());
    watched.says(begun, "thread_hangs", "thread worker-0 hangs");
    nobody_takes_commands(server.port());
    proxy.choke_after(None);
    let back = Instant::now();
    watched.serves_since("a thread that hung goes on", back);
    works(server.port());
    watched.service.stop();
}
