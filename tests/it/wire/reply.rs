//! Replies, byte for byte as the contract has them.

use std::collections::BTreeSet;

use cim_domain_person::domain::EventKind;
use cim_domain_person::wire::reply::{Accepted, Code, Outcome, Problem, encode};
use serde_json::Value;

use super::check_golden_text;
use crate::domain::{ANN, BOB, id};

fn accepted(version: u64, events: &[EventKind], sequence: Option<u64>, duplicate: bool) -> Outcome {
    Outcome::Accepted(Accepted { version, events: events.iter().copied().collect(), sequence, duplicate })
}

#[test]
fn replies_are_as_they_are_promised() {
    let new = accepted(3, &[EventKind::NameUpdated], Some(1234), false);
    check_golden_text("reply-accepted.json", &encode(Some("c1"), Some(id(ANN)), &new));
    let both = [EventKind::PersonCreated, EventKind::AttributeRecorded];
    check_golden_text("reply-again.json", &encode(Some("c1"), Some(id(ANN)), &accepted(2, &both, Some(7), true)));
    check_golden_text("reply-nothing.json", &encode(Some("c1"), Some(id(ANN)), &accepted(3, &[], None, false)));

    let exists = Problem::new(Code::AlreadyExists, "the person exists already").on_version(3);
    check_golden_text("reply-rejected.json", &encode(Some("c2"), Some(id(ANN)), &Outcome::Problem(exists)));
    let merged = Problem { moved_to: Some(id(BOB)), ..Problem::new(Code::PersonMerged, "the person was merged") };
    let merged = Outcome::Problem(merged.on_version(4).at(Some(2)));
    check_golden_text("reply-merged.json", &encode(Some("c2"), Some(id(ANN)), &merged));
    let overloaded = Outcome::Problem(Problem::new(Code::Overloaded, "no room"));
    check_golden_text("reply-failed.json", &encode(Some("c3"), Some(id(ANN)), &overloaded));
    let bad = Outcome::Problem(Problem::new(Code::Invalid, "Nats-Msg-Id: sent more than once"));
    check_golden_text("reply-bad-header.json", &encode(None, None, &bad));
}

#[test]
fn codes_are_as_they_are_promised() {
    let table = [
        ("malformed", 400, "rejected", false),
        ("invalid", 400, "rejected", false),
        ("person_id_mismatch", 400, "rejected", false),
        ("person_not_found", 404, "rejected", false),
        ("attribute_not_found", 404, "rejected", false),
        ("already_exists", 409, "rejected", false),
        ("invalid_state", 409, "rejected", false),
        ("birth_date_already_set", 409, "rejected", false),
        ("version_conflict", 409, "rejected", false),
        ("command_id_reused", 409, "rejected", false),
        ("person_merged", 410, "rejected", false),
        ("too_large", 413, "rejected", false),
        ("overloaded", 429, "failed", true),
        ("history_damaged", 500, "failed", false),
        ("unavailable", 503, "failed", true),
        ("history_too_new", 503, "failed", true),
        ("outcome_unknown", 504, "failed", true),
    ];
    let told = Code::ALL.map(|code| {
        let reply = encode(None, None, &Outcome::Problem(Problem::new(code, "why")));
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        assert_eq!(reply["error"]["code"], code.as_str());
        assert_eq!(reply["error"]["message"], "why");
        let status = if code.is_failure() { "failed" } else { "rejected" };
        assert_eq!(reply["status"], status);
        (code.as_str(), code.number(), status, reply["error"]["retryable"].as_bool().unwrap())
    });
    assert_eq!(told, table);
    assert_eq!(Code::ALL.iter().collect::<BTreeSet<_>>().len(), Code::ALL.len());
}
