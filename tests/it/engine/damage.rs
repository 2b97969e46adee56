//! Histories that do not check out, or that a newer release wrote: said only on the leader's evidence, and of nobody
//! else.

use cim_domain_person::engine::turn::Notice;
use serde_json::{Value, json};

use super::*;

/// What is changed in a commit, in words and as such.
type Change = (&'static str, fn(&mut Value));

fn three() -> World {
    let world = World::new();
    world.given([ask("1", create(ANN)), ask("2", rename(ANN, "Bea")), ask("3", note(ANN, "x"))]);
    world
}

/// The history with its second commit changed.
fn changed(change: impl FnOnce(&mut Value)) -> World {
    let world = three();
    let mut commit: Value = serde_json::from_slice(&world.log.commits(id(ANN))[1].payload).unwrap();
    change(&mut commit);
    world.log.corrupt(id(ANN), 2, &serde_json::to_vec(&commit).unwrap());
    world
}

fn check(what: &str, world: &World, then: &str) {
    let mut replica = world.replica();
    let told = replica.tell([ask("4", note(ANN, "y")), ask("5", create(BOB)), ask("6", rename(ANN, "Cy"))]);
    assert_eq!(told, [then, "accepted v1 #4 PersonCreated", then], "{what}");
    let [notice] = &replica.notices[..] else { panic!("{what}: {:?}", replica.notices) };
    match (notice, then) {
        (Notice::Damaged(person, _), "history_damaged") | (Notice::TooNew(person, _), "history_too_new") => {
            assert_eq!(*person, id(ANN));
        }
        _ => panic!("{what}: {notice:?}"),
    }
    // A creation presumes that there is nothing, and is told better.
    assert_eq!(replica.tell([ask("7", create(ANN))]), [then], "{what}");
    assert!(replica.worker.is_idle());
    assert_eq!(world.log.commits(id(ANN)).len(), 3, "{what}");
}

#[test]
fn damage_is_told() {
    let world = three();
    world.log.corrupt(id(ANN), 2, b"garbage");
    check("garbage", &world, "history_damaged");
    let world = three();
    world.log.corrupt(id(ANN), 2, b"");
    check("nothing", &world, "history_damaged");
    let cases: [Change; 9] = [
        ("a gap", |commit| (commit["version"], commit["events"][0]["sequence"]) = (json!(3), json!(3))),
        ("version zero", |commit| (commit["version"], commit["events"][0]["sequence"]) = (json!(0), json!(0))),
        ("another version", |commit| commit["version"] = json!(7)),
        ("a broken chain", |commit| commit["previous"] = json!("00000000000000000000000000000001")),
        ("somebody else's", |commit| commit["aggregate_id"] = json!(BOB)),
        ("somebody else's event", |commit| commit["events"][0]["event"]["NameUpdated"]["person_id"] = json!(BOB)),
        ("time running backwards", |commit| commit["events"][0]["timestamp"] = json!("2001-01-01T00:00:00Z")),
        ("events of nobody", |commit| commit["commands"] = json!([])),
        ("no events", |commit| commit["events"] = json!([])),
    ];
    for (what, change) in cases {
        check(what, &changed(change), "history_damaged");
    }
    // The third commit names the second one as it was.
    check("a member more", &changed(|commit| commit["later"] = json!(true)), "history_damaged");
}

#[test]
fn what_a_newer_release_wrote_is_left_to_one() {
    let cases: [Change; 3] = [
        ("a higher schema", |commit| commit["schema"] = json!(2)),
        ("another type of event", |commit| {
            let event = commit["events"][0]["event"]["NameUpdated"].take();
            commit["events"][0]["event"] = json!({ "NicknameUpdated": event });
        }),
        ("another type of event in another schema", |commit| {
            *commit = json!({ "schema": 3, "events": "elsewhere" });
        }),
    ];
    for (what, change) in cases {
        check(what, &changed(change), "history_too_new");
    }
}

#[test]
fn a_newest_commit_that_cannot_be_read_is_found_by_the_conflict() {
    let world = three();
    let mut replica = world.replica();
    replica.tell([ask("", create(ANN))]);
    world.given([ask("4", note(ANN, "y"))]);
    world.log.corrupt(id(ANN), 4, br#"{"schema":2}"#);
    assert_eq!(replica.tell([ask("5", note(ANN, "z"))]), ["history_too_new"]);
    assert_eq!(replica.tell([ask("5", reactivate(ANN))]), ["history_too_new"]);
    world.log.corrupt(id(ANN), 4, b"?");
    assert_eq!(replica.tell([ask("5", note(ANN, "z"))]), ["history_damaged"]);
}

#[test]
fn what_a_copy_shows_is_not_believed_to_be_damage() {
    for garbage in [&b"garbage"[..], br#"{"schema":2}"#] {
        for sequence in 1..=3 {
            let world = three();
            let mut replica = world.replica();
            replica.faults.garble(sequence, garbage);
            assert_eq!(replica.tell([ask("4", note(ANN, "y"))]), ["accepted v4 #4 AttributeRecorded"]);
            assert_eq!(replica.notices, []);
            world.history(ANN);
        }
    }
}

#[test]
fn a_cache_that_does_not_fit_the_stream_is_given_up() {
    let world = three();
    let mut replica = world.replica();
    replica.tell([ask("", create(ANN))]);
    // Another history has come in the place of the one that it knows.
    world.log.lose_after(1);
    world.given([ask("2", rename(ANN, "Dan")), ask("3", deactivate(ANN)), ask("4", reactivate(ANN))]);
    assert_eq!(replica.tell([ask("5", rename(ANN, "Dan"))]), ["accepted v4"]);
    assert!(replica.notices.iter().any(|notice| matches!(notice, Notice::Odd(..))), "{:?}", replica.notices);
}
