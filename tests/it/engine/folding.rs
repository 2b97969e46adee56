//! Several commands of one person that wait together, and the limits of a commit.

use cim_domain_person::domain::EventKind;
use cim_domain_person::wire::commit::{COMMIT_BYTES_MAX, EVENTS_MAX};
use serde_json::json;

use super::*;

#[test]
fn what_waits_together_is_stored_together() {
    let world = World::new();
    let mut replica = world.replica();
    let told = replica.turn([
        ask("1", create(ANN)),
        ask("2", rename(ANN, "Bea")),
        ask("3", create(ANN)),
        ask("4", rename(ANN, "Bea")),
        ask("5", json!([note(ANN, "x"), archive(ANN), note(ANN, "y")])),
        ask("6", json!([note(ANN, "x"), note(ANN, "y")])),
        ask("2", rename(ANN, "Bea")),
        ask("2", rename(ANN, "Cy")),
        ask("7", rename(ANN, "Cy")).expecting(4),
        ask("8", rename(ANN, "Dan")).expecting(4),
        ask("9", create(BOB)),
    ]);
    let told: Vec<&str> = told.iter().map(|(_, outcome)| outcome.as_str()).collect();
    assert_eq!(
        told,
        [
            "accepted v1 #1 PersonCreated",
            "accepted v2 #1 NameUpdated",
            "already_exists v2",
            "accepted v2",
            "invalid_state v2 [2]",
            "accepted v4 #1 AttributeRecorded AttributeRecorded",
            "accepted v2 #1 NameUpdated again",
            "command_id_reused v4",
            "accepted v5 #1 NameUpdated",
            "version_conflict v5",
            "accepted v1 #2 PersonCreated",
        ]
    );
    assert_eq!(replica.faults.calls(), ["append"], "one round trip for all, and what it proved needs no other");
    assert_eq!(world.history(ANN).commands, ["1", "2", "6", "7"]);
    assert_eq!(world.history(ANN).commits, [5]);
}

#[test]
fn the_headers_of_a_commit_describe_it() {
    use cim_domain_person::engine::aggregate::Aggregate;
    use cim_domain_person::engine::draft::{Draft, MergeTargets};
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let world = World::new();
    let absent = Aggregate::absent(id(ANN));
    let targets = MergeTargets::new();
    let sealed = |asks: &[Ask]| {
        let mut draft = Draft::on(&absent, &targets, COMMIT_BYTES_MAX);
        asks.iter().for_each(|ask| {
            draft.decide(&world.task(ask, String::new()).request);
        });
        draft.seal().unwrap().map(|sealed| sealed.append)
    };
    let one = sealed(&[ask("1", json!([create(ANN), note(ANN, "x")])).with("traceparent", TRACE)]).unwrap();
    assert_eq!(*one.headers.event_types, [EventKind::PersonCreated, EventKind::AttributeRecorded]);
    assert_eq!(one.headers.person_version, 2);
    assert_eq!(one.headers.traceparent.as_deref(), Some(TRACE));
    assert_eq!(one.expected, 0);
    let two = sealed(&[ask("1", create(ANN)).with("traceparent", TRACE), ask("2", note(ANN, "x"))]).unwrap();
    assert_eq!(two.headers.traceparent, None);
    assert!(sealed(&[ask("1", rename(ANN, "Bea"))]).is_none());
}

#[test]
fn more_events_than_a_commit_may_have_go_into_the_next() {
    let world = World::new();
    let mut replica = world.replica();
    let asks = (0..600).map(|number| {
        let command = if number == 0 { create(ANN) } else { note(ANN, "x") };
        ask(&number.to_string(), command)
    });
    let told = replica.tell(asks);
    for (number, outcome) in told.iter().enumerate() {
        assert!(outcome.starts_with(&format!("accepted v{} #{} ", number + 1, number / EVENTS_MAX + 1)), "{outcome}");
    }
    assert_eq!(world.history(ANN).commits, [EVENTS_MAX, EVENTS_MAX, 600 - 2 * EVENTS_MAX]);
}

#[test]
fn an_array_that_has_no_room_left_goes_into_the_next_whole() {
    let world = World::new();
    let mut replica = world.replica();
    let arrays = (0..7).map(|number| {
        let mut commands = vec![if number == 0 { create(ANN) } else { note(ANN, "x") }];
        commands.extend((1..60).map(|_| note(ANN, "y")));
        ask(&number.to_string(), json!(commands))
    });
    let told = replica.tell(arrays);
    assert!(told.iter().all(|outcome| outcome.starts_with("accepted")), "{told:?}");
    assert_eq!(world.history(ANN).commits, [240, 180]);
}

#[test]
fn more_bytes_than_a_commit_may_have_go_into_the_next() {
    let world = World::new();
    world.given([ask("0", create(ANN))]);
    let mut replica = world.replica();
    let told = replica.tell((1..=4).map(|number| ask(&number.to_string(), large_note(ANN, 120_000))));
    assert!(told.iter().all(|outcome| outcome.starts_with("accepted")), "{told:?}");
    let sizes: Vec<_> = world.log.commits(id(ANN)).iter().map(|stored| stored.payload.len()).collect();
    assert!(sizes.iter().all(|size| *size <= COMMIT_BYTES_MAX), "{sizes:?}");
    // Four of them fill a commit to nine tenths.
    assert_eq!(world.history(ANN).commits, [1, 4]);

    let mut replica = world.replica();
    replica.faults.payload_bytes_max(250_000);
    world.given([ask("0", create(BOB))]);
    let told = replica.tell((1..=5).map(|number| ask(&number.to_string(), large_note(BOB, 90_000))));
    assert!(told.iter().all(|outcome| outcome.starts_with("accepted")), "{told:?}");
    assert_eq!(world.history(BOB).commits, [1, 2, 2, 1]);
}

#[test]
fn nobody_is_refused_for_their_company() {
    // The large one has no room beside the small one before it, and none at all where nothing may be as large as it is.
    for (payload_bytes_max, large) in [(100_000, "accepted v3 #3 AttributeRecorded"), (60_000, "too_large v2")] {
        let world = World::new();
        world.given([ask("0", create(ANN))]);
        let mut replica = world.replica();
        replica.faults.payload_bytes_max(payload_bytes_max);
        let told = replica.tell([
            ask("1", large_note(ANN, 40_000)),
            ask("2", large_note(ANN, 80_000)),
            ask("3", note(ANN, "small")),
        ]);
        let last = if large.starts_with("accepted") { 4 } else { 3 };
        assert_eq!(
            told,
            ["accepted v2 #2 AttributeRecorded".to_owned(), large.to_owned(), {
                format!("accepted v{last} #3 AttributeRecorded")
            }],
        );
        world.history(ANN);
    }
}

#[test]
fn what_is_too_large_alone_changes_nothing_and_harms_nobody() {
    let world = World::new();
    world.given([ask("0", create(ANN))]);
    let mut replica = world.replica();
    replica.faults.payload_bytes_max(20_000);
    let told = replica.tell([
        ask("1", json!([note(ANN, "a"), large_note(ANN, 40_000)])),
        ask("2", large_note(ANN, 40_000)),
        ask("3", note_again(ANN, "b")),
        ask("4", note(ANN, "c")),
    ]);
    let c = "accepted v2 #2 AttributeRecorded";
    assert_eq!(told, ["too_large v1", "too_large v1", "attribute_not_found v1", c]);
    assert_eq!(world.history(ANN).state.unwrap().attributes.len(), 1);
}
