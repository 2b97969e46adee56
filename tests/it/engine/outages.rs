//! A store that is away says nothing of what is in memory: that is worth as much as before.

use cim_domain_person::engine::turn::Notice;

use super::faults::{OnAppend, OnRead};
use super::*;

/// A replica that has a person of two commits in memory.
fn warm() -> (World, Replica) {
    let world = World::new();
    let mut replica = world.replica();
    replica.tell([ask("1", create(ANN)), ask("b", create(BOB))]);
    replica.tell([ask("2", note(ANN, "x"))]);
    replica.faults.calls();
    (world, replica)
}

/// Whoever could not append, or not ask the leader, was loaded again; and when that failed too, forgotten.
#[test]
fn an_outage_is_no_reason_to_read_anything_again() {
    for (when, then) in [(note(ANN, "y"), "accepted v3 #4 AttributeRecorded"), (reactivate(ANN), "invalid_state v2")] {
        let (_, mut replica) = warm();
        replica.faults.on_append((0..3).map(|_| OnAppend::Unavailable));
        replica.faults.on_tips([OnRead::Unavailable; 3]);
        assert_eq!(replica.tell([ask("3", when)]), [then]);
        let calls = replica.faults.calls();
        assert!(calls == ["append"; 4] || calls == ["tips"; 4], "{calls:?}");
    }
    // Nor is somebody who is presumed not to exist.
    let (_, mut replica) = warm();
    replica.faults.on_append((0..3).map(|_| OnAppend::Unavailable));
    assert_eq!(replica.tell([ask("3", create(CAT))]), ["accepted v1 #4 PersonCreated"]);
    assert_eq!(replica.faults.calls(), ["append"; 4]);
}

#[test]
fn who_is_stale_during_an_outage_lacks_the_tail_alone() {
    let (world, mut replica) = warm();
    world.given([ask("r", note(ANN, "rival"))]);
    replica.faults.on_read([OnRead::Unavailable; 3]);
    assert_eq!(replica.tell([ask("3", note(ANN, "y"))]), ["accepted v4 #5 AttributeRecorded"]);
    assert_eq!(replica.faults.calls(), ["append", "read", "read", "read", "read", "append"]);
    assert_eq!((replica.counts.loads, replica.counts.tails), (0, 1));
}

#[test]
fn who_waited_in_vain_leaves_the_person_in_memory() {
    let (world, mut replica) = warm();
    world.given([ask("r", note(ANN, "rival"))]);
    replica.faults.on_read((0..10_000).map(|_| OnRead::Unavailable));
    assert_eq!(replica.tell([ask("3", note(ANN, "y")).within(1_100 * MILLI)]), ["unavailable"]);
    assert_eq!(replica.worker.cached_persons(), 2);
    assert_eq!(replica.counts.loads, 0);
}

/// Each page of a history was read again after an outage, so that who needs more pages than the store gives between two
/// hiccups was never loaded.
#[test]
fn a_history_is_read_on_where_the_outage_came() {
    let world = World::new();
    world.given(
        [ask("1", create(ANN))].into_iter().chain((0..19).map(|number| ask("", note(ANN, &number.to_string())))),
    );
    assert_eq!(world.history(ANN).version, 20);
    let mut replica = world.replica();
    replica.faults.page_commits_max(4);
    replica.faults.on_read((0..4).flat_map(|_| [OnRead::Works, OnRead::Unavailable]));
    assert_eq!(replica.tell([ask("x", note(ANN, "x"))]), ["accepted v21 #21 AttributeRecorded"]);
    assert_eq!(replica.faults.calls(), [vec!["read"; 9], vec!["append"]].concat());
    assert_eq!(replica.counts.cache_misses, 1, "counted once, not with each try");
    assert_eq!(replica.notices, []);
}

/// A snapshot whose commit nobody has seen is no state to go on with; and one that did not fit is still compared with what
/// the stream has.
#[test]
fn an_outage_does_not_make_a_snapshot_true() {
    let world = World::new();
    let mut replica = world.replica_with(Limits { snapshot_frequency: 1, ..LIMITS });
    for number in 0..5 {
        let command = if number == 0 { create(ANN) } else { note(ANN, &number.to_string()) };
        replica.tell([ask("", command)]);
    }
    world.log.lose_after(2);
    for outages in 1..6 {
        for works in 0..4 {
            let mut replica = world.replica();
            replica.faults.page_commits_max(1);
            replica.faults.on_read(vec![OnRead::Works; works]);
            replica.faults.on_read(vec![OnRead::Unavailable; outages]);
            assert_eq!(replica.tell([ask("", note(ANN, "x"))]), ["history_damaged"], "{works} reads, then {outages}");
        }
    }
}

/// Whose target was damaged was told so; those who run the service were not.
#[test]
fn a_damaged_merge_target_is_told_of() {
    let (world, mut replica) = warm();
    world.log.corrupt(id(BOB), 2, b"{}");
    let mut cold = world.replica();
    assert_eq!(cold.tell([ask("3", merge(ANN, BOB))]), ["history_damaged"]);
    assert!(matches!(&cold.notices[..], [Notice::Damaged(person, _)] if *person == id(BOB)), "{:?}", cold.notices);
    assert_eq!(replica.tell([ask("3", note(ANN, "y"))]), ["accepted v3 #4 AttributeRecorded"]);
}
