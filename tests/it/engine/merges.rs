//! Merges: the target is read from the stream's leader each time, and only when all else allows the merge.

use super::faults::OnRead;
use super::*;

fn check(given: &[Ask], when: Ask, then: &str) {
    let world = World::new();
    world.given(given.iter().cloned());
    assert_eq!(world.replica().tell([when.clone()]), [then], "{:?}", when.commands);
}

#[test]
fn a_merge_needs_two_who_are_active() {
    let both = [ask("a", create(ANN)), ask("b", create(BOB))];
    let and = |more: &[Ask]| [&both[..], more].concat();
    let merging = ask("m", merge(ANN, BOB));
    check(&[], merging.clone(), "person_not_found v0");
    check(&both[..1], merging.clone(), "person_not_found v1");
    check(&both[1..], merging.clone(), "person_not_found v0");
    check(&both, merging.clone(), "accepted v2 #3 PersonMergedInto");
    check(&and(&[ask("1", deactivate(BOB))]), merging.clone(), "invalid_state v1");
    check(&and(&[ask("1", archive(BOB))]), merging.clone(), "invalid_state v1");
    check(&and(&[ask("1", deactivate(ANN))]), merging.clone(), "invalid_state v2");
    check(&and(&[ask("1", create(CAT)), ask("2", merge(BOB, CAT))]), merging.clone(), "person_merged v1 -> cat");
    check(&and(&[ask("1", create(CAT)), ask("2", merge(ANN, CAT))]), merging.clone(), "person_merged v2 -> cat");
    check(&and(&[ask("m", merge(ANN, BOB))]), merging.clone(), "accepted v2 #3 PersonMergedInto again");
    check(&and(&[ask("1", merge(BOB, ANN))]), merging, "person_merged v1 -> ann");
}

#[test]
fn a_merge_in_an_array_is_carried_out_with_it_or_not_at_all() {
    let given = [ask("a", create(ANN)), ask("b", create(BOB))];
    let array = |commands: &[Value]| ask("m", json!(commands));
    let merged = array(&[rename(ANN, "Bea"), merge(ANN, BOB)]);
    check(&given, merged, "accepted v3 #3 NameUpdated PersonMergedInto");
    check(&given, array(&[merge(ANN, BOB), rename(ANN, "Bea")]), "person_merged v1 [1] -> bob");
    check(&given, array(&[rename(ANN, "Bea"), merge(ANN, CAT)]), "person_not_found v1 [1]");
    check(&given[1..], array(&[create(ANN), merge(ANN, BOB)]), "accepted v2 #2 PersonCreated PersonMergedInto");
}

#[test]
fn a_target_is_never_believed_from_the_cache() {
    let world = World::new();
    world.given([ask("a", create(ANN)), ask("b", create(BOB))]);
    let mut replica = world.replica();
    replica.tell([ask("", create(BOB))]);
    world.given([ask("1", archive(BOB))]);
    assert_eq!(replica.tell([ask("m", merge(ANN, BOB))]), ["invalid_state v1"]);

    let world = World::new();
    world.given([ask("a", create(ANN)), ask("b", create(BOB))]);
    let mut replica = world.replica();
    replica.faults.lag_at(Some(1));
    assert_eq!(replica.tell([ask("m", merge(ANN, BOB))]), ["accepted v2 #3 PersonMergedInto"]);
}

/// A cached target was extended by what the leader has after it, which is nothing when the log lost its tail: the merge
/// went into a record that no longer existed.
#[test]
fn a_cached_target_that_the_log_lost_does_not_exist() {
    let world = World::new();
    world.given([ask("a", create(ANN))]);
    let mut replica = world.replica();
    replica.tell([ask("b", create(BOB)), ask("c", rename(BOB, "Bea"))]);
    world.log.lose_after(1);
    assert_eq!(replica.tell([ask("m", merge(ANN, BOB))]), ["person_not_found v1"]);
}

#[test]
fn two_merges_toward_each_other_one_after_the_other_cannot_both_be() {
    let world = World::new();
    world.given([ask("a", create(ANN)), ask("b", create(BOB))]);
    let mut replica = world.replica();
    assert_eq!(replica.tell([ask("1", merge(ANN, BOB))]), ["accepted v2 #3 PersonMergedInto"]);
    assert_eq!(replica.tell([ask("2", merge(BOB, ANN))]), ["person_merged v1 -> bob"]);
}

/// The two are not locked against each other: at the same time both may be carried out. It is documented, and nothing
/// else breaks by it.
#[test]
fn two_merges_toward_each_other_at_once_are_both_answered() {
    let world = World::new();
    world.given([ask("a", create(ANN)), ask("b", create(BOB))]);
    let mut replica = world.replica();
    let told = replica.tell([ask("1", merge(ANN, BOB)), ask("2", merge(BOB, ANN))]);
    assert_eq!(told, ["accepted v2 #3 PersonMergedInto", "accepted v2 #4 PersonMergedInto"]);
    world.history(ANN);
    world.history(BOB);
    assert_eq!(replica.tell([ask("3", rename(ANN, "Bea"))]), ["person_merged v2 -> bob"]);
}

#[test]
fn a_target_that_cannot_be_read_is_the_stores_fault() {
    let world = World::new();
    world.given([ask("a", create(ANN)), ask("b", create(BOB))]);
    let mut replica = world.replica();
    replica.tell([ask("", create(ANN))]);
    replica.faults.on_read([OnRead::Unavailable]);
    assert_eq!(replica.tell([ask("m", merge(ANN, BOB))]), ["unavailable"]);
    assert_eq!(replica.tell([ask("m", merge(ANN, BOB))]), ["accepted v2 #3 PersonMergedInto"]);
}

#[test]
fn a_damaged_target_stops_the_merge_alone() {
    for (payload, then) in [(&b"garbage"[..], "history_damaged"), (br#"{"schema":2}"#, "history_too_new")] {
        let world = World::new();
        world.given([ask("a", create(ANN)), ask("b", create(BOB))]);
        world.log.corrupt(id(BOB), 2, payload);
        let mut replica = world.replica();
        assert_eq!(
            replica.tell([ask("m", merge(ANN, BOB)), ask("1", note(ANN, "x"))]),
            [then, "accepted v2 #3 AttributeRecorded"]
        );
    }
}

/// The target was looked at before the source: whoever merged a person who does not exist into one with a damaged
/// history was told of the damage. The contract has the person's own existence and state first.
#[test]
fn a_merge_that_fails_anyway_does_not_depend_on_its_target() {
    for (given, then) in [
        (vec![], "person_not_found v0"),
        (vec![ask("a", create(ANN)), ask("1", deactivate(ANN))], "invalid_state v2"),
        (vec![ask("a", create(ANN)), ask("c", create(CAT)), ask("1", merge(ANN, CAT))], "person_merged v2 -> cat"),
    ] {
        let world = World::new();
        world.given([ask("b", create(BOB))]);
        world.given(given);
        world.log.corrupt(id(BOB), 1, b"garbage");
        assert_eq!(world.replica().tell([ask("m", merge(ANN, BOB))]), [then]);
    }
}
