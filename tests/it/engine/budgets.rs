//! Reading has budgets: a turn reads for all persons at once, and no more than there is room for.

use cim_domain_person::engine::history::What;
use cim_domain_person::engine::ports::{Append, CommitHeaders, EventLog};

use super::faults::{Faults, FaultyLog, OnAppend, OnRead};
use super::*;

const NARROW: Limits = Limits { reading: Budget::of_a_turn(100_000), ..LIMITS };

fn person(number: u128) -> String {
    PersonId::from_uuid(uuid::Uuid::from_u128(number)).to_string()
}

/// Persons of this many bytes, each in commits of its own.
fn large_persons(world: &World, count: u128, bytes: usize) -> Vec<String> {
    let persons: Vec<String> = (1..=count).map(person).collect();
    for person in &persons {
        world.given([ask("", create(person)), ask("", large_note(person, bytes / 2))]);
        world.given([ask("", large_note(person, bytes / 2))]);
    }
    persons
}

/// After a restart everything that was asked for was read at once: 128 persons of 1 MiB were in memory before anybody
/// looked how large they are, and 512 of them before the first was decided.
#[test]
fn a_turn_reads_no_more_than_there_is_room_for_and_everybody_is_served() {
    const BYTES: usize = 60_000;
    let world = World::new();
    let persons = large_persons(&world, 30, BYTES);
    let mut replica = world.replica_with(NARROW);
    replica.faults.most_bytes();
    let told = replica.tell(persons.iter().map(|person| ask("", note(person, "x"))));
    assert!(told.iter().all(|outcome| outcome.starts_with("accepted v4")), "{told:?}");
    let most = replica.faults.most_bytes();
    assert!(most > BYTES && most < 100_000 + BYTES, "{most} bytes at once");
    assert_eq!(replica.counts.loads, 30, "each is loaded once");
    assert!(replica.errands.is_empty());
}

/// Whoever comes last in the order of the ids would wait for as long as others come.
#[test]
fn whoever_has_waited_for_longest_is_read_first() {
    let world = World::new();
    let persons = large_persons(&world, 20, 60_000);
    let mut replica = world.replica_with(NARROW);
    let (first, rest) = persons.split_last().unwrap();
    let mut answered = Vec::new();
    let mut asks = vec![ask("", note(first, "x")), ask("", note(&rest[0], "x"))];
    for more in rest[1..].chunks(2) {
        world.pass(MILLI);
        answered.extend(replica.turn(std::mem::take(&mut asks)).into_iter().map(|(number, _)| number));
        asks.extend(more.iter().map(|person| ask("", note(person, "x"))));
    }
    assert!(answered.iter().position(|number| *number == 0).unwrap() <= 1, "{answered:?}");
    assert!(answered[2..].is_sorted(), "{answered:?}");
}

/// Persons each with a command of an id that is to be searched for, among 200 later ones.
fn with_old_commands(world: &World, persons: &[&str]) -> Vec<Ask> {
    let mut retries = Vec::new();
    for (number, person) in (0..).zip(persons) {
        let mut replica = world.replica_with(Limits { snapshot_frequency: 1, ..LIMITS });
        let first = uuid_v7(world.now(), number);
        replica.tell([ask("", create(person)), ask(&first, note(person, "first"))]);
        for later in 0..200 {
            replica.tell([ask(&format!("later-{later}"), note(person, "x"))]);
        }
        retries.push(ask(&first, note(person, "first")));
    }
    retries
}

/// The histories were searched one after the other, up to 32 pages each, within the turn.
#[test]
fn old_commands_of_many_persons_are_searched_for_together() {
    let world = World::new();
    let retries = with_old_commands(&world, &[ANN, BOB, CAT]);
    let mut replica = world.replica();
    let told = replica.tell(retries);
    assert!(told.iter().all(|outcome| outcome.ends_with("AttributeRecorded again")), "{told:?}");
    let calls = replica.faults.calls();
    assert_eq!(calls.iter().filter(|call| **call == "search").count(), 1, "{calls:?}");
}

/// It was carried out twice where the store could not be asked, or rather said to lie too far back.
#[test]
fn a_long_search_leaves_the_turn_and_nobody_waits_for_it() {
    let world = World::new();
    let retries = with_old_commands(&world, &[ANN]);
    world.given([ask("", create(BOB))]);
    let mut replica = world.replica();
    replica.faults.page_commits_max(4);
    let told = replica.turn(retries.into_iter().chain([ask("", note(BOB, "x"))]));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].0, replica.errands.len(), replica.worker.is_idle()), (1, 1, false));
    assert_eq!(replica.turn([]), []);
    assert_eq!(replica.errands.len(), 1, "it is searched once");
    replica.read_long_histories();
    let told = replica.turn([]);
    assert!(told[0].1.ends_with("AttributeRecorded again"), "{told:?}");
}

/// "Whether this command id was carried out lies too far back to be searched" was said, for good, when the store was away.
#[test]
fn while_the_store_is_away_a_search_is_not_over() {
    let world = World::new();
    let retries = with_old_commands(&world, &[ANN]);
    let mut replica = world.replica();
    replica.faults.on_read([OnRead::Works].into_iter().chain([OnRead::Unavailable; 3]));
    let told = replica.tell(retries.into_iter().chain([ask("new", note(ANN, "new"))]));
    assert_eq!(told[0], "accepted v2 #1 AttributeRecorded again");
    assert!(told[1].starts_with("accepted v203"), "{told:?}");
}

/// Merge targets were read within the turn, up to 256 pages of each, while everybody waited.
#[test]
fn a_long_merge_target_leaves_the_turn_and_nobody_waits_for_it() {
    let world = World::new();
    world.given([ask("", create(ANN)), ask("", create(BOB)), ask("", create(CAT))]);
    world.given((0..60).map(|number| ask("", note(BOB, &number.to_string()))));
    let commits = world.history(BOB).commits.len();
    assert!(commits >= 61, "{commits}");
    for cache_bytes in [1 << 20, 0] {
        let mut replica = world.replica_with(Limits { cache_bytes, ..LIMITS });
        replica.faults.page_commits_max(4);
        let told = replica.turn([ask("", merge(ANN, BOB)), ask("", note(CAT, "x"))]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].0, replica.errands.len()), (1, 1));
        assert_eq!(replica.turn([]), []);
        assert_eq!(replica.errands.len(), 1, "it is read once");
        replica.read_long_histories();
        let told = replica.turn([]);
        match cache_bytes {
            0 => assert!(told[0].1.starts_with("person_merged"), "{told:?}"),
            _ => assert!(told[0].1.starts_with("accepted v2"), "{told:?}"),
        }
        assert!(replica.worker.is_idle());
    }
}

/// Two persons with long histories, into whom a third is to be merged one after the other, and who were begun to be read
/// outside the turn.
fn merging_into_two(cache_bytes: usize) -> Replica {
    let world = World::new();
    world.given([ANN, BOB, CAT].map(|person| ask("", create(person))));
    for number in 0..60 {
        world.given([BOB, CAT].map(|person| ask("", note(person, &number.to_string()))));
    }
    let mut replica = world.replica_with(Limits { cache_bytes, ..LIMITS });
    replica.faults.page_commits_max(4);
    assert_eq!(replica.turn([ask("", merge(ANN, BOB)), ask("", merge(ANN, CAT))]), []);
    assert_eq!(replica.errands.len(), 2);
    replica
}

/// All is read that is to be, as often as it takes, and both are answered.
#[track_caller]
fn check_merged(mut replica: Replica) {
    let mut told = Vec::new();
    for _ in 0..8 {
        replica.read_long_histories();
        told.extend(replica.turn([]));
    }
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].1.starts_with("accepted v2") && told[1].1.starts_with("person_merged v2"), "{told:?}");
    assert!(replica.worker.is_idle() && replica.errands.is_empty());
}

/// Whoever waits for two targets lost the first one where the cache had no room for it while the second one was read, so that
/// they took turns for ever: found by the simulation. Then it was held beside the cache, with its whole state, whatever
/// `CACHE_BYTES` said.
#[test]
fn what_a_held_merge_target_takes_is_in_the_cache_or_nowhere() {
    for (cache_bytes, cached, commits_read) in [(1 << 20, 1, 1), (0, 0, 32)] {
        let mut replica = merging_into_two(cache_bytes);
        let other = replica.errands.pop().unwrap();
        replica.read_long_histories();
        assert_eq!(replica.turn([]), []);
        assert_eq!((replica.errands.len(), replica.worker.cached_persons()), (0, cached), "{cache_bytes}");
        // Something comes after what was read of it: is the rest still there?
        replica.world.given([ask("", note(BOB, "new"))]);
        replica.faults.commits_read();
        assert_eq!(replica.turn([]), []);
        assert_eq!(replica.faults.commits_read(), commits_read, "{cache_bytes}");
        replica.errands.push(other);
        check_merged(replica);
    }
}

/// The thread that reads long histories had no room for it and gave it back as it was: the merge was `unavailable` at once,
/// though there was time.
#[test]
fn a_merge_target_that_was_not_read_to_its_end_is_begun_again() {
    let mut replica = merging_into_two(1 << 20);
    replica.faults.page_commits_max(2);
    std::mem::take(&mut replica.errands).into_iter().for_each(|errand| replica.worker.take_back(errand));
    assert_eq!(replica.turn([]), []);
    assert_eq!(replica.errands.len(), 2, "they are begun again, with what was read");
    check_merged(replica);
}

/// Four long histories filled each step of the thread that reads what leaves the turn, and the errands behind them got
/// nothing until one of the four had ended.
#[test]
fn errands_behind_four_long_ones_get_on() {
    let world = World::new();
    let persons: Vec<String> = (1..=6).map(person).collect();
    for (person, commits) in persons.iter().zip([16, 16, 16, 16, 6, 6]) {
        world.given([ask("", create(person))]);
        (1..commits).for_each(|_| world.given([ask("", large_note(person, 20_000))]));
    }
    let faults = Faults::default();
    faults.page_commits_max(1);
    let mut log = FaultyLog::new(world.log.clone(), faults.clone());
    let errand = |person: &String| {
        let owner = id(person);
        Errand { owner, what: What::Load(Box::new(Loading::cold(owner, Freshness::Newest))) }
    };
    let (mut open, mut over): (Vec<Errand>, Vec<Errand>) = (persons.iter().map(errand).collect(), Vec::new());
    // Room for four commits a step.
    let step = Budget { rounds: 4, ..Budget::of_bytes(70_000) };
    while !open.is_empty() {
        faults.commits_read();
        let (ended, left) = history::run(&mut log, &mut world.snapshots.clone(), open, &step);
        assert!(!ended.is_empty() || faults.commits_read() > 0, "it gets on");
        over.extend(ended);
        open = left;
    }
    let ended: Vec<usize> =
        over.iter().filter_map(|errand| persons.iter().position(|person| id(person) == errand.owner)).collect();
    assert_eq!(ended[..2].iter().sum::<usize>(), 4 + 5, "the shorter ones end first: {ended:?}");
    assert_eq!(ended.len(), 6);
}

/// What became of one append was found out by reading a page of 256 commits from the leader, one by one.
#[test]
fn what_became_of_an_append_takes_two_commits() {
    let world = World::new();
    world.given([ask("", create(ANN))]);
    let mut replica = world.replica();
    replica.tell([ask("", note(ANN, "warm"))]);
    let others = world.clone();
    replica.faults.on_append([OnAppend::AckLost]);
    assert_eq!(replica.turn([ask("a", note(ANN, "mine"))]), []);
    others.given((0..50).map(|number| ask("", note(ANN, &number.to_string()))));
    replica.faults.commits_read();
    assert_eq!(replica.turn([]), [(1, "accepted v3 #3 AttributeRecorded".to_owned())]);
    assert_eq!(replica.faults.commits_read(), 2);
}

/// It was said to be read without what was cached, then without the snapshot, and was read from the beginning at once.
#[test]
fn what_does_not_fit_is_read_from_the_snapshot_and_not_from_the_beginning() {
    let world = World::new();
    let mut writer = world.replica_with(Limits { snapshot_frequency: 1, ..LIMITS });
    writer.tell([ask("", create(ANN))]);
    for number in 0..40 {
        writer.tell([ask("", note(ANN, &number.to_string()))]);
    }
    let snapshot = writer.snapshots[29].bytes.clone();
    // The log loses what the replica has in memory, and grows again.
    world.log.lose_after(40);
    world.snapshots.forge(id(ANN), Some(snapshot));
    world.given([ask("", note(ANN, "new")), ask("", note(ANN, "newer"))]);
    writer.faults.commits_read();
    let told = writer.tell([ask("", note(ANN, "newest"))]);
    assert_eq!(told, ["accepted v43 #43 AttributeRecorded"]);
    let read = writer.faults.commits_read();
    assert!((12..30).contains(&read), "{read} commits");
    assert!(writer.notices.iter().any(|notice| matches!(notice, Notice::LostTail(_) | Notice::Odd(..))));
}

/// A copy showed another commit that continues the history as well. The next one did not, from the leader neither, and the
/// history was called damaged on that copy's word.
#[test]
fn a_copy_that_showed_another_commit_does_not_make_a_history_damaged() {
    let world = World::new();
    world.given([ask("", create(ANN)), ask("", note(ANN, "1"))]);
    let other = {
        let rival = World::new();
        let mut log = rival.log.clone();
        for commit in world.log.commits(id(ANN)) {
            let expected = log.tips(&[id(ANN)]).remove(0).unwrap().map_or(0, |tip| tip.sequence);
            let headers = CommitHeaders::default();
            log.append(&[Append { person: id(ANN), expected, payload: commit.payload, headers }]);
        }
        rival.given([ask("", note(ANN, "another"))]);
        rival.log.commits(id(ANN))[2].payload.to_vec()
    };
    world.given((2..6).map(|number| ask("", note(ANN, &number.to_string()))));
    let mut replica = world.replica();
    replica.faults.garble(3, other.leak());
    assert_eq!(replica.tell([ask("", create(ANN)), ask("", note(ANN, "x"))])[0], "already_exists v6");
    assert_eq!(replica.notices, []);
}
