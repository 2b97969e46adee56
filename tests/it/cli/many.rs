//! Many commands: in order for each person, no matter how many are under way or how often the service goes away.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::support::raw::Raw;

const PERSONS: usize = 40;
const LINES_EACH: usize = 50;

/// 2,000 lines: persons who are created, and renamed with the number of their line.
fn persons_and_lines() -> (Vec<String>, String) {
    let persons: Vec<String> = (0..PERSONS).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    let rounds = (0..LINES_EACH).flat_map(|round| persons.iter().map(move |person| (round, person)));
    let lines = rounds.map(|(round, person)| match round {
        0 => create_line(person, "N0"),
        _ => rename_line(person, &format!("N{round}")),
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    (persons, text)
}

/// All of each person's lines were carried out, once each and in order.
#[track_caller]
fn check_order(place: &Place, persons: &[String]) {
    for person in persons.iter().step_by(7) {
        let events = place.run(&["history", person, "--json"]).done().json_lines();
        let name = |event: &Value| {
            let event = event["event"].as_object().and_then(|event| event.values().next()).expect("an event").clone();
            let name = if event["name"].is_object() { &event["name"] } else { &event["new_name"] };
            name["components"]["given_names"][0].as_str().expect("a name").to_owned()
        };
        let names: Vec<String> = events.iter().map(name).collect();
        assert_eq!(names, (0..LINES_EACH).map(|round| format!("N{round}")).collect::<Vec<_>>());
    }
}

#[test]
fn two_thousand_lines_keep_their_order_and_are_done_once_however_often_they_are_sent() {
    let place = Place::start();
    let (persons, text) = persons_and_lines();
    let file = place.file("people.jsonl", &text);
    let first = place.run(&["send", "--lines", &file, "--in-flight", "64"]).done().stdout;
    assert!(first.starts_with("2,000 lines in ") && first.ends_with("\n  accepted 2,000\n"), "{first}");
    check_order(&place, &persons);

    let again = place.run(&["send", "--lines", &file, "--in-flight", "500"]).done().stdout;
    assert!(again.ends_with("  accepted 2,000, 2,000 of them duplicates: carried out before\n"), "{again}");
    let replies = place.run_with(&text, &["send", "--lines", "-", "--json"]);
    assert!(replies.status == 0 && replies.stderr.contains("2,000 of them duplicates"), "{}", replies.stderr);
    let replies = replies.json_lines();
    assert!(replies.len() == 2000 && replies.iter().all(|reply| reply["duplicate"] == true));
    let ids: BTreeSet<&str> = replies.iter().filter_map(|reply| reply["command_id"].as_str()).collect();
    assert_eq!(ids.len(), 2000);
    check_order(&place, &persons);

    let other = rename_line(&persons[0], "N1");
    let batch = place.run_with(&other, &["send", "--lines", "-", "--batch", "march"]).done().stdout;
    assert!(batch.ends_with("accepted 1\n"), "{batch}");
}

#[test]
fn a_send_that_begins_before_the_service_is_carried_out_when_it_comes() {
    let mut place = Place::without_service();
    let (persons, text) = persons_and_lines();
    let file = place.file("people.jsonl", &text);
    let mut sending = place.command(&["send", "--lines", &file]);
    let sending = sending.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    std::thread::sleep(Duration::from_millis(500));
    place.start_service();
    let ended = end_of(sending).done();
    assert!(ended.stdout.contains("accepted 2,000"), "{ended:?}");
    check_order(&place, &persons);
}

/// The service is killed while commands are under way: their answers are lost, some of them after they were stored.
#[test]
fn a_send_outlives_a_killed_service_and_a_killed_server() {
    let mut place = Place::start();
    let (persons, text) = persons_and_lines();
    let file = place.file("people.jsonl", &text);
    let mut sending = place.command(&["send", "--lines", &file, "--in-flight", "8"]);
    let sending = sending.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    eventually("some of it is done", || place.run(&["show", &persons[0]]).status == 0);
    place.kill_service();
    place.server.restart();
    place.start_service();
    let ended = end_of(sending).done();
    assert!(ended.stdout.contains("accepted 2,000"), "{ended:?}");
    check_order(&place, &persons);
}

#[test]
fn a_merge_waits_for_what_happens_to_both_persons_before_it() {
    let place = Place::start();
    let mut lines = Vec::new();
    for _ in 0..50 {
        let [one, other] = [(); 2].map(|()| uuid::Uuid::new_v4().to_string());
        let merge = json!({"MergePersons": {"source_person_id": one, "target_person_id": other,
                           "merge_reason": "DuplicateIdentity"}});
        let archive = json!({"ArchivePerson": {"person_id": other, "reason": "x"}});
        let begin = [create_line(&one, "One"), create_line(&other, "Other"), merge.to_string(), archive.to_string()];
        lines.extend(begin);
    }
    let said = place.run_with(&lines.join("\n"), &["send", "--lines", "-"]).done().stdout;
    assert!(said.ends_with("accepted 200\n"), "{said}");
}

#[test]
fn refused_lines_are_written_down_and_can_be_sent_again() {
    let place = Place::start();
    let person = uuid::Uuid::new_v4().to_string();
    let too_early = rename_line(&person, "Grace");
    let text = [&too_early, "no JSON, Grace", "", &create_line(&person, "Ada"), "[]"].join("\n");
    let refused = place.path("refused.jsonl");
    let ended = place.run_with(&text, &["send", "--lines", "-", "--refused", &refused]);
    assert_eq!(ended.status, 1, "{ended:?}");
    assert!(ended.stdout.ends_with("accepted 1\n  rejected 3: malformed 2, person_not_found 1\n"), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("line 1: rejected: person_not_found") && !ended.stderr.contains("Grace"),
        "{ended:?}"
    );

    let mut entries = json_lines(&std::fs::read_to_string(&refused).expect("the file"));
    entries.sort_by_key(|entry| entry["line"].as_u64());
    let told = entries.iter().map(|entry| (entry["line"].clone(), entry["error"]["code"].clone()));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(json!(1), json!("person_not_found")), (json!(2), json!("malformed")), (json!(5), json!("malformed"))]
    );
    assert_eq!((&entries[1]["text"], &entries[0]["status"]), (&json!("no JSON, Grace"), &json!("rejected")));
    let mode = std::fs::metadata(&refused).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "personal data is for its owner");

    let again = entries[0]["command"].to_string();
    place.run_with(&again, &["send", "--lines", "-"]).done();
    let file = place.file("mended.jsonl", &text.replace("no JSON, Grace", ""));
    let ended = place.run(&["send", "--lines", &file]);
    assert!(ended.stdout.contains("accepted 2, 2 of them duplicates"), "a mended file repeats nothing: {ended:?}");
    place.run(&["send", "--lines", &file, "--refused", &file]).ended(78, "name another one");
    assert_eq!(std::fs::read_to_string(&file).expect("the file").lines().count(), 5, "it was not overwritten");
}

/// A service that has no room for one person, ever, and says yes to all others.
fn answer_all_but(raw: &mut Raw, unwanted: &str, until: &mut Child) -> Vec<String> {
    let mut asked = Vec::new();
    while until.try_wait().expect("it can be asked").is_none() {
        let Some(message) = raw.next(Duration::from_millis(50)) else { continue };
        let payload = String::from_utf8(message.payload).expect("UTF-8");
        let answer = match payload.contains(unwanted) {
            true => r#"{"status":"failed","error":{"code":"overloaded","message":"no room","retryable":true}}"#,
            false => r#"{"status":"accepted","version":1,"duplicate":false}"#,
        };
        raw.publish(&message.reply.expect("a reply subject"), "", answer.as_bytes());
        asked.push(payload);
    }
    asked
}

/// Later commands of a person must not overtake one that failed: sent again, it would come too late.
#[test]
fn nothing_overtakes_what_failed() {
    let place = Place::without_service();
    let mut raw = Raw::connect(place.server.port());
    raw.subscribe("person.commands.>", 1);
    raw.sync();
    let [one, other] = [(); 2].map(|()| uuid::Uuid::new_v4().to_string());
    let lines =
        [create_line(&one, "One"), rename_line(&one, "Two"), create_line(&other, "A"), rename_line(&other, "B")];
    let (file, refused) = (place.file("people.jsonl", &lines.join("\n")), place.path("refused.jsonl"));
    let mut sending = place.command(&["send", "--lines", &file, "--patience", "3s", "--refused", &refused]);
    let mut sending = sending.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let asked = answer_all_but(&mut raw, &one, &mut sending);
    let ended = end_of(sending);
    assert!(ended.status == 69 && ended.stderr.contains("line 1: failed: overloaded: no room"), "{ended:?}");
    assert!(ended.stdout.ends_with("accepted 2\n  failed 2: not_sent 1, overloaded 1\n"), "{}", ended.stdout);
    let of = |line: &String| asked.iter().filter(|payload| *payload == line).count();
    assert!(of(&lines[0]) > 2 && of(&lines[1]) == 0, "tried again and not overtaken: {asked:?}");
    assert_eq!((of(&lines[2]), of(&lines[3])), (1, 1));
    let entries = json_lines(&std::fs::read_to_string(&refused).expect("the file"));
    let codes = entries.iter().map(|entry| (entry["line"].clone(), entry["error"]["code"].clone()));
    assert_eq!(codes.collect::<Vec<_>>(), [(json!(1), json!("overloaded")), (json!(2), json!("not_sent"))]);
}

#[test]
fn a_missing_service_ends_the_run_after_patience() {
    let place = Place::without_service();
    let (_, text) = persons_and_lines();
    let file = place.file("people.jsonl", &text);
    let refused = place.path("refused.jsonl");
    let ended = place.run(&["send", "--lines", &file, "--patience", "300ms", "--refused", &refused]);
    let ended = ended.ended(69, "gave up");
    assert!(ended.stderr.contains("no replica of the service listens on person.commands.*"), "{}", ended.stderr);
    assert!(ended.stdout.contains("accepted 0\n  failed "), "{}", ended.stdout);
    let entries = json_lines(&std::fs::read_to_string(&refused).expect("the file"));
    assert!(entries.iter().all(|entry| entry["status"] == "failed" && entry["error"]["retryable"] == true));
}

#[test]
fn whoever_may_not_repeat_a_file_is_told_so() {
    let place = Place::start();
    let person = place.create("Ada");
    let lines: Vec<String> = (0..129).map(|n| rename_line(&person, &format!("N{n}"))).collect();
    let ended = place.run_with(&lines.join("\n"), &["send", "--lines", "-"]);
    assert!(ended.status == 0 && ended.stderr.contains("1 of the persons had more than 128 lines"), "{ended:?}");
}
