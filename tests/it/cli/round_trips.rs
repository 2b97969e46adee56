//! One person from the command line: made, changed, shown in the present and the past.

use super::*;

#[test]
fn a_person_is_made_from_flags_changed_and_shown_to_people() {
    let place = Place::start();
    let person = place.create("Ada");
    let rename = ["send", "rename", &person, "--given", "Ada", "--family", "King", "--reason", "marriage"];
    let said = place.run(&[&rename[..], &["--actor", "clerk", "--id", "r1"]].concat()).done().stdout;
    assert_eq!(said, format!("accepted (NameUpdated): person {person} at version 2, command r1\n"));
    let again = place.run(&[&rename[..], &["--actor", "clerk", "--id", "r1"]].concat()).done().stdout;
    assert_eq!(again, format!("accepted before (NameUpdated): person {person} at version 2, command r1\n"));
    let same = place.run(&rename).done().stdout;
    assert!(same.starts_with("accepted, nothing to change: "), "{same}");
    place.run(&["send", "set-birth-date", &person, "1815-12-10"]).done();
    place.run_with(&height(&person, "2020-01-01"), &["send", "-"]).done();

    let shown = place.run(&["show", &person]).done().stdout;
    for part in
        ["Ada King\n", &person, "King, Ada", "Active", "1815-12-10", "Physical.Height", "1.7 m", "from 2020-01-01"]
    {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "colours belong to terminals:\n{shown}");

    let history = place.run(&["history", &person]).done().stdout;
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines.len(), 4, "{history}");
    assert!(lines[0].starts_with("    1  20") && lines[0].contains("PersonCreated         Ada (source: test)"));
    assert!(lines[1].contains("NameUpdated           Ada → Ada King (marriage)  by clerk  r1"), "{history}");
    assert!(lines[3].contains("AttributeRecorded     Physical.Height: 1.7 m"), "{history}");
}

fn height(person: &str, valid_from: &str) -> String {
    let attribute = json!({
        "attribute_type": {"Physical": "Height"}, "value": {"Length": 1.7}, "temporal": {"valid_from": valid_from},
        "provenance": {"source": "Measured", "confidence": "Certain"},
    });
    json!({"RecordAttribute": {"person_id": person, "attribute": attribute}}).to_string()
}

#[test]
fn programs_get_the_replies_as_they_are() {
    let place = Place::start();
    let person = place.create("Ada");
    let command = place.file("command.json", &height(&person, "2020-01-01"));
    let reply = place.run(&["send", "--file", &command, "--json", "--id", "c2", "--correlation-id", "x"]).done().json();
    assert_eq!(
        reply,
        json!({"status": "accepted", "command_id": "c2", "aggregate_id": person, "version": 2, "events_generated": 1,
               "events": ["AttributeRecorded"], "sequence": 2, "duplicate": false})
    );
    let shown = place.run(&["show", &person, "--json"]).done().json();
    assert_eq!((&shown["status"], &shown["version"]), (&json!("ok"), &json!(2)));
    assert_eq!(shown["person"]["display"]["formal"], "Ada");
    assert_eq!(shown["person"]["attributes"][0]["value"], json!({"Length": 1.7}));
    let events = place.run(&["history", &person, "--json"]).done().json_lines();
    assert_eq!(events.len(), 2);
    assert_eq!((&events[1]["causation_id"], &events[1]["correlation_id"]), (&json!("c2"), &json!("x")));
    assert!(events[0]["event"]["PersonCreated"].is_object());
}

#[test]
fn the_past_is_shown_as_it_was_recorded_and_as_it_held() {
    let place = Place::start();
    let person = place.create("Ada");
    place.run(&["send", "rename", &person, "--given", "Grace"]).done();
    place.run(&["send", &height(&person, "2020-01-01")]).done();
    let name = |args: &[&str]| {
        let shown = place.run(&[&["show", &person, "--json"], args].concat()).done().json();
        shown["person"]["name"]["components"]["given_names"][0].as_str().expect("a name").to_owned()
    };
    let created_at = place.run(&["history", &person, "--json", "--all"]).done().json_lines()[0]["timestamp"].clone();
    assert_eq!(name(&[]), "Grace");
    assert_eq!(name(&["--at-version", "1"]), "Ada");
    assert_eq!(name(&["--as-of", created_at.as_str().expect("a time")]), "Ada");
    let past = place.run(&["show", &person, "--at-version", "1"]).done().stdout;
    assert!(past.contains("1 (now it is 3)") && past.contains("No attributes."), "{past}");
    let attributes = |day: &str| {
        let shown = place.run(&["show", &person, "--json", "--valid-on", day]).done().json();
        shown["person"]["attributes"].as_array().expect("a list").len()
    };
    assert_eq!((attributes("2019-12-31"), attributes("2020-01-01")), (0, 1));
    place.run(&["show", &person, "--at-version", "9"]).ended(1, "invalid: at_version");
    place.run(&["show", &person, "--as-of", "2001-01-01T00:00:00Z"]).ended(1, "person_not_found");
}

#[test]
fn a_history_is_shown_in_parts() {
    let place = Place::start();
    let person = place.create("P0");
    let lines: Vec<String> = (1..=20).map(|n| rename_line(&person, &format!("P{n}"))).collect();
    place.run_with(&lines.join("\n"), &["send", "--lines", "-"]).done();
    let versions = |args: &[&str]| -> (Vec<u64>, String) {
        let ended = place.run(&[&["history", &person, "--json"], args].concat());
        assert_eq!(ended.status, 0);
        (ended.json_lines().iter().map(|event| event["sequence"].as_u64().expect("a number")).collect(), ended.stderr)
    };
    assert_eq!(versions(&["--all"]), ((1..=21).collect(), String::new()));
    let (part, note) = versions(&["--from-version", "3", "--limit", "4"]);
    assert_eq!(part, [3, 4, 5, 6]);
    assert!(note.contains("there are more events: --from-version 7, or --all"), "{note}");
    assert_eq!(versions(&["--from-version", "21"]), (vec![21], String::new()));
    assert_eq!(versions(&["--from-version", "22"]), (vec![], String::new()));
}

#[test]
fn every_command_that_flags_can_make_is_accepted() {
    let place = Place::start();
    let [one, other] = ["One", "Other"].map(|name| place.create(name));
    for (args, event) in [
        (&["deactivate", &one, "--reason", "on leave"][..], "PersonDeactivated"),
        (&["reactivate", &one, "--reason", "back"], "PersonReactivated"),
        (&["merge", &one, "--into", &other, "--reason", "UserRequested"], "PersonMergedInto"),
        (&["record-death", &other, "2020-02-29"], "DeathRecorded"),
        (&["archive", &other, "--reason", "long ago", "--actor", "clerk"], "PersonArchived"),
    ] {
        let said = place.run(&[&["send"], args].concat()).done().stdout;
        assert!(said.starts_with(&format!("accepted ({event})")), "{said}");
    }
    let shown = place.run(&["show", &one]).done().stdout;
    assert!(shown.contains(&format!("MergedInto {other}")), "{shown}");
    let named = ["--family", "山田", "--given", "太郎", "--suffix", "様", "--convention", "EastAsian", "--source", "t"];
    let person = "0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30";
    place.run(&[&["send", "create", "--person", person], &named[..]].concat()).done();
    assert!(place.run(&["show", person]).done().stdout.starts_with("山田太郎様\n"));
}

/// A command without an answer is sent again by its id, and must then mean the same person.
#[test]
fn a_new_person_follows_from_the_commands_id() {
    let place = Place::start();
    let create = |id: &str| place.run(&["send", "create", "--given", "Ada", "--source", "t", "--id", id]).done().stdout;
    let (first, again, other) = (create("c1"), create("c1"), create("c2"));
    let person = |said: &str| said.split_whitespace().skip_while(|word| *word != "person").nth(1).map(str::to_owned);
    assert!(again.starts_with("accepted before"), "{again}");
    assert_eq!(person(&first), person(&again));
    assert_ne!(person(&first), person(&other));
}

#[test]
fn what_is_refused_ends_with_1_and_names_nobody_on_stderr() {
    let place = Place::start();
    let person = place.create("Ada");
    let nobody = "0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30";
    for (args, said) in [
        (&["show", nobody][..], "person_not_found: the person does not exist"),
        (&["history", nobody], "person_not_found"),
        (&["send", "archive", nobody, "--reason", "x"], "refused: person_not_found"),
        (&["send", "create", "--given", "Ada", "--source", "t", "--person", &person], "refused: already_exists"),
        (&["send", "create", "--source", "t"], "refused: invalid: name.components"),
        (&["send", "rename", &person, "--given", "Grace", "--expected-version", "7"], "refused: version_conflict"),
        (&["send", "{\"Rename\":{\"name\":\"Grace\"}}"], "refused: malformed: expected one of"),
        (&["send", "[]"], "refused: malformed"),
        (&["send", "Grace"], "refused: malformed: the payload is not JSON"),
    ] {
        let ended = place.run(args).ended(1, said);
        assert_eq!(ended.stdout, "");
        let personal = [nobody, &person, "Grace", "Ada"];
        assert!(!personal.iter().any(|word| ended.stderr.contains(word)), "{}", ended.stderr);
    }
    let shown = place.run(&["show", nobody, "--json"]).ended(1, "person_not_found");
    assert_eq!(shown.json()["error"]["code"], "person_not_found");
    let sent = place.run(&["send", "[]", "--json"]).ended(1, "malformed");
    assert_eq!(sent.json()["status"], "rejected");
}
