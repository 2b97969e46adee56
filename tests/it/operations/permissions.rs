//! The rights that docs/nats gives: enough for each, and no more.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{AS_SERVICE, as_user, ask, documented, pulled};
use crate::daemon::client::{Client, Command};
use crate::daemon::process::Service;
use crate::daemon::{create, rename, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::{PATIENCE, eventually};

/// The one file keeps all users in one account, the other gives each kind its own.
const FILES: [&str; 2] = ["users.conf", "accounts.conf"];
/// What an operator creates where the service may not.
const DEFINED_BY_HAND: [&str; 2] = ["PERSON_EVENTS", "KV_PERSON_EVENTS_SNAPSHOTS"];
const OFTEN: (&str, &str) = ("SNAPSHOT_FREQ", "5");

struct Place {
    server: NatsServer,
    client: Client,
    operator: Client,
}

impl Place {
    fn new(configuration: &str) -> Self {
        let server = NatsServer::with(configuration);
        let [client, operator] = ["client", "operator"].map(|user| Client::sign_in(server.port(), &as_user(user)));
        Self { server, client, operator }
    }

    fn service(&self, more: &[(&str, &str)]) -> Service {
        Service::start(&self.server.url(), &[&AS_SERVICE[..], &[OFTEN], more].concat())
    }

    /// How many replicas each of them counts.
    fn members(&mut self) -> Vec<u64> {
        let reply = self.operator.new_reply();
        self.operator.publish("$SRV.STATS.person-service", &reply, &[], b"");
        let told = (0..2).map(|_| self.operator.next(PATIENCE).expect("two answer").json());
        told.map(|stats| stats["endpoints"][0]["data"]["members"].as_u64().expect("a number")).collect()
    }

    fn make_reader(&mut self) {
        let durable = json!({ "durable_name": "reader", "ack_policy": "explicit" });
        let body = json!({ "stream_name": "PERSON_EVENTS", "config": durable });
        let made = self.operator.api("CONSUMER.DURABLE.CREATE.PERSON_EVENTS.reader", &body);
        assert_eq!(made["error"], json!(null), "{made}");
    }

    fn snapshots(&mut self) -> u64 {
        let info = self.operator.api("STREAM.INFO.KV_PERSON_EVENTS_SNAPSHOTS", &json!(null));
        info["state"]["messages"].as_u64().unwrap_or_default()
    }

    /// Everything that the service does in NATS, at least once.
    fn use_all_of_it(&mut self, service: &mut Service, more: &[(&str, &str)]) {
        let (person, other) = (somebody(), somebody());
        for one in [&person, &other] {
            self.client.accepted(one, &create(one));
        }
        for number in 0..12 {
            self.client.accepted(&person, &rename(&person, &format!("Ada {number}")));
        }
        eventually("a snapshot is stored", || self.snapshots() == 1);
        assert_eq!(self.client.tell(&person, &create(&person))["error"]["code"], "already_exists");
        service.stop();
        // Without a memory: snapshot and tail, a merge target by the leader's word, a history by pages.
        *service = self.service(more);
        self.client.accepted(&person, &rename(&person, "Ada"));
        let merge = json!({ "MergePersons": {
            "source_person_id": person, "target_person_id": other, "merge_reason": "DuplicateIdentity" } });
        self.client.accepted(&person, &merge);
        let known = json!({ "person_id": person });
        assert_eq!(ask(&mut self.client, "get", &known)["version"], 15);
        assert_eq!(ask(&mut self.client, "history", &known)["status"], "ok");
        let ping = self.operator.ask("$SRV.PING.person-service", &[], b"", PATIENCE);
        assert_eq!(ping.expect("discovery").json()["name"], "person-service");
    }
}

#[track_caller]
fn check_no_complaint(service: &Service) {
    let log = service.log();
    let bad: Vec<&str> = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert_eq!(bad, Vec::<&str>::new());
}

#[test]
fn the_service_creates_what_it_needs_and_works() {
    for file in FILES {
        let mut place = Place::new(&documented(file));
        let mut service = place.service(&[]);
        place.use_all_of_it(&mut service, &[]);
        service.stop();
        check_no_complaint(&service);
    }
}

/// The definitions are those that the service prints when it finds nothing.
#[test]
fn without_the_right_to_create_an_operator_does() {
    for file in FILES {
        let configuration = without(&documented(file), &["STREAM.CREATE"]);
        let mut place = Place::new(&configuration);
        let by_hand: &[(&str, &str)] = &[("STREAM_CREATE", "false")];
        let environment = [&AS_SERVICE[..], by_hand].concat();
        let mut service = Service::launch(&place.server.url(), &environment);
        let (status, _) = service.wait(PATIENCE);
        assert_eq!(status, 69, "{}", service.log());
        let definitions = service.stdout();
        let definitions = serde_json::Deserializer::from_str(&definitions).into_iter::<serde_json::Value>();
        let definitions: Vec<_> = definitions.map(|one| one.expect("JSON")).collect();
        assert_eq!(definitions.iter().map(|one| one["name"].as_str().unwrap()).collect::<Vec<_>>(), DEFINED_BY_HAND);
        for definition in definitions {
            let name = definition["name"].as_str().unwrap();
            let created = place.operator.api(&format!("STREAM.CREATE.{name}"), &definition);
            assert_eq!(created["error"], json!(null), "{created}");
        }
        let mut service = place.service(by_hand);
        place.use_all_of_it(&mut service, by_hand);
        service.stop();
        check_no_complaint(&service);
    }
}

/// The configuration without the lines of these rights.
fn without(configuration: &str, rights: &[&str]) -> String {
    let is_right = |line: &&str| line.trim_start().starts_with('"');
    let kept = |line: &&str| !(is_right(line) && rights.iter().any(|right| line.contains(right)));
    let lines: Vec<&str> = configuration.lines().filter(kept).collect();
    assert_ne!(lines.len(), configuration.lines().count(), "{rights:?} is none of the rights");
    lines.join("\n")
}

/// What a client was told that it may not do, without the names that only this run knows.
fn complaints(client: &Client) -> Vec<String> {
    client.complaints.lock().unwrap().clone()
}

/// Does something that must be refused with these words.
#[track_caller]
fn check_refused(client: &mut Client, words: &str, does: impl FnOnce(&mut Client)) {
    client.complaints.lock().unwrap().clear();
    does(client);
    eventually(&format!("it is refused: {words}"), || complaints(client).iter().any(|said| said.contains(words)));
}

#[track_caller]
fn check_may_not_publish(client: &mut Client, subject: &str) {
    let words = format!("Permissions Violation for Publish to \"{subject}\"");
    check_refused(client, &words, |client| client.publish(subject, "", &[], b""));
}

#[track_caller]
fn check_may_not_subscribe(client: &mut Client, subject: &str) {
    let words = format!("Permissions Violation for Subscription to \"{subject}\"");
    check_refused(client, &words, |client| client.subscribe(subject));
}

#[test]
fn the_others_do_their_part_and_nothing_else() {
    for file in FILES {
        let mut place = Place::new(&documented(file));
        let _service = place.service(&[]);
        let person = somebody();
        place.make_reader();
        place.client.accepted(&person, &create(&person));
        place.client.accepted(&person, &rename(&person, "Augusta"));
        for who in [&mut place.client, &mut place.operator] {
            check_may_not_publish(who, &format!("person.events.{person}"));
            check_may_not_publish(who, "person.identifiers.0");
        }
        for subject in ["$KV.PERSON_EVENTS_SNAPSHOTS.v1.x", "$JS.API.STREAM.PURGE.PERSON_EVENTS", "$SRV.PING"] {
            check_may_not_publish(&mut place.client, subject);
        }
        for subject in ["person.events.>", "person.commands.>", "$SRV.>"] {
            check_may_not_subscribe(&mut place.client, subject);
        }
        if file == "accounts.conf" {
            check_reader(&place.server, &person);
        }
        let info = place.operator.api("STREAM.INFO.PERSON_EVENTS", &json!(null));
        assert_eq!(info["state"]["messages"], 2, "nothing was forged");
    }
}

#[track_caller]
fn check_reader(server: &NatsServer, person: &str) {
    let mut reader = Client::sign_in(server.port(), &as_user("reader"));
    let versions: Vec<_> = pulled(&mut reader, 2).iter().map(|message| message.json()["version"].clone()).collect();
    assert_eq!(versions, [json!(1), json!(2)]);
    eventually("what was acknowledged is counted", || {
        let info = reader.api("CONSUMER.INFO.PERSON_EVENTS.reader", &json!(null));
        info["num_ack_pending"] == json!(0) && info["ack_floor"]["stream_seq"] == json!(2)
    });
    let event = format!("person.events.{person}");
    for subject in
        [&event, "person.commands.x", "$JS.API.STREAM.DELETE.PERSON_EVENTS", "$JS.API.STREAM.MSG.GET.PERSON_EVENTS"]
    {
        check_may_not_publish(&mut reader, subject);
    }
    check_may_not_subscribe(&mut reader, "person.>");
}

/// Whoever may listen to every inbox of an account sees every answer in it, those of JetStream to the service included.
#[test]
fn in_an_account_of_their_own_clients_do_not_see_what_the_service_reads() {
    for (file, is_seen) in [("users.conf", true), ("accounts.conf", false)] {
        let mut place = Place::new(&documented(file));
        let mut snoop = Client::sign_in(place.server.port(), &as_user("client"));
        snoop.subscribe("_INBOX.>");
        assert!(snoop.ask("person.queries.get", &[], b"{}", PATIENCE).expect("an answer").is_no_responders());
        let _service = place.service(&[]);
        let person = somebody();
        place.client.accepted(&person, &create(&person));
        assert_eq!(ask(&mut place.client, "get", &json!({ "person_id": person }))["status"], "ok");
        // The other client's answer comes last: inboxes of one account hide nothing from it.
        let mut stored = 0;
        while snoop.next(PATIENCE).expect("the answer to the other client").json()["status"] != "ok" {
            stored += 1;
        }
        // The acceptance, and, where they can be seen, JetStream's answers.
        assert_eq!(stored > 1, is_seen, "{file}: {stored} messages before");
    }
}

/// `person-service show` and its kin are clients like others.
#[test]
fn the_clients_of_the_binary_need_no_more_than_a_client() {
    for file in FILES {
        let mut place = Place::new(&documented(file));
        let _service = place.service(&[]);
        let person = somebody();
        place.client.accepted(&person, &create(&person));
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_person-service"))
            .args(["show", &person])
            .envs([("NATS_URL", place.server.url().as_str()), ("NATS_USER", "client"), ("NATS_PASSWORD", "secret")])
            .output()
            .unwrap();
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("Lovelace"), "{file}: {said}{errors}");
    }
}

/// An answer goes to whatever subject it was asked for, with the rights of who answers. The service looks where its own
/// replies go. JetStream does not, so a right on any of its calls is, within the account, a right to harm a history.
#[test]
fn in_an_account_of_their_own_readers_can_harm_nobody() {
    for (file, user, is_harmed) in [("users.conf", "operator", true), ("accounts.conf", "reader", false)] {
        let mut place = Place::new(&documented(file));
        let service = place.service(&[]);
        let (person, other) = (somebody(), somebody());
        place.make_reader();
        place.client.accepted(&person, &create(&person));
        let harmful = Client::sign_in(place.server.port(), &as_user(user));
        let event = format!("person.events.{person}");
        for (call, body) in [("INFO", ""), ("MSG.NEXT", r#"{"no_wait":true,"batch":100}"#)] {
            let subject = format!("$JS.API.CONSUMER.{call}.PERSON_EVENTS.reader");
            harmful.publish(&subject, &event, &[], body.as_bytes());
        }
        for (subject, words) in [("commands.x", "{}"), ("queries.get", "{}")] {
            harmful.publish(&format!("person.{subject}"), &event, &[], words.as_bytes());
            place.client.publish(&format!("person.{subject}"), &event, &[], words.as_bytes());
        }
        // What the service dropped or refused before is over with when this is answered.
        place.client.accepted(&other, &create(&other));
        let reply = place.client.tell(&person, &rename(&person, "Ada"));
        let damaged = reply["error"]["code"] == "history_damaged";
        assert_eq!(damaged, is_harmed, "{file}: {reply}");
        assert_eq!(service.log().contains("its reply subject is not one of REPLY_SUBJECTS"), file == "users.conf");
    }
}

/// Without a right that the start needs there is no start, and the last line says which right it is.
#[test]
fn without_a_right_that_the_start_needs_it_ends() {
    let cases = [
        ("$JS.API.INFO", "Publish to \"$JS.API.INFO\"", "true"),
        ("STREAM.INFO.PERSON_EVENTS", "Publish to \"$JS.API.STREAM.INFO.PERSON_EVENTS\"", "true"),
        ("STREAM.INFO.KV", "Publish to \"$JS.API.STREAM.INFO.KV_PERSON_EVENTS_SNAPSHOTS\"", "true"),
        ("STREAM.INFO.KV", "Publish to \"$JS.API.STREAM.INFO.KV_PERSON_EVENTS_SNAPSHOTS\"", "false"),
        ("STREAM.CREATE.PERSON", "Publish to \"$JS.API.STREAM.CREATE.PERSON_EVENTS\"", "true"),
        ("\"_INBOX.>", "Subscription to \"_INBOX.", "true"),
        ("person.commands.> person-service", "take commands (subscribe to person.commands.>)", "true"),
        ("person.queries.> person-service", "take queries (subscribe to person.queries.>)", "true"),
        ("$SRV.>", "be discovered (subscribe to $SRV.>)", "true"),
        ("person.events.*", "store commits (publish to person.events.*)", "true"),
        ("DIRECT.GET.PERSON", "read commits (publish to $JS.API.DIRECT.GET.PERSON_EVENTS)", "true"),
        ("MSG.GET.PERSON", "read commits from the leader (publish to $JS.API.STREAM.MSG.GET.PERSON_EVENTS)", "true"),
    ];
    std::thread::scope(|scope| {
        for (right, denied, create) in cases {
            scope.spawn(move || {
                let server = NatsServer::with(&without(&documented("users.conf"), &[right]));
                let mut service =
                    Service::launch(&server.url(), &[&AS_SERVICE[..], &[("STREAM_CREATE", create)]].concat());
                let (status, _) = service.wait(PATIENCE);
                let words = ["NATS denies the service a right that it needs: ", "Permissions Violation for ", denied];
                let words = if denied.contains(" (") { [words[0], words[2]].concat() } else { words.concat() };
                assert!(service.last_line().contains(&words), "{right}: {}", service.log());
                assert_eq!((status, service.is_ready()), (77, false), "{right}");
            });
        }
    });
}

/// Nobody looks for streams that answer in place of the service then. It is said once, and all else works.
#[test]
fn without_the_right_to_list_streams_it_is_said_once() {
    let mut place = Place::new(&without(&documented("users.conf"), &["STREAM.LIST"]));
    let service = place.service(&[]);
    let said = "is not looked at: this user may not publish to $JS.API.STREAM.LIST";
    service.wait_for_log(said);
    let person = somebody();
    place.client.accepted(&person, &create(&person));
    // Longer than it takes to look again.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(service.log().matches(said).count(), 1, "{}", service.log());
    place.client.accepted(&person, &rename(&person, "Augusta"));
}

/// What was taken away from a service that runs is in the log, and no reply says more than the stream has shown.
#[test]
fn without_a_right_that_was_taken_away_the_log_says_so() {
    let cases = [
        ("person.events.*", "person.events.<id>", ["outcome_unknown", "person_not_found"]),
        ("DIRECT.GET.PERSON", "$JS.API.DIRECT.GET.PERSON_EVENTS", ["accepted", "unavailable"]),
        ("MSG.GET.PERSON", "$JS.API.STREAM.MSG.GET.PERSON_EVENTS", ["accepted", "unavailable"]),
        ("DIRECT.GET.KV", "$JS.API.DIRECT.GET.KV_PERSON_EVENTS_SNAPSHOTS", ["accepted", "person_not_found"]),
        ("MSG.GET.KV", "$JS.API.STREAM.MSG.GET.KV_PERSON_EVENTS_SNAPSHOTS", ["accepted", "person_not_found"]),
        ("\"$KV", "$KV.PERSON_EVENTS_SNAPSHOTS.v1.<id>", ["accepted", "person_not_found"]),
    ];
    std::thread::scope(|scope| {
        for (right, denied, expected) in cases {
            scope.spawn(move || {
                let whole = documented("users.conf");
                let mut place = Place::new(&whole);
                let service = place.service(&[("COMMAND_TIMEOUT", "1s")]);
                let file = place.server.directory().join("server.conf");
                let running = std::fs::read_to_string(&file).unwrap();
                std::fs::write(&file, without(&running, &[right])).unwrap();
                place.server.reload();
                eventually("it is taken away", || place.server.log().contains("Reloaded server configuration"));
                let (person, nobody) = (somebody(), somebody());
                // A busy machine may need a second try.
                let mut comes_to = |person: &str, command: Value, expected: &str| {
                    eventually(&format!("{expected} without {right}"), || {
                        let reply = place.client.tell(person, &command);
                        reply["error"]["code"].as_str().unwrap_or("accepted") == expected
                    });
                };
                comes_to(&person, create(&person), expected[0]);
                comes_to(&nobody, rename(&nobody, "Ada"), expected[1]);
                // Until a snapshot is due.
                for number in (0..5).filter(|_| expected[0] == "accepted") {
                    comes_to(&person, rename(&person, &format!("Ada {number}")), "accepted");
                }
                service.wait_for_log(&format!("NATS says: Permissions Violation for Publish to \"{denied}\""));
            });
        }
    });
}

/// The bucket is a cache: without a right on it the service starts, keeps no snapshots, and says why.
#[test]
fn without_a_right_on_the_bucket_it_starts_without_snapshots() {
    for right in ["DIRECT.GET.KV", "MSG.GET.KV", "\"$KV"] {
        let mut place = Place::new(&without(&documented("users.conf"), &[right]));
        let service = place.service(&[]);
        let person = somebody();
        place.client.accepted(&person, &create(&person));
        for number in 0..6 {
            place.client.accepted(&person, &rename(&person, &format!("Ada {number}")));
        }
        let log = service.log();
        assert!(log.contains("no snapshots: this user may not "), "{log}");
        // The trial's own.
        assert_eq!(log.matches("NATS says: Permissions Violation").count(), 1, "{log}");
    }
}

/// Without the rights to speak to other replicas, or to hear them, each serves alone, and says so.
#[test]
fn without_the_rights_of_the_intake_each_serves_alone() {
    let whole = documented("users.conf");
    for (configuration, members) in [(whole.clone(), 2), (without(&whole, &["person.intake.>"]), 1)] {
        let mut place = Place::new(&configuration);
        let services = [place.service(&[]), place.service(&[])];
        let person = somebody();
        place.client.accepted(&person, &create(&person));
        eventually(&format!("{members} members, and a word about it"), || {
            let is_told = services.iter().all(|service| {
                service
                    .log()
                    .contains("beside other replicas it serves alone: this user may not hand over to other replicas")
                    && service.log().contains("this replica serves alone")
            });
            is_told == (members == 1) && place.members() == [members; 2]
        });
        (0..50).for_each(|number| drop(place.client.accepted(&person, &rename(&person, &format!("Ada {number}")))));
        if members > 1 {
            services.iter().for_each(check_no_complaint);
        }
    }
}

/// Rights that are taken away while it serves: it leaves the commands to others, and takes them again when it may.
#[test]
fn rights_that_change_while_it_serves() {
    let configuration = documented("users.conf");
    let place = Place::new(&configuration);
    let mut service = place.service(&[]);
    let file = place.server.directory().join("server.conf");
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, without(&whole, &["person.commands.> person-service"])).unwrap();
    place.server.reload();
    service.wait_for("STATUS=NATS denies commands to this user");
    service.wait_for_log("commands are left to other replicas: NATS denies commands to this user");
    let mut client = Client::sign_in(place.server.port(), &as_user("client"));
    let nobody = somebody();
    assert!(client.command(&Command::new(&nobody, &create(&nobody))).is_no_responders());
    std::fs::write(&file, whole).unwrap();
    let moment = Instant::now();
    place.server.reload();
    service.wait_since(Some(moment), "STATUS=serving");
    let person = somebody();
    client.accepted(&person, &create(&person));
    service.stop();
}
