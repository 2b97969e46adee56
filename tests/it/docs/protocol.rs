//! `docs/protocol.md` says what the code does: its examples are read by the code, its tables compared with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use cim_domain_person::domain::limits::*;
use cim_domain_person::domain::{Event, EventKind, Lifecycle, PersonName, PersonView};
use cim_domain_person::engine::aggregate::Aggregate;
use cim_domain_person::engine::id_spans::RETRY_HORIZON_MICROS;
use cim_domain_person::engine::ports::StoredCommit;
use cim_domain_person::engine::receipts::REMEMBERED;
use cim_domain_person::nats::Layout;
use cim_domain_person::wire::commit::{self, COMMIT_BYTES_MAX, Commit, CommitBuilder, EVENTS_MAX, SCHEMA};
use cim_domain_person::wire::digest::Digest;
use cim_domain_person::wire::query::{self, HISTORY_EVENTS_DEFAULT, HISTORY_EVENTS_MAX};
use cim_domain_person::wire::reply::{Code, Problem};
use cim_domain_person::wire::request::{
    COMMAND_ID_CHARS_MAX, COMMANDS_MAX, HEADER_CHARS_MAX, PAYLOAD_BYTES_MAX, decode_commands,
};
use cim_domain_person::wire::service::{ALL_SERVICES, EndpointStats, Instance, Metadata, Verb};
use cim_domain_person::wire::snapshot::FORMAT;
use cim_domain_person::wire::subject::{SERVICE_NAME, Subjects};
use serde_json::{Value, json};

use super::{cells, document, examples, fences, in_bytes, in_thousands, section};
use crate::engine::{ANN, World, ask, create};
use crate::support::{config, somebody};

const FILE: &str = "docs/protocol.md";

/// Where the second example lies, by the answer that is shown.
const SEQUENCE: u64 = 1302;

fn values(kind: &str) -> Vec<Value> {
    let found = examples(FILE, kind);
    assert!(!found.is_empty(), "no example of a {kind}");
    found.iter().map(|text| serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))).collect()
}

/// The first column of a table, without its backquotes.
fn names(heading: &str) -> Vec<String> {
    cells(&section(FILE, heading)).iter().map(|row| row[0].trim_matches('`').to_owned()).collect()
}

#[test]
fn every_example_is_of_a_kind_that_is_checked() {
    const KINDS: [&str; 12] = [
        "command",
        "name",
        "reply",
        "commit",
        "events",
        "query get",
        "query history",
        "answer get",
        "answer history",
        "lifecycle",
        "service PING",
        "service STATS",
    ];
    for (kind, text) in fences(&document(FILE)) {
        let kind = kind.strip_prefix("json").unwrap_or_else(|| panic!("not JSON:\n{text}")).trim();
        assert!(KINDS.contains(&kind), "an example of an unknown kind {kind:?}:\n{text}");
    }
}

/// The names of all commands, from the message for one that nobody knows.
fn all_commands() -> Vec<String> {
    let problem = decode_commands(br#"{"Nonsense":{}}"#).unwrap_err();
    let names = problem.message.strip_prefix("expected one of ").unwrap();
    names.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_command_has_a_row_and_an_example_that_is_one() {
    let rows: Vec<Vec<String>> =
        cells(&section(FILE, "Commands")).into_iter().filter(|row| row[0].starts_with('`')).collect();
    let table: Vec<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(table, all_commands());
    let events: Vec<&str> = rows.iter().map(|row| row[3].trim_matches('`')).collect();
    assert_eq!(BTreeSet::from_iter(events), EventKind::ALL.iter().map(|kind| kind.as_str()).collect());

    let mut shown = BTreeSet::new();
    for example in examples(FILE, "command") {
        let (commands, is_array) = decode_commands(example.as_bytes()).unwrap_or_else(|problem| {
            panic!("{}:\n{example}", problem.message);
        });
        assert_eq!(is_array, example.starts_with('['));
        shown.extend(commands.iter().map(|command| command.kind().to_owned()));
        let sent: Value = serde_json::from_str(&example).unwrap();
        for sent in sent.as_array().cloned().unwrap_or_else(|| vec![sent]) {
            check_members(&sent, &rows);
        }
    }
    assert_eq!(shown, all_commands().into_iter().collect());
}

/// An example has the members of its row and no others, an optional one perhaps not.
fn check_members(sent: &Value, rows: &[Vec<String>]) {
    let (name, members) = sent.as_object().unwrap().iter().next().unwrap();
    let row = rows.iter().find(|row| row[0] == format!("`{name}`")).unwrap();
    let given: BTreeSet<&str> = members.as_object().unwrap().keys().map(String::as_str).collect();
    let listed = row[1].split(", ").map(|member| member.trim_matches('`'));
    let (optional, needed): (Vec<&str>, Vec<&str>) = listed.partition(|member| member.ends_with('?'));
    let all: BTreeSet<&str> =
        optional.iter().map(|member| member.trim_end_matches('?')).chain(needed.clone()).collect();
    assert!(needed.iter().all(|member| given.contains(member)), "{name} lacks one of {needed:?}");
    assert!(given.is_subset(&all), "{name} has more than {all:?}");
    for needed in needed {
        let mut lacking = sent.clone();
        lacking[name].as_object_mut().unwrap().remove(needed);
        let problem = decode_commands(lacking.to_string().as_bytes()).unwrap_err();
        assert_eq!(problem.code, Code::Malformed, "{name} without {needed}");
    }
}

#[test]
fn the_name_is_one() {
    for example in examples(FILE, "name") {
        serde_json::from_str::<PersonName>(&example).unwrap();
    }
}

#[test]
fn the_error_codes_are_those_of_the_code() {
    let coded = Code::ALL.map(|code| {
        let status = if code.is_failure() { "failed" } else { "rejected" };
        let retryable = if code.is_retryable() { "yes" } else { "no" };
        [status.to_owned(), format!("`{}`", code.as_str()), code.number().to_string(), retryable.to_owned()].to_vec()
    });
    let rows = cells(&section(FILE, "Error codes")).into_iter().map(|row| row[..4].to_vec());
    assert_eq!(rows.collect::<Vec<_>>(), coded);
}

/// A command that another replica may carry out as well must not be told that nothing was done, nor that it failed: it may
/// succeed there.
#[test]
fn no_code_says_of_what_may_be_done_elsewhere_that_nothing_was_done() {
    let mut task = World::new().task(&ask("1", create(ANN)), "_INBOX.x".to_owned());
    for (code, row) in Code::ALL.into_iter().zip(cells(&section(FILE, "Error codes"))) {
        let problem = Problem::new(code, "why").on_version(3);
        task.may_be_elsewhere = false;
        assert_eq!(task.told(problem.clone()), problem);
        task.may_be_elsewhere = true;
        let told = task.told(problem.clone());
        if row[0] == "failed" {
            assert_eq!(told.code, Code::OutcomeUnknown, "instead of {}", row[1]);
            assert!(told.message.contains("the same command id") && !told.message.contains("nothing"), "{told:?}");
        } else {
            assert!(!row[4].contains("nothing was done"), "{}", row[1]);
            assert_eq!(told, problem);
        }
    }
}

#[test]
fn the_replies_are_of_the_form_that_is_written() {
    for reply in values("reply") {
        let status = reply["status"].as_str().unwrap();
        let members: BTreeSet<&str> = reply.as_object().unwrap().keys().map(String::as_str).collect();
        if status == "accepted" {
            let all = [
                "aggregate_id",
                "command_id",
                "duplicate",
                "events",
                "events_generated",
                "sequence",
                "status",
                "version",
            ];
            assert_eq!(members, BTreeSet::from(all));
            let events = reply["events"].as_array().unwrap();
            assert_eq!(reply["events_generated"], events.len());
            assert!(events.iter().all(|kind| kind.as_str().unwrap().parse::<EventKind>().is_ok()));
            continue;
        }
        let error = &reply["error"];
        let code = Code::ALL.into_iter().find(|code| error["code"] == code.as_str()).unwrap();
        assert_eq!(error["retryable"], code.is_retryable());
        assert_eq!(status, if code.is_failure() { "failed" } else { "rejected" });
        assert_eq!(error.get("moved_to").is_some(), code == Code::PersonMerged);
        assert!(code.is_failure() != members.contains("version"), "{reply}");
    }
}

/// The exact bytes that the service would store.
fn stored_bytes(commit: &Commit) -> Vec<u8> {
    let mut builder = CommitBuilder::default();
    for (command, events) in commit.by_command() {
        builder.begin_command(command.clone());
        events.iter().for_each(|event| builder.add_event(event).unwrap());
    }
    builder.encode(commit.aggregate_id, commit.version, commit.previous).unwrap()
}

/// The person of the examples, after both commits.
fn person() -> Aggregate {
    let mut aggregate: Option<Aggregate> = None;
    for (number, example) in examples(FILE, "commit").iter().enumerate() {
        let commit = commit::decode(example.as_bytes()).unwrap();
        let aggregate = aggregate.get_or_insert_with(|| Aggregate::absent(commit.aggregate_id));
        let sequence = SEQUENCE - 1 + number as u64;
        let stored = StoredCommit { sequence, payload: Arc::from(stored_bytes(&commit)) };
        aggregate.fold(&stored).unwrap_or_else(|broken| panic!("{broken}; the chain so far: {:?}", aggregate.chain));
    }
    aggregate.unwrap()
}

#[test]
fn the_commits_are_what_the_service_would_write_for_the_examples_of_commands() {
    let digests: Vec<Digest> = examples(FILE, "command")
        .iter()
        .map(|example| Digest::of_encoded(&decode_commands(example.as_bytes()).unwrap().0))
        .collect();
    let mut carried_out = digests.iter();
    for (example, shown) in examples(FILE, "commit").iter().zip(values("commit")) {
        let commit = commit::decode(example.as_bytes()).unwrap();
        let written: Value = serde_json::from_slice(&stored_bytes(&commit)).unwrap();
        assert_eq!(written, shown, "a member is missing, or one too many");
        for (command, events) in commit.by_command() {
            assert_eq!(Some(&command.digest), carried_out.next(), "the digest of {}", command.command_id);
            assert!(events.iter().all(|event| event.causation_id == command.command_id));
        }
    }
    assert_eq!(person().version, 3);
    assert_eq!(SCHEMA, 1, "and protocol.md says so");
}

#[test]
fn every_event_has_a_row_and_an_example_with_its_members() {
    let lines = examples(FILE, "events").join("\n");
    let rows = cells(&section(FILE, "Events"));
    let kinds: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(names("Events"), kinds);
    for ((line, row), kind) in lines.lines().zip(&rows).zip(kinds) {
        let event: Event = serde_json::from_str(line).unwrap();
        let written = serde_json::to_value(&event).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(line).unwrap());
        let written = written[kind].as_object().unwrap_or_else(|| panic!("{kind} is not the next event: {line}"));
        let written: BTreeSet<&str> = written.keys().map(String::as_str).collect();
        let listed = row[1].split('`').skip(1).step_by(2).map(|member| member.trim_end_matches('?'));
        let mut listed: BTreeSet<&str> = listed.chain(["person_id"]).collect();
        if listed.contains("source_person_id") {
            listed.remove("person_id");
        }
        assert_eq!(written, listed, "{kind}");
    }
    assert_eq!(lines.lines().count(), EventKind::ALL.len());
}

#[test]
fn the_queries_can_be_asked_and_are_answered_as_shown() {
    for (kind, name) in [("query get", "get"), ("query history", "history")] {
        for example in examples(FILE, kind) {
            query::decode(name, example.as_bytes()).unwrap_or_else(|refused| panic!("{}", refused.problem.message));
        }
    }
    let now = person();
    let view = PersonView::new(now.state.as_ref().unwrap(), now.version, None);
    let answer = query::encode_person(now.version, now.sequence, &view);
    assert_eq!(values("answer get"), [serde_json::from_slice::<Value>(&answer).unwrap()]);

    let commits = examples(FILE, "commit");
    let last = commit::decode(commits.last().unwrap().as_bytes()).unwrap();
    let mut page = query::HistoryPage::new(usize::MAX);
    assert!(last.events[1..].iter().all(|event| page.add(event)));
    let answer = page.encode(3, None);
    assert_eq!(values("answer history"), [serde_json::from_slice::<Value>(&answer).unwrap()]);
}

#[test]
fn the_lifecycles_are_those_of_the_code() {
    use cim_domain_person::domain::LifecycleState;
    let lines = examples(FILE, "lifecycle").join("\n");
    let shown: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (time, date) = ("2025-07-14T18:21:08Z".parse().unwrap(), "1852-11-27".parse().unwrap());
    let target_id = "01980a3c-5f00-7000-8000-000000000002".parse().unwrap();
    let coded = [
        Lifecycle::Active,
        Lifecycle::Deactivated { reason: "moved away".to_owned(), since: time },
        Lifecycle::Deceased { date_of_death: date },
        Lifecycle::MergedInto { target_id, merged_at: time },
        Lifecycle::Archived { reason: "retention period is over".to_owned(), since: time },
    ];
    assert_eq!(LifecycleState::ALL.len(), coded.len());
    assert_eq!(shown, coded.map(|lifecycle| serde_json::to_value(lifecycle).unwrap()));
}

#[test]
fn the_services_protocol_answers_as_shown() {
    let instance = Instance {
        id: "3f0c6e5f5b0a4c3c9d4f6f7a8b9c0d1e".to_owned(),
        started: "2025-07-14T18:20:00Z".parse().unwrap(),
        subjects: Subjects::new("person"),
    };
    let stats = |num_requests, num_errors, last_error, average_processing_time, data| EndpointStats {
        num_requests,
        num_errors,
        last_error,
        processing_time: num_requests * average_processing_time,
        average_processing_time,
        data,
    };
    let metadata = Metadata { cluster: String::new(), protocol: "1".to_owned(), members: "1".to_owned() };
    for (kind, verb) in [("service PING", Verb::Ping), ("service STATS", Verb::Stats)] {
        let data = [json!({"commands_accepted": 11, "queue_commands": 0}), json!({"queries_answered": 2})];
        let both = || {
            let [commands, queries] = data;
            [stats(12, 1, "already_exists", 800_000, commands), stats(2, 0, "", 300_000, queries)]
        };
        let mut answer: Value = serde_json::from_slice(&instance.answer(verb, &metadata, both)).unwrap();
        let mut shown = values(kind).remove(0);
        // The version goes on; the example stays.
        [&mut answer, &mut shown].into_iter().for_each(|json| json["version"] = json!(""));
        assert_eq!(shown, answer);
    }
}

#[test]
fn every_subject_is_named() {
    let listed = names("Subjects");
    let (subjects, layout) = (Subjects::new("P"), Layout::new(&config("nats://localhost")));
    let somebody = somebody();
    let of_anybody = |subject: String| subject.replace(&somebody.to_string(), "<person_id>");
    for subject in [
        subjects.all_commands(),
        subjects.all_queries(),
        subjects.all_intakes(),
        subjects.query("get"),
        subjects.query("history"),
        of_anybody(subjects.events(somebody)),
        of_anybody(layout.snapshot_subject(somebody)).replace("PERSON_EVENTS", "S"),
        ALL_SERVICES.to_owned(),
    ] {
        assert!(listed.contains(&subject), "{subject} is not in {listed:?}");
    }
    let text = document(FILE);
    for named in [subjects.all_events(), format!("queue group `{SERVICE_NAME}`")] {
        assert!(text.contains(&named), "{named}");
    }
}

#[test]
fn the_limits_are_those_of_the_code() {
    let characters = |count: usize| format!("{} characters", in_thousands(count));
    let not_blank = |count: usize| format!("{}, not blank", characters(count));
    let coded = [
        in_bytes(PAYLOAD_BYTES_MAX),
        in_thousands(COMMANDS_MAX),
        characters(COMMAND_ID_CHARS_MAX),
        characters(HEADER_CHARS_MAX),
        characters(STRING_CHARS_MAX),
        not_blank(SOURCE_CHARS_MAX),
        not_blank(REASON_CHARS_MAX),
        not_blank(NAME_COMPONENT_CHARS_MAX),
        in_thousands(NAME_COMPONENTS_MAX),
        in_thousands(TEXT_LIST_ITEMS_MAX),
        in_bytes(JSON_BYTES_MAX),
        in_thousands(JSON_DEPTH_MAX),
        in_thousands(TRACE_ENTRIES_MAX),
        format!("{YEAR_MIN} to {}", in_thousands(YEAR_MAX.try_into().unwrap())),
        in_thousands(PERSON_ATTRIBUTES_MAX),
        in_bytes(PERSON_STATE_BYTES_MAX),
        in_bytes(COMMIT_BYTES_MAX),
    ];
    let listed: Vec<String> = cells(&section(FILE, "Limits")).into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(listed, coded);
}

/// Numbers that stand in sentences.
#[test]
fn sentences_with_numbers_say_the_numbers_of_the_code() {
    let text = document(FILE).split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in [
        format!("an array of 1 to {COMMANDS_MAX} commands"),
        format!("at most {EVENTS_MAX} events and {}", in_bytes(COMMIT_BYTES_MAX)),
        format!("at most {} later commands", REMEMBERED - 1),
        format!("recognised for {} minutes", RETRY_HORIZON_MICROS / 60_000_000),
        format!("1 to {}; by default {HISTORY_EVENTS_DEFAULT}", in_thousands(HISTORY_EVENTS_MAX.try_into().unwrap())),
        format!("format number, {FORMAT}, little endian"),
        format!("have {JSON_DEPTH_MAX} levels of its own"),
    ] {
        assert!(text.contains(&sentence), "{FILE} does not say: {sentence}");
    }
}

/// What the small print says of reading, tried out.
#[test]
fn the_small_print_on_reading_holds() {
    let record = |value: &str| {
        let provenance = r#"{"source":"Measured","confidence":"Certain"}"#;
        let custom = r#"{"Custom":{"organization":"","attribute_name":"","category":""}}"#;
        let attribute = format!(r#"{{"attribute_type":{custom},"value":{value},"provenance":{provenance}}}"#);
        let person = "01980a3c-5f00-7000-8000-000000000001";
        format!(r#"{{"RecordAttribute":{{"person_id":"{person}","attribute":{attribute}}}}}"#)
    };
    let nested = |levels: usize| format!("{{\"Json\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    for (payload, answer) in [
        (record(r#"{"Text":""}"#), Ok(())),
        (record(&nested(100)), Ok(())),
        (record(&nested(101)), Err(Code::Invalid)),
        // Four levels are around it.
        (record(&nested(123)), Err(Code::Invalid)),
        (record(&nested(124)), Err(Code::Malformed)),
        (record(r#"{"Integer":9223372036854775808}"#), Err(Code::Malformed)),
        (record(r#"{"Number":1e999}"#), Err(Code::Malformed)),
        (record(r#"{"Json":{"a":123456789012345678901234567890}}"#), Ok(())),
        (record(r#"{"Date":"0000-01-01"}"#), Err(Code::Malformed)),
        (record(r#"{"Year":0}"#), Err(Code::Invalid)),
        (record(r#"{"YearMonth":[10000,1]}"#), Err(Code::Invalid)),
        (record(r#"{"DateTime":"2025-07-14T20:21:08.1234567+02:00"}"#), Ok(())),
        (record(r#"{"PersonReference":"01980a3c5f0070008000000000000001"}"#), Err(Code::Malformed)),
        (record(r#"{"Text":"a","Text":"b"}"#), Err(Code::Malformed)),
        (record(r#"{"Json":{"a":1,"a":2}}"#), Ok(())),
        (record(r#"{"Text":null}"#), Err(Code::Malformed)),
        (record(r#"{"Text":"a tab\t"}"#), Err(Code::Invalid)),
    ] {
        assert_eq!(decode_commands(payload.as_bytes()).map(drop).map_err(|problem| problem.code), answer, "{payload}");
    }
    let same = |one: &str, other: &str| {
        let digest = |value| Digest::of_encoded(&decode_commands(record(value).as_bytes()).unwrap().0);
        digest(one) == digest(other)
    };
    assert!(same(r#"{"Json":{"a":1,"a":2}}"#, r#"{"Json":{"a":2}}"#), "the last of two counts");
    assert!(same(r#"{"Json":{"a":1,"b":2}}"#, r#"{"Json":{"b":2,"a":1}}"#), "members have no order");
    assert!(same(
        r#"{"DateTime":"2025-07-14T20:21:08.1234567+02:00"}"#,
        r#"{"DateTime":"2025-07-14T18:21:08.123456Z"}"#
    ));
    assert!(!same(r#"{"Text":"e\u0301"}"#, r#"{"Text":"\u00e9"}"#), "texts are not normalised");
}
