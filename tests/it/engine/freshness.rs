//! What is cached may be stale, and copies of the stream may lag: neither may ever lead to a wrong answer.

use cim_domain_person::engine::turn::Notice;

use super::faults::{OnAppend, OnRead};
use super::*;

/// A replica that knows a person as it was before somebody else did this.
fn stale(before: &[Ask], meanwhile: &[Ask]) -> (World, Replica) {
    let world = World::new();
    world.given(before.iter().cloned());
    let mut replica = world.replica();
    // It finds nothing to do, and knows the person from then on.
    replica.tell([ask("", rename(ANN, "Ann"))]);
    world.given(meanwhile.iter().cloned());
    replica.faults.calls();
    (world, replica)
}

#[test]
fn a_stale_cache_never_leads_to_a_wrong_answer() {
    let meanwhile = [ask("2", rename(ANN, "Bea")), ask("3", deactivate(ANN))];
    for (when, then) in [
        (ask("4", rename(ANN, "Cy")), "invalid_state v3"),
        (ask("4", reactivate(ANN)), "accepted v4 #4 PersonReactivated"),
        (ask("4", rename(ANN, "Ann")), "invalid_state v3"),
        (ask("4", deactivate(ANN)), "invalid_state v3"),
        (ask("4", reactivate(ANN)).expecting(3), "accepted v4 #4 PersonReactivated"),
        (ask("4", reactivate(ANN)).expecting(1), "version_conflict v3"),
        (ask("2", rename(ANN, "Bea")), "accepted v2 #2 NameUpdated again"),
        (ask("3", deactivate(ANN)), "accepted v3 #3 PersonDeactivated again"),
        (ask("3", rename(ANN, "Bea")), "command_id_reused v3"),
        (ask("4", create(ANN)), "already_exists v1"),
    ] {
        let (_, mut replica) = stale(&[ask("1", create(ANN))], &meanwhile);
        assert_eq!(replica.tell([when.clone()]), [then], "{:?}", when.commands);
    }
}

#[test]
fn nothing_to_change_is_confirmed_too() {
    let (world, mut replica) = stale(&[ask("1", create(ANN))], &[ask("2", rename(ANN, "Bea"))]);
    assert_eq!(replica.tell([ask("3", rename(ANN, "Ann"))]), ["accepted v3 #3 NameUpdated"]);
    assert_eq!(world.history(ANN).version, 3);
}

#[test]
fn what_cannot_be_overturned_needs_no_round_trip() {
    for (last, when, then) in [
        (rename(ANN, "Bea"), create(ANN), "already_exists v2"),
        (archive(ANN), rename(ANN, "Cy"), "invalid_state v2"),
        (merge(ANN, BOB), rename(ANN, "Cy"), "person_merged v2 -> bob"),
        (merge(ANN, BOB), create(ANN), "already_exists v2"),
        (rename(ANN, "Bea"), rename(ANN, "Bea"), "accepted v2 #3 NameUpdated again"),
    ] {
        let world = World::new();
        world.given([ask("b", create(BOB)), ask("1", create(ANN)), ask("2", last)]);
        let mut replica = world.replica();
        replica.tell([ask("", create(ANN))]);
        replica.faults.calls();
        let command_id = if then.ends_with("again") { "2" } else { "3" };
        assert_eq!(replica.tell([ask(command_id, when)]), [then]);
        assert_eq!(replica.faults.calls(), [""; 0]);
    }
}

/// A replica that did not know that an id was used since, for another command, answered that the person exists already.
/// Both are true and nothing is stored; but a creation that was accepted is always known again, and so is an id that was
/// used before an end, since nothing comes after it. Found by the simulation.
#[test]
fn a_final_refusal_may_hide_that_an_id_was_used_again_but_never_that_the_command_was_accepted() {
    let first = [ask("1", create(ANN))];
    let (world, mut replica) = stale(&first, &[ask("2", rename(ANN, "Bea"))]);
    assert_eq!(replica.tell([ask("2", create(ANN))]), ["already_exists v1"]);
    assert_eq!(replica.tell([ask("1", create(ANN))]), ["accepted v1 #1 PersonCreated again"]);
    assert_eq!(replica.tell([ask("2", note(ANN, "x"))]), ["command_id_reused v2"]);
    assert_eq!(world.history(ANN).commands, ["1", "2"]);
    for (end, then) in [(archive(ANN), "invalid_state v2"), (merge(ANN, BOB), "person_merged v2 -> bob")] {
        let (_, mut replica) = stale(&[ask("b", create(BOB)), first[0].clone()], &[ask("2", end.clone())]);
        assert_eq!(replica.tell([ask("2", rename(ANN, "Bea"))]), ["command_id_reused v2"]);
        assert_eq!(replica.tell([ask("2", end)])[0].split(' ').next_back(), Some("again"));
        assert_eq!(replica.tell([ask("3", rename(ANN, "Bea"))]), [then]);
    }
}

/// A stale replica found the expected version to hold, and said at once that the person exists already, which nothing
/// can overturn: but on the newest state the version is another one, and that comes first. The same with an array whose
/// first command would have changed nothing. Found by the simulation.
#[test]
fn a_refusal_is_beyond_doubt_only_where_nothing_comes_before_it() {
    let array = json!([rename(ANN, "Ann"), create(ANN)]);
    for (when, then) in [
        (ask("3", create(ANN)).expecting(1), "version_conflict v2"),
        (ask("3", create(ANN)).expecting(2), "already_exists v2"),
        (ask("3", array), "invalid_state v2 [0]"),
    ] {
        let (_, mut replica) = stale(&[ask("1", create(ANN))], &[ask("2", deactivate(ANN))]);
        assert_eq!(replica.tell([when.clone()]), [then], "{:?}", when.commands);
    }
}

#[test]
fn what_could_be_overturned_is_asked_of_the_leader() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    for (when, then) in [
        (reactivate(ANN), "invalid_state v1"),
        (rename(ANN, "Ann"), "accepted v1"),
        (note_again(ANN, "x"), "attribute_not_found v1"),
        (birth(ANN, "2999-01-01"), "invalid v1"),
    ] {
        assert_eq!(replica.tell([ask("2", when)]), [then]);
        assert!(replica.faults.calls().contains(&"tips"));
    }
}

#[test]
fn a_copy_that_lags_is_found_out() {
    for lag in 0..=3 {
        let world = World::new();
        world.given([ask("1", create(ANN)), ask("2", rename(ANN, "Bea")), ask("3", deactivate(ANN))]);
        for (when, then) in [
            (ask("4", rename(ANN, "Cy")), "invalid_state v3"),
            (ask("2", rename(ANN, "Bea")), "accepted v2 #2 NameUpdated again"),
            (ask("1", create(ANN)), "accepted v1 #1 PersonCreated again"),
            (ask("4", create(ANN)), "already_exists"),
        ] {
            let mut replica = world.replica();
            replica.faults.lag_at(Some(lag));
            let told = replica.tell([when.clone()]);
            assert!(told[0].starts_with(then), "lagging at {lag}: {:?} {told:?}", when.commands);
        }
        let mut replica = world.replica();
        replica.faults.lag_at(Some(lag));
        let [told] = &replica.tell([ask("5", reactivate(ANN))])[..] else { panic!() };
        assert_eq!(told, "accepted v4 #4 PersonReactivated", "lagging at {lag}");
    }
}

#[test]
fn a_person_that_is_to_be_created_is_presumed_not_to_exist() {
    let world = World::new();
    let mut replica = world.replica();
    assert_eq!(replica.tell([ask("1", create(ANN))]), ["accepted v1 #1 PersonCreated"]);
    assert_eq!(replica.faults.calls(), ["append"]);

    let mut other = world.replica();
    assert_eq!(
        other.tell([
            ask("2", create(ANN)),
            ask("1", create(ANN)),
            ask("3", rename(ANN, "Bea")),
            ask("4", create(ANN)).expecting(0)
        ]),
        [
            "already_exists v1",
            "accepted v1 #1 PersonCreated again",
            "accepted v2 #2 NameUpdated",
            "version_conflict v2"
        ]
    );
    assert_eq!(other.counts.conflicts, 1);
    assert_eq!(world.history(ANN).commands, ["1", "3"]);
}

#[test]
fn what_a_presumed_creation_leads_to_is_confirmed() {
    let world = World::new();
    world.given([ask("1", create(ANN)), ask("2", rename(ANN, "Bea"))]);
    // Refused as it is, without an append that could prove anything.
    let then = ["version_conflict v2", "already_exists v2"];
    assert_eq!(world.replica().tell([ask("3", create(ANN)).expecting(1), ask("4", create(ANN))]), then);
    let told = world.replica().tell([ask("3", serde_json::json!([create(ANN), create(ANN)]))]);
    assert_eq!(told, ["already_exists v2 [0]"]);
}

#[test]
fn a_rival_between_load_and_append_costs_a_turn_and_nothing_else() {
    for (rivals, when, then) in [
        (ask("2", rename(ANN, "Bea")), ask("3", note(ANN, "x")), "accepted v3 #3 AttributeRecorded"),
        (ask("2", rename(ANN, "Bea")), ask("2", rename(ANN, "Bea")), "accepted v2 #2 NameUpdated again"),
        (ask("2", rename(ANN, "Bea")), ask("2", rename(ANN, "Cy")), "command_id_reused v2"),
        (ask("2", rename(ANN, "Bea")), ask("3", rename(ANN, "Bea")), "accepted v2"),
        (ask("2", rename(ANN, "Bea")), ask("3", rename(ANN, "Cy")).expecting(1), "version_conflict v2"),
        (ask("2", archive(ANN)), ask("3", rename(ANN, "Cy")), "invalid_state v2"),
    ] {
        let world = World::new();
        world.given([ask("1", create(ANN))]);
        let mut replica = world.replica();
        let rival = world.clone();
        let theirs = rivals.clone();
        replica.faults.on_append([OnAppend::Rival(Box::new(move || rival.given([theirs])))]);
        assert_eq!(replica.tell([when.clone()]), [then], "{:?}", when.commands);
        assert_eq!(replica.counts.conflicts, 1);
        world.history(ANN);
    }
}

#[test]
fn rivals_that_keep_coming_first_are_waited_for_until_the_deadline() {
    let world = World::new();
    world.given([ask("0", create(ANN))]);
    let mut replica = world.replica();
    let rivals = (0..).map(|number: u32| {
        let rival = world.clone();
        let theirs = ask(&format!("rival {number}").replace(' ', "-"), note(ANN, "rival"));
        OnAppend::Rival(Box::new(move || rival.given([theirs])))
    });
    replica.faults.on_append(rivals.take(200));
    assert_eq!(replica.tell([ask("1", note(ANN, "x")).within(1_100 * MILLI)]), ["overloaded"]);
    assert_eq!(world.history(ANN).times("1"), 0);
    assert!(replica.worker.is_idle());
}

#[test]
fn a_conflict_that_says_nothing_more_is_read_up_on() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    replica.tell([ask("", rename(ANN, "Ann"))]);
    world.given([ask("2", rename(ANN, "Bea"))]);
    replica.faults.on_append([OnAppend::VagueConflict]);
    replica.faults.lag_at(Some(1));
    assert_eq!(replica.tell([ask("3", rename(ANN, "Bea"))]), ["accepted v2"]);
    assert_eq!(replica.tell([ask("4", rename(ANN, "Cy"))]), ["accepted v3 #3 NameUpdated"]);
}

#[test]
fn a_person_that_meets_conflict_after_conflict_is_told_of_and_one_commit_ends_the_row() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    let conflicts = |count| (0..count).map(|_| OnAppend::VagueConflict);
    let loops = |replica: &Replica| -> Vec<u32> {
        let row = |notice: &Notice| match notice {
            Notice::ReplayLoop(_, conflicts) => Some(*conflicts),
            _ => None,
        };
        replica.notices.iter().filter_map(row).collect()
    };
    replica.faults.on_append(conflicts(7));
    assert_eq!(replica.tell([ask("2", rename(ANN, "Bea"))]), ["accepted v2 #2 NameUpdated"]);
    replica.faults.on_append(conflicts(7));
    assert_eq!(replica.tell([ask("3", rename(ANN, "Cy"))]), ["accepted v3 #3 NameUpdated"]);
    assert_eq!(loops(&replica), [] as [u32; 0], "seven and seven, with a commit between them");
    replica.faults.on_append(conflicts(17));
    assert_eq!(replica.tell([ask("4", rename(ANN, "Di"))]), ["accepted v4 #4 NameUpdated"]);
    assert_eq!(loops(&replica), [8, 16]);
    assert_eq!((replica.counts.conflicts, replica.counts.replay_loops), (31, 2));
}

#[test]
fn a_log_that_lost_its_tail_is_read_anew() {
    for vague in [false, true] {
        for (when, then) in [
            (ask("3", rename(ANN, "Cy")), "accepted v2 #2 NameUpdated"),
            (ask("3", rename(ANN, "Bea")), "accepted v2 #2 NameUpdated"),
            (ask("3", reactivate(ANN)), "invalid_state v1"),
        ] {
            let world = World::new();
            world.given([ask("1", create(ANN))]);
            let mut replica = world.replica();
            replica.tell([ask("2", rename(ANN, "Bea"))]);
            world.log.lose_after(1);
            if vague {
                replica.faults.on_append([OnAppend::VagueConflict]);
            }
            assert_eq!(replica.tell([when.clone()]), [then], "{:?}", when.commands);
            match &replica.notices[..] {
                [Notice::LostTail(person) | Notice::Odd(person, _)] => assert_eq!(*person, id(ANN)),
                other => panic!("{other:?}"),
            }
            world.history(ANN);
        }
    }
}

#[test]
fn everything_can_be_forgotten() {
    let world = World::new();
    let mut replica = world.replica();
    replica.tell([ask("1", create(ANN)), ask("2", create(BOB))]);
    assert_eq!(replica.worker.cached_persons(), 2);
    replica.faults.on_append([OnAppend::WriteLost]);
    assert_eq!(replica.turn([ask("3", rename(ANN, "Bea")), ask("4", rename(BOB, "Bea"))]).len(), 1);
    replica.worker.forget_everything();
    assert_eq!(replica.worker.cached_persons(), 0);
    replica.faults.calls();
    let told = replica.tell([ask("5", note(ANN, "x")), ask("6", note(BOB, "x"))]);
    // What the unsettled commit builds on is still there, so that it is sent again first.
    assert_eq!(told, ["accepted v3 #6 AttributeRecorded", "accepted v3 #5 AttributeRecorded"]);
}

/// Only the positions were compared: where a restored log had grown again, another commit could lie at the position of
/// the known one.
#[test]
fn another_commit_in_the_place_of_the_known_one_is_noticed() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    replica.tell([ask("2", deactivate(ANN))]);
    world.log.lose_after(1);
    world.given([ask("3", rename(ANN, "Bea"))]);
    assert_eq!(replica.tell([ask("4", rename(ANN, "Bea"))]), ["accepted v2"]);
    assert_eq!(replica.notices, [Notice::LostTail(id(ANN))]);
}

/// What was being read outside the turn while everything was forgotten came back from the old stream and was believed.
#[test]
fn a_long_history_of_the_old_stream_is_forgotten_too() {
    let world = World::new();
    world.given([ask("0", create(ANN))]);
    world.given((1..40).map(|number| ask(&number.to_string(), note(ANN, "x"))));
    let mut replica = world.replica();
    replica.faults.page_commits_max(4);
    assert_eq!(replica.turn([ask("new", note(ANN, "new"))]), []);
    replica.read_long_histories();
    replica.worker.forget_everything();
    // The new stream has as many commits, and others.
    world.log.lose_after(39);
    world.given([ask("40", deactivate(ANN))]);
    assert_eq!(replica.turn([]), []);
    replica.read_long_histories();
    assert_eq!(replica.tell([ask("41", reactivate(ANN))]), ["accepted v41 #41 PersonReactivated"]);
    assert_eq!(world.history(ANN).version, 41);
}

#[test]
fn the_store_may_be_away_for_a_while() {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    replica.faults.on_read([OnRead::Unavailable, OnRead::Unavailable]);
    replica.faults.on_append([OnAppend::Unavailable, OnAppend::Unavailable]);
    assert_eq!(replica.tell([ask("2", note(ANN, "x"))]), ["accepted v2 #2 AttributeRecorded"]);
    replica.faults.on_tips([OnRead::Unavailable, OnRead::Unavailable]);
    assert_eq!(replica.tell([ask("3", reactivate(ANN))]), ["invalid_state v2"]);
    replica.faults.on_append([OnAppend::Unavailable]);
    assert_eq!(replica.tell([ask("4", create(BOB))]), ["accepted v1 #3 PersonCreated"]);
    assert_eq!(world.history(ANN).commands, ["1", "2"]);
}
