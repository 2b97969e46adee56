//! A hub and a region's leaf node, with the configuration files of docs/nats: where the stream lies, and where it is used.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{AS_SERVICE, as_user, ask, documented};
use crate::daemon::client::{Client, Command};
use crate::daemon::process::Service;
use crate::daemon::{create, rename, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::ports::free_ports;
use crate::support::proxy::Proxy;
use crate::support::{PATIENCE, eventually};

/// The hub, a leaf node, and the way between them.
struct Regions {
    hub: NatsServer,
    leaf: NatsServer,
    way: Proxy,
}

impl Regions {
    fn start(delay: Duration) -> Self {
        // The server's other ports are not in the file that it writes.
        let [port] = free_ports();
        let place = |text: String| text.replace("/var/lib/nats", "$DIR/store").replace("$REGION_PASSWORD", "secret");
        let hub = place(documented("hub.conf")).replace("0.0.0.0:7422", &format!("127.0.0.1:{port}"));
        let hub = NatsServer::configured(&hub);
        let way = Proxy::before(port);
        way.delay(delay);
        let url = way.url().replace("nats://", "nats://region:secret@");
        let leaf = place(documented("leaf.conf")).replace("$HUB_URL", &format!("{url:?}"));
        let leaf = NatsServer::configured(&leaf);
        let mut operator = Client::sign_in(leaf.port(), &as_user("operator"));
        eventually("the leaf node is joined to the hub", || {
            let answer = operator.ask("$JS.hub.API.INFO", &[], b"", Duration::from_millis(500));
            answer.is_some_and(|answer| !answer.is_no_responders())
        });
        Self { hub, leaf, way }
    }

    fn at(server: &NatsServer) -> Client {
        Client::sign_in(server.port(), &as_user("operator"))
    }
}

fn service(server: &NatsServer, more: &[(&str, &str)]) -> Service {
    Service::start(&server.url(), &[&AS_SERVICE[..], more].concat())
}

/// What a command takes in milliseconds, the median of several one after the other.
fn median_millis(client: &mut Client, person: &str) -> f64 {
    let mut took: Vec<f64> = (0..21)
        .map(|number| {
            let begun = Instant::now();
            client.accepted(person, &rename(person, &format!("Ada {number} {}", somebody())));
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}

/// The next one is heard of at the other end a moment after it has begun to serve.
#[track_caller]
fn check_served(client: &mut Client, prefix: &str) -> String {
    let person = somebody();
    let command = Command::new(&person, &create(&person));
    eventually("the command is answered", || {
        let subject = format!("{prefix}.commands.{person}");
        let answer = client.ask(&subject, &command.headers, &command.payload, Duration::from_secs(6));
        answer.is_some_and(|answer| answer.json()["status"] == "accepted")
    });
    person
}

/// One stream for all, at the hub: each command from here pays the way to the hub, and there is none without it.
#[test]
fn a_service_behind_a_leaf_node_uses_the_hubs_stream() {
    let regions = Regions::start(Duration::from_millis(10));
    let near_hub = [("JETSTREAM_DOMAIN", "hub"), ("SNAPSHOT_FREQ", "5")];
    let mut service = service(&regions.leaf, &near_hub);
    let (mut near, mut far) = (Regions::at(&regions.leaf), Regions::at(&regions.hub));
    let person = check_served(&mut near, "person");
    check_served(&mut far, "person");
    println!("service at the leaf, stream at the hub, 20 ms there and back:");
    println!("  client at the leaf {:.1} ms a command", median_millis(&mut near, &person));
    println!("  client at the hub  {:.1} ms a command", median_millis(&mut far, &person));
    let known = json!({ "person_id": person });
    assert_eq!(ask(&mut near, "history", &known)["status"], "ok");
    eventually("a snapshot is stored at the hub", || {
        far.api("STREAM.INFO.KV_PERSON_EVENTS_SNAPSHOTS", &json!(null))["state"]["messages"] == 1
    });
    assert_eq!(near.api("INFO", &json!(null))["streams"], 0, "nothing is stored at the leaf");

    regions.way.stall(true);
    let cut_off = near.tell(&person, &rename(&person, "cut off"));
    assert_eq!(cut_off["error"]["code"], "outcome_unknown", "{cut_off}");
    regions.way.stall(false);
    eventually("it goes on", || near.tell(&person, &rename(&person, "again"))["status"] == "accepted");
    service.stop();
    assert!(!service.log().contains("ERROR"), "{}", service.log());
}

/// A stream and a prefix for each region: it goes on alone, and everybody can reach it when the way is there.
#[test]
fn a_region_with_a_stream_of_its_own_goes_on_without_the_hub() {
    let regions = Regions::start(Duration::ZERO);
    let own = [("SUBJECT_PREFIX", "person.eu"), ("STREAM_NAME", "PERSON_EVENTS_EU")];
    let service = service(&regions.leaf, &own);
    let (mut near, mut far) = (Regions::at(&regions.leaf), Regions::at(&regions.hub));
    check_served(&mut near, "person.eu");
    check_served(&mut far, "person.eu");
    let mirror = json!({
        "name": "PERSON_EVENTS_EU", "storage": "file", "allow_direct": true, "deny_delete": true,
        "mirror": { "name": "PERSON_EVENTS_EU", "external": { "api": "$JS.eu.API", "deliver": "" } } });
    let made = far.api("STREAM.CREATE.PERSON_EVENTS_EU", &mirror);
    assert_eq!(made["error"], json!(null), "{made}");

    regions.way.stall(true);
    let person = check_served(&mut near, "person.eu");
    regions.way.stall(false);
    eventually("the hub's copy has all of it", || {
        far.api("STREAM.INFO.PERSON_EVENTS_EU", &json!(null))["state"]["messages"] == 3
    });
    let last = json!({ "last_by_subj": format!("person.eu.events.{person}") });
    let [original, copy] = [&mut near, &mut far].map(|side| side.api("STREAM.MSG.GET.PERSON_EVENTS_EU", &last));
    // Headers that only mattered while it was stored are not copied.
    for member in ["seq", "subject", "data"] {
        assert_eq!(original["message"][member], copy["message"][member], "{member}");
    }
    check_served(&mut far, "person.eu");
    drop(service);

    // A copy is for reading: nobody decides on it.
    let mut misled = Service::launch(&regions.hub.url(), &[&AS_SERVICE[..], &own].concat());
    let (status, _) = misled.wait(PATIENCE);
    assert_eq!(status, 69);
    assert!(misled.last_line().contains("stream PERSON_EVENTS_EU cannot be used"), "{}", misled.log());
    assert!(misled.last_line().contains("it is a mirror"), "{}", misled.log());
}

/// Why every region needs subjects of its own: what is published on joined servers, the streams of both take.
#[test]
fn two_regions_with_the_same_subjects_mix() {
    let regions = Regions::start(Duration::ZERO);
    let _services = [&regions.hub, &regions.leaf].map(|server| service(server, &[]));
    let (mut near, mut far) = (Regions::at(&regions.leaf), Regions::at(&regions.hub));
    let person = check_served(&mut near, "person");
    for side in [&mut near, &mut far] {
        let last = json!({ "last_by_subj": format!("person.events.{person}") });
        eventually("both have it", || side.api("STREAM.MSG.GET.PERSON_EVENTS", &last)["message"].is_object());
    }
}

/// On one NATS the second stream is not even made.
#[test]
fn a_second_stream_on_the_same_subjects_is_refused() {
    let server = NatsServer::start();
    let _first = Service::start(&server.url(), &[]);
    let mut second = Service::launch(&server.url(), &[("STREAM_NAME", "PERSON_EVENTS_US_EAST")]);
    let (status, _) = second.wait(PATIENCE);
    assert_eq!(status, 69);
    assert!(
        second.last_line().contains("cannot create stream PERSON_EVENTS_US_EAST: subjects overlap"),
        "{}",
        second.log()
    );
}
