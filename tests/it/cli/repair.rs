//! The deliberate way out for a damaged history, with a service that runs meanwhile.

use cim_domain_person::domain::PersonId;
use serde_json::Value;

use super::*;
use crate::support::histories::{History, Writer};
use crate::support::{somebody, streams};

const CONFIRMED: [&str; 5] = ["--yes", "--confirmed-by", "M. Perez", "--reason", "disk failure"];

impl Place {
    fn repair(&self, person: &str, save: &str, more: &[&str]) -> Ended {
        let save = self.path(save);
        let args: Vec<&str> =
            ["repair", person, "--save", &save].iter().chain(&CONFIRMED).chain(more).copied().collect();
        self.run(&args)
    }

    fn rename(&self, person: &str, given: &str, id: &str) -> Ended {
        self.run(&["send", "rename", person, "--given", given, "--id", id, "--patience", "0s", "--json"])
    }
}

/// The person is damaged behind the third version while a replica has it in memory.
#[test]
fn what_is_whole_is_kept_with_its_commands_and_the_service_goes_on() {
    let place = Place::start();
    let person = place.create("Ada");
    let second = place.rename(&person, "Augusta", "c2").done().json();
    place.rename(&person, "Countess", "c3").done();
    let id: PersonId = person.parse().expect("a UUID");
    let mut writer = Writer::connect(place.server.port());
    writer.write_raw(id, "", b"garbage");
    place.rename(&person, "Refused", "c4").ended(1, "history_damaged");

    // Told, not done.
    let told = place.run(&["repair", &person]);
    assert_eq!(told.status, 1, "{told:?}");
    for said in
        ["whole up to version 3; at stream sequence 4: not a commit", "kept: 3 commits", "given up: 1 message\n"]
    {
        assert!(told.stdout.contains(said), "{said}: {}", told.stdout);
    }
    place.run(&["verify", "--person", &person]).ended(1, "");

    place.repair(&person, "saved", &[]).done();
    let saved = json_lines(&std::fs::read_to_string(place.path("saved")).expect("the file"));
    assert_eq!((saved.len(), &saved[3]["text"]), (4, &json!("garbage")));
    place.repair(&person, "saved", &[]).ended(0, "");
    let alone = place.run(&["verify", "--person", &person]).done().stdout;
    assert!(alone.contains("nothing is wrong"), "nor with what marks the snapshot as deleted: {alone}");

    // Version 4 may have been seen, so the person is at 5.
    let history = place.run(&["history", &person, "--json"]).done().json_lines();
    let kinds: Vec<&str> =
        history.iter().filter_map(|event| event["event"].as_object()?.keys().next()).map(String::as_str).collect();
    let given_up = "AttributeInvalidated";
    assert_eq!(kinds, ["PersonCreated", "NameUpdated", "NameUpdated", given_up, given_up]);
    assert_eq!((&history[4]["actor"], &history[4]["sequence"]), (&json!("M. Perez"), &json!(5)));
    let shown = place.run(&["show", &person, "--json"]).done().json();
    assert_eq!(shown["person"]["name"]["components"]["given_names"], json!(["Countess"]));

    // A command from before is recognised, a new one continues the history.
    let again = place.rename(&person, "Augusta", "c2").done().json();
    assert_eq!((&again["duplicate"], &again["version"]), (&json!(true), &second["version"]));
    let next = place.rename(&person, "Lady", "c4").done().json();
    assert_eq!(next["version"], 6);
    place.run(&["verify"]).done();
    let tip = writer
        .api("STREAM.MSG.GET.PERSON_EVENTS", &json!({ "seq": 1, "next_by_subj": format!("person.events.{person}") }));
    assert!(tip["message"]["seq"].as_u64() > Some(4), "what lay there is gone: {tip}");
}

#[test]
fn the_record_of_what_was_given_up_is_in_the_stream() {
    let place = Place::without_service();
    let mut writer = Writer::connect(place.server.port());
    let history = writer.person(somebody(), 2);
    let at = writer.write_raw(history.person, "", b"garbage");
    let person = history.person.to_string();
    place.repair(&person, "saved", &["--seen", "7"]).done();
    let last =
        writer.api("STREAM.MSG.GET.PERSON_EVENTS", &json!({ "last_by_subj": format!("person.events.{person}") }));
    use base64::Engine as _;
    let data = last["message"]["data"].as_str().expect("data");
    let commit = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
    let commit: Value = serde_json::from_slice(&commit).expect("JSON");
    assert_eq!((&commit["version"], &commit["commands"][0]["generated"]), (&json!(8), &json!(true)));
    let digest = cim_domain_person::wire::digest::Digest::of(b"garbage").to_string();
    assert_eq!(
        commit["repaired"],
        json!({ "kept_to": 2, "given_up_to": 7, "messages": 1, "given_up": [{ "sequence": at, "digest": digest }],
            "confirmed_by": "M. Perez", "reason": "disk failure" })
    );
    place.run(&["verify"]).done();
    let nothing = place.run(&["repair", &person]).done();
    assert!(nothing.stdout.contains("nothing has to be repaired"), "{}", nothing.stdout);
}

/// The log lost its end, which the snapshot proves; and a stale snapshot that a replica stores afterwards does no harm.
#[test]
fn a_lost_end_is_given_up_and_the_snapshot_with_it() {
    let mut place = Place::without_service();
    place.start_service_with(&[("SNAPSHOT_FREQ", "10")]);
    let person = place.create("Ada");
    let lines: Vec<String> = (0..11).map(|n| rename_line(&person, &format!("N{n}"))).collect();
    place.run_with(&lines.join("\n"), &["send", "--lines", "-"]).done();
    let mut raw = crate::support::raw::Raw::connect(place.server.port());
    let key = format!("$KV.PERSON_EVENTS_SNAPSHOTS.v1.{person}");
    let mut snapshot = String::new();
    eventually("a snapshot", || {
        let shown = raw.api("STREAM.MSG.GET.KV_PERSON_EVENTS_SNAPSHOTS", &json!({ "last_by_subj": key }));
        snapshot = shown["message"]["data"].as_str().unwrap_or_default().to_owned();
        !snapshot.is_empty()
    });
    place.kill_service();
    // The stream of an older backup: the same first commits, and nothing behind them.
    let mut commits = Vec::new();
    for sequence in 1..=4 {
        commits.push(raw.api("STREAM.MSG.GET.PERSON_EVENTS", &json!({ "seq": sequence }))["message"].clone());
    }
    raw.api("STREAM.PURGE.PERSON_EVENTS", &Value::Null);
    use base64::Engine as _;
    let decode = |text: &Value| {
        base64::engine::general_purpose::STANDARD.decode(text.as_str().expect("base64")).expect("base64")
    };
    for commit in &commits {
        raw.request(&format!("person.events.{person}"), &decode(&commit["data"]));
    }
    place.start_service();
    place.rename(&person, "Refused", "x").ended(1, "history_damaged");
    let findings = place.run(&["verify", "--json"]);
    assert!(findings.stdout.contains("snapshot_ahead") || findings.stdout.contains("snapshot_stale"), "{findings:?}");

    place.repair(&person, "saved", &["--seen", "12"]).done();
    let next = place.rename(&person, "Lady", "y").done().json();
    assert!(next["version"].as_u64() > Some(12), "beyond what anybody has seen: {next}");
    let stale = base64::engine::general_purpose::STANDARD.decode(&snapshot).expect("base64");
    raw.request(&key, &stale);
    place.kill_service();
    place.start_service();
    place.rename(&person, "Still", "z").done();
}

/// The bucket was away for a moment; so there seemed to be no snapshot, the version that it proves was given out a second
/// time, and then the snapshot was deleted.
#[test]
fn a_snapshot_that_cannot_be_read_is_not_taken_for_none() {
    const BUCKET: &str = "KV_PERSON_EVENTS_SNAPSHOTS";
    let away = |call: &str| format!("\"$JS.API.{call}.{BUCKET}\": nobody.listens");
    let mappings = ["DIRECT.GET", "STREAM.MSG.GET"].map(away).join("\n");
    let mut place = Place::without_service();
    place.server = NatsServer::with(&format!("mappings {{ {mappings} }}"));
    let mut writer = Writer::connect(place.server.port());
    let history = writer.person(somebody(), 2);
    writer.write_raw(history.person, "", b"garbage");
    let person = history.person.to_string();
    let mut raw = crate::support::raw::Raw::connect(place.server.port());
    raw.api(
        &format!("STREAM.CREATE.{BUCKET}"),
        &json!({ "name": BUCKET, "storage": "file", "allow_rollup_hdrs": true,
        "subjects": ["$KV.PERSON_EVENTS_SNAPSHOTS.>"], "max_msgs_per_subject": 1, "allow_direct": true }),
    );
    raw.request(&format!("$KV.PERSON_EVENTS_SNAPSHOTS.v1.{person}"), b"of version 9");
    let last = |raw: &mut crate::support::raw::Raw, stream: &str| {
        raw.api(&format!("STREAM.INFO.{stream}"), &Value::Null)["state"]["last_seq"].clone()
    };
    let before = [BUCKET, "PERSON_EVENTS"].map(|stream| last(&mut raw, stream));
    place.repair(&person, "saved", &[]).ended(69, "the snapshot cannot be read");
    place.run(&["verify", "--person", &person]).ended(69, "the snapshot cannot be read");
    assert_eq!([BUCKET, "PERSON_EVENTS"].map(|stream| last(&mut raw, stream)), before);
    assert_eq!(before, [json!(1), json!(3)]);
}

#[test]
fn a_merge_in_a_circle_is_undone_by_keeping_less() {
    let place = Place::start();
    let mut writer = Writer::connect(place.server.port());
    let [mut one, mut other]: [History; 2] = [(); 2].map(|()| writer.person(somebody(), 2));
    let [first, second] = [one.person, other.person];
    writer.merge(&mut one, second);
    writer.merge(&mut other, first);
    writer.finish();
    let person = first.to_string();
    place.run(&["verify"]).ended(1, "");
    place.repair(&person, "a", &["--keep-to", "9"]).ended(1, "--keep-to 3 is possible");
    place.repair(&person, "a", &["--keep-to", "2"]).done();
    place.run(&["verify"]).done();
    let renamed = place.rename(&person, "Free", "c").done().json();
    assert_eq!(renamed["version"], 5);
}

#[test]
fn a_history_of_which_nothing_is_whole_begins_anew_at_a_higher_version() {
    let place = Place::start();
    let mut writer = Writer::connect(place.server.port());
    let person = somebody();
    writer.write_raw(person, "", b"garbage");
    let id = person.to_string();
    place.repair(&id, "saved", &[]).done();
    place.run(&["show", &id]).ended(1, "person_not_found");
    place.run_with(&create_line(&id, "Anew"), &["send", "-"]).done();
    let shown = place.run(&["show", &id, "--json"]).done().json();
    assert_eq!(shown["version"], 3);
    place.run(&["verify"]).done();
}

/// Wherever it is killed: until it is done the person is damaged for everybody, never whole and shorter, and a second run
/// does all of it.
#[test]
fn a_repair_that_was_killed_leaves_the_damage_and_is_given_again() {
    let place = Place::start();
    let mut writer = Writer::connect(place.server.port());
    let mut round = 0;
    for after in [1, COMMITS / 2, COMMITS - 10] {
        // It may be over before it is killed, and is then tried again.
        eventually("it is killed in the middle", || {
            round += 1;
            repair_killed(&place, &mut writer, round, after)
        });
    }
    place.run(&["verify"]).done();
}

const COMMITS: u64 = 40;

/// Kills a repair when so much is written; whether that came before its end. Then it is given again.
fn repair_killed(place: &Place, writer: &mut Writer, round: usize, after: u64) -> bool {
    let id = writer.person(somebody(), COMMITS).person;
    writer.write_raw(id, "", b"garbage");
    let person = id.to_string();
    let filter = json!({ "subjects_filter": format!("person.events.{person}") });
    let mut stored = || {
        let info = writer.api("STREAM.INFO.PERSON_EVENTS", &filter);
        info["state"]["subjects"][format!("person.events.{person}")].as_u64().expect("a count")
    };
    let before = stored();
    let proxy = crate::support::proxy::Proxy::before(place.server.port());
    proxy.delay(Duration::from_millis(4));
    let (first, second) = (place.path(&format!("first-{round}")), format!("second-{round}"));
    let mut repair = place.command(&["repair", &person, "--save", &first]);
    repair.args(CONFIRMED).env("NATS_URL", proxy.url()).stdout(Stdio::null());
    let mut repair = repair.spawn().expect("it starts");
    eventually("so much is written", || stored() >= before + after || stored() < before);
    proxy.stall(true);
    repair.kill().expect("it is killed");
    repair.wait().expect("it ends");
    if stored() < before + after {
        return false;
    }
    place.run(&["show", &person]).ended(1, "history_damaged");
    place.rename(&person, "Refused", &format!("a{round}")).ended(1, "history_damaged");
    let findings = place.run(&["verify", "--json", "--person", &person]).json_lines();
    let finding = (&findings[0]["finding"], &findings[0]["whole_up_to"]);
    assert_eq!(finding, (&json!("history_damaged"), &json!(COMMITS)), "{findings:#?}");
    assert_eq!(std::fs::read_to_string(&first).expect("saved before").lines().count() as u64, before);

    place.repair(&person, &second, &[]).done();
    let shown = place.run(&["show", &person, "--json"]).done().json();
    assert!(shown["version"].as_u64() > Some(COMMITS), "{shown}");
    let kept = json!([format!("Ada {COMMITS}")]);
    assert_eq!(shown["person"]["name"]["components"]["given_names"], kept);
    place.rename(&person, "Next", &format!("b{round}")).done();
    place.run(&["verify", "--person", &person]).done();
    true
}

/// Beside a rolled back replica: what the newer one had written was given up as damage.
#[test]
fn what_a_newer_release_wrote_is_given_up_only_where_that_is_said() {
    let place = Place::without_service();
    let mut writer = Writer::connect(place.server.port());
    let history = writer.person(somebody(), 2);
    let at = writer.write_raw(history.person, "", br#"{"schema":99,"version":3}"#);
    let person = history.person.to_string();
    let refused = place.repair(&person, "saved", &[]).ended(1, "--keep-to 2 gives up what it wrote");
    assert!(refused.stderr.contains(&format!("at stream sequence {at}: written by a newer release")), "{refused:?}");
    assert!(!Path::new(&place.path("saved")).exists());
    place.run(&["verify", "--person", &person]).ended(1, "");
    place.repair(&person, "saved", &["--keep-to", "2"]).done();
    place.run(&["verify", "--person", &person]).done();
}

/// A long stretch of the history was lost: the versions behind it, which everybody had seen, were given out again.
#[test]
fn versions_behind_a_long_gap_are_not_given_out_again() {
    let place = Place::start();
    let mut writer = Writer::connect(place.server.port());
    let mut behind = |missing: u64| {
        let history = writer.person(somebody(), 3);
        let mut later = History { version: 3 + missing, ..history };
        let payload = later.commit(vec![later.renamed("Ada 3", "Ada later")]);
        writer.write_raw(later.person, "", &payload);
        later.person.to_string()
    };
    let person = behind(2_000);
    let told = place.run(&["repair", &person]).stdout;
    assert!(told.contains("versions 4 to 2005 are filled"), "the gap, 2004 and one more: {told}");
    place.repair(&person, "saved", &[]).done();
    let next = place.rename(&person, "Lady", "c").done().json();
    assert_eq!(next["version"], 2_006);

    let told = place.run(&["repair", &behind(200_000)]).stdout;
    for said in ["a commit claims version 200004, which is not believed", "versions 4 to 5 are filled"] {
        assert!(told.contains(said), "{said}: {told}");
    }
}

#[test]
fn nothing_is_done_by_accident() {
    let place = Place::without_service();
    let mut writer = Writer::connect(place.server.port());
    let history = writer.person(somebody(), 2);
    writer.write_raw(history.person, "", b"garbage");
    let person = history.person.to_string();
    place.run(&["repair", &person, "--yes"]).ended(64, "--save");
    place.run(&["repair", &person, "--yes", "--save", "x", "--confirmed-by", " ", "--reason", "y"]).ended(64, "");
    let existing = place.file("existing", "precious");
    place.repair(&person, "existing", &[]).ended(78, "--save");
    assert_eq!(std::fs::read_to_string(existing).expect("the file"), "precious");
    place.repair(&somebody().to_string(), "new", &[]).ended(1, "no such person");
    let rules = streams::commits(&json!({ "deny_purge": true, "allow_rollup_hdrs": null }));
    let changed = writer.api("STREAM.UPDATE.PERSON_EVENTS", &rules);
    assert!(changed["error"].is_null(), "{changed}");
    place.repair(&person, "new", &[]).ended(1, "deny_purge");
    place.run(&["verify"]).ended(1, "");
}
