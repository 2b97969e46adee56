//! What others stored and this replica heard of: it spares reading, and is never believed further than it reaches.

use super::faults::OnAppend;
use super::*;

/// A replica that knows Ann as she was before these, by others.
fn behind(meanwhile: &[Ask]) -> (World, Replica) {
    let world = World::new();
    world.given([ask("1", create(ANN))]);
    let mut replica = world.replica();
    replica.tell([ask("", rename(ANN, "Ann"))]);
    world.given(meanwhile.iter().cloned());
    replica.faults.calls();
    (world, replica)
}

/// The replica hears of those of a person's commits that lie there.
fn hear(replica: &mut Replica, person: &str, sequences: &[u64]) {
    for commit in replica.world.log.commits(id(person)) {
        if sequences.contains(&commit.sequence) {
            replica.worker.hear(id(person), commit);
        }
    }
}

#[test]
fn what_was_heard_of_needs_no_reading() {
    let (world, mut replica) = behind(&[ask("2", rename(ANN, "Bea")), ask("3", deactivate(ANN))]);
    hear(&mut replica, ANN, &[1, 2, 3]);
    assert_eq!(replica.tell([ask("4", reactivate(ANN))]), ["accepted v4 #4 PersonReactivated"]);
    assert_eq!(replica.faults.calls(), ["append"]);
    assert_eq!((replica.counts.followed, replica.counts.conflicts, replica.counts.tails), (1, 0, 0));
    // Also that it was carried out by another replica.
    assert_eq!(replica.tell([ask("2", rename(ANN, "Bea"))]), ["accepted v2 #2 NameUpdated again"]);
    assert_eq!(world.history(ANN).version, 4);
}

#[test]
fn what_was_missed_is_read() {
    let meanwhile = [ask("2", rename(ANN, "Bea")), ask("3", note(ANN, "x")), ask("4", note(ANN, "y"))];
    for (heard, calls) in [
        (&[3, 4][..], &["read", "append"][..]),
        (&[4], &["read", "append"]),
        (&[2, 4], &["read", "append"]),
        // Nothing tells that there is more: the append does.
        (&[2], &["append", "read", "append"]),
        (&[2, 3], &["append", "read", "append"]),
        (&[], &["append", "read", "append"]),
    ] {
        let (world, mut replica) = behind(&meanwhile);
        hear(&mut replica, ANN, heard);
        assert_eq!(replica.tell([ask("5", rename(ANN, "Cy"))]), ["accepted v5 #5 NameUpdated"], "{heard:?}");
        assert_eq!(replica.faults.calls(), calls, "{heard:?}");
        assert_eq!(world.history(ANN).commands, ["1", "2", "3", "4", "5"]);
    }
}

#[test]
fn what_was_heard_twice_or_in_the_wrong_order_does_no_harm() {
    for heard in [[2, 2, 3], [3, 2, 3], [1, 3, 2]] {
        let (world, mut replica) = behind(&[ask("2", rename(ANN, "Bea")), ask("3", deactivate(ANN))]);
        heard.iter().for_each(|sequence| hear(&mut replica, ANN, &[*sequence]));
        assert_eq!(replica.tell([ask("4", reactivate(ANN))]), ["accepted v4 #4 PersonReactivated"], "{heard:?}");
        assert_eq!(world.history(ANN).commands, ["1", "2", "3", "4"]);
    }
}

#[test]
fn rubbish_is_not_believed() {
    let (_, mut replica) = behind(&[ask("2", rename(ANN, "Bea"))]);
    let rubbish = StoredCommit { sequence: 2, payload: (*b"rubbish").into() };
    replica.worker.hear(id(ANN), rubbish);
    assert_eq!(replica.tell([ask("3", deactivate(ANN))]), ["accepted v3 #3 PersonDeactivated"]);
    assert_eq!(replica.faults.calls(), ["read", "append"]);
    assert_eq!(replica.notices, []);
}

#[test]
fn of_who_is_not_in_memory_nothing_is_kept() {
    let world = World::new();
    world.given([ask("1", create(ANN)), ask("2", create(BOB)), ask("3", rename(BOB, "Rob"))]);
    let mut replica = world.replica();
    replica.tell([ask("", rename(ANN, "Ann"))]);
    hear(&mut replica, BOB, &[3]);
    replica.faults.calls();
    assert_eq!(replica.tell([ask("4", deactivate(BOB))]), ["accepted v3 #4 PersonDeactivated"]);
    assert_eq!(replica.faults.calls(), ["read", "append"]);
    assert_eq!(replica.counts.followed, 0);
}

/// After a conflict the position of the newest commit is known; hearing of it is as good as reading it.
#[test]
fn a_conflict_is_resolved_by_what_was_heard() {
    let (_, mut replica) = behind(&[ask("2", rename(ANN, "Bea"))]);
    assert_eq!(replica.turn([ask("3", rename(ANN, "Cy"))]), []);
    hear(&mut replica, ANN, &[2]);
    assert_eq!(replica.turn([]), [(1, "accepted v3 #3 NameUpdated".to_owned())]);
    assert_eq!(replica.faults.calls(), ["append", "append"]);
}

/// What was heard before is of the stream that is no more. Believed, it would be taken for the commit that lies in its place
/// now, and the next one would be chained to it.
#[test]
fn what_was_heard_is_forgotten_with_everything_else() {
    let (world, mut replica) = behind(&[ask("2", rename(ANN, "Cy"))]);
    hear(&mut replica, ANN, &[2]);
    world.log.lose_after(1);
    replica.worker.forget_everything();
    assert_eq!(replica.tell([ask("", rename(ANN, "Ann"))]), ["accepted v1"]);
    world.given([ask("3", rename(ANN, "Bea"))]);
    assert_eq!(replica.tell([ask("4", note(ANN, "x"))]), ["accepted v3 #3 AttributeRecorded"]);
    assert_eq!(world.history(ANN).commands, ["1", "3", "4"]);
}

/// Looking before deciding and following are for the same trouble: who hears of its own commits need not look.
#[test]
fn who_hears_of_its_own_commits_does_not_look() {
    let world = World::new();
    world.given([ask("0", create(ANN))]);
    let mut replica = world.replica();
    let mut number = 0;
    let mut both_write = |replica: &mut Replica, times: u64, hears: bool| {
        for _ in 0..times {
            number += 1;
            world.given([ask(&format!("their-{number}"), note(ANN, "x"))]);
            if hears {
                hear(replica, ANN, &[2 * number, 2 * number - 1]);
            }
            replica.faults.calls();
            replica.tell([ask(&format!("our-{number}"), note(ANN, "x"))]);
        }
    };
    both_write(&mut replica, 100, false);
    assert!(replica.worker.wants_to_follow() && !replica.worker.is_current());
    assert_eq!(replica.faults.calls(), ["read", "append"], "it looks");
    both_write(&mut replica, 100, true);
    assert!(replica.worker.wants_to_follow() && replica.worker.is_current());
    assert_eq!(replica.faults.calls(), ["append"], "it has heard");
    // What it hears ends, and others still write: it looks again.
    both_write(&mut replica, 3, false);
    assert!(replica.worker.wants_to_follow() && !replica.worker.is_current());
    assert_eq!(replica.faults.calls(), ["read", "append"]);
    assert_eq!(world.history(ANN).version, 407);
}

/// A feed that is opened late brings nothing of what was stored before. Each of those persons met a conflict that was not
/// counted: the replica took its memory for fresh, gave up following, and decided blindly.
#[test]
fn who_hears_too_little_looks_all_the_same() {
    let world = World::new();
    let persons: Vec<String> = (0..300).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    world.given(persons.iter().map(|person| ask("", create(person))));
    let mut replica = world.replica();
    persons.iter().for_each(|person| drop(replica.tell([ask("", rename(person, "Ann"))])));
    // All are written by others, which it does not hear; from then on it hears all.
    world.given(persons.iter().map(|person| ask("", note(person, "x"))));
    let mut looked = 0;
    for (number, person) in persons.iter().enumerate() {
        replica.faults.calls();
        replica.tell([ask("", note(person, "y"))]);
        looked += usize::from(replica.faults.calls().first() == Some(&"read"));
        let newest = world.log.commits(id(person)).last().unwrap().sequence;
        hear(&mut replica, person, &[newest]);
        assert!(number < 100 || replica.worker.is_current());
    }
    assert!(replica.worker.wants_to_follow());
    assert!((150..300).contains(&looked), "{looked}");
    assert!(replica.counts.conflicts < 150, "{}", replica.counts.conflicts);
}

/// It was given up when it did not fit, all of it and again and again, and everybody was found stale.
#[test]
fn what_has_no_room_to_wait_is_folded() {
    let world = World::new();
    let persons: Vec<String> = (0..50).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    world.given(persons.iter().map(|person| ask("", create(person))));
    // Room for all persons, and for a dozen commits.
    let mut replica = world.replica_with(Limits { cache_bytes: 256 * 1024, ..LIMITS });
    persons.iter().for_each(|person| drop(replica.tell([ask("", rename(person, "Ann"))])));
    for words in ["x", "y"] {
        world.given(persons.iter().map(|person| ask("", note(person, words))));
    }
    for person in &persons {
        world.log.commits(id(person)).into_iter().for_each(|commit| replica.worker.hear(id(person), commit));
    }
    replica.faults.calls();
    for person in &persons {
        assert_eq!(replica.tell([ask("", note(person, "z"))]).len(), 1);
        assert_eq!(replica.faults.calls(), ["append"]);
        assert_eq!(world.history(person).version, 4);
        let own = world.log.commits(id(person)).last().unwrap().sequence;
        hear(&mut replica, person, &[own]);
    }
    assert_eq!(replica.worker.cached_persons(), 50);
    assert!(replica.counts.followed < 50, "some were folded before they were asked for");
}

/// One busy person: what is decided on what was just read meets conflicts too, and there looking first would not help.
#[test]
fn rivals_that_are_quicker_are_reason_enough_to_follow() {
    let world = World::new();
    world.given([ask("0", create(ANN))]);
    let mut replica = world.replica();
    for _ in 0..40 {
        (0..4).for_each(|_| drop(replica.tell([ask("", note(ANN, "x"))])));
        replica.faults.on_append((0..5).map(|_| OnAppend::VagueConflict));
        replica.tell([ask("", note(ANN, "y"))]);
    }
    assert!(replica.worker.wants_to_follow());
    replica.faults.calls();
    replica.tell([ask("", note(ANN, "z"))]);
    assert_eq!(replica.faults.calls(), ["append"], "it does not look");
}
