//! The contract's subjects, commands and events, end to end.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Command};
use super::flood::Flood;
use super::process::Service;
use super::{STREAM, checked_history, create, record, rename, somebody};
use crate::support::nats_server::NatsServer;
use crate::support::raw::Raw;
use crate::support::{PATIENCE, eventually};

/// When to send a command again that a lost connection took with it.
const SOON: Duration = Duration::from_millis(200);

fn started() -> (NatsServer, Service, Client) {
    let server = NatsServer::start();
    let service = Service::start(&server.url(), &[]);
    let client = Client::connect(server.port());
    (server, service, client)
}

/// What a reconnect costs the server: the connection itself, and a look at which servers there are now.
const OF_A_RECONNECT: u64 = 2;

/// How many connections the server has had, this one included.
fn connections_so_far(server: &NatsServer) -> u64 {
    Raw::greeting(server.port()).unwrap()["client_id"].as_u64().unwrap()
}

/// Section 1: stream and bucket are made as promised.
#[test]
fn stream_and_bucket() {
    let (_server, _service, mut client) = started();
    let stream = client.api("STREAM.INFO.PERSON_EVENTS", &Value::Null)["config"].clone();
    for (member, expected) in [
        ("subjects", json!(["person.events.>", "person.identifiers.*"])),
        ("retention", json!("limits")),
        ("storage", json!("file")),
        ("max_msgs", json!(-1)),
        ("max_bytes", json!(-1)),
        ("max_age", json!(0)),
        ("max_msgs_per_subject", json!(-1)),
        ("max_msg_size", json!(-1)),
        ("discard", json!("new")),
        ("deny_delete", json!(true)),
        ("deny_purge", json!(false)),
        ("allow_rollup_hdrs", json!(true)),
        ("allow_direct", json!(true)),
        ("allow_atomic", json!(true)),
        ("num_replicas", json!(1)),
        ("compression", json!("s2")),
    ] {
        assert_eq!(stream[member], expected, "{member} in {stream}");
    }
    let bucket = client.api("STREAM.INFO.KV_PERSON_EVENTS_SNAPSHOTS", &Value::Null)["config"].clone();
    for (member, expected) in [
        ("subjects", json!(["$KV.PERSON_EVENTS_SNAPSHOTS.>"])),
        ("max_msgs_per_subject", json!(1)),
        ("discard", json!("new")),
        ("allow_rollup_hdrs", json!(true)),
        ("deny_delete", json!(true)),
        ("allow_direct", json!(true)),
    ] {
        assert_eq!(bucket[member], expected, "{member} in {bucket}");
    }
}

/// A command that came through a gateway of another make was refused for good, for a header that only onlookers read; and what
/// Go writes, `Traceparent`, was not seen.
#[test]
fn a_trace_context_of_any_make_is_taken_and_a_bad_one_is_no_reason_to_refuse() {
    let (_server, _service, mut client) = started();
    let rest = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let cases = [
        ("Traceparent", format!("00-{rest}"), true),
        ("TRACEPARENT", format!("cc-{rest}-and \"more\"").replace(' ', "_"), true),
        ("traceparent", format!("00-{rest}").to_uppercase(), false),
        ("traceparent", format!("ff-{rest}"), false),
        ("traceparent", String::new(), false),
        ("traceparent", "nonsense".to_owned(), false),
    ];
    for (number, (header, value, is_kept)) in cases.iter().enumerate() {
        let person = somebody();
        let command = Command::new(&person, &create(&person)).header(header, value);
        assert_eq!(client.command(&command).json()["status"], "accepted", "{header}: {value}");
        let stored = &client.stored(STREAM)[number];
        let expected = is_kept.then_some(value.as_str());
        assert_eq!(stored.header("traceparent"), expected);
        assert_eq!(stored.json()["commands"][0]["traceparent"].as_str(), expected);
    }
}

/// A guard that was written in another case guarded nothing, and the retries of such a client were new commands.
#[test]
fn headers_are_found_in_any_case() {
    let (_server, _service, mut client) = started();
    let person = somebody();
    let mut command = Command::with_id("c1", &person, &create(&person)).header("EXPECTED-VERSION", "0");
    command.headers[0].0 = "nats-msg-id".to_owned();
    assert_eq!(client.command(&command).json()["duplicate"], false);
    assert_eq!(client.command(&command).json()["duplicate"], true);
    let late = Command::new(&person, &rename(&person, "x")).header("expected-version", "9");
    assert_eq!(client.command(&late).json()["error"]["code"], "version_conflict");
}

/// One attribute of a later release's type was taken for damage of the whole person. What is not known is named to the client
/// and in the log; a stranger's bytes in its place are not.
#[test]
fn what_a_later_release_wrote_is_named() {
    let (_server, service, mut client) = started();
    let cases = [
        ("/events/0/event", json!({"PersonFrozen": {}}), "the event type PersonFrozen"),
        (
            "/events/0/event/PersonCreated/name/naming_convention",
            json!("Klingon"),
            "the variant Klingon of name.naming_convention",
        ),
        ("/events/0/event", json!({"Xan\nthippe": {}}), "the event type (another name)"),
    ];
    for (place, unknown, named) in cases {
        let [model, person] = [somebody(), somebody()];
        client.accepted(&model, &create(&model));
        let stored = client.stored(STREAM).pop().expect("it is stored").json().to_string().replace(&model, &person);
        let mut commit: Value = serde_json::from_str(&stored).expect("JSON");
        *commit.pointer_mut(place).expect("it is there") = unknown;
        client.ask(&format!("person.events.{person}"), &[], commit.to_string().as_bytes(), PATIENCE).expect("stored");
        let reply = client.tell(&person, &rename(&person, "x"));
        assert_eq!(reply["error"]["code"], "history_too_new", "{reply}");
        let message = reply["error"]["message"].as_str().expect("a message");
        assert!(message.contains(&format!("{named}, which this release does not know")), "{message}");
        let question = json!({ "person_id": person }).to_string();
        let shown = client.ask("person.queries.get", &[], question.as_bytes(), PATIENCE).expect("an answer").json();
        assert!(shown["error"]["message"].as_str().is_some_and(|message| message.contains(named)), "{shown}");
        service.wait_for_log(named);
    }
    assert!(!service.log().contains("thippe"));
}

/// The line in the log said that a request failed, and with which code; what the store had said only the client saw.
#[test]
fn the_log_has_the_words_of_the_store() {
    let (_server, service, mut client) = started();
    let mut config = client.api(&format!("STREAM.INFO.{STREAM}"), &Value::Null)["config"].clone();
    let mut reply = Value::Null;
    // The service may look at the stream first: then nobody takes the command until the stream is mended.
    eventually("a command comes before the service has noticed", || {
        let person = somebody();
        let mut set = |client: &mut Client, size: i32| {
            config["max_msg_size"] = json!(size);
            let updated = client.api(&format!("STREAM.UPDATE.{STREAM}"), &config);
            assert!(updated["error"].is_null(), "{updated}");
        };
        set(&mut client, -1);
        eventually("it serves", || {
            let other = somebody();
            client.tell(&other, &create(&other))["status"] == "accepted"
        });
        set(&mut client, 100);
        reply = client.tell(&person, &create(&person));
        !reply.is_null()
    });
    assert_eq!(reply["error"]["code"], "unavailable", "{reply}");
    service.wait_for_log("a request failed: the store refused it: message size exceeds maximum allowed");
}

/// Sections 3 and 4: what an accepted command's reply, commit and headers look like.
#[test]
fn an_accepted_command() {
    let (_server, _service, mut client) = started();
    let person = somebody();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let command = Command::with_id("c1", &person, &create(&person))
        .header("Correlation-Id", "story-7")
        .header("Actor", "clerk")
        .header("Expected-Version", "0")
        .header("traceparent", trace);
    let reply = client.command(&command);
    assert!(reply.headers.is_empty(), "{:?}", reply.headers);
    let expected = json!({"status": "accepted", "command_id": "c1", "aggregate_id": person, "version": 1,
        "events_generated": 1, "events": ["PersonCreated"], "sequence": 1, "duplicate": false});
    assert_eq!(reply.json(), expected);
    let mut again = expected;
    again["duplicate"] = json!(true);
    assert_eq!(client.command(&command).json(), again);

    let array = json!([rename(&person, "Augusta"), record(&person, "x")]);
    let second = client.accepted(&person, &array);
    assert_eq!(second["events"], json!(["NameUpdated", "AttributeRecorded"]));
    assert_eq!((&second["version"], &second["events_generated"]), (&json!(3), &json!(2)));
    let nothing = client.accepted(&person, &rename(&person, "Augusta"));
    assert_eq!((&nothing["events"], nothing.get("sequence")), (&json!([]), None));

    let stored = client.stored(STREAM);
    let headers: Vec<(&str, Option<&str>)> = [
        ("Event-Type", Some("PersonCreated")),
        ("Person-Version", Some("1")),
        ("Content-Type", Some("application/json")),
        ("traceparent", Some(trace)),
        ("Nats-Expected-Stream", Some(STREAM)),
        ("Nats-Msg-Id", None),
    ]
    .into();
    headers.iter().for_each(|(header, expected)| assert_eq!(stored[0].header(header), *expected, "{header}"));
    assert_eq!(stored[1].header("Event-Type"), Some("NameUpdated,AttributeRecorded"));
    assert_eq!(stored[1].header("Person-Version"), Some("3"));
    let commit = stored[0].json();
    let event = &commit["events"][0];
    assert_eq!(commit["schema"], 1);
    assert_eq!(commit["commands"][0]["traceparent"], trace);
    assert_eq!((&event["correlation_id"], &event["actor"]), (&json!("story-7"), &json!("clerk")));
    assert_eq!(event["event"]["PersonCreated"]["person_id"], person.as_str());
    assert_eq!(checked_history(&mut client).versions[&person], 3);
}

/// Section 2: every kind of command, told once.
#[test]
fn the_life_of_a_person() {
    let (_server, _service, mut client) = started();
    let (person, other) = (somebody(), somebody());
    client.accepted(&other, &create(&other));
    let eyes = |color: &str| {
        json!({"attribute_type": {"Identifying": "EyeColor"}, "value": {"EyeColor": color},
               "provenance": {"source": "Measured", "confidence": "Likely"}})
    };
    for (body, event) in [
        (create(&person), "PersonCreated"),
        (rename(&person, "Augusta"), "NameUpdated"),
        (json!({"SetBirthDate": {"person_id": person, "birth_date": "1815-12-10"}}), "BirthDateSet"),
        (json!({"RecordAttribute": {"person_id": person, "attribute": eyes("Brown")}}), "AttributeRecorded"),
        (
            json!({"UpdateAttribute": {"person_id": person, "attribute_type": {"Identifying": "EyeColor"},
                   "new_attribute": eyes("Hazel")}}),
            "AttributeUpdated",
        ),
        (
            json!({"InvalidateAttribute": {"person_id": person, "attribute_type": {"Identifying": "EyeColor"}}}),
            "AttributeInvalidated",
        ),
        (json!({"DeactivatePerson": {"person_id": person, "reason": "moved"}}), "PersonDeactivated"),
        (json!({"ReactivatePerson": {"person_id": person, "reason": "back"}}), "PersonReactivated"),
        (
            json!({"MergePersons": {"source_person_id": person, "target_person_id": other,
                   "merge_reason": "DuplicateIdentity"}}),
            "PersonMergedInto",
        ),
    ] {
        assert_eq!(client.accepted(&person, &body)["events"], json!([event]));
    }
    let merged = client.tell(&person, &rename(&person, "x"));
    assert_eq!((&merged["error"]["code"], &merged["error"]["moved_to"]), (&json!("person_merged"), &json!(other)));
    let death = json!({"RecordDeath": {"person_id": other, "date_of_death": "1852-11-27"}});
    assert_eq!(client.accepted(&other, &death)["events"], json!(["DeathRecorded"]));
    let archive = json!({"ArchivePerson": {"person_id": other, "reason": "closed"}});
    assert_eq!(client.accepted(&other, &archive)["events"], json!(["PersonArchived"]));
    checked_history(&mut client);
}

/// Section 3: refusals, with their headers.
#[test]
fn refusals() {
    let (_server, _service, mut client) = started();
    let (person, stranger) = (somebody(), somebody());
    client.command(&Command::with_id("c1", &person, &create(&person)));
    let big = record(&person, &"x".repeat(257 * 1024));
    let cases = [
        (Command::new(&stranger, &rename(&stranger, "x")), "person_not_found", "404", Some(0)),
        (Command::new(&person, &create(&person)), "already_exists", "409", Some(1)),
        (Command::with_id("c1", &person, &rename(&person, "x")), "command_id_reused", "409", Some(1)),
        (
            Command::new(&person, &rename(&person, "x")).header("Expected-Version", "9"),
            "version_conflict",
            "409",
            Some(1),
        ),
        (Command::new(&stranger, &rename(&person, "x")), "person_id_mismatch", "400", None),
        (Command::new(&person, &json!({"Nonsense": {}})), "malformed", "400", None),
        (Command::new(&person, &json!([])), "malformed", "400", None),
        (Command::new(&person, &rename(&person, " ")), "invalid", "400", None),
        (Command::new(&person, &rename(&person, "x")).header("Expected-Version", "-1"), "invalid", "400", None),
        (Command::new(&person, &big), "too_large", "413", None),
        (
            Command::new(&person, &json!({"ReactivatePerson": {"person_id": person, "reason": "x"}})),
            "invalid_state",
            "409",
            Some(1),
        ),
        (
            Command::new(
                &person,
                &json!({"InvalidateAttribute": {"person_id": person, "attribute_type": {"Physical": "Height"}}}),
            ),
            "attribute_not_found",
            "404",
            Some(1),
        ),
    ];
    for (command, code, number, version) in cases {
        let reply = client.command(&command);
        let json = reply.json();
        assert_eq!(json["status"], "rejected", "{json}");
        assert_eq!(json["error"]["code"], code, "{json}");
        assert_eq!(json["error"]["retryable"], false, "{json}");
        assert_eq!(json["command_id"], command.id.as_str(), "{json}");
        assert_eq!(json.get("version"), version.map(|version| json!(version)).as_ref(), "{json}");
        assert_eq!(reply.header("Nats-Service-Error-Code"), Some(number));
        assert_eq!(reply.header("Nats-Service-Error"), json["error"]["message"].as_str());
    }
    let array = json!([rename(&person, "y"), create(&person)]);
    assert_eq!(client.tell(&person, &array)["error"]["index"], 1);
    let bad_id = Command::with_id("a b", &person, &rename(&person, "z"));
    let reply = client.command(&bad_id).json();
    assert_eq!((&reply["error"]["code"], reply.get("command_id")), (&json!("invalid"), None));
    assert_eq!(checked_history(&mut client).versions[&person], 1, "nothing but the creation was stored");
}

/// Section 1: any tail is accepted, a UUID in it has to be the person's.
#[test]
fn any_tail_of_the_subject() {
    let (_server, _service, mut client) = started();
    for (tail, code) in [
        ("create".to_owned(), None),
        ("a.b.c".to_owned(), None),
        (somebody(), Some("person_id_mismatch")),
        (format!("{}.create", somebody()), Some("person_id_mismatch")),
    ] {
        let person = somebody();
        let payload = create(&person).to_string();
        let reply = client.ask(&format!("person.commands.{tail}"), &[], payload.as_bytes(), PATIENCE).unwrap().json();
        assert_eq!(reply["error"]["code"].as_str(), code, "{tail}: {reply}");
    }
    let person = somebody();
    let upper = format!("person.commands.{}.x", person.to_uppercase());
    let reply = client.ask(&upper, &[], create(&person).to_string().as_bytes(), PATIENCE).unwrap().json();
    assert_eq!(reply["status"], "accepted", "{reply}");
}

/// Section 3: without a reply subject a command is carried out all the same, and a refusal is logged.
#[test]
fn commands_that_wait_for_no_reply() {
    let (_server, service, mut client) = started();
    let person = somebody();
    let subject = format!("person.commands.{person}");
    client.publish(&subject, "", &[], create(&person).to_string().as_bytes());
    client.publish(&subject, "", &[], create(&person).to_string().as_bytes());
    service.wait_for_log("already_exists");
    let line = service.log().lines().find(|line| line.contains("already_exists")).unwrap().to_owned();
    assert!(line.contains("WARN"), "{line}");
    assert_eq!(client.accepted(&person, &rename(&person, "x"))["version"], 2);
}

/// A message that the client library chokes on costs the sender's own message, and at most one reconnect.
#[test]
fn poison_messages() {
    let (server, _service, mut client) = started();
    let person = somebody();
    client.accepted(&person, &create(&person));
    let payload = b"{}";
    let block = |block: &[u8]| {
        let line = format!("HPUB person.commands.x {} {}\r\n", block.len(), block.len() + payload.len());
        [line.as_bytes(), block, payload, b"\r\n"].concat()
    };
    let bare = |subject: &[u8]| [b"PUB ", subject, b" 2\r\n{}\r\n"].concat();
    let poisons: Vec<(&str, Vec<u8>)> = vec![
        ("a header that is no UTF-8", block(b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n")),
        ("a header without a colon", block(b"NATS/1.0\r\nA\r\n\r\n")),
        ("another version line", block(b"HTTP/1.1\r\nA: b\r\n\r\n")),
        ("a subject that is no UTF-8", bare(b"person.commands.\xff\xfe")),
        ("a white space of another script", bare("person.commands.a\u{3000}b".as_bytes())),
        ("a long subject", bare(format!("person.commands.{}", "x".repeat(4000)).as_bytes())),
    ];
    let mut version = 1;
    for (what, poison) in poisons {
        let before = connections_so_far(&server);
        client.send(&poison);
        // Commands that come after it are sent as any client sends them: again, if there is no answer.
        let command = Command::new(&person, &record(&person, "x"));
        let flooded = client.flood(&[command], Flood { retry_after: Some(SOON), ..Flood::careful(1) }, |_| {});
        version += 1;
        assert_eq!(flooded.all_accepted()[0]["version"], version, "{what}");
        let connections = connections_so_far(&server) - before - 1;
        println!("{what}: {connections} connections");
        assert!(connections <= OF_A_RECONNECT, "{what}: {connections} connections");
    }
    // Malformed payloads cost nothing at all.
    let before = connections_so_far(&server);
    for payload in [&b""[..], b"\xff\xfe", b"null", b"{", b"[[[[[", b"{\"CreatePerson\":null}"] {
        let reply = client.ask("person.commands.x", &[], payload, PATIENCE).unwrap().json();
        assert_eq!(reply["error"]["code"], "malformed", "{payload:?}: {reply}");
    }
    assert_eq!(connections_so_far(&server), before + 1);
    assert_eq!(checked_history(&mut client).versions[&person], version);
}

/// Among many commands a poison takes those with it that were on their way over the same connection, and no more: their
/// clients send them again.
#[test]
fn poison_among_many() {
    let (server, _service, mut client) = started();
    let poisoner = Client::connect(server.port());
    let commands: Vec<Command> = (0..4_000)
        .map(|_| {
            let person = somebody();
            Command::new(&person, &create(&person))
        })
        .collect();
    let before = connections_so_far(&server);
    let mut poisons = 0;
    let flooded = client.flood(&commands, Flood { retry_after: Some(SOON), ..Flood::careful(64) }, |done| {
        if done % 400 == 200 {
            poisons += 1;
            poisoner.send("PUB person.commands.a\u{3000}b 2\r\n{}\r\n".as_bytes());
        }
    });
    flooded.all_accepted();
    let connections = connections_so_far(&server) - before - 1;
    assert!(connections <= OF_A_RECONNECT * poisons, "{connections} connections for {poisons} poisons");
    println!("{poisons} poisons, {} commands sent again, {} of them at once", flooded.retries, flooded.failures.len());
    assert_eq!(checked_history(&mut client).commands.len(), commands.len());
}
