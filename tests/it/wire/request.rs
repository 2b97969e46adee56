//! What clients send: every rule of headers, payload and subject, as tables.

use cim_domain_person::domain::Command;
use cim_domain_person::wire::reply::{Code, Problem};
use cim_domain_person::wire::request::{
    CommandId, Header, Headers, NotARequest, PAYLOAD_BYTES_MAX, Request, Stamp, decode, decode_commands,
};
use cim_domain_person::wire::subject::Subjects;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::domain::{ANN, BOB, NOW, arbitrary, id, time};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Headers as they came, a name possibly several times.
#[derive(Debug, Default)]
struct Sent<'a>(Vec<(&'a str, &'a str)>);

impl Headers for Sent<'_> {
    fn get(&self, name: &str) -> Header<'_> {
        let named = |(sent, _): &&(&str, &str)| sent.eq_ignore_ascii_case(name);
        let mut values = self.0.iter().filter(named).map(|(_, value)| *value);
        match (values.next(), values.next()) {
            (None, _) => Header::Absent,
            (Some(value), None) => Header::One(value),
            _ => Header::Several,
        }
    }
}

fn stamp() -> Stamp {
    let millis = u64::try_from(time(NOW).as_micros() / 1000).expect("after 1970");
    Stamp { at: time(NOW), id: uuid::Builder::from_unix_timestamp_millis(millis, &[7; 10]).into_uuid() }
}

fn received(subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> Result<Request, NotARequest> {
    decode(&Subjects::new("person.eu"), subject, &Sent(headers.to_vec()), payload, stamp())
}

fn create(person: &str) -> Value {
    let name = json!({ "components": { "given_names": ["Ann"], "family_names": ["Lee"] } });
    json!({ "CreatePerson": { "person_id": person, "name": name, "source": "test" } })
}

fn birth(person: &str) -> Value {
    json!({ "SetBirthDate": { "person_id": person, "birth_date": "2000-01-01" } })
}

fn merge(source: &str, target: &str) -> Value {
    json!({ "MergePersons": {
        "source_person_id": source, "target_person_id": target, "merge_reason": "DuplicateIdentity"
    } })
}

/// A problem in a few words: its code, the array's position, and where the message says that it is.
fn told(problem: &Problem) -> String {
    let index = problem.index.map(|index| format!(" [{index}]")).unwrap_or_default();
    let place = problem.message.split_once(": ").map(|(place, _)| format!(" {place}")).unwrap_or_default();
    format!("{}{index}{place}", problem.code.as_str())
}

#[test]
fn headers_are_taken_or_refused() {
    let (long, longer) = ("x".repeat(128), "x".repeat(129));
    let (wide, wider) = ("é".repeat(256), "é".repeat(257));
    let fine = "fine";
    for (headers, then) in [
        (vec![], fine),
        (vec![("Nats-Msg-Id", "c1")], fine),
        (vec![("Nats-Msg-Id", "!\"#~")], fine),
        (vec![("Nats-Msg-Id", &long)], fine),
        (vec![("Nats-Msg-Id", &longer)], "invalid Nats-Msg-Id"),
        (vec![("Nats-Msg-Id", "")], "invalid Nats-Msg-Id"),
        (vec![("Nats-Msg-Id", "c 1")], "invalid Nats-Msg-Id"),
        (vec![("Nats-Msg-Id", " c1")], "invalid Nats-Msg-Id"),
        (vec![("Nats-Msg-Id", "c\t1")], "invalid Nats-Msg-Id"),
        (vec![("Nats-Msg-Id", "c\u{7f}")], "invalid Nats-Msg-Id"),
        (vec![("Nats-Msg-Id", "é")], "invalid Nats-Msg-Id"),
        (vec![("Nats-Msg-Id", "a"), ("Nats-Msg-Id", "b")], "invalid Nats-Msg-Id"),
        (vec![("Correlation-Id", "anything, also é")], fine),
        (vec![("Correlation-Id", &wide)], fine),
        (vec![("Correlation-Id", &wider)], "invalid Correlation-Id"),
        (vec![("Correlation-Id", "")], "invalid Correlation-Id"),
        (vec![("Correlation-Id", "a\r\nb")], "invalid Correlation-Id"),
        (vec![("Correlation-Id", "a"), ("Correlation-Id", "b")], "invalid Correlation-Id"),
        (vec![("Actor", "clerk 7")], fine),
        (vec![("Actor", &wide)], fine),
        (vec![("Actor", &wider)], "invalid Actor"),
        (vec![("Actor", "a\0b")], "invalid Actor"),
        (vec![("Actor", "a\u{85}b")], "invalid Actor"),
        (vec![("Actor", "")], "invalid Actor"),
        (vec![("Actor", "a"), ("Actor", "b")], "invalid Actor"),
        (vec![("Expected-Version", "0")], fine),
        (vec![("Expected-Version", "18446744073709551615")], fine),
        (vec![("Expected-Version", "18446744073709551616")], "invalid Expected-Version"),
        (vec![("Expected-Version", "-1")], "invalid Expected-Version"),
        (vec![("Expected-Version", "+1")], "invalid Expected-Version"),
        (vec![("Expected-Version", "1.0")], "invalid Expected-Version"),
        (vec![("Expected-Version", " 1")], "invalid Expected-Version"),
        (vec![("Expected-Version", "")], "invalid Expected-Version"),
        (vec![("Expected-Version", "one")], "invalid Expected-Version"),
        (vec![("Expected-Version", "1"), ("Expected-Version", "2")], "invalid Expected-Version"),
        (vec![("traceparent", "nonsense")], fine),
        (vec![("ACTOR", "")], "invalid Actor"),
        (vec![("nats-msg-id", "a"), ("Nats-Msg-Id", "b")], "invalid Nats-Msg-Id"),
        (vec![("expected-version", "one")], "invalid Expected-Version"),
        (vec![("Reply-To", "x"), ("Anything", "else"), ("Anything", "at all")], fine),
    ] {
        let outcome = received("person.eu.commands.x", &headers, create(ANN).to_string().as_bytes());
        let outcome = outcome.as_ref().map_or_else(|not| told(&not.problem), |_| fine.to_owned());
        assert_eq!(outcome, then, "{headers:?}");
    }
}

/// A gateway that sent a later version, upper case, nothing or nonsense had every command refused, for good.
#[test]
fn a_trace_context_is_kept_or_ignored_and_never_a_reason_to_refuse() {
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let of = |version: &str, more: &str| format!("{version}-{trace}-{parent}-01{more}");
    let kept =
        [of("00", ""), of("01", ""), of("cc", "-what-comes-\"later\""), of("01", "-"), of("fe", &"-x".repeat(100))];
    for trace in kept {
        let request = received("person.eu.commands.x", &[("traceparent", &trace)], create(ANN).to_string().as_bytes());
        assert_eq!(request.expect("it is taken").traceparent.as_deref(), Some(&trace[..]), "{trace}");
    }
    let ignored = [
        String::new(),
        "x".repeat(100_000),
        "nonsense".to_owned(),
        of("ff", ""),
        of("0", ""),
        of("000", ""),
        of("0A", ""),
        of("00", "-"),
        of("00", "-x"),
        of("01", "x"),
        of("01", "-\u{e9}"),
        of("01", "- "),
        of("01", &"-x".repeat(101)),
        of("00", "").to_uppercase(),
        format!("00-{}-{parent}-01", "0".repeat(32)),
        format!("00-{trace}-{}-01", "0".repeat(16)),
        format!("00-{trace}-{parent}"),
        format!("00-{trace}-{parent}-\r\n"),
        format!("00-{}-9c{parent}-01", &trace[..30]),
    ];
    for trace in &ignored {
        let request = received("person.eu.commands.x", &[("traceparent", trace)], create(ANN).to_string().as_bytes());
        assert_eq!(request.expect("it is taken").traceparent, None, "{trace:.80}");
    }
    let several = [("traceparent", TRACE), ("Traceparent", "x")];
    let request = received("person.eu.commands.x", &several, create(ANN).to_string().as_bytes());
    assert_eq!(request.expect("it is taken").traceparent, None);
}

/// What a client wrote in another case was not seen: its guard guarded nothing, and its retries were new commands.
#[test]
fn names_of_headers_are_found_in_any_case() {
    for case in [str::to_lowercase, str::to_uppercase] {
        let names = ["Nats-Msg-Id", "Correlation-Id", "Actor", "Expected-Version", "Traceparent"].map(case);
        let values = ["c1", "case", "clerk", "7", TRACE];
        let headers: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
        let request = received("person.eu.commands.x", &headers, create(ANN).to_string().as_bytes()).unwrap();
        assert_eq!((&request.command_id.text[..], request.correlation_id()), ("c1", "case"));
        assert_eq!((request.actor.as_deref(), request.expected_version), (Some("clerk"), Some(7)));
        assert_eq!(request.traceparent.as_deref(), Some(TRACE));
    }
}

#[test]
fn what_the_headers_say_is_in_the_request() {
    let headers = [
        ("Nats-Msg-Id", "c1"),
        ("Correlation-Id", "case"),
        ("Actor", "clerk"),
        ("Expected-Version", "007"),
        ("traceparent", TRACE),
    ];
    let request = received("person.eu.commands.x", &headers, create(ANN).to_string().as_bytes()).unwrap();
    assert_eq!(request.command_id, CommandId::new("c1".to_owned(), false));
    assert_eq!(request.correlation_id(), "case");
    assert_eq!(request.actor.as_deref(), Some("clerk"));
    assert_eq!(request.expected_version, Some(7));
    assert_eq!(request.traceparent.as_deref(), Some(TRACE));
    assert_eq!((request.person, request.is_array, request.stamp.at), (id(ANN), false, time(NOW)));

    let request =
        received("person.eu.commands.x", &[("Nats-Msg-Id", "c1")], birth(ANN).to_string().as_bytes()).unwrap();
    assert_eq!((request.correlation_id(), &request.actor, request.expected_version), ("c1", &None, None));

    let request = received("person.eu.commands.x", &[], birth(ANN).to_string().as_bytes()).unwrap();
    assert!(request.command_id.generated);
    assert_eq!(request.correlation_id(), request.command_id.text);
    assert_eq!(request.command_id.made_at(), Some(time(NOW)));
}

#[test]
fn payloads_are_taken_or_refused() {
    let long = |chars: usize| {
        let mut command = create(ANN);
        command["CreatePerson"]["source"] = json!("x".repeat(chars));
        command
    };
    let with = |change: &dyn Fn(&mut Value)| {
        let mut command = create(ANN);
        change(&mut command["CreatePerson"]);
        command
    };
    let fine = "fine";
    let many = |count: usize| Value::Array(vec![birth(ANN); count]);
    for (payload, then) in [
        (create(ANN), fine),
        (create(&ANN.to_uppercase()), fine),
        (json!([create(ANN)]), fine),
        (json!([create(ANN), birth(ANN), merge(ANN, BOB)]), fine),
        (json!([create(ANN), birth(&ANN.to_uppercase())]), fine),
        (many(100), fine),
        (long(256), fine),
        (with(&|fields| fields["name"]["preferred_form"] = json!(null)), fine),
        (json!(null), "malformed"),
        (json!(7), "malformed"),
        (json!("CreatePerson"), "malformed"),
        (json!({}), "malformed"),
        (json!({ "EraseEverything": {} }), "malformed"),
        (json!({ "CreatePerson": {}, "UpdateName": {} }), "malformed"),
        (json!([]), "malformed"),
        (json!([[create(ANN)]]), "malformed [0]"),
        (json!([create(ANN), null]), "malformed [1]"),
        (json!([create(ANN), { "SetBirthDate": { "person_id": ANN, "birth_date": "2000-02-30" } }]), {
            "malformed [1] birth_date"
        }),
        (json!([create(ANN), long(257)]), "invalid [1] source"),
        (with(&|fields| fields["person_id"] = json!("x")), "malformed person_id"),
        (with(&|fields| fields["person_id"] = json!(ANN.replace('-', ""))), "malformed person_id"),
        (with(&|fields| fields["person_id"] = json!(format!("{{{ANN}}}"))), "malformed person_id"),
        (with(&|fields| fields["person_id"] = json!(null)), "malformed person_id"),
        (with(&|fields| fields["more"] = json!(1)), "malformed more"),
        (with(&|fields| fields["name"] = json!("Ann")), "malformed name"),
        (with(&|fields| fields["name"]["naming_convention"] = json!("Martian")), "malformed name.naming_convention"),
        (with(&|fields| fields["source"] = json!(" ")), "invalid source"),
        (with(&|fields| fields["source"] = json!("a\u{7}")), "invalid source"),
        (long(257), "invalid source"),
        (many(101), "invalid"),
        (merge(ANN, ANN), "invalid target_person_id"),
        (json!([birth(ANN), merge(ANN, ANN)]), "invalid [1] target_person_id"),
        (json!([birth(ANN), birth(BOB)]), "person_id_mismatch [1]"),
        (json!([birth(ANN), merge(BOB, ANN)]), "person_id_mismatch [1]"),
    ] {
        let outcome = received("person.eu.commands.x", &[], payload.to_string().as_bytes());
        let outcome = outcome.as_ref().map_or_else(|not| told(&not.problem), |_| fine.to_owned());
        assert_eq!(outcome, then, "{payload:.300}");
    }
    for payload in [&b""[..], b"{", b"\xff", b"{}{}", b"nonsense", &b"[".repeat(100_000)] {
        let not = received("person.eu.commands.x", &[], payload).unwrap_err();
        assert_eq!(not.problem.code, Code::Malformed);
    }
}

#[test]
fn a_payload_has_at_most_256_kib() {
    let padded = |bytes: usize| {
        let mut payload = create(ANN).to_string().into_bytes();
        payload.resize(bytes, b' ');
        received("person.eu.commands.x", &[("Nats-Msg-Id", "c1")], &payload)
    };
    assert!(padded(PAYLOAD_BYTES_MAX).is_ok());
    let not = padded(PAYLOAD_BYTES_MAX + 1).unwrap_err();
    assert_eq!((not.problem.code, not.command_id.as_deref(), not.person), (Code::TooLarge, Some("c1"), None));
}

#[test]
fn a_subject_may_name_the_person_and_then_the_right_one() {
    for (tail, payload, then) in [
        (ANN, create(ANN), None),
        (&ANN.to_uppercase()[..], create(ANN), None),
        (&format!("{ANN}.create")[..], create(ANN), None),
        ("create", create(ANN), None),
        (&format!("create.{BOB}")[..], create(ANN), None),
        (&BOB.replace('-', "")[..], create(ANN), None),
        (ANN, merge(ANN, BOB), None),
        (BOB, create(ANN), Some("person_id_mismatch")),
        (&format!("{BOB}.x")[..], create(ANN), Some("person_id_mismatch")),
        (BOB, merge(ANN, BOB), Some("person_id_mismatch")),
        (BOB, json!([create(ANN)]), Some("person_id_mismatch")),
        // The commands disagree among themselves before they disagree with the subject.
        (BOB, json!([create(ANN), create(BOB)]), Some("person_id_mismatch [1]")),
    ] {
        let outcome = received(&format!("person.eu.commands.{tail}"), &[], payload.to_string().as_bytes());
        assert_eq!(outcome.as_ref().err().map(|not| told(&not.problem)).as_deref(), then, "{tail} {payload}");
    }
    let subjects = Subjects::new("person");
    for (subject, fits) in [(format!("person.commands.{BOB}"), false), (format!("person.commands.{ANN}"), true)] {
        let outcome = decode(&subjects, &subject, &Sent::default(), create(ANN).to_string().as_bytes(), stamp());
        assert_eq!(outcome.is_ok(), fits);
    }
}

#[test]
fn a_refusal_tells_as_much_of_the_address_as_is_known() {
    let given = [("Nats-Msg-Id", "c1")];
    let cases = [
        (vec![("Nats-Msg-Id", "")], create(ANN), (None, None)),
        (given.to_vec(), json!(1), (Some("c1"), None)),
        (given.to_vec(), json!([create(ANN), create(BOB)]), (Some("c1"), None)),
        (vec![given[0], ("Actor", "")], create(ANN), (Some("c1"), Some(id(ANN)))),
    ];
    for (headers, payload, (command_id, person)) in cases {
        let not = received("person.eu.commands.x", &headers, payload.to_string().as_bytes()).unwrap_err();
        assert_eq!((not.command_id.as_deref(), not.person), (command_id, person), "{payload}");
    }
    let not = received(&format!("person.eu.commands.{BOB}"), &given, create(ANN).to_string().as_bytes()).unwrap_err();
    assert_eq!((not.command_id.as_deref(), not.person), (Some("c1"), Some(id(ANN))));
    let not = received("person.eu.commands.x", &[], b"?").unwrap_err();
    assert!(not.command_id.is_some(), "one that the service made");
}

#[test]
fn commands_have_one_digest_however_they_are_written() {
    let digest = |payload: &str| received("person.eu.commands.x", &[], payload.as_bytes()).unwrap().digest;
    let plain = create(ANN);
    let one = digest(&plain.to_string());
    assert_eq!(one, digest(&json!([plain]).to_string()));
    assert_eq!(one, digest(&serde_json::to_string_pretty(&plain).unwrap()));
    assert_eq!(one, digest(&create(&ANN.to_uppercase()).to_string()));
    assert_ne!(one, digest(&create(BOB).to_string()));
    assert_ne!(one, digest(&json!([plain, birth(ANN)]).to_string()));
    assert_ne!(digest(&json!([plain, birth(ANN)]).to_string()), digest(&json!([birth(ANN), plain]).to_string()));
    let named = |given: &str| {
        let mut command = create(ANN);
        command["CreatePerson"]["name"]["components"]["given_names"][0] = json!(given);
        digest(&command.to_string())
    };
    assert_eq!(named("Zo\u{eb}"), named("Zoe\u{308}"), "in normal form C");
    // It stands in histories: another encoding of commands would make retries look like other commands.
    assert_eq!(one.to_string(), "aaf386306f188a35a1cde1cb49907f20");
}

#[test]
fn a_uuid_v7_tells_when_it_was_made() {
    let made_at = |text: &str| CommandId::new(text.to_owned(), false).made_at();
    let then = Some(time("2022-02-22T19:22:22Z"));
    assert_eq!(made_at("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), then);
    assert_eq!(made_at("017F22E2-79B0-7CC3-98C4-DC0C0C07398F"), then);
    assert_eq!(made_at("017f22e279b07cc398c4dc0c0c07398f"), then);
    assert_eq!(made_at("00000000-0000-7000-8000-000000000000"), Some(time("1970-01-01T00:00:00Z")));
    assert!(made_at("ffffffff-ffff-7fff-bfff-ffffffffffff") > Some(time("9999-01-01T00:00:00Z")));
    for other in ["c1", "", "c232ab00-9414-11ec-b3c8-9f6bdeced846", "f47ac10b-58cc-4372-a567-0e02b2c3d479"] {
        assert_eq!(made_at(other), None, "{other}");
    }
}

const MARKER: &str = "Zxqmarker";

/// Puts something with the marker in the place of the `place`th value, or of the name of a member.
fn mark(value: &mut Value, place: Index, how: u8) {
    fn paths(value: &Value, path: &mut Vec<String>, all: &mut Vec<String>) {
        all.push(path.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect());
        let inner: Vec<(String, &Value)> = match value {
            Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
            Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), member)).collect(),
            _ => Vec::new(),
        };
        for (step, inner) in inner {
            path.push(step);
            paths(inner, path, all);
            path.pop();
        }
    }
    let mut all = Vec::new();
    paths(value, &mut Vec::new(), &mut all);
    let there = value.pointer_mut(&all[place.index(all.len())]).unwrap();
    match (how, there) {
        (0, there) => *there = json!(MARKER),
        (1, there) => *there = json!([MARKER]),
        (2, there) => *there = json!({ MARKER: MARKER }),
        (3, there) => *there = json!(format!("\u{7}{MARKER}")),
        (4, there) => *there = json!(MARKER.repeat(500)),
        (_, Value::Object(members)) => {
            members.insert(MARKER.to_owned(), json!(MARKER));
        }
        (_, Value::Array(items)) => items.push(json!(MARKER)),
        (_, Value::String(text)) => text.push_str(MARKER),
        (_, there) => *there = json!(MARKER),
    }
}

proptest! {
    #[test]
    fn no_message_quotes_a_value(
        command in arbitrary::command(),
        place: Index,
        how in 0..6_u8,
        is_array: bool,
        cut in proptest::option::of(any::<Index>()),
        header in select(&["", "Nats-Msg-Id", "Correlation-Id", "Actor", "Expected-Version", "traceparent"][..]),
    ) {
        let mut payload = serde_json::to_value(&command).unwrap();
        mark(&mut payload, place, how);
        if is_array {
            payload = json!([payload]);
        }
        let mut payload = payload.to_string().into_bytes();
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len()));
        }
        let value = format!("{MARKER}\u{7}");
        let headers = if header.is_empty() { vec![] } else { vec![(header, value.as_str())] };
        if let Err(not) = received(&format!("person.eu.commands.{MARKER}"), &headers, &payload) {
            prop_assert!(!not.problem.message.contains(MARKER), "{}", not.problem.message);
            prop_assert!(not.problem.message.len() < 600);
        }
    }

    #[test]
    fn every_valid_command_is_taken(commands in vec(arbitrary::command_for(id(ANN)), 1..6)) {
        let payload = serde_json::to_vec(&commands).unwrap();
        let request = received(&format!("person.eu.commands.{ANN}"), &[], &payload).unwrap();
        prop_assert_eq!(&request.commands, &commands);
        prop_assert!(request.is_array);
        let alone = decode_commands(&serde_json::to_vec(&commands[0]).unwrap()).unwrap();
        prop_assert_eq!(alone, (vec![commands[0].clone()], false));
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in vec(any::<u8>(), 0..200),
        text in "[\\[\\]{}\":,0-9a-zA-Z]{0,200}",
        command in arbitrary::command(),
        changes in vec((any::<Index>(), any::<u8>()), 0..4),
        header in ".{0,40}",
        subject in ".{0,60}",
    ) {
        let names = ["Nats-Msg-Id", "Correlation-Id", "Actor", "Expected-Version", "traceparent"];
        let headers = names.map(|name| (name, header.as_str()));
        let mut changed = serde_json::to_vec(&command).unwrap();
        for (place, byte) in changes {
            let place = place.index(changed.len());
            changed[place] = byte;
        }
        for payload in [&bytes[..], text.as_bytes(), &changed] {
            for headers in [&headers[..], &headers[1..2], &[]] {
                if let Ok(request) = received(&subject, headers, payload) {
                    prop_assert!(!request.commands.is_empty());
                    prop_assert!(request.commands.iter().map(Command::person_id).all(|person| person == request.person));
                }
            }
        }
    }
}
