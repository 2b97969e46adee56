//! Appends without an answer: nothing is guessed, nothing is done twice.

use super::faults::{OnAppend, OnRead};
use super::*;

const NO_ANSWER: [fn() -> OnAppend; 4] =
    [|| OnAppend::AckLost, || OnAppend::WriteLost, || OnAppend::LandsLater, || OnAppend::LandsWhenTold];

#[test]
fn an_append_without_an_answer_is_found_out_about() {
    for no_answer in NO_ANSWER {
        let world = World::new();
        world.given([ask("1", create(ANN))]);
        let mut replica = world.replica();
        replica.faults.on_append([no_answer()]);
        assert_eq!(replica.turn([ask("2", note(ANN, "x"))]), []);
        assert!(!replica.worker.is_idle());
        assert_eq!(replica.worker.backlog(), 1);
        assert_eq!(replica.tell([ask("3", note(ANN, "y"))]), ["accepted v3 #3 AttributeRecorded"]);
        replica.faults.land(&mut world.log.clone());
        assert_eq!(world.history(ANN).commands, ["1", "2", "3"]);
        for mut other in [replica, world.replica()] {
            assert_eq!(other.tell([ask("2", note(ANN, "x"))]), ["accepted v2 #2 AttributeRecorded again"]);
        }
    }
}

#[test]
fn several_answers_in_a_row_may_be_lost() {
    for first in NO_ANSWER {
        for second in NO_ANSWER {
            for third in NO_ANSWER {
                let world = World::new();
                let mut replica = world.replica();
                replica.faults.on_append([first(), second(), third()]);
                assert_eq!(replica.tell([ask("1", create(ANN))]), ["accepted v1 #1 PersonCreated"]);
                replica.faults.land(&mut world.log.clone());
                assert_eq!(world.history(ANN).commands, ["1"]);
            }
        }
    }
}

#[test]
fn an_error_after_silence_says_nothing_of_the_first_append() {
    for error in [|| OnAppend::Unavailable, || OnAppend::Refused, || OnAppend::VagueConflict, || OnAppend::LandsLater] {
        for silent in NO_ANSWER {
            let world = World::new();
            world.given([ask("1", create(ANN))]);
            let mut replica = world.replica();
            replica.faults.on_append([silent(), error(), error()]);
            assert_eq!(replica.tell([ask("2", note(ANN, "x"))]), ["accepted v2 #2 AttributeRecorded"]);
            replica.faults.land(&mut world.log.clone());
            assert_eq!(world.history(ANN).commands, ["1", "2"]);
        }
    }
}

#[test]
fn somebody_elses_commit_in_its_place_means_that_it_is_not_stored() {
    for silent in [|| OnAppend::WriteLost, || OnAppend::LandsWhenTold] {
        for (rivals, then) in [
            (ask("9", note(ANN, "rival")), "accepted v3 #3 NameUpdated"),
            (ask("9", rename(ANN, "Bea")), "accepted v2"),
            (ask("9", archive(ANN)), "invalid_state v2"),
            // The same command, by way of another replica.
            (ask("2", rename(ANN, "Bea")), "accepted v2 #2 NameUpdated again"),
        ] {
            let world = World::new();
            world.given([ask("1", create(ANN))]);
            let mut replica = world.replica();
            replica.faults.on_append([silent()]);
            assert_eq!(replica.turn([ask("2", rename(ANN, "Bea"))]), []);
            world.given([rivals]);
            let told: Vec<_> = (0..5).flat_map(|_| replica.turn([])).collect();
            assert_eq!(told, [(0, then.to_owned())]);
            replica.faults.land(&mut world.log.clone());
            assert!(world.history(ANN).times("2") <= 1);
        }
    }
}

#[test]
fn a_part_of_the_commit_may_be_stored_by_another_replica() {
    let world = World::new();
    world.given([ask("0", create(ANN))]);
    let mut replica = world.replica();
    replica.faults.on_append([OnAppend::WriteLost]);
    let asks = ["1", "2", "3"].map(|number| ask(number, note(ANN, number)));
    assert_eq!(replica.turn(asks.clone()), []);
    world.given([asks[1].clone()]);
    let told = replica.tell([ask("4", rename(ANN, "Ann"))]);
    assert_eq!(told, ["accepted v4"]);
    assert_eq!(world.history(ANN).commands, ["0", "2", "1", "3"]);
    let told = world.replica().tell(asks);
    assert_eq!(
        told,
        [
            "accepted v3 #3 AttributeRecorded again",
            "accepted v2 #2 AttributeRecorded again",
            "accepted v4 #3 AttributeRecorded again"
        ]
    );
}

#[test]
fn what_was_decided_on_top_shares_its_fate() {
    let world = World::new();
    world.given([ask("0", create(ANN))]);
    let mut replica = world.replica();
    replica.faults.on_append([OnAppend::WriteLost]);
    let asks = [
        ask("1", rename(ANN, "Bea")),
        ask("2", rename(ANN, "Bea")),
        ask("1", rename(ANN, "Bea")),
        ask("3", rename(ANN, "Cy")).expecting(1),
    ];
    // Nothing of it is known to be true yet.
    assert_eq!(replica.turn(asks), []);
    assert_eq!(replica.turn([ask("4", note(ANN, "behind"))]).len(), 4);
    assert_eq!(replica.turn([]).len(), 1);
    assert_eq!(world.history(ANN).commands, ["0", "1", "4"]);

    let mut replica = world.replica();
    replica.faults.on_append([OnAppend::WriteLost]);
    assert_eq!(replica.turn([ask("5", deactivate(ANN)), ask("6", rename(ANN, "Dan"))]), []);
    world.given([ask("9", archive(ANN))]);
    let told: Vec<_> = (0..5).flat_map(|_| replica.turn([])).collect();
    assert_eq!(told, [(0, "invalid_state v4".to_owned()), (1, "invalid_state v4".to_owned())]);
}

/// When the commit was found to be stored, what had been decided on top of it was answered with it, however much had been
/// stored since: "nothing to change" where there was something to change by then. So it was again where the page ended behind
/// the commit, for want of room, and did not show the others.
#[test]
fn what_was_decided_on_top_is_decided_again_when_others_came_after() {
    for page_commits_max in [usize::MAX, 1] {
        let world = World::new();
        world.given([ask("0", create(ANN))]);
        let mut replica = world.replica();
        replica.faults.page_commits_max(page_commits_max);
        replica.faults.on_append([OnAppend::AckLost]);
        let asks = [
            ask("1", rename(ANN, "Bea")),
            ask("2", rename(ANN, "Bea")),
            ask("3", reactivate(ANN)),
            ask("1", rename(ANN, "Bea")),
        ];
        assert_eq!(replica.turn(asks), []);
        world.given([ask("9", rename(ANN, "Cy")), ask("10", deactivate(ANN))]);
        let told: Vec<_> = (0..5).flat_map(|_| replica.turn([])).collect();
        let told: Vec<_> = told.iter().map(|(number, outcome)| (*number, outcome.as_str())).collect();
        assert_eq!(
            told,
            [
                (0, "accepted v2 #2 NameUpdated"),
                (3, "accepted v2 #2 NameUpdated again"),
                (1, "invalid_state v4"),
                (2, "accepted v5 #5 PersonReactivated"),
            ],
            "pages of {page_commits_max}"
        );
    }
}

#[test]
fn nobody_else_waits_for_an_unsettled_append() {
    let world = World::new();
    world.given([ask("0", create(ANN)), ask("0", create(BOB))]);
    let mut replica = world.replica();
    replica.faults.on_append((0..3).map(|_| OnAppend::WriteLost));
    assert_eq!(replica.turn([ask("1", note(ANN, "x"))]), []);
    replica.faults.on_read([OnRead::Unavailable]);
    assert_eq!(replica.turn([]), []);
    replica.faults.calls();
    let told = replica.tell([ask("2", note(BOB, "x"))]);
    assert!(told[0].starts_with("accepted v2"), "{told:?}");
}

#[test]
fn commands_behind_an_unsettled_append_wait_in_their_order() {
    for silent in NO_ANSWER {
        let world = World::new();
        let mut replica = world.replica();
        replica.faults.on_append([silent(), silent()]);
        assert_eq!(replica.turn([ask("1", create(ANN))]), []);
        // Where the first is found to be stored, those behind it go on at once, and their append is silent again.
        assert!(replica.turn([ask("2", rename(ANN, "Bea")), ask("3", create(ANN))]).len() <= 1);
        let told = replica.tell([ask("1", create(ANN))]);
        assert_eq!(told, ["accepted v1 #1 PersonCreated again"]);
        replica.faults.land(&mut world.log.clone());
        assert_eq!(world.history(ANN).commands, ["1", "2"]);
    }
}

#[test]
fn what_nobody_waits_for_any_more_may_still_land() {
    for silent in NO_ANSWER {
        let world = World::new();
        world.given([ask("0", create(ANN))]);
        let mut replica = world.replica();
        replica.faults.on_append((0..10_000).map(|_| silent()));
        replica.faults.on_read((0..10_000).map(|number| match number {
            0 => OnRead::Works,
            _ => OnRead::Unavailable,
        }));
        assert_eq!(replica.tell([ask("1", note(ANN, "x")).within(1_200 * MILLI)]), ["outcome_unknown"]);
        assert!(replica.worker.is_idle());
        // The same replica goes on; whether the first is stored comes out now.
        let mut other = world.replica();
        let told = other.tell([ask("2", note(ANN, "y")), ask("1", note(ANN, "x"))]);
        assert!(told.iter().all(|outcome| outcome.starts_with("accepted")), "{told:?}");
        replica.faults.land(&mut world.log.clone());
        assert_eq!(world.history(ANN).times("1"), 1);
        assert_eq!(world.history(ANN).version, 3);
    }
}

/// The log lost what an unsettled commit was built on: it was sent again and again until its deadline, since no
/// conflict was believed. Found by the simulation.
#[test]
fn what_builds_on_a_lost_commit_is_decided_again() {
    for silent in NO_ANSWER {
        let world = World::new();
        world.given([ask("1", create(ANN))]);
        let mut replica = world.replica();
        replica.tell([ask("2", rename(ANN, "Bea"))]);
        replica.faults.on_append([silent()]);
        assert_eq!(replica.turn([ask("3", deactivate(ANN))]), []);
        world.log.lose_after(1);
        assert_eq!(replica.tell([ask("4", reactivate(ANN))]), ["accepted v3 #2 PersonReactivated"]);
        assert_eq!(world.history(ANN).commands, ["1", "3", "4"]);
    }
}

/// An unsettled commit was sent again after the log had been restored, and stored on top of another commit that lay in
/// the place of the one that it was built on: a broken chain. Found by the simulation.
#[test]
fn what_was_unsettled_when_everything_is_forgotten_is_not_sent_again() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    replica.tell([ask("2", rename(ANN, "Bea"))]);
    replica.faults.on_append([OnAppend::WriteLost]);
    assert_eq!(replica.turn([ask("3", note(ANN, "x"))]), []);
    world.log.lose_after(1);
    world.given([ask("4", rename(ANN, "Cy"))]);
    replica.worker.forget_everything();
    assert_eq!(replica.tell([ask("5", note(ANN, "y"))]), ["accepted v4 #3 AttributeRecorded"]);
    assert_eq!(world.history(ANN).commands, ["1", "4", "3", "5"]);
}

/// Found by the simulation: the stream was another one, a creation that had got no answer was decided again, arrived after all,
/// and its client was told that the person exists already.
#[test]
fn an_unsettled_creation_is_found_out_about_in_another_stream_too() {
    let world = World::new();
    let mut replica = world.replica();
    replica.faults.on_append([OnAppend::LandsWhenTold]);
    assert_eq!(replica.turn([ask("", create(ANN))]), []);
    replica.worker.forget_everything();
    replica.faults.on_read([OnRead::Works, OnRead::Unavailable]);
    let mut told = replica.turn([]);
    replica.faults.land(&mut world.log.clone());
    told.extend(replica.turn([]));
    assert_eq!(told, [(0, "accepted v1 #1 PersonCreated".to_owned())]);
    assert_eq!(world.history(ANN).commits.len(), 1);
}

/// The same of an update, whose client gave no id: the stream had lost something of others, and what it builds on was still
/// there. It was decided again, both arrived, and one command had two effects.
#[test]
fn an_unsettled_update_is_not_done_twice_where_the_stream_lost_something_else() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    replica.tell([ask("2", rename(ANN, "Bea"))]);
    replica.faults.on_append([OnAppend::LandsWhenTold]);
    assert_eq!(replica.turn([ask("", note(ANN, "x"))]), []);
    replica.worker.forget_everything();
    replica.faults.on_read([OnRead::Works, OnRead::Unavailable]);
    let mut told = replica.turn([]);
    replica.faults.land(&mut world.log.clone());
    for _ in 0..3 {
        told.extend(replica.turn([]));
    }
    assert_eq!(told, [(1, "accepted v3 #3 AttributeRecorded".to_owned())]);
    assert_eq!(world.history(ANN).commits.len(), 3);
}
