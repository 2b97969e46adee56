//! `verify` on histories that are whole, and on every kind of damage.

use cim_domain_person::domain::PersonId;
use serde_json::Value;

use super::*;
use crate::support::histories::{History, Writer};
use crate::support::somebody;

impl Place {
    /// The findings as JSON, without the summary.
    fn findings(&self, status: i32, args: &[&str]) -> Vec<Value> {
        let args: Vec<&str> = ["verify", "--json"].iter().chain(args).copied().collect();
        let ended = self.run(&args);
        assert_eq!((ended.status, ended.stderr.as_str()), (status, ""), "{}", ended.stdout);
        let mut lines = ended.json_lines();
        assert!(lines.pop().is_some_and(|last| last["summary"].is_object()), "{}", ended.stdout);
        lines
    }

    fn summary(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = ["verify", "--json"].iter().chain(args).copied().collect();
        self.run(&args).json_lines().pop().expect("a summary")["summary"].clone()
    }

    fn writer(&self) -> Writer {
        Writer::connect(self.server.port())
    }
}

/// Kind and person of each finding.
fn kinds(findings: &[Value]) -> Vec<(&str, &str)> {
    let text = |finding: &'_ Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let mut kinds: Vec<(String, String)> =
        findings.iter().map(|finding| (text(finding, "finding"), text(finding, "person_id"))).collect();
    kinds.sort();
    kinds.into_iter().map(|(kind, person)| (&*kind.leak(), &*person.leak())).collect()
}

#[test]
fn what_the_service_wrote_is_whole_with_its_snapshots() {
    let mut place = Place::without_service();
    place.start_service_with(&[("SNAPSHOT_FREQ", "10")]);
    let people: Vec<String> = (0..3).map(|n| place.create(&format!("Ada {n}"))).collect();
    for person in &people {
        let lines: Vec<String> = (0..30).map(|n| rename_line(person, &format!("N{n}"))).collect();
        place.run_with(&lines.join("\n"), &["send", "--lines", "-"]).done();
    }
    place.run(&["send", "merge", &people[0], "--into", &people[1]]).done();
    place.run(&["send", "archive", &people[2], "--reason", "left"]).done();
    eventually("three snapshots", || place.summary(&[])["snapshots"] == 3);
    let summary = place.summary(&[]);
    assert_eq!((&summary["persons"], &summary["events"]), (&json!(3), &json!(95)), "{summary}");
    let text = place.run(&["verify"]).done().stdout;
    assert!(text.starts_with("3 persons, ") && text.trim_end().ends_with("nothing is wrong"), "{text}");
    place.run(&["verify", "--person", &people[0]]).done();
    let text = place.run(&["verify", "--person", &people[2]]).done().stdout;
    assert!(text.starts_with("1 person, "), "{text}");
    assert_eq!(place.summary(&["--person", &people[0]])["snapshots"], 1);
    assert_eq!(place.summary(&["--person", &people[0], "--no-snapshots"])["snapshots"], 0);
    place.run(&["verify", "--person", &somebody().to_string()]).ended(1, "no such person");
}

#[test]
fn every_kind_of_damage_is_told_by_person_and_the_others_are_whole() {
    let place = Place::without_service();
    let mut writer = place.writer();
    let whole = writer.person(somebody(), 5);

    let gap = writer.person(somebody(), 3);
    let mut ahead = History { version: 4, ..gap.clone() };
    let payload = ahead.commit(vec![gap.renamed("Ada 3", "Ada 5")]);
    let gap_at = writer.write_raw(gap.person, "Event-Type: NameUpdated\r\nPerson-Version: 5\r\n", &payload);

    let chain = writer.person(somebody(), 2);
    let mut other = History { previous: cim_domain_person::wire::digest::Digest::of(b"another"), ..chain.clone() };
    let payload = other.commit(vec![chain.renamed("Ada 2", "Ada 3")]);
    writer.write_raw(chain.person, "Event-Type: NameUpdated\r\nPerson-Version: 3\r\n", &payload);

    let garbage = writer.person(somebody(), 1);
    writer.write_raw(garbage.person, "", b"{\"schema\":1,");

    let newer = writer.person(somebody(), 1);
    writer.write_raw(newer.person, "", br#"{"schema":99}"#);

    let mut late = writer.person(somebody(), 2);
    late.at = late.at.plus_micros(-1);
    let payload = late.commit(vec![late.renamed("Ada 2", "Ada 3")]);
    writer.write(&late, "NameUpdated", &payload);

    let mut impossible = writer.person(somebody(), 1);
    let payload = impossible.commit(vec![impossible.created("Twice")]);
    writer.write(&impossible, "PersonCreated", &payload);

    let mut hint = writer.person(somebody(), 1);
    let payload = hint.commit(vec![hint.renamed("Ada 1", "Ada 2")]);
    writer.write(&hint, "PersonArchived", &payload);

    let mut lost = writer.person(somebody(), 1);
    let nobody = somebody();
    writer.merge(&mut lost, nobody);
    let mut circle: Vec<History> = (0..3).map(|_| writer.person(somebody(), 1)).collect();
    for index in 0..3 {
        let target = circle[(index + 1) % 3].person;
        writer.merge(&mut circle[index], target);
    }
    writer.finish();

    let findings = place.findings(1, &[]);
    let first = circle.iter().map(|history| history.person.to_string()).min().expect("three");
    let mut expected: Vec<(&str, String)> = vec![
        ("history_damaged", gap.person.to_string()),
        ("history_damaged", chain.person.to_string()),
        ("history_damaged", garbage.person.to_string()),
        ("history_too_new", newer.person.to_string()),
        ("history_damaged", late.person.to_string()),
        ("event_impossible", impossible.person.to_string()),
        ("header_differs", hint.person.to_string()),
        ("merge_target_missing", lost.person.to_string()),
        ("merge_circle", first),
    ];
    expected.sort();
    let expected: Vec<(&str, &str)> = expected.iter().map(|(kind, person)| (*kind, person.as_str())).collect();
    assert_eq!(kinds(&findings), expected, "{findings:#?}");
    let of_gap = findings.iter().find(|finding| finding["person_id"] == gap.person.to_string()).expect("it");
    assert_eq!((&of_gap["whole_up_to"], &of_gap["sequence"]), (&json!(3), &json!(gap_at)), "{of_gap}");

    // The same in parts, for want of memory; and one by one.
    for (kind, person) in &expected {
        let status = if *kind == "header_differs" { 0 } else { 1 };
        let alone = place.findings(status, &["--person", person]);
        let found = kinds(&alone).into_iter().any(|found| found.0 == *kind);
        assert_eq!(found, status == 1, "{kind} {person}: {alone:#?}");
    }
    place.findings(0, &["--person", &whole.person.to_string()]);

    // Who was merged into one of a circle leads there and is not of it.
    let mut outside = writer.person(somebody(), 1);
    writer.merge(&mut outside, circle[0].person);
    writer.finish();
    let found = place.findings(1, &["--person", &outside.person.to_string()]);
    let [first, second, third] = [0, 1, 2].map(|index| circle[index].person);
    let said = format!("merged in a circle: {first} into {second} into {third} into {first}");
    assert!(found.len() == 1 && found[0]["what"] == said, "{found:#?}");
}

/// A stored message with headers that the client cannot parse loses the connection of whoever reads it directly.
#[test]
fn a_message_that_breaks_the_connection_is_read_around() {
    let place = Place::without_service();
    let mut writer = place.writer();
    let before = writer.person(somebody(), 2);
    let mut history = History::of(somebody());
    let payload = history.commit(vec![history.created("Ada")]);
    writer.write_raw(history.person, "Event-Type PersonCreated no colon\r\n", &payload);
    writer.person(somebody(), 2);
    writer.finish();
    let summary = place.summary(&[]);
    assert_eq!((&summary["persons"], &summary["commits"]), (&json!(3), &json!(5)), "{summary}");
    assert_eq!(summary["findings"], json!({}));
    place.findings(0, &["--person", &before.person.to_string()]);
}

#[test]
fn what_was_checked_is_not_read_again_and_damage_that_was_repaired_is_gone() {
    let place = Place::without_service();
    let mut writer = place.writer();
    let state = place.path("state");
    let mut ada = writer.person(somebody(), 3);
    let broken = writer.person(somebody(), 1);
    let at = writer.write_raw(broken.person, "", b"garbage");
    writer.finish();
    let first = place.findings(1, &["--state", &state]);
    assert_eq!(kinds(&first), [("history_damaged", broken.person.to_string().as_str())]);

    let payload = ada.commit(vec![ada.renamed("Ada 3", "Ada 4")]);
    writer.write(&ada, "NameUpdated", &payload);
    writer.finish();
    let summary = place.summary(&["--state", &state]);
    assert_eq!((&summary["commits"], &summary["findings"]["history_damaged"]), (&json!(6), &json!(1)), "{summary}");

    // The damaged person is gone from the stream, as after an erasure.
    let filter = format!("person.events.{}", broken.person);
    writer.api("STREAM.PURGE.PERSON_EVENTS", &json!({ "filter": filter, "seq": at + 1 }));
    assert_eq!(place.summary(&["--state", &state])["findings"]["history_damaged"], Value::Null);

    let mut bytes = std::fs::read(&state).expect("the file");
    bytes[40] ^= 1;
    std::fs::write(&state, &bytes).expect("it is written");
    place.run(&["verify", "--state", &state]).ended(78, "cut short or changed; delete it");
    std::fs::write(&state, b"anything else, longer than what it should begin with").expect("it is written");
    place.run(&["verify", "--state", &state]).ended(78, "none that this release wrote");
}

/// A repaired person lies in the stream anew, which looks like damage until the leader is asked. What had been found of
/// the person before stayed in the file for good, and what was wrong with the rest of the new history was never told.
#[test]
fn with_a_file_what_is_said_of_a_repaired_person_is_what_lies_there_now() {
    use base64::Engine as _;

    let place = Place::without_service();
    let mut writer = place.writer();
    let state = place.path("state");
    let said = |status: i32| {
        let found = place.findings(status, &["--state", &state]);
        kinds(&found).into_iter().map(|(kind, _)| kind.to_owned()).collect::<Vec<String>>()
    };
    let mut repairs = 0;
    let mut repair = |person: PersonId, keep_to: &str| {
        repairs += 1;
        let save = place.path(&format!("saved-{repairs}"));
        let words = ["--yes", "--confirmed-by", "M. Perez", "--reason", "by mistake"];
        let about = ["repair", &person.to_string(), "--save", &save, "--keep-to", keep_to];
        place.run(&[&about[..], &words].concat()).done();
    };
    let mut merged = writer.person(somebody(), 1);
    writer.merge(&mut merged, somebody());
    let ada = writer.person(somebody(), 3);
    writer.finish();
    assert_eq!(said(1), ["merge_target_missing"]);

    repair(merged.person, "1");
    repair(ada.person, "2");
    // Behind what the repair filled, the person is created once more.
    let subject = json!({ "last_by_subj": format!("person.events.{}", ada.person) });
    let last = writer.api("STREAM.MSG.GET.PERSON_EVENTS", &subject);
    let data = last["message"]["data"].as_str().expect("base64");
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
    let previous = cim_domain_person::wire::digest::Digest::of(&bytes);
    let commit = cim_domain_person::wire::commit::decode(&bytes).expect("a commit");
    let at = commit.events.last().expect("an event").timestamp;
    let mut twice = History { version: commit.version, previous, at, ..ada };
    let payload = twice.commit(vec![twice.created("Twice")]);
    writer.write(&twice, "PersonCreated", &payload);
    writer.finish();
    assert_eq!(said(1), ["copy_differs", "copy_differs", "event_impossible"]);
    assert_eq!(said(1), ["event_impossible"]);

    repair(twice.person, &commit.version.to_string());
    assert_eq!(said(0), ["copy_differs"]);
    assert_eq!(said(0), [""; 0]);
}

#[test]
fn snapshots_that_do_not_fit_their_log_are_told() {
    use cim_domain_person::engine::aggregate::Aggregate;
    use cim_domain_person::engine::ports::StoredCommit;
    use cim_domain_person::wire::snapshot;

    let mut place = Place::without_service();
    place.start_service();
    place.kill_service();
    let mut writer = place.writer();
    let aggregate_of = |writer: &mut Writer, commits: u64| {
        let mut history = History::of(somebody());
        let mut aggregate = Aggregate::absent(history.person);
        for _ in 0..commits {
            let event = if history.version == 0 { history.created("Ada") } else { history.renamed("Ada", "Ada") };
            let kind = event.kind().as_str();
            let payload = history.commit(vec![event]);
            let headers = format!("Event-Type: {kind}\r\nPerson-Version: {}\r\n", history.version);
            let sequence = writer.write_raw(history.person, &headers, &payload);
            aggregate.fold(&StoredCommit { sequence, payload: payload.into() }).expect("it continues");
        }
        (history, aggregate)
    };
    let put = |person: PersonId, bytes: &[u8]| {
        let mut raw = crate::support::raw::Raw::connect(place.server.port());
        raw.request(&format!("$KV.PERSON_EVENTS_SNAPSHOTS.v1.{person}"), bytes);
    };
    let mut expected = Vec::new();
    for kind in ["", "snapshot_differs", "snapshot_ahead", "snapshot_stale", "snapshot_unreadable"] {
        let (mut history, mut aggregate) = aggregate_of(&mut writer, 3);
        if kind == "snapshot_ahead" {
            let payload = history.commit(vec![history.renamed("Ada", "Lost")]);
            let stored = StoredCommit { sequence: aggregate.sequence + 1, payload: payload.into() };
            aggregate.fold(&stored).expect("it continues");
        }
        let mut snapshot = aggregate.to_snapshot().expect("a state");
        match kind {
            "snapshot_differs" => snapshot.body.person.birth_date = "1815-12-10".parse().ok(),
            "snapshot_stale" => snapshot.sequence += 1,
            _ => {}
        }
        let mut bytes = snapshot::encode(history.person, &snapshot).expect("it is encoded");
        if kind == "snapshot_unreadable" {
            bytes.pop();
        }
        put(history.person, &bytes);
        if !kind.is_empty() {
            expected.push((kind.to_owned(), history.person.to_string()));
        }
    }
    expected.sort();
    let expected: Vec<(&str, &str)> = expected.iter().map(|(kind, person)| (kind.as_str(), person.as_str())).collect();
    assert_eq!(kinds(&place.findings(1, &[])), expected);
    let without = place.findings(0, &["--no-snapshots"]);
    assert_eq!(without, [] as [Value; 0]);
}

/// More persons than `--memory 1MiB` has room for, damage and merges among them, so that the stream is read in parts.
fn many(place: &Place) -> (History, Vec<(&'static str, String)>) {
    let mut writer = place.writer();
    let first = writer.person(somebody(), 2);
    let second = writer.person(somebody(), 2);
    for _ in 0..8_000 {
        writer.person(somebody(), 1);
    }
    let mut expected = Vec::new();
    for _ in 0..8 {
        let damaged = writer.person(somebody(), 2);
        writer.write_raw(damaged.person, "", b"garbage");
        expected.push(("history_damaged", damaged.person.to_string()));
        let mut lost = writer.person(somebody(), 1);
        writer.merge(&mut lost, somebody());
        expected.push(("merge_target_missing", lost.person.to_string()));
        let mut circle: Vec<History> = (0..2).map(|_| writer.person(somebody(), 1)).collect();
        for index in 0..2 {
            let target = circle[1 - index].person;
            writer.merge(&mut circle[index], target);
        }
        let named = circle.iter().map(|history| history.person.to_string()).min().expect("two");
        expected.push(("merge_circle", named));
        let mut found = writer.person(somebody(), 1);
        writer.merge(&mut found, second.person);
    }
    writer.finish();
    expected.sort();
    (first, expected)
}

fn as_strings(findings: &[Value]) -> Vec<(&str, String)> {
    kinds(findings).into_iter().map(|(kind, person)| (kind, person.to_owned())).collect()
}

#[test]
fn reading_in_parts_finds_the_same() {
    let place = Place::without_service();
    let (_, expected) = many(&place);
    let whole = place.summary(&[]);
    let parts = place.summary(&["--memory", "1MiB"]);
    for field in ["persons", "commits", "events", "findings", "sequence"] {
        assert_eq!(whole[field], parts[field], "{field}: {whole} {parts}");
    }
    assert_eq!(as_strings(&place.findings(1, &[])), expected);
    assert_eq!(as_strings(&place.findings(1, &["--memory", "1MiB"])), expected);
}

/// With SIGINT it writes down how far it came and goes on from there; with SIGKILL, from where it wrote that down last.
/// What was read before is not read again: the first person is taken out of the stream meanwhile and still counted.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_check_goes_on_where_it_was() {
    let place = Place::without_service();
    let (first, expected) = many(&place);
    for memory in ["1MiB", "256MiB"] {
        let whole = place.summary(&["--memory", memory]);
        let state = place.path(&format!("state-{memory}"));
        let proxy = crate::support::proxy::Proxy::before(place.server.port());
        proxy.delay(Duration::from_millis(10));
        let slowly = || {
            let mut command = place.command(&["verify", "--json", "--state", &state, "--memory", memory]);
            command.env("NATS_URL", proxy.url()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = command.spawn().expect("it starts");
            // From then on SIGINT is not the end: the stream has been asked for, and is read.
            eventually("it has a handler for SIGINT", || {
                let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
                let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
                u64::from_str_radix(caught.trim(), 16).is_ok_and(|caught| caught & (1 << (2 - 1)) != 0)
            });
            child
        };
        let mut rounds = 0;
        let finished = loop {
            rounds += 1;
            assert!(rounds < 50, "it does not go on");
            if rounds == 20 {
                // Whoever is interrupted as soon as that is not the end may read little each time.
                proxy.delay(Duration::ZERO);
            }
            let mut check = slowly();
            if rounds == 2 {
                check.kill().expect("it is killed");
                check.wait().expect("it ends");
                continue;
            }
            let status = Command::new("kill").args(["-INT", &check.id().to_string()]).status();
            assert!(status.expect("kill runs").success());
            let ended = end_of(check);
            if ended.status != 69 {
                break ended;
            }
            ended.ended(69, "interrupted; the same again goes on from here");
            if rounds == 1 && memory == "256MiB" {
                let filter = format!("person.events.{}", first.person);
                place.writer().api("STREAM.PURGE.PERSON_EVENTS", &json!({ "filter": filter }));
            }
        };
        assert!(rounds > 3, "it was interrupted in the middle: {rounds}");
        assert_eq!((finished.status, finished.stderr.as_str()), (1, ""), "{}", finished.stdout);
        let mut lines = finished.json_lines();
        let summary = lines.pop().expect("a summary")["summary"].clone();
        for field in ["persons", "commits", "events", "findings"] {
            assert_eq!(whole[field], summary[field], "{field}: {whole} {summary}");
        }
        assert_eq!(as_strings(&lines), expected);
    }
}

#[test]
fn without_a_stream_it_is_69() {
    let place = Place::without_service();
    place.run(&["verify"]).ended(69, "there is no stream PERSON_EVENTS");
    place.run(&["verify", "--memory", "none"]).ended(64, "such as 256MiB");
}

/// Time, rate and memory at a million commits of 250,000 persons.
#[test]
#[ignore = "a measurement: cargo build --release && PERSON_SERVICE_BIN=target/release/person-service cargo test --release \
            --test it cli::verify::a_million -- --ignored --nocapture"]
fn a_million_commits_are_checked() {
    let place = Place::without_service();
    let mut writer = place.writer();
    let began = std::time::Instant::now();
    for _ in 0..250_000 {
        writer.person(somebody(), 4);
    }
    writer.finish();
    println!("written in {:.1} s", began.elapsed().as_secs_f64());
    let binary =
        std::env::var("PERSON_SERVICE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_person-service").to_owned());
    for memory in ["256MiB", "8MiB"] {
        let mut command = Command::new("/usr/bin/time");
        command.args(["-v", &binary, "verify", "--memory", memory]).env("NATS_URL", place.server.url());
        let output = command.output().expect("time runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let memory_line = said.lines().find(|line| line.contains("Maximum resident")).unwrap_or(&said).to_owned();
        println!("--memory {memory}: {}{memory_line}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{said}");
    }
}
