//! Stored commits: written as the contract has them, read for ever, told apart from what is none.

use cim_domain_person::domain::{Event, EventKind, PersonId};
use cim_domain_person::wire::commit::{
    COMMIT_BYTES_MAX, Commit, CommitBuilder, CommitCommand, CommitError, EVENTS_MAX, EventRecord, decode,
};
use cim_domain_person::wire::digest::Digest;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{check_golden_text, golden, recorded};
use crate::domain::{ANN, BOB, arbitrary, day, id, name, national_id, time};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn command(command_id: &str) -> CommitCommand {
    let digest = Digest::of(command_id.as_bytes());
    CommitCommand { command_id: command_id.to_owned(), digest, events: 0, traceparent: None, generated: false }
}

fn record(sequence: u64, event: Event, causation_id: &str) -> EventRecord {
    EventRecord {
        sequence,
        event_id: Uuid::from_u128(0x0197_a1b2_0000_7000_8000_0000_0000_0000 + u128::from(sequence)),
        timestamp: event.happened_at(),
        event,
        correlation_id: "case 7".to_owned(),
        causation_id: causation_id.to_owned(),
        actor: (sequence == 2).then(|| "clerk".to_owned()),
    }
}

/// One event of each type, all of one person, one second apart.
fn one_of_each() -> Vec<Event> {
    let at = |second: i64| time("2026-01-02T03:04:05Z").plus_micros(second * 1_000_000);
    let (person_id, national) = (id(ANN), national_id("AB 123", "2001-01-01", "2031-01-01"));
    vec![
        Event::PersonCreated {
            person_id,
            name: name("Ann", "Lee").into(),
            source: "test".to_owned(),
            created_at: at(0),
        },
        Event::NameUpdated {
            person_id,
            old_name: name("Ann", "Lee").into(),
            new_name: name("Ann", "Cruz").into(),
            reason: Some("marriage".to_owned()),
            updated_at: at(1),
        },
        Event::BirthDateSet { person_id, birth_date: day("2000-02-29"), set_at: at(2) },
        Event::AttributeRecorded { person_id, attribute: recorded(&national, at(3)).into(), recorded_at: at(3) },
        Event::AttributeUpdated {
            person_id,
            attribute_type: national.attribute_type.clone(),
            old_attribute: recorded(&national, at(3)).into(),
            new_attribute: recorded(&national_id("CD 456", "", ""), at(4)).into(),
            updated_at: at(4),
        },
        Event::AttributeInvalidated {
            person_id,
            attribute_type: national.attribute_type,
            reason: None,
            invalidated_at: at(5),
        },
        Event::PersonDeactivated { person_id, reason: "moved".to_owned(), deactivated_at: at(6) },
        Event::PersonReactivated { person_id, reason: "back".to_owned(), reactivated_at: at(7) },
        Event::DeathRecorded { person_id, date_of_death: day("2026-01-01"), recorded_at: at(8) },
        Event::PersonArchived { person_id, reason: "dead".to_owned(), archived_at: at(9) },
        Event::PersonMergedInto {
            source_person_id: person_id,
            merged_into_id: id(BOB),
            merge_reason: cim_domain_person::domain::MergeReason::DuplicateIdentity,
            merged_at: at(10),
        },
    ]
}

fn small() -> Vec<u8> {
    let mut builder = CommitBuilder::default();
    builder.begin_command(command("c1"));
    let renamed = one_of_each().swap_remove(1);
    builder.add_event(&record(4, renamed, "c1")).unwrap();
    builder.encode(id(ANN), 4, Digest::of(b"before")).unwrap()
}

fn full() -> Vec<u8> {
    let mut builder = CommitBuilder::default();
    builder.begin_command(CommitCommand { traceparent: Some(TRACE.to_owned()), ..command("c1") });
    for (index, event) in one_of_each().into_iter().enumerate() {
        if index == 3 {
            builder.begin_command(CommitCommand { generated: true, ..command("c2") });
        }
        builder.add_event(&record(index as u64 + 1, event, if index < 3 { "c1" } else { "c2" })).unwrap();
    }
    builder.encode(id(ANN), 11, Digest::ZERO).unwrap()
}

#[test]
fn commits_are_written_as_they_are_promised_and_read_for_ever() {
    check_golden_text("commit-small.json", &small());
    check_golden_text("commit-one-of-each.json", &full());
    for (file, events) in [("commit-small.json", 1), ("commit-one-of-each.json", EventKind::ALL.len())] {
        assert_eq!(decode(&golden(file, &[])).unwrap().events.len(), events, "{file}");
    }
    let commit = decode(&full()).unwrap();
    let kinds: Vec<_> = commit.events.iter().map(|record| record.event.kind()).collect();
    assert!(EventKind::ALL.iter().all(|kind| kinds.contains(kind)), "a new type of event belongs into the golden file");
    assert_eq!((commit.first_version(), commit.version, commit.aggregate_id), (1, 11, id(ANN)));
    let by_command: Vec<_> = commit.by_command().map(|(command, own)| (&command.command_id[..], own.len())).collect();
    assert_eq!(by_command, [("c1", 3), ("c2", 8)]);
}

#[test]
fn members_that_nobody_knows_are_ignored_everywhere() {
    fn add(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(add),
            Value::Object(members) => {
                members.values_mut().for_each(add);
                // Where an object has a single member it may be the name of a variant, beside which nothing may stand.
                if members.len() > 1 {
                    members.insert("later".to_owned(), json!({ "release": [2] }));
                }
            }
            _ => {}
        }
    }
    for bytes in [small(), full()] {
        let mut value: Value = serde_json::from_slice(&bytes).unwrap();
        add(&mut value);
        assert_eq!(decode(value.to_string().as_bytes()).unwrap(), decode(&bytes).unwrap());
    }
}

#[test]
fn what_is_too_new_is_told_from_what_is_damaged() {
    let too_new = |value: &Value| matches!(decode(value.to_string().as_bytes()), Err(CommitError::TooNew(_)));
    let damaged = |value: &Value| matches!(decode(value.to_string().as_bytes()), Err(CommitError::Damaged(_)));
    let good: Value = serde_json::from_slice(&full()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        value
    };
    assert!(too_new(&with(&|commit| commit["schema"] = json!(2))));
    assert!(too_new(&with(&|commit| commit["schema"] = json!(u64::MAX))));
    assert!(too_new(&json!({ "schema": 2 })));
    assert!(too_new(&json!({ "schema": 9, "events": 7, "commands": {} })));
    assert!(too_new(&with(&|commit| commit["events"][4]["event"] = json!({ "PersonErased": { "person_id": ANN } }))));
    assert!(too_new(&with(&|commit| commit["events"][4]["event"] = json!({ "Later": [] }))));
    assert!(too_new(&with(&|commit| commit["events"][4]["event"] = json!("Later"))));

    for value in [json!(null), json!(1), json!([]), json!({}), json!("schema"), json!({ "schema": 1 })] {
        assert!(damaged(&value), "{value}");
    }
    assert!(damaged(&with(&|commit| commit["schema"] = json!(0))));
    assert!(damaged(&with(&|commit| commit["schema"] = json!(-1))));
    assert!(damaged(&with(&|commit| commit["schema"] = json!("2"))));
    assert!(damaged(&with(&|commit| commit["events"][1]["event"]["NameUpdated"]["new_name"] = json!("Ann"))));
    assert!(damaged(&with(&|commit| commit["previous"] = json!("ABCDEF00000000000000000000000000"))));
    assert!(damaged(&with(&|commit| commit["previous"] = json!("00"))));
    assert!(damaged(&with(&|commit| commit["version"] = json!(12))));
    assert!(damaged(&with(&|commit| commit["events"] = json!([]))));
    assert!(damaged(&with(&|commit| commit["events"][3]["sequence"] = json!(3))));
    assert!(damaged(&with(&|commit| commit["events"][3]["timestamp"] = json!("2026-01-02T03:04:05Z"))));
    assert!(damaged(&with(&|commit| commit["commands"][0]["events"] = json!(4))));
    assert!(damaged(&with(&|commit| commit["commands"] = json!([]))));
    assert!(damaged(&with(&|commit| commit["aggregate_id"] = json!(BOB))));
    for bytes in [&b""[..], b"{", b"\xff\xfe", &b"[".repeat(10_000), &full()[1..], &full()[..full().len() - 1]] {
        assert!(matches!(decode(bytes), Err(CommitError::Damaged(_))));
    }
}

/// What the full commit is answered with when this stands at a place of one of its events.
fn said_of(event: usize, place: &str, unknown: &Value) -> CommitError {
    let mut commit: Value = serde_json::from_slice(&full()).unwrap();
    let place = format!("/events/{event}/event{place}");
    *commit.pointer_mut(&place).unwrap_or_else(|| panic!("nothing at {place}")) = unknown.clone();
    decode(commit.to_string().as_bytes()).expect_err("nobody knows it")
}

fn later(what: &str) -> CommitError {
    CommitError::TooNew(format!("{what}, which this release does not know"))
}

/// One attribute of a later release's type, in one person's history, was answered as damage, which calls for a repair: it
/// would have been given up, with all that came after it.
#[test]
fn what_a_later_release_adds_inside_of_an_event_is_too_new_and_named() {
    for (event, member, unknown, name) in [
        (1, "NameUpdated/new_name/naming_convention", json!("Klingon"), "Klingon"),
        (3, "AttributeRecorded/attribute/attribute_type", json!({"Contact": "Email"}), "Contact"),
        (3, "AttributeRecorded/attribute/attribute_type", json!({"Identifying": "TaxId"}), "TaxId"),
        (3, "AttributeRecorded/attribute/value", json!({"ContactPoint": {"value": "x"}}), "ContactPoint"),
        (3, "AttributeRecorded/attribute/provenance/source", json!({"Guessed": 1}), "Guessed"),
        (3, "AttributeRecorded/attribute/provenance/confidence", json!("Vague"), "Vague"),
        (4, "AttributeUpdated/old_attribute/value", json!({"Later": []}), "Later"),
        (5, "AttributeInvalidated/attribute_type", json!({"Dental": {}}), "Dental"),
        (10, "PersonMergedInto/merge_reason", json!("Whim"), "Whim"),
        // A stranger's bytes are no name.
        (10, "PersonMergedInto/merge_reason", json!("J\u{fc}rgen"), "(another name)"),
    ] {
        let (_, within) = member.split_once('/').expect("an event and a place");
        let expected = later(&format!("the variant {name} of {}", within.replace('/', ".")));
        assert_eq!(said_of(event, &format!("/{member}"), &unknown), expected);
    }
    for (unknown, name) in [
        (json!({"PersonErased": {}}), "PersonErased"),
        (json!("PersonFrozen"), "PersonFrozen"),
        (json!({"a\nb": {}}), "(another name)"),
        (json!({"X".repeat(65): {}}), "(another name)"),
    ] {
        assert_eq!(said_of(4, "", &unknown), later(&format!("the event type {name}")));
    }
}

/// The same wherever a variant with something in it stands in an event of any type.
#[test]
fn no_variant_that_nobody_knows_is_damage_wherever_it_stands() {
    fn variants<'a>(value: &'a mut Value, all: &mut Vec<&'a mut Value>) {
        let is_variant = |members: &serde_json::Map<String, Value>| {
            members.len() == 1 && members.keys().all(|name| name.starts_with(char::is_uppercase))
        };
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| variants(item, all)),
            Value::Object(members) if is_variant(members) => all.push(value),
            Value::Object(members) => members.values_mut().for_each(|member| variants(member, all)),
            _ => {}
        }
    }
    let mut count = 0;
    loop {
        let mut commit: Value = serde_json::from_slice(&full()).unwrap();
        let mut all = Vec::new();
        commit["events"].as_array_mut().unwrap().iter_mut().for_each(|event| {
            event["event"].as_object_mut().unwrap().values_mut().for_each(|event| variants(event, &mut all));
        });
        let Some(variant) = all.into_iter().nth(count) else { break };
        *variant = json!({"Later": 1});
        let error = decode(commit.to_string().as_bytes()).expect_err("nobody knows it");
        assert!(matches!(&error, CommitError::TooNew(why) if why.contains("Later")), "{error}: {commit}");
        count += 1;
    }
    assert!(count > 5, "{count}");
}

/// Adding up how many events the commands claim overflowed, which is a panic where overflows are looked for and elsewhere
/// let a nonsensical commit pass.
#[test]
fn claims_that_add_up_beyond_all_numbers_are_damage() {
    let mut commit: Value = serde_json::from_slice(&full()).unwrap();
    commit["commands"][0]["events"] = json!(u64::MAX);
    commit["commands"][1]["events"] = json!(12);
    assert!(matches!(decode(commit.to_string().as_bytes()), Err(CommitError::Damaged(_))));
}

#[test]
fn versions_up_to_the_last_number_are_read() {
    let mut commit: Value = serde_json::from_slice(&small()).unwrap();
    (commit["version"], commit["events"][0]["sequence"]) = (json!(u64::MAX), json!(u64::MAX));
    assert_eq!(decode(commit.to_string().as_bytes()).unwrap().version, u64::MAX);
}

/// What can be added to a commit: a command with its events.
fn commands(of: PersonId) -> impl Strategy<Value = Vec<(CommitCommand, Vec<Event>)>> {
    let command =
        ("[!-~]{1,128}", any::<bool>(), any::<bool>()).prop_map(|(command_id, traced, generated)| CommitCommand {
            traceparent: traced.then(|| format!("{TRACE}{}", "\"".repeat(200))),
            generated,
            ..command(&command_id)
        });
    let own = arbitrary::event().prop_filter("of one person", move |event| event.person_id() == of);
    vec((command, vec(own, 1..4)), 1..5)
}

fn anyone() -> PersonId {
    PersonId::from_uuid(Uuid::from_u128(1))
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, max_local_rejects: 1_000_000, ..ProptestConfig::default() })]

    #[test]
    fn what_was_built_is_what_is_read(
        commands in commands(anyone()),
        first in 1..u64::MAX / 2,
        (correlation_id, actor) in ("[^\\p{C}]{1,40}", option::of("[^\\p{C}]{1,40}")),
        at in arbitrary::timestamp(),
    ) {
        let mut builder = CommitBuilder::default();
        let (mut expected, mut records) = (Vec::new(), Vec::new());
        for (command, events) in commands {
            builder.begin_command(command.clone());
            expected.push(CommitCommand { events: events.len(), ..command.clone() });
            for event in events {
                let sequence = first + records.len() as u64;
                let record = EventRecord {
                    correlation_id: correlation_id.clone(),
                    actor: actor.clone(),
                    timestamp: at,
                    ..record(sequence, event, &command.command_id)
                };
                builder.add_event(&record).unwrap();
                records.push(record);
                // Exactly at its own estimate it is not over, and the payload is never larger.
                let version = first + records.len() as u64 - 1;
                let payload = builder.encode(anyone(), version, Digest::of(b"x")).unwrap();
                prop_assert!(!builder.is_over(COMMIT_BYTES_MAX));
                prop_assert!(builder.is_over(payload.len() - 1), "{} bytes are more than it reckoned with", payload.len());
            }
        }
        prop_assert_eq!(builder.commands(), &expected[..]);
        let version = first + records.len() as u64 - 1;
        let payload = builder.encode(anyone(), version, Digest::of(b"x")).unwrap();
        let commit = decode(&payload).unwrap();
        let whole = Commit {
            schema: 1,
            aggregate_id: anyone(),
            version,
            previous: Digest::of(b"x"),
            commands: expected,
            events: records,
            is_repair: false,
        };
        prop_assert_eq!(commit, whole);
    }

    #[test]
    fn going_back_leaves_no_trace(commands in commands(anyone()), back in any::<prop::sample::Index>()) {
        let mut builder = CommitBuilder::default();
        let mut kept = CommitBuilder::default();
        let back = back.index(commands.len());
        for (index, (command, events)) in commands.iter().enumerate() {
            let mark = builder.mark();
            for builder in std::iter::once(&mut builder).chain((index != back).then_some(&mut kept)) {
                builder.begin_command(command.clone());
                events.iter().for_each(|event| builder.add_event(&record(1, event.clone(), "c")).unwrap());
            }
            if index == back {
                builder.rewind(mark);
            }
        }
        prop_assert_eq!(builder.is_empty(), kept.is_empty());
        let encoded = |builder: &CommitBuilder| builder.encode(anyone(), 1, Digest::ZERO).unwrap();
        prop_assert_eq!(encoded(&builder), encoded(&kept));
        for bytes in (0..4096).step_by(64) {
            prop_assert_eq!(builder.is_over(bytes), kept.is_over(bytes));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in vec(any::<u8>(), 0..200),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        text in "[\\[\\]{}\":,0-9a-z]{0,200}",
    ) {
        let _ = decode(&bytes);
        let _ = decode(text.as_bytes());
        let mut changed = full();
        for (place, byte) in changes {
            let place = place.index(changed.len());
            changed[place] = byte;
        }
        if let Ok(commit) = decode(&changed) {
            prop_assert_eq!(commit.by_command().map(|(_, own)| own.len()).sum::<usize>(), commit.events.len());
        }
    }

    /// Every number, text and list of a commit replaced by others of their kind.
    #[test]
    fn no_values_make_it_panic(place in any::<prop::sample::Index>(), number in any::<u64>(), which in 0..6_u8) {
        fn leaves<'a>(value: &'a mut Value, all: &mut Vec<&'a mut Value>) {
            match value {
                Value::Array(items) => items.iter_mut().for_each(|item| leaves(item, all)),
                Value::Object(members) => members.values_mut().for_each(|member| leaves(member, all)),
                leaf => all.push(leaf),
            }
        }
        let mut commit: Value = serde_json::from_slice(&full()).unwrap();
        let mut all = Vec::new();
        leaves(&mut commit, &mut all);
        let place = place.index(all.len());
        *all[place] = match which {
            0 => json!(number),
            1 => json!(u64::MAX),
            2 => json!(null),
            3 => json!([]),
            4 => json!({ "x": 1 }),
            _ => json!("x"),
        };
        let _ = decode(commit.to_string().as_bytes());
    }
}

#[test]
fn a_commit_has_at_most_256_events() {
    let mut builder = CommitBuilder::default();
    builder.begin_command(command("c"));
    let event = one_of_each().swap_remove(6);
    for count in 1..=EVENTS_MAX {
        builder.add_event(&record(count as u64, event.clone(), "c")).unwrap();
        assert!(!builder.is_over(COMMIT_BYTES_MAX), "{count}");
    }
    builder.add_event(&record(257, event, "c")).unwrap();
    assert!(builder.is_over(COMMIT_BYTES_MAX));
}
