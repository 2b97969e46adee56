//! What cannot be asked, and what is not there.

use cim_domain_person::wire::query;
use serde_json::{Value, json};

use super::{ANSWER_BYTES_MAX, ask, bytes, inquiry};
use crate::engine::{ANN, BOB, CAT, SECOND, World, archive, ask as asked, create, large_note, merge, note};

fn world() -> World {
    let world = World::new();
    world.given([asked("", create(ANN)), asked("", note(ANN, "1")), asked("", note(ANN, "2"))]);
    world
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let world = world();
    let mut inquiry = inquiry(&world, ANSWER_BYTES_MAX);
    let before = world.now().plus_micros(-1);
    for (name, more, code) in [
        ("get", json!({ "at_version": 0 }), "invalid"),
        ("get", json!({ "at_version": 4 }), "invalid"),
        ("get", json!({ "at_version": u64::MAX }), "invalid"),
        ("get", json!({ "at_version": -1 }), "malformed"),
        ("get", json!({ "at_version": 1, "as_of": world.now() }), "invalid"),
        ("get", json!({ "as_of": before }), "person_not_found"),
        ("get", json!({ "as_of": "yesterday" }), "malformed"),
        ("get", json!({ "valid_on": "2026-02-30" }), "malformed"),
        ("get", json!({ "person_id": "ann" }), "malformed"),
        ("get", json!({ "person_id": null }), "malformed"),
        ("get", json!({ "person_id": BOB }), "person_not_found"),
        ("get", json!({ "person_id": BOB, "at_version": 1 }), "person_not_found"),
        ("history", json!({ "person_id": BOB }), "person_not_found"),
        ("history", json!({ "limit": 0 }), "invalid"),
        ("history", json!({ "limit": 1001 }), "invalid"),
        ("history", json!({ "from_version": 0 }), "invalid"),
        ("history", json!({ "from_version": "1" }), "malformed"),
        ("everything", json!({}), "malformed"),
        ("", json!({}), "malformed"),
        ("get.", json!({}), "malformed"),
    ] {
        let mut query = json!({ "person_id": ANN });
        query.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(ask(&mut inquiry, name, &query), code, "{name} {query}");
    }
    for payload in ["", "null", "[]", "{", "\u{feff}{}"] {
        let refused = query::decode("get", payload.as_bytes()).unwrap_err();
        assert_eq!(refused.problem.code.as_str(), "malformed", "{payload}");
    }
    let endless = format!("{{\"person_id\":\"{ANN}\"{}}}", " ".repeat(300 * 1024));
    assert_eq!(query::decode("get", endless.as_bytes()).unwrap_err().problem.code.as_str(), "too_large");
}

/// In what is read, null means absent.
#[test]
fn null_is_absent() {
    let world = world();
    let mut inquiry = inquiry(&world, ANSWER_BYTES_MAX);
    let query = json!({ "person_id": ANN, "at_version": null, "as_of": null, "valid_on": null });
    assert_eq!(ask(&mut inquiry, "get", &query)["person"]["version"], 3);
    let query = json!({ "person_id": ANN, "from_version": null, "limit": null });
    assert_eq!(ask(&mut inquiry, "history", &query)["events"].as_array().unwrap().len(), 3);
}

#[test]
fn a_refusal_tells_the_version_that_the_person_is_at() {
    let world = world();
    let query = json!({ "person_id": ANN, "at_version": 9 });
    let query = query::decode("get", query.to_string().as_bytes()).unwrap();
    let problem = inquiry(&world, ANSWER_BYTES_MAX).answer(&[query]).pop().unwrap().unwrap_err();
    assert_eq!(problem.version, Some(3));
}

#[test]
fn past_the_end_there_is_an_empty_page() {
    let world = world();
    let mut inquiry = inquiry(&world, ANSWER_BYTES_MAX);
    for from in [4, 5, u64::MAX] {
        let query = json!({ "person_id": ANN, "from_version": from });
        let empty = json!({ "status": "ok", "version": 3, "events": [] });
        assert_eq!(ask(&mut inquiry, "history", &query), empty);
    }
    let last = ask(&mut inquiry, "history", &json!({ "person_id": ANN, "from_version": 3, "limit": 1000 }));
    assert_eq!(last["events"].as_array().unwrap().len(), 1);
    assert_eq!(last.get("next_version"), None);
}

#[test]
fn a_person_too_big_for_one_message_is_too_large() {
    let world = world();
    world.given([asked("", large_note(ANN, 40_000))]);
    let get = json!({ "person_id": ANN });
    let exact = bytes(&mut inquiry(&world, ANSWER_BYTES_MAX), "get", &get).unwrap().len();
    assert_eq!(bytes(&mut inquiry(&world, exact), "get", &get).unwrap().len(), exact);
    let mut small = inquiry(&world, exact - 1);
    assert_eq!(bytes(&mut small, "get", &get), Err("too_large"));
    assert_eq!(ask(&mut small, "get", &json!({ "person_id": ANN, "at_version": 3 }))["person"]["version"], 3);
    let mut tiny = inquiry(&world, 10_000);
    let page = ask(&mut tiny, "history", &json!({ "person_id": ANN }));
    assert_eq!((page["events"].as_array().unwrap().len(), &page["next_version"]), (3, &json!(4)));
    assert_eq!(ask(&mut tiny, "history", &json!({ "person_id": ANN, "from_version": 4 })), "too_large");
}

#[test]
fn a_merged_person_is_shown_as_merged() {
    let world = world();
    world.given([asked("", create(BOB)), asked("", merge(ANN, BOB)), asked("", create(CAT)), asked("", archive(CAT))]);
    let mut inquiry = inquiry(&world, ANSWER_BYTES_MAX);
    let merged = super::get(&mut inquiry, ANN);
    let expected = json!({ "state": "MergedInto", "target_id": BOB, "merged_at": world.now() });
    assert_eq!(without_time(&merged["person"]["lifecycle"]), without_time(&expected));
    let archived = &super::get(&mut inquiry, CAT)["person"]["lifecycle"];
    assert_eq!((&archived["state"], &archived["reason"]), (&json!("Archived"), &json!("test")));
    let before = ask(&mut inquiry, "get", &json!({ "person_id": ANN, "at_version": 3 }));
    assert_eq!(before["person"]["lifecycle"], json!({ "state": "Active" }));
}

fn without_time(lifecycle: &Value) -> Value {
    let mut lifecycle = lifecycle.clone();
    assert!(lifecycle["merged_at"].is_string());
    lifecycle["merged_at"] = Value::Null;
    lifecycle
}

#[test]
fn the_outer_version_and_sequence_are_the_current_ones() {
    let world = world();
    let mut inquiry = inquiry(&world, ANSWER_BYTES_MAX);
    let then = ask(&mut inquiry, "get", &json!({ "person_id": ANN, "at_version": 1 }));
    assert_eq!((&then["version"], &then["sequence"], &then["person"]["version"]), (&json!(3), &json!(3), &json!(1)));
    // Somebody else's replica goes on.
    world.pass(SECOND);
    world.given([asked("", create(BOB)), asked("", note(ANN, "4"))]);
    let then = ask(&mut inquiry, "get", &json!({ "person_id": ANN, "at_version": 1 }));
    assert_eq!((&then["version"], &then["sequence"], &then["person"]["version"]), (&json!(4), &json!(5), &json!(1)));
}
