//! Out by `export` and in by `import`: nobody is lost, nothing is done twice, and what is refused is told.

use serde_json::Value;

use super::*;
use crate::support::somebody;

const OF_TIME: [&str; 8] =
    ["created_at", "updated_at", "version", "recorded_at", "since", "merged_at", "sequence", "display"];

/// What an import can carry: everything but times, versions and places in the stream.
fn carried(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !OF_TIME.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), carried(value)))
            .filter(|(name, value)| name != "temporal" || value != &json!({}))
            .collect(),
        Value::Array(items) => items.iter().map(carried).collect(),
        other => other.clone(),
    }
}

/// The persons of an export, by id.
fn persons(export: &str) -> Vec<Value> {
    let mut persons: Vec<Value> =
        json_lines(export).iter().map(|line| carried(&line["person"])).filter(|person| person.is_object()).collect();
    persons.sort_by_key(|person| person["id"].to_string());
    persons
}

fn send(place: &Place, commands: &[Value]) {
    let lines: Vec<String> = commands.iter().map(Value::to_string).collect();
    place.run_with(&lines.join("\n"), &["send", "--lines", "-"]).done();
}

#[test]
fn what_goes_out_comes_in_elsewhere_as_it_was() {
    let place = Place::start();
    let people: Vec<String> = (0..8).map(|_| somebody().to_string()).collect();
    let lines: Vec<String> = people.iter().map(|person| create_line(person, "Ada")).collect();
    place.run_with(&lines.join("\n"), &["send", "--lines", "-"]).done();
    let note = |n: usize| {
        json!({ "RecordAttribute": { "person_id": people[0], "attribute": {
            "attribute_type": { "Custom": { "organization": "o", "attribute_name": "n", "category": "c" } },
            "value": { "Integer": n }, "temporal": { "valid_from": "2001-02-03" },
            "provenance": { "source": "Measured", "confidence": "Likely" } } } })
    };
    let notes: Vec<Value> = (0..230).map(note).collect();
    send(&place, &notes.chunks(100).map(|some| json!(some)).collect::<Vec<_>>());
    let of = |index: usize, command: &str, more: Value| {
        let mut fields = json!({ "person_id": people[index] });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ command: fields })
    };
    let merge = |from: usize, into: usize| {
        json!({ "MergePersons": { "source_person_id": people[from], "target_person_id": people[into],
            "merge_reason": "UserRequested" } })
    };
    send(
        &place,
        &[
            of(0, "SetBirthDate", json!({ "birth_date": "1815-12-10" })),
            of(1, "SetBirthDate", json!({ "birth_date": "1815-12-10" })),
            of(1, "RecordDeath", json!({ "date_of_death": "1852-11-27" })),
            of(2, "RecordDeath", json!({ "date_of_death": "1852-11-27" })),
            of(2, "ArchivePerson", json!({ "reason": "long ago" })),
            of(3, "DeactivatePerson", json!({ "reason": "moved" })),
            merge(4, 5),
            merge(5, 6),
            of(6, "DeactivatePerson", json!({ "reason": "later" })),
        ],
    );
    let out = place.path("out.jsonl");
    let said = place.run(&["export", "--out", &out]);
    assert!(said.status == 0 && said.stderr.contains("8 persons, as of stream sequence"), "{said:?}");
    let exported = std::fs::read_to_string(&out).expect("the file");
    assert_eq!(persons(&exported).len(), 8);
    place.run(&["export", "--out", &out]).ended(78, "--force replaces it");
    assert_eq!(place.run(&["export", "--out", &out, "--force"]).status, 0);

    let other = Place::start();
    let refused = other.path("refused");
    let first = other.run(&["import", &out, "--refused", &refused]);
    assert_eq!(first.status, 0, "{first:?} {:?}", std::fs::read_to_string(&refused));
    let imported = other.run(&["export"]).done().stdout;
    assert_eq!(persons(&imported), persons(&exported));
    let again = other.run(&["import", &out]);
    assert!(again.status == 0 && again.stdout.contains("duplicates"), "{again:?}");
    assert_eq!(other.run(&["export"]).done().stdout.lines().count(), imported.lines().count());
    other.run(&["verify"]).done();

    // The complete record of one.
    let record = place.run(&["export", "--person", &people[1], "--history"]).done().json_lines();
    let events = record.iter().filter(|line| line["event"].is_object()).count();
    assert_eq!((events, &record[4]["person"]["lifecycle"]["state"]), (3, &json!("Deceased")), "{record:#?}");
    assert_eq!(record[5]["end"], json!({ "persons": 1, "damaged": 0 }));
    place.run(&["export", "--person", &somebody().to_string()]).ended(1, "no such person");
}

#[test]
fn an_export_that_is_cut_short_or_of_others_is_not_taken_for_whole() {
    let place = Place::start();
    let person = place.create("Ada");
    let whole = place.run(&["export"]).done().stdout;
    let cut: Vec<&str> = whole.lines().take(2).collect();
    let cut = place.file("cut.jsonl", &cut.join("\n"));
    place.run(&["import", &cut]).ended(78, "cut short");
    let later = place.file("later.jsonl", r#"{"export":{"format":99}}"#);
    place.run(&["import", &later]).ended(78, "format 99");
    // A person who is there already is left alone, also by what would come later for them.
    let archived = whole.replace(r#"{"state":"Active"}"#, r#"{"state":"Archived","reason":"x"}"#);
    assert_ne!(archived, whole);
    let archived = place.file("archived.jsonl", &archived);
    let refused = place.path("refused");
    let ended = place.run(&["import", &archived, "--refused", &refused]);
    assert_eq!(ended.status, 1, "{ended:?}");
    let codes: Vec<Value> = json_lines(&std::fs::read_to_string(&refused).expect("the file"))
        .iter()
        .map(|line| line["error"]["code"].clone())
        .collect();
    assert_eq!(codes[0], "already_exists");
    let history = place.run(&["history", &person, "--json"]).done().json_lines();
    assert_eq!((history.len(), &codes[1]), (1, &json!("not_sent")), "{history:#?}");
}

/// A is there already, so A's merge into B is left out: what came later for B, who has nothing to do with it, was too.
#[test]
fn who_a_refused_person_was_merged_into_comes_in_whole() {
    let place = Place::start();
    let [a, b] = [(); 2].map(|()| somebody().to_string());
    place.run_with(&[create_line(&a, "A"), create_line(&b, "B")].join("\n"), &["send", "--lines", "-"]).done();
    send(
        &place,
        &[
            json!({ "MergePersons": { "source_person_id": a, "target_person_id": b, "merge_reason": "UserRequested" } }),
            json!({ "DeactivatePerson": { "person_id": b, "reason": "moved" } }),
        ],
    );
    let export = place.file("export.jsonl", &place.run(&["export"]).done().stdout);
    let other = Place::start();
    other.run_with(&create_line(&a, "Somebody else"), &["send", "-"]).done();
    let refused = other.path("refused");
    let ended = other.run(&["import", &export, "--refused", &refused]);
    let told = json_lines(&std::fs::read_to_string(&refused).expect("the file"));
    let codes: Vec<&Value> = told.iter().map(|line| &line["error"]["code"]).collect();
    assert_eq!((ended.status, codes), (1, vec![&json!("already_exists"), &json!("not_sent")]), "{ended:?}");
    let shown = other.run(&["show", &b, "--json"]).done().json();
    assert_eq!(shown["person"]["lifecycle"]["state"], "Deactivated", "{shown}");
}

#[test]
fn a_damaged_history_is_left_out_and_told() {
    let place = Place::without_service();
    let mut writer = crate::support::histories::Writer::connect(place.server.port());
    let whole = writer.person(somebody(), 2);
    let damaged = writer.person(somebody(), 2);
    writer.write_raw(damaged.person, "", b"garbage");
    let ended = place.run(&["export"]).ended(1, "person-service verify");
    let lines = ended.json_lines();
    let told: Vec<&Value> =
        lines.iter().map(|line| &line["damaged"]["person_id"]).filter(|id| id.is_string()).collect();
    assert_eq!(told, [&json!(damaged.person)]);
    assert_eq!(persons(&ended.stdout)[0]["id"], json!(whole.person));
}

#[test]
fn a_table_is_brought_in_by_a_mapping_and_the_same_key_is_the_same_person() {
    let place = Place::start();
    let table = "no;first;last;born;height\n1;Ada;\"King; Lovelace\";1815-12-10;1.7\n2;Grace;Hopper;09.12.1906;\n;Nobody;X;;\n3;Mary;;;tall\n4;Émilie;du Châtelet;;\n";
    let path = place.file("people.csv", table);
    let refused = place.path("refused");
    let args = [
        "import",
        &path,
        "--source",
        "crm",
        "--delimiter",
        ";",
        "--key",
        "no",
        "--map",
        "given_names=first",
        "--map",
        "family_names=last",
        "--map",
        "birth_date=born",
        "--map",
        "Physical.Height=height",
        "--refused",
        &refused,
    ];
    let first = place.run(&args);
    assert_eq!(first.status, 1, "{first:?}");
    let lines: Vec<Value> = json_lines(&std::fs::read_to_string(&refused).expect("the file"));
    let mut told: Vec<u64> = lines.iter().filter_map(|line| line["line"].as_u64()).collect();
    told.sort_unstable();
    assert_eq!(told, [3, 4, 5], "{lines:#?}");
    let names = |place: &Place| {
        let mut names: Vec<String> = persons(&place.run(&["export"]).done().stdout)
            .iter()
            .map(|person| person["name"]["components"]["family_names"][0].as_str().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&place), ["King; Lovelace", "du Châtelet"]);

    // The rows that were wrong are mended, the file is sent again.
    let mended = table.replace("09.12.1906", "1906-12-09").replace(";tall", ";1.6").replace("\n;Nobody;X;;", "");
    place.file("people.csv", &mended);
    let second = place.run(&args);
    assert!(second.status == 0 && second.stdout.contains("2 of them duplicates"), "{second:?}");
    assert_eq!(names(&place).len(), 4);
    place.run(&["import", &path, "--map", "given_names=nothing"]).ended(78, "there is no column");
    place.run(&["import", &path, "--map", "surname=last"]).ended(64, "fields are");
    place.run(&["import", "/nowhere/at/all"]).ended(78, "cannot be read");
}

/// Of an import that is killed in the middle nothing is done twice, nor left out, when the same is given again.
#[test]
fn an_import_that_was_killed_is_given_again() {
    const ROWS: u64 = 1_500;
    let place = Place::start();
    let rows: String = (0..ROWS).map(|n| format!("{n},Ada {n},1815-12-10\n")).collect();
    let path = place.file("people.csv", &format!("no,first,born\n{rows}"));
    let args = ["import", &path, "--key", "no", "--map", "given_names=first", "--map", "birth_date=born"];
    let mut raw = crate::support::raw::Raw::connect(place.server.port());
    let mut stored = || {
        let answer = raw.api("STREAM.INFO.PERSON_EVENTS", &Value::Null);
        answer["state"]["messages"].as_u64().expect("a count")
    };
    // On a slow way, so that it is met in the middle.
    let way = crate::support::proxy::Proxy::before(place.server.port());
    way.delay(Duration::from_millis(8));
    for more in [50, 200] {
        let before = stored();
        let mut import = place.command(&args);
        import.args(["--in-flight", "8"]).env("NATS_URL", way.url()).stdout(Stdio::null());
        let mut import = import.spawn().expect("it starts");
        eventually("some are in", || stored() >= before + more);
        import.kill().expect("it is killed");
        import.wait().expect("it ends");
        assert!(stored() < ROWS, "it was to be killed in the middle");
    }
    let finished = place.run(&args);
    assert!(finished.status == 0 && finished.stdout.contains("duplicates"), "{finished:?}");
    // One commit each, of a creation and a birth date.
    let summary = place.run(&["verify", "--json"]).done().json()["summary"].clone();
    assert_eq!((&summary["persons"], &summary["commits"]), (&json!(ROWS), &json!(ROWS)), "{summary}");
    assert_eq!(summary["events"], json!(2 * ROWS));
    let again = place.run(&args);
    assert!(again.status == 0 && again.stdout.contains("1,500 of them duplicates"), "{again:?}");
    assert_eq!(stored(), ROWS);
}
