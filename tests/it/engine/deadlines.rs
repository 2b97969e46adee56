//! Every command is answered in its time, and what the answer says of the store is true.

use super::faults::{OnAppend, OnRead};
use super::*;

fn away_for_ever(replica: &Replica) {
    replica.faults.on_read((0..10_000).map(|_| OnRead::Unavailable));
    replica.faults.on_tips((0..10_000).map(|_| OnRead::Unavailable));
}

#[test]
fn what_waited_too_long_is_not_begun() {
    let world = World::new();
    let mut replica = world.replica();
    // An append may take a second.
    assert_eq!(replica.tell([ask("1", create(ANN)).within(SECOND)]), ["overloaded"]);
    assert_eq!(replica.faults.calls(), [""; 0]);
    assert_eq!(replica.tell([ask("1", create(ANN)).within(SECOND + 1)]), ["accepted v1 #1 PersonCreated"]);
    let mut waited = world.task(&ask("2", create(BOB)), "0".to_owned());
    world.pass(4 * SECOND);
    waited.arrived = world.moment();
    let turn = replica.worker.turn(world.moment(), vec![waited]);
    assert_eq!(told(&turn.answers[0].outcome), "overloaded");
    assert_eq!(world.log.commits(id(BOB)), []);
}

#[test]
fn a_store_that_stays_away_is_unavailable() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    away_for_ever(&replica);
    let before = world.moment().0;
    assert_eq!(replica.tell([ask("2", note(ANN, "x"))]), ["unavailable"]);
    assert!((3_900 * MILLI..=4_100 * MILLI).contains(&(world.moment().0 - before)));

    let mut replica = world.replica();
    replica.faults.on_append((0..10_000).map(|_| OnAppend::Unavailable));
    assert_eq!(replica.tell([ask("2", note(ANN, "x")), ask("3", create(BOB))]), ["unavailable", "unavailable"]);
    assert_eq!(world.history(ANN).version, 1);
    assert_eq!(world.history(BOB).version, 0);

    let mut replica = world.replica();
    replica.faults.on_tips((0..10_000).map(|_| OnRead::Unavailable));
    assert_eq!(replica.tell([ask("2", reactivate(ANN))]), ["unavailable"]);
    assert!(replica.worker.is_idle());
}

#[test]
fn a_store_that_says_no_is_unavailable_at_once() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    replica.faults.on_append([OnAppend::Refused]);
    assert_eq!(replica.turn([ask("2", note(ANN, "x"))]), [(0, "unavailable".to_owned())]);
    assert_eq!(replica.tell([ask("2", note(ANN, "x"))]), ["accepted v2 #2 AttributeRecorded"]);
}

#[test]
fn an_append_that_stays_without_an_answer_is_of_unknown_outcome() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    replica.faults.on_append((0..10_000).map(|_| OnAppend::WriteLost));
    let told = replica.tell([
        ask("2", note(ANN, "x")),
        ask("3", rename(ANN, "Ann")),
        ask("4", create(ANN)),
        ask("2", note(ANN, "x")),
    ]);
    // What changes nothing did nothing, whatever becomes of the commit.
    assert_eq!(told, ["outcome_unknown", "overloaded", "overloaded", "outcome_unknown"]);
    assert!(replica.worker.is_idle());
    assert_eq!(world.history(ANN).version, 1);
}

#[test]
fn those_with_more_time_are_waited_for_longer() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    replica.faults.on_append((0..2_000).map(|_| OnAppend::WriteLost));
    let told = replica.tell([ask("2", note(ANN, "x")).within(1_500 * MILLI), ask("3", note(ANN, "y"))]);
    assert_eq!(told, ["outcome_unknown", "accepted v3 #2 AttributeRecorded"]);
    // The commit was sent as it was: the first is in it.
    assert_eq!(world.history(ANN).commands, ["1", "2", "3"]);
}

#[test]
fn what_waits_behind_an_unsettled_append_has_done_nothing() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    replica.faults.on_append((0..10_000).map(|_| OnAppend::WriteLost));
    assert_eq!(replica.turn([ask("2", note(ANN, "x"))]), []);
    assert_eq!(replica.tell([ask("3", note(ANN, "y")).within(1_100 * MILLI)]), ["overloaded"]);
    assert_eq!(replica.worker.backlog(), 1);
    for _ in 0..5_000 {
        world.pass(MILLI);
        replica.turn([]);
    }
    assert!(replica.worker.is_idle());
}

/// A command that its home took, and could not say so, is carried out here as well. When it failed here, the client was told
/// that nothing was done; and then the home did it.
#[test]
fn of_what_may_be_carried_out_elsewhere_too_nobody_says_that_nothing_was_done() {
    let late = |_: &Replica| {};
    let away = |replica: &Replica| replica.faults.on_append((0..10_000).map(|_| OnAppend::Unavailable));
    let refused = |replica: &Replica| replica.faults.on_append([OnAppend::Refused]);
    // What goes wrong, the time that the command has, what it is, and what is told of it.
    type Case<'a> = (&'a dyn Fn(&Replica), u64, Value, [&'a str; 2]);
    let cases: [Case<'_>; 6] = [
        (&late, SECOND, note(ANN, "x"), ["overloaded", "outcome_unknown"]),
        (&away, 5 * SECOND, note(ANN, "x"), ["unavailable", "outcome_unknown"]),
        (&away_for_ever, 5 * SECOND, note(ANN, "x"), ["unavailable", "outcome_unknown"]),
        (&refused, 5 * SECOND, note(ANN, "x"), ["unavailable", "outcome_unknown"]),
        (&late, 5 * SECOND, reactivate(ANN), ["invalid_state v1"; 2]),
        (&late, 5 * SECOND, note(ANN, "x"), ["accepted v2 #2 AttributeRecorded"; 2]),
    ];
    for (trouble, time, command, expected) in cases {
        for (may_be_elsewhere, expected) in [false, true].into_iter().zip(expected) {
            let world = World::new();
            world.given([ask("1", create(ANN))]);
            let mut replica = world.replica();
            trouble(&replica);
            let task = world.task(&ask("2", command.clone()).within(time), "0".to_owned());
            let mut answers = replica.worker.turn(world.moment(), vec![Task { may_be_elsewhere, ..task }]).answers;
            while answers.is_empty() {
                world.pass(MILLI);
                answers = replica.worker.turn(world.moment(), Vec::new()).answers;
            }
            assert_eq!(told(&answers[0].outcome), expected, "{command}, elsewhere: {may_be_elsewhere}");
        }
    }
}
