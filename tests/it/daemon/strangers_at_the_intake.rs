//! What arrives at the intake and is of no replica that shares the persons: beacons of other releases and clusters, bytes that
//! are nothing, and parcels whose commands nobody may be answered about. A stranger needs the rights on `P.intake.>` for it.

use std::time::Instant;

use cim_domain_person::wire::parcel::{self, Head, Item, PROTOCOL};
use serde_json::{Value, json};

use super::client::{Client, Command};
use super::process::Service;
use super::sharing::total;
use super::{STREAM, checked_history, create, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::{PATIENCE, eventually};

const BEACON: &str = "person.intake.beacon";
/// Where a reply would delete the stream.
const DELETING: &str = "$JS.API.STREAM.DELETE.PERSON_EVENTS";
/// The name in what strangers send, which no log may show.
const NAME: &str = "Zebedee";
/// More than are said one by one.
const MANY: usize = 100;

/// A server, a service, and a connection that has every right.
struct Place {
    server: NatsServer,
    service: Service,
    stranger: Client,
    /// Hears the beacons, and whatever is asked of JetStream to delete.
    witness: Client,
    /// A beacon of the service, and when it was heard.
    beacon: Value,
    heard: Instant,
}

impl Place {
    fn start() -> Self {
        let server = NatsServer::start();
        let [stranger, mut witness] = [(); 2].map(|()| Client::connect(server.port()));
        [BEACON, "$JS.API.STREAM.DELETE.>"].iter().for_each(|subject| witness.subscribe(subject));
        witness.settle();
        // With one worker commands are carried out in the order in which they arrive.
        let service = Service::start(&server.url(), &[("WORKERS", "1")]);
        let mut place = Self { server, service, stranger, witness, beacon: Value::Null, heard: Instant::now() };
        while place.beacon["state"] != "serving" {
            place.hear();
        }
        place
    }

    /// Waits for the service's next beacon.
    fn hear(&mut self) {
        self.pass_over();
        let message = self.witness.next(PATIENCE).expect("it says that it is there");
        assert_eq!(message.subject, BEACON, "somebody is to delete the stream");
        let beacon = message.json();
        if self.beacon.is_null() || beacon["replica"] == self.beacon["replica"] {
            (self.beacon, self.heard) = (beacon, Instant::now());
        }
    }

    /// Nobody asked to delete the stream.
    fn pass_over(&self) {
        while let Some(message) = self.witness.waiting() {
            assert_eq!(message.subject, BEACON, "somebody is to delete the stream");
        }
    }

    fn cluster(&self) -> String {
        self.beacon["cluster"].as_str().expect("a name").to_owned()
    }

    fn intake(&self) -> String {
        format!("person.intake.{}", self.beacon["replica"].as_str().expect("an id"))
    }

    /// A parcel that the service would take, since it names a beacon of its own and how long ago that was heard.
    fn parcel(&self, items: &[Item<'_>]) -> Vec<u8> {
        let beat = self.beacon["beat"].as_u64().expect("a number");
        let head = Head {
            from: 7,
            number: 1,
            beat,
            beat_age_micros: u64::try_from(self.heard.elapsed().as_micros()).expect("not for ever"),
            patience_micros: u64::MAX,
            waited_micros: 0,
            taken: None,
        };
        let mut body = Vec::new();
        items.iter().for_each(|item| item.append_to(&mut body).expect("it has room"));
        parcel::encode(head, &body)
    }

    /// Whether a parcel as replicas send them is taken, and its command carried out. By then all is that was sent before.
    #[track_caller]
    fn takes_one(&mut self) -> String {
        let (person, reply, intake) = (somebody(), self.stranger.new_reply(), self.intake());
        let command = create(&person).to_string();
        let mut taken = Value::Null;
        // Where it took so long to arrive that it is late, it is sent anew.
        eventually("it is taken", || {
            let bytes = self.parcel(&[item(&command, Some(&reply))]);
            taken = self.stranger.ask(&intake, &[], &bytes, PATIENCE).expect("it answers").json();
            let is_late = taken["reason"] == "late";
            if is_late {
                self.hear();
            }
            !is_late
        });
        assert_eq!(taken, json!({"status": "taken", "commands": 1}));
        person
    }
}

fn item<'a>(payload: &'a str, reply_to: Option<&'a str>) -> Item<'a> {
    let made_id = uuid::Uuid::new_v4().as_u128();
    Item { made_id, subject: "person.commands.x", reply_to, headers: Vec::new(), payload: payload.as_bytes() }
}

/// Creates somebody who is called so.
fn creation() -> String {
    create(&somebody()).to_string().replace("Ada", NAME)
}

fn beacon(replica: &str, protocol: u8, cluster: &str, state: &str) -> Value {
    json!({"replica": replica, "version": "9.9.9", "protocol": protocol, "cluster": cluster, "state": state, "beat": 1})
}

fn replica_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Releases that hand over in another way would not understand each other's parcels, and clusters are far from each other.
#[test]
fn who_hands_over_in_another_way_is_elsewhere_or_leaves_is_handed_nothing() {
    let mut place = Place::start();
    let cluster = place.cluster();
    let [later, elsewhere, leaving, fellow] = [(); 4].map(|()| replica_id());
    let strange = [
        beacon(&later, PROTOCOL + 1, &cluster, "serving"),
        beacon(&elsewhere, PROTOCOL, "elsewhere", "serving"),
        beacon(&leaving, PROTOCOL, &cluster, "leaving"),
    ];
    let mut others = Client::connect(place.server.port());
    for id in [&later, &elsewhere, &leaving, &fellow] {
        others.subscribe(&format!("person.intake.{id}"));
    }
    others.settle();
    let fellow = beacon(&fellow, PROTOCOL, &cluster, "serving");
    let mut handed_to = Vec::new();
    // Beacons are taken in in their order: where the last one counts, the others were heard.
    for (all, members_max) in [(strange.to_vec(), 1), ([&strange[..], std::slice::from_ref(&fellow)].concat(), 2)] {
        eventually("parcels for those who count", || {
            all.iter().for_each(|one| place.stranger.publish(BEACON, "", &[], one.to_string().as_bytes()));
            let person = somebody();
            place.stranger.accepted(&person, &create(&person));
            let members = total(&mut place.stranger, 1, "members");
            assert!(members <= members_max, "{members} count");
            while let Some(parcel) = others.waiting() {
                handed_to.push(parcel.subject);
            }
            members_max == 1 || !handed_to.is_empty()
        });
    }
    let only = format!("person.intake.{}", fellow["replica"].as_str().expect("an id"));
    assert!(handed_to.iter().all(|subject| *subject == only), "{handed_to:?}");
    let log = place.service.log();
    assert!([later, elsewhere, leaving].iter().all(|id| !log.contains(id.as_str())), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("no beacon") && !log.contains("no parcel"), "{log}");
}

/// What a stranger sends, what is said of it, and the answer; none where there is nowhere to answer to.
struct Strange {
    what: &'static str,
    said: &'static str,
    answered: Option<&'static str>,
    send: fn(&mut Place),
}

const STRANGE: [Strange; 8] = [
    Strange {
        what: "bytes that are no beacon",
        said: "something that is no beacon arrives on person.intake.beacon",
        answered: None,
        send: |place| place.stranger.publish(BEACON, "", &[], &[b"\xff{", NAME.as_bytes()].concat()),
    },
    Strange {
        what: "a beacon of 2 KiB that would count",
        said: "something that is no beacon arrives on person.intake.beacon",
        answered: None,
        send: |place| {
            let cluster = place.cluster();
            let mut long = beacon(&replica_id(), PROTOCOL, &cluster, "serving");
            long["more"] = NAME.repeat(2048 / NAME.len()).into();
            place.stranger.publish(BEACON, "", &[], long.to_string().as_bytes());
        },
    },
    Strange {
        what: "bytes that are no parcel",
        said: "something that is no parcel arrives on person.intake.",
        answered: Some("malformed"),
        send: |place| send_to_intake(place, creation().as_bytes()),
    },
    Strange {
        what: "a parcel that is cut short",
        said: "something that is no parcel arrives on person.intake.",
        answered: Some("malformed"),
        send: |place| {
            // After the first command.
            let creations = [creation(), creation()];
            let bytes = place.parcel(&[item(&creations[0], None), item(&creations[1], None)]);
            send_to_intake(place, &bytes[..bytes.len() - 1]);
        },
    },
    Strange {
        what: "a parcel of another hand-over version",
        said: "something that is no parcel arrives on person.intake.",
        answered: Some("malformed"),
        send: |place| {
            let mut bytes = place.parcel(&[item(&creation(), None)]);
            bytes[0] = PROTOCOL + 1;
            send_to_intake(place, &bytes);
        },
    },
    Strange {
        what: "a parcel with a command whose reply would delete the stream",
        said: "something that is no parcel arrives on person.intake.",
        answered: Some("malformed"),
        send: |place| {
            let creations = [creation(), creation()];
            let bytes = place.parcel(&[item(&creations[0], None), item(&creations[1], Some(DELETING))]);
            send_to_intake(place, &bytes);
        },
    },
    Strange {
        what: "a parcel whose answer would delete the stream",
        said: "a parcel without an inbox for its answer arrives on person.intake.",
        answered: None,
        send: |place| {
            let (intake, bytes) = (place.intake(), place.parcel(&[item(&creation(), None)]));
            place.stranger.publish(&intake, DELETING, &[], &bytes);
        },
    },
    Strange {
        what: "a parcel that waits for no answer",
        said: "a parcel without an inbox for its answer arrives on person.intake.",
        answered: None,
        send: |place| {
            let (intake, bytes) = (place.intake(), place.parcel(&[item(&creation(), None)]));
            place.stranger.publish(&intake, "", &[], &bytes);
        },
    },
];

fn send_to_intake(place: &mut Place, bytes: &[u8]) {
    let (intake, reply) = (place.intake(), place.stranger.new_reply());
    place.stranger.publish(&intake, &reply, &[], bytes);
}

/// A parcel without an inbox for its answer was dropped and nobody was told.
#[test]
fn nothing_of_what_strangers_send_is_carried_out_and_the_log_says_so_now_and_then() {
    for Strange { what, said, answered, send } in STRANGE {
        println!("{what}");
        let mut place = Place::start();
        (0..MANY).for_each(|_| send(&mut place));
        if let Some(reason) = answered {
            for number in 0..MANY {
                let answer = place.stranger.next(PATIENCE).unwrap_or_else(|| panic!("answer {number} to {what}"));
                assert_eq!(answer.json(), json!({"status": "refused", "reason": reason}), "{what}");
            }
        }
        // It goes on, for those who are no strangers, and for clients.
        let (taken, asked) = (place.takes_one(), somebody());
        place.stranger.accepted(&asked, &create(&asked));
        let versions = checked_history(&mut place.stranger).versions;
        assert_eq!(versions.len(), 2, "{what} was carried out");
        assert!([&taken, &asked].iter().all(|person| versions.contains_key(*person)));
        place.service.wait_for_log(said);
        assert_eq!(total(&mut place.stranger, 1, "members"), 1, "{what}");
        place.pass_over();
        let log = place.service.log();
        let lines = log.lines().filter(|line| line.contains(said)).count();
        assert!(lines < MANY / 10, "{what}: {lines} lines in the log");
        assert!(!log.contains(NAME) && !log.contains("panicked") && !log.contains("ERROR"), "{what}: {log}");
        place.service.stop();
    }
}

/// A home that took a parcel and did not say so may be at it, whoever it is: what fails here then may be done there.
#[test]
fn what_a_silent_home_may_be_at_is_not_said_to_be_undone() {
    let mut place = Place::start();
    let cluster = place.cluster();
    let silent = replica_id();
    let mut home = Client::connect(place.server.port());
    home.subscribe(&format!("person.intake.{silent}"));
    home.settle();
    // From now on the stream refuses whatever comes.
    let mut config = place.stranger.api(&format!("STREAM.INFO.{STREAM}"), &Value::Null)["config"].clone();
    config["max_bytes"] = 1.into();
    let updated = place.stranger.api(&format!("STREAM.UPDATE.{STREAM}"), &config);
    assert!(updated["error"].is_null(), "{updated}");
    let beacon = beacon(&silent, PROTOCOL, &cluster, "serving").to_string();
    let mut seen = [0; 2];
    eventually("commands of both kinds", || {
        place.stranger.publish(BEACON, "", &[], beacon.as_bytes());
        let person = somebody();
        let command = Command::new(&person, &create(&person));
        let reply = place.stranger.command(&command).json();
        let parcels: Vec<Vec<u8>> = std::iter::from_fn(|| home.waiting()).map(|parcel| parcel.payload).collect();
        let is_in = |parcel: &Vec<u8>| {
            parcel::decode(parcel).expect("a parcel").1.iter().any(|item| item.payload == command.payload)
        };
        let was_handed_over = parcels.iter().any(is_in);
        let code = if was_handed_over { "outcome_unknown" } else { "unavailable" };
        assert_eq!(reply["error"]["code"], code, "{reply}");
        seen[usize::from(was_handed_over)] += 1;
        !seen.contains(&0)
    });
}
