//! Snapshots: a cache that is checked before it is believed, and long histories without one.

use cim_domain_person::domain::Timestamp;
use cim_domain_person::engine::aggregate::Aggregate;
use cim_domain_person::engine::ports::SnapshotStored;
use cim_domain_person::engine::turn::Notice;
use cim_domain_person::wire::snapshot;

use super::faults::OnRead;
use super::*;

const OFTEN: Limits = Limits { snapshot_frequency: 1, ..LIMITS };

/// A person with this many commits, and the snapshot after each, oldest first.
fn with_snapshots(commits: usize) -> (World, Vec<DueSnapshot>) {
    let world = World::new();
    let mut replica = world.replica_with(OFTEN);
    for number in 0..commits {
        let command = if number == 0 { create(ANN) } else { note(ANN, &number.to_string()) };
        assert!(replica.tell([ask(&number.to_string(), command)])[0].starts_with("accepted"));
    }
    world.snapshots.forge(id(ANN), None);
    (world, replica.snapshots)
}

#[test]
fn snapshots_are_due_when_a_multiple_of_the_frequency_is_passed() {
    let world = World::new();
    let mut replica = world.replica_with(Limits { snapshot_frequency: 3, ..LIMITS });
    replica.tell([ask("0", create(ANN))]);
    for number in 1..=4 {
        let two = [ask("", note(ANN, &number.to_string())), ask("", note(ANN, "x"))];
        replica.tell(two);
    }
    let versions: Vec<_> = replica.snapshots.iter().map(|due| due.version).collect();
    assert_eq!(versions, [3, 7, 9]);
    let mut never = world.replica();
    never.tell([ask("", note(ANN, "x"))]);
    assert!(never.snapshots.is_empty());
}

#[test]
fn whoever_loads_a_long_tail_makes_a_snapshot_of_it() {
    let (world, _) = with_snapshots(10);
    let mut replica = world.replica_with(Limits { snapshot_frequency: 5, ..LIMITS });
    replica.tell([ask("", create(ANN))]);
    let versions: Vec<_> = replica.snapshots.iter().map(|due| due.version).collect();
    assert_eq!(versions, [10]);
    let mut next = world.replica_with(Limits { snapshot_frequency: 5, ..LIMITS });
    next.tell([ask("", create(ANN))]);
    assert!(next.snapshots.is_empty());
}

#[test]
fn every_snapshot_and_its_tail_give_what_the_whole_history_gives() {
    let (world, snapshots) = with_snapshots(20);
    let full = loaded(&world, ANN).to_snapshot().unwrap();
    assert_eq!(full.version, 20);
    for due in snapshots {
        world.snapshots.forge(id(ANN), Some(due.bytes.clone()));
        assert_eq!(loaded(&world, ANN).to_snapshot().unwrap(), full, "from version {}", due.version);
        let mut replica = world.replica();
        assert_eq!(replica.tell([ask("7", note(ANN, "7"))]), ["accepted v8 #8 AttributeRecorded again"]);
        assert_eq!(replica.notices, []);
    }
}

#[test]
fn a_snapshot_that_cannot_be_believed_is_ignored() {
    let (world, snapshots) = with_snapshots(5);
    let good = &snapshots[3].bytes;
    let mut flipped = good.clone();
    flipped[70] ^= 1;
    let mut other_format = good.clone();
    other_format[0] = 3;
    let other_chain = {
        let mut other = snapshot::decode(id(ANN), good).unwrap();
        other.chain = Digest::of(b"another history");
        snapshot::encode(id(ANN), &other).unwrap()
    };
    let somebody_elses = {
        let mut other = snapshot::decode(id(ANN), good).unwrap();
        other.body.person.id = id(BOB);
        snapshot::encode(id(BOB), &other).unwrap()
    };
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("garbage", b"garbage".to_vec()),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("only a header", good[..50].to_vec()),
        ("a byte too many", [&good[..], b"x"].concat()),
        ("a flipped bit", flipped),
        ("another format", other_format),
        ("another chain", other_chain),
        ("somebody else's", somebody_elses),
    ] {
        world.snapshots.forge(id(ANN), Some(bytes));
        let mut replica = world.replica();
        let told = replica.tell([ask("2", note(ANN, "2")), ask("", create(ANN))]);
        assert_eq!(told, ["accepted v3 #3 AttributeRecorded again", "already_exists v5"], "{what}");
        assert!(
            matches!(&replica.notices[..], [Notice::Odd(person, _)] if *person == id(ANN)),
            "{what}: {:?}",
            replica.notices
        );
    }
}

/// A snapshot whose body was damaged but whose header claimed a high version was never replaced: whoever wanted to store
/// a good one compared with the claim.
#[test]
fn a_snapshot_that_cannot_be_believed_is_replaced() {
    let (world, snapshots) = with_snapshots(5);
    let mut boasting = snapshots[4].bytes.clone();
    boasting[2..10].copy_from_slice(&900_u64.to_le_bytes());
    let mut flipped = snapshots[4].bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bytes in [boasting, flipped, b"garbage".to_vec()] {
        world.snapshots.forge(id(ANN), Some(bytes));
        let mut replica = world.replica_with(Limits { snapshot_frequency: 5, ..LIMITS });
        replica.tell([ask("", create(ANN))]);
        assert_eq!(replica.snapshots.len(), 1);
        let there = world.snapshots.clone().load(&[id(ANN)]).pop().flatten().unwrap();
        assert_eq!(snapshot::decode(id(ANN), &there).unwrap().version, 5);
        let stored = world.snapshots.clone().store(id(ANN), 4, &snapshots[3].bytes).unwrap();
        assert_eq!(stored, SnapshotStored::NewerExists);
    }
}

#[test]
fn a_snapshot_ahead_of_a_copy_is_asked_of_the_leader() {
    let (world, snapshots) = with_snapshots(5);
    world.snapshots.forge(id(ANN), Some(snapshots[4].bytes.clone()));
    let mut replica = world.replica();
    replica.faults.lag_at(Some(3));
    assert_eq!(replica.tell([ask("", note(ANN, "x"))]), ["accepted v6 #6 AttributeRecorded"]);
    assert_eq!(replica.notices, []);
}

#[test]
fn a_snapshot_ahead_of_the_log_proves_that_its_tail_was_lost() {
    for left in [0, 2] {
        let (world, snapshots) = with_snapshots(5);
        world.log.lose_after(left);
        world.snapshots.forge(id(ANN), Some(snapshots[4].bytes.clone()));
        let mut replica = world.replica();
        let told = replica.tell([ask("", note(ANN, "x")), ask("b", create(BOB))]);
        assert_eq!(told[0], "history_damaged");
        assert!(told[1].starts_with("accepted"));
        assert!(matches!(&replica.notices[..], [Notice::Damaged(..)]), "{:?}", replica.notices);
    }
}

/// Where others had been stored since, at the positions of the lost commits and after them, the snapshot was taken for
/// a wrong one and the loss went unnoticed.
#[test]
fn a_lost_tail_is_noticed_when_the_log_has_grown_again() {
    let (world, snapshots) = with_snapshots(5);
    world.log.lose_after(2);
    world.given([ask("b", create(BOB)), ask("c", rename(BOB, "Bea")), ask("d", rename(BOB, "Cy"))]);
    world.given([ask("new", note(ANN, "new"))]);
    world.snapshots.forge(id(ANN), Some(snapshots[4].bytes.clone()));
    for lag in [None, Some(1), Some(2)] {
        let mut replica = world.replica();
        replica.faults.lag_at(lag);
        assert_eq!(replica.tell([ask("", note(ANN, "x"))]), ["history_damaged"], "lagging at {lag:?}");
    }
}

#[test]
fn a_person_of_the_largest_size_has_a_snapshot_that_can_be_read() {
    let (world, _) = with_snapshots(1);
    let mut replica = world.replica_with(OFTEN);
    let mut told = Vec::new();
    while told.last().is_none_or(|outcome: &String| outcome.starts_with("accepted")) {
        told.extend(replica.tell([ask("", large_note(ANN, 60_000))]));
    }
    assert!(told.last().unwrap().starts_with("too_large"), "{told:?}");
    let due = replica.snapshots.last().unwrap();
    assert!(due.bytes.len() > 450_000);
    let restored = snapshot::decode(id(ANN), &due.bytes).unwrap();
    assert_eq!(restored.version, due.version);
    assert_eq!(restored.body.person, world.history(ANN).state.unwrap());
}

#[test]
fn a_long_history_leaves_the_turn() {
    let (world, _) = with_snapshots(40);
    let mut replica = world.replica();
    replica.faults.page_commits_max(4);
    world.given([ask("b", create(BOB))]);
    let told = replica.turn([ask("x", note(ANN, "x")), ask("y", note(BOB, "y"))]);
    assert_eq!(told, [(1, "accepted v2 #42 AttributeRecorded".to_owned())], "others are served");
    assert_eq!(replica.errands.len(), 1);
    assert_eq!(replica.worker.backlog(), 1);
    assert!(!replica.worker.is_idle());
    // It is read once, however many turns go by and whatever comes in.
    assert_eq!(replica.turn([ask("0", create(ANN))]), []);
    assert_eq!(replica.errands.len(), 1);
    replica.read_long_histories();
    assert_eq!(
        replica.turn([]),
        [(2, "accepted v1 #1 PersonCreated again".to_owned()), (0, "accepted v41 #43 AttributeRecorded".to_owned())]
    );
    assert!(replica.worker.is_idle());
    replica.faults.calls();
    assert_eq!(replica.tell([ask("z", note(ANN, "z"))]), ["accepted v42 #44 AttributeRecorded"]);
    assert_eq!(replica.faults.calls(), ["append"], "it is cached");
}

#[test]
fn a_long_history_that_comes_back_unread_is_read_on() {
    let (world, _) = with_snapshots(40);
    let mut replica = world.replica();
    replica.faults.page_commits_max(2);
    assert_eq!(replica.turn([ask("x", note(ANN, "x"))]), []);
    let unread = replica.errands.pop().unwrap();
    replica.worker.take_back(unread);
    assert_eq!(replica.turn([]), []);
    replica.turn([]);
    assert_eq!(replica.errands.len(), 1);
    replica.read_long_histories();
    assert_eq!(replica.turn([]).len(), 1);
}

#[test]
fn nobody_may_be_left_when_a_long_history_comes_back() {
    let (world, _) = with_snapshots(40);
    let mut replica = world.replica();
    replica.faults.page_commits_max(4);
    assert_eq!(replica.turn([ask("x", note(ANN, "x")).within(2 * SECOND)]), []);
    world.pass(2 * SECOND);
    assert_eq!(replica.turn([]), [(0, "overloaded".to_owned())]);
    replica.read_long_histories();
    assert_eq!(replica.turn([]), []);
    assert!(replica.worker.is_idle());
    assert_eq!(replica.worker.cached_persons(), 1);
}

#[test]
fn a_store_that_goes_away_while_a_history_is_read_is_tried_again() {
    let (world, snapshots) = with_snapshots(12);
    world.snapshots.forge(id(ANN), Some(snapshots[2].bytes.clone()));
    let mut replica = world.replica();
    replica.faults.page_commits_max(3);
    replica.faults.on_read([OnRead::Works, OnRead::Unavailable]);
    assert_eq!(replica.tell([ask("", note(ANN, "x"))]), ["accepted v13 #13 AttributeRecorded"]);
    world.history(ANN);
}

#[test]
fn time_is_no_part_of_what_is_not_there() {
    let absent = Aggregate::absent(id(ANN));
    assert!(absent.to_snapshot().is_none());
    assert!(DueSnapshot::of(&absent).is_none());
    assert!(absent.last_event_at <= Timestamp::from_micros(0));
}
