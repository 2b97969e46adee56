//! Somebody changes the stream or the bucket under a service that runs. With `max_age` or `max_msgs_per_subject` on the
//! stream every command was accepted while history vanished, nothing said so, and the next start ended with 69.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, Command};
use super::monitoring::{free_address, get};
use super::process::Service;
use super::{STREAM, check_answer, checked_history, create, rename, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::{PATIENCE, eventually, streams};

const BUCKET: &str = "KV_PERSON_EVENTS_SNAPSHOTS";
const SALT: &str = "person-service.identifier-salt";

struct Place {
    server: NatsServer,
    service: Service,
    client: Client,
    address: String,
    person: String,
    /// What was accepted: command id and reply.
    accepted: Vec<(String, Value)>,
    /// What was said of the others.
    refused: Vec<String>,
}

impl Place {
    fn start() -> Self {
        let server = NatsServer::start();
        let address = free_address();
        let service = Service::start(&server.url(), &[("METRICS_ADDR", &address), ("SNAPSHOT_FREQ", "5")]);
        let client = Client::connect(server.port());
        let mut place =
            Self { server, service, client, address, person: somebody(), accepted: Vec::new(), refused: Vec::new() };
        place.must_accept(&place.person.clone(), &create(&place.person.clone()));
        place
    }

    fn configuration(&self) -> Value {
        streams::configuration(self.server.port(), STREAM)
    }

    fn update(&self, config: &Value) {
        streams::update(self.server.port(), config);
    }

    /// Sends a command, and remembers it where it is accepted.
    fn send(&mut self, person: &str, body: &Value) -> bool {
        let id = uuid::Uuid::new_v4().to_string();
        let answer = self.client.command(&Command::with_id(&id, person, body));
        let is_accepted = !answer.is_no_responders() && answer.json()["status"] == "accepted";
        if is_accepted {
            self.accepted.push((id, answer.json()));
        } else {
            self.refused.push(answer.json().to_string());
        }
        is_accepted
    }

    #[track_caller]
    fn must_accept(&mut self, person: &str, body: &Value) {
        assert!(self.send(person, body), "{}", self.service.log());
    }

    /// A few commands for new persons and for one that is there, accepted or not; whether the first of them found a service
    /// that had not noticed anything yet.
    fn try_some(&mut self) -> bool {
        let (person, first) = (self.person.clone(), somebody());
        // Nobody there: the server says it without a word.
        let is_taken = self.send(&first, &create(&first)) || self.refused.last().is_some_and(|said| said != "null");
        for number in 0..3 {
            let other = somebody();
            self.send(&person, &rename(&person, &format!("Ada {number}")));
            self.send(&other, &create(&other));
        }
        is_taken
    }

    /// Changes the stream and sends commands, before the service looks at it the next time.
    fn change_unnoticed(&mut self, good: &Value, change: &Value) -> Instant {
        let mut since = Instant::now();
        eventually("a command comes before the service has noticed", || {
            since = Instant::now();
            self.update(&streams::changed(good.clone(), change));
            let is_first = self.try_some();
            if !is_first {
                self.update(good);
                self.check_goes_on();
            }
            is_first
        });
        since
    }

    /// The service stops taking commands, and says everywhere what is wrong and what mends it.
    #[track_caller]
    fn check_stops(&mut self, since: Instant, words: &[&str]) {
        eventually(&format!("not ready, {words:?}"), || {
            let (status, said) = get(&self.address, "/readyz").expect("it listens");
            status == 503 && words.iter().all(|word| said.contains(word))
        });
        let told = |place: &Self| {
            let told = place.service.told_since(since);
            told.iter().any(|said| said.starts_with("STATUS=") && words.iter().all(|word| said.contains(word)))
        };
        eventually("STATUS= says it", || told(self));
        let is_logged = |line: &str| line.contains("ERROR") && words.iter().all(|word| line.contains(word));
        eventually("the log says it", || self.service.log().lines().any(is_logged));
        eventually("nobody takes commands", || {
            let answer = self.client.ask("person.commands.x", &[], b"{}", PATIENCE);
            answer.is_some_and(|answer| answer.is_no_responders())
        });
    }

    #[track_caller]
    fn check_goes_on(&mut self) {
        eventually("ready again", || get(&self.address, "/readyz").is_some_and(|(status, _)| status == 200));
        let (known, new) = (self.person.clone(), somebody());
        self.must_accept(&known, &rename(&known, "Augusta"));
        self.must_accept(&known, &rename(&known, "Ada"));
        self.must_accept(&new, &create(&new));
    }

    /// Everything that was ever accepted is there.
    #[track_caller]
    fn check_nothing_is_lost(mut self) {
        self.service.stop();
        let stored = self.client.stored(STREAM);
        let elsewhere: Vec<_> = stored.iter().filter_map(|message| message.header("Nats-Subject")).collect();
        let elsewhere: Vec<_> =
            elsewhere.into_iter().filter(|subject| !subject.starts_with("person.events.")).collect();
        if elsewhere.is_empty() {
            let history = checked_history(&mut self.client);
            self.accepted.iter().for_each(|(id, answer)| check_answer(&history, id, answer));
        } else {
            // A first commit that was moved used to be tried again until its command's time was over.
            let says = |said: &String| said.contains("subject_transform");
            assert!(self.refused.iter().any(says), "{:?}", self.refused);
            // What a transform moved was not accepted, or lies in its place as well.
            for (id, answer) in &self.accepted {
                let subject = format!("person.events.{}", answer["aggregate_id"].as_str().expect("an id"));
                let is_it = |message: &super::client::Message| {
                    message.header("Nats-Subject") == Some(&subject)
                        && String::from_utf8_lossy(&message.payload).contains(id)
                };
                assert!(stored.iter().any(is_it), "{id} is lost: {answer}");
            }
        }
    }
}

/// Each change by itself on one running service: it stops taking commands, names the field and the cure everywhere, goes on
/// by itself when it is mended, and has lost nothing that it accepted meanwhile.
fn check_changes(changes: &[(Value, &[&str])]) {
    let mut place = Place::start();
    // These are the operator's, and disturb nobody.
    let operators = json!({ "description": "ours", "max_bytes": 1_000_000_000 });
    let good = streams::changed(place.configuration(), &operators);
    place.update(&good);
    for (change, words) in changes {
        let since = place.change_unnoticed(&good, change);
        place.check_stops(since, words);
        place.update(&good);
        place.check_goes_on();
    }
    place.check_nothing_is_lost();
}

#[test]
fn what_would_drop_commits_stops_the_service_until_it_is_mended() {
    check_changes(&[
        (json!({ "max_age": 3_600_000_000_000_u64 }), &["max_age", "older than 3600s", "set max_age to 0"]),
        (json!({ "max_msgs_per_subject": 1000 }), &["no more than 1000", "set max_msgs_per_subject to -1"]),
        (json!({ "discard": "old" }), &["limits drop old commits", "set discard to \"new\""]),
        (json!({ "max_msg_size": 1000 }), &["set max_msg_size to -1"]),
    ]);
}

#[test]
fn what_hides_commits_stops_the_service_until_it_is_mended() {
    let transform = json!({ "src": "person.events.*", "dest": "moved.{{wildcard(1)}}" });
    check_changes(&[
        (json!({ "subject_transform": transform }), &["subject_transform", "take subject_transform away"]),
        (json!({ "allow_direct": false }), &["set allow_direct to true"]),
        (json!({ "no_ack": true }), &["no_ack is on", "set no_ack to false"]),
        (
            json!({ "subjects": ["person.identifiers.*"] }),
            &["does not take the subjects person.events.>", "set subjects"],
        ),
    ]);
}

#[test]
fn what_later_commands_need_stops_the_service_until_it_is_mended() {
    let salt = |salt: &str| json!({ "metadata": { SALT: salt } });
    check_changes(&[
        (json!({ "allow_atomic": false }), &["set allow_atomic to true"]),
        (json!({ "allow_rollup_hdrs": false }), &["set allow_rollup_hdrs to true"]),
        (
            json!({ "subjects": ["person.events.>", "person.identifiers.*", "person.search.>"] }),
            &["takes the subjects person.search.>", "set subjects to"],
        ),
        (json!({ "metadata": {} }), &["has no person-service.identifier-salt", "set person-service.identifier-salt"]),
        (salt(streams::SALT), &["another one than it was", "set person-service.identifier-salt in metadata to"]),
    ]);
}

/// With `interest` and nobody who has any, a stream keeps nothing.
#[test]
fn a_stream_that_keeps_only_what_somebody_waits_for_stops_the_service() {
    let mut place = Place::start();
    let (good, since) = (place.configuration(), Instant::now());
    place.update(&streams::changed(good.clone(), &json!({ "retention": "interest" })));
    place.check_stops(since, &["its retention is \"interest\"", "set retention to \"limits\""]);
    place.update(&good);
    eventually("ready again", || get(&place.address, "/readyz").is_some_and(|(status, _)| status == 200));
}

/// Sealing cannot be undone. A stream in place of the sealed one, with all that was in it or with nothing, is another one.
#[test]
fn a_sealed_stream_stops_the_service_until_there_is_another() {
    let mut place = Place::start();
    let (good, since) = (place.configuration(), Instant::now());
    place.update(&streams::changed(good.clone(), &json!({ "sealed": true })));
    place.check_stops(since, &["it is sealed", "that takes a new stream"]);
    place.client.api(&format!("STREAM.DELETE.{STREAM}"), &Value::Null);
    streams::create(place.server.port(), &good);
    eventually("ready again", || get(&place.address, "/readyz").is_some_and(|(status, _)| status == 200));
    let person = somebody();
    place.must_accept(&person, &create(&person));
}

/// A bucket is a cache: without it commands go on. It used to be looked at once, at the start, and a bucket that was
/// mended later was never used.
#[test]
fn snapshots_pause_while_the_bucket_cannot_be_used_and_come_back() {
    let mut place = Place::start();
    let port = place.server.port();
    let good = streams::configuration(port, BUCKET);
    let written = |place: &mut Place| {
        let info = place.client.api(&format!("STREAM.INFO.{BUCKET}"), &Value::Null);
        info["state"]["messages"].as_u64().unwrap_or(0)
    };
    streams::update(port, &streams::changed(good.clone(), &json!({ "allow_direct": false })));
    place.service.wait_for_log("snapshots pause");
    place.service.wait_for_log("set allow_direct to true");
    many(&mut place, 12);
    assert_eq!(written(&mut place), 0);
    streams::update(port, &good);
    place.service.wait_for_log("snapshots are kept again");
    eventually("a snapshot is written", || {
        many(&mut place, 6);
        written(&mut place) > 0
    });
    // Gone altogether it is made anew.
    place.client.api(&format!("STREAM.DELETE.{BUCKET}"), &Value::Null);
    eventually("there is a bucket", || {
        streams::configuration(port, BUCKET)["max_msgs_per_subject"] == good["max_msgs_per_subject"]
    });
    eventually("a snapshot is written", || {
        many(&mut place, 6);
        written(&mut place) > 0
    });
    assert_eq!(get(&place.address, "/readyz").expect("it listens").0, 200);
    place.check_nothing_is_lost();
}

fn many(place: &mut Place, count: usize) {
    let person = place.person.clone();
    for number in 0..count {
        place.must_accept(&person, &rename(&person, &format!("Ada {number} {:?}", Instant::now())));
    }
    std::thread::sleep(Duration::from_millis(10));
}
