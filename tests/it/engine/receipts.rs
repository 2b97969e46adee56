//! One command id, one effect: what is remembered, what is searched for, and what is admitted not to be known.

use cim_domain_person::domain::{Event, EventKind};
use cim_domain_person::engine::ports::{Append, CommitHeaders, EventLog};
use cim_domain_person::engine::receipts::{Known, Receipts};
use cim_domain_person::wire::commit::{CommitBuilder, CommitCommand, EventRecord};
use cim_domain_person::wire::request::CommandId;

use super::faults::OnRead;
use super::*;

const OFTEN: Limits = Limits { snapshot_frequency: 1, ..LIMITS };

fn plain(number: usize) -> String {
    format!("plain-{number}")
}

/// What a retry is told by a replica that has everything in memory, by one that begins with the snapshot, and by one
/// that reads the whole history.
fn told_by_all(world: &World, replica: &mut Replica, asks: &[Ask]) -> [Vec<String>; 3] {
    let warm = replica.tell(asks.iter().cloned());
    let cold = world.replica().tell(asks.iter().cloned());
    let there = world.snapshots.clone().load(&[id(ANN)]).pop().flatten();
    world.snapshots.forge(id(ANN), None);
    let full = world.replica().tell(asks.iter().cloned());
    world.snapshots.forge(id(ANN), there);
    [warm, cold, full]
}

/// The newest 128 were remembered. A command after which 128 came is the 129th, and its retry had a second effect.
#[test]
fn a_command_is_remembered_while_128_later_ones_came() {
    for ago in [1, 127, 128] {
        let world = World::new();
        let mut replica = world.replica_with(OFTEN);
        replica.tell([ask("0", create(ANN)), ask("first", note(ANN, "first"))]);
        for number in 0..ago {
            // An array counts once, and what changes nothing does not count.
            let two = json!([note(ANN, "x"), note(ANN, "y")]);
            replica.tell([ask(&plain(number), two), ask(&format!("none-{number}"), rename(ANN, "Ann"))]);
        }
        for told in told_by_all(&world, &mut replica, &[ask("first", note(ANN, "first"))]) {
            assert_eq!(told, ["accepted v2 #1 AttributeRecorded again"], "{ago} commands ago");
        }
    }
}

#[test]
fn ids_that_the_service_made_push_nobody_out() {
    let world = World::new();
    let mut replica = world.replica_with(OFTEN);
    replica.tell([ask("0", create(ANN)), ask("first", note(ANN, "first"))]);
    replica.tell((0..300).map(|_| ask("", note(ANN, "x"))));
    for told in told_by_all(&world, &mut replica, &[ask("first", note(ANN, "first"))]) {
        assert_eq!(told, ["accepted v2 #1 AttributeRecorded again"]);
    }
}

/// A person with a command of this id, and 200 later ones, one a second.
fn busy(first: &str, apart_micros: u64) -> (World, Replica) {
    let world = World::new();
    let mut replica = world.replica_with(OFTEN);
    replica.tell([ask("0", create(ANN)), ask(first, note(ANN, "first"))]);
    for number in 0..200 {
        world.pass(apart_micros);
        replica.tell([ask(&plain(number), note(ANN, "x"))]);
    }
    (world, replica)
}

#[test]
fn an_old_uuid_v7_is_searched_for() {
    let first = uuid_v7(World::new().now(), 1);
    for apart in [MILLI, SECOND] {
        let (world, mut replica) = busy(&first, apart);
        let again = [ask(&first, note(ANN, "first")), ask(&first, note(ANN, "second"))];
        for told in told_by_all(&world, &mut replica, &again) {
            assert_eq!(told, ["accepted v2 #1 AttributeRecorded again", "command_id_reused v202"]);
        }
        // The retry of another one, with the first search behind it.
        let mut cold = world.replica();
        assert_eq!(cold.tell([ask(&first, note(ANN, "first"))]), ["accepted v2 #1 AttributeRecorded again"]);
        assert!(cold.faults.calls().contains(&"search"));
        assert_eq!(cold.tell([ask(&first, note(ANN, "first"))]), ["accepted v2 #1 AttributeRecorded again"]);
        assert!(!cold.faults.calls().contains(&"search"), "what was found is kept");
        let history = world.history(ANN);
        assert_eq!((history.times(&first), history.version), (1, 202));
    }
}

#[test]
fn a_new_uuid_v7_is_not_searched_for_long_after_the_forgotten_ones() {
    let (world, _) = busy("first", SECOND);
    let mut cold = world.replica();
    let new = uuid_v7(world.now(), 2);
    assert_eq!(cold.tell([ask(&new, note(ANN, "new"))]), ["accepted v203 #202 AttributeRecorded"]);
    assert!(!cold.faults.calls().contains(&"search"));
}

#[test]
fn ten_minutes_are_searched_and_more_is_not_promised() {
    for (minutes, then) in
        [(10, "accepted v2 #1 AttributeRecorded again"), (60, "accepted v203 #202 AttributeRecorded")]
    {
        let first = uuid_v7(World::new().now(), 1);
        let (world, _) = busy(&first, SECOND);
        world.pass((minutes * 60 - 200) * SECOND);
        assert_eq!(world.replica().tell([ask(&first, note(ANN, "first"))]), [then], "after {minutes} minutes");
    }
}

#[test]
fn a_search_that_cannot_be_made_is_of_unknown_outcome() {
    let first = uuid_v7(World::new().now(), 1);
    let (world, _) = busy(&first, SECOND);
    let retry = [ask(&first, note(ANN, "first")), ask("plain", note(ANN, "x"))];
    // The history is read, and then the store is away.
    let mut cold = world.replica();
    cold.faults.on_read([OnRead::Works, OnRead::Unavailable]);
    let told = cold.tell(retry.clone());
    assert_eq!(told[0], "outcome_unknown");
    assert!(told[1].starts_with("accepted"), "{told:?}");
    assert_eq!(cold.tell([retry[0].clone()]), ["accepted v2 #1 AttributeRecorded again"]);
    assert_eq!(world.history(ANN).times(&first), 1);
}

/// The search gave up where a copy that lagged had no more: the outcome was said to be unknown, with nothing out of
/// order but the copy. Found by the simulation.
#[test]
fn a_copy_that_lags_does_not_end_a_search() {
    let first = uuid_v7(World::new().now(), 1);
    let (world, _) = busy(&first, SECOND);
    for lag in [0, 1, 20] {
        let mut cold = world.replica();
        cold.faults.lag_at(Some(lag));
        assert_eq!(cold.tell([ask(&first, note(ANN, "first"))]), ["accepted v2 #1 AttributeRecorded again"]);
    }
}

/// The search ended before the commit of the oldest remembered command. Where that one had been stored together with
/// others, those before it were neither remembered nor found, and their retries had a second effect.
#[test]
fn a_search_does_not_stop_short_of_a_commit_that_is_half_remembered() {
    let world = World::new();
    let ids: Vec<String> = (0..200).map(|number| uuid_v7(world.now(), number)).collect();
    let mut replica = world.replica_with(OFTEN);
    replica.tell([ask("0", create(ANN))]);
    // All in one commit, of which 128 are remembered.
    replica.tell(ids.iter().map(|id| ask(id, note(ANN, id))));
    assert_eq!(world.history(ANN).commits, [1, 200]);
    for told in told_by_all(&world, &mut replica, &[ask(&ids[20], note(ANN, &ids[20]))]) {
        assert_eq!(told, ["accepted v22 #2 AttributeRecorded again"]);
    }
    let mut cold = world.replica();
    for (number, id) in ids.iter().enumerate() {
        let then = format!("accepted v{} #2 AttributeRecorded again", number + 2);
        assert_eq!(cold.tell([ask(id, note(ANN, id))]), [then]);
    }
}

/// After a search the newest of the found ones was taken for the newest that a snapshot lacks. Those that had fallen out
/// since the load were newer: the next replica to load the snapshot neither knew them nor searched for them.
#[test]
fn a_snapshot_after_a_search_does_not_claim_to_remember_more_than_it_does() {
    let world = World::new();
    let ids: Vec<String> =
        (0..300_u64).map(|number| uuid_v7(world.now().plus_micros(number as i64 * 100_000), number)).collect();
    let mut replica = world.replica_with(OFTEN);
    replica.tell([ask("0", create(ANN))]);
    let carry_out = |replica: &mut Replica, range: std::ops::Range<usize>| {
        for id in &ids[range] {
            world.pass(100 * MILLI);
            assert!(replica.tell([ask(id, note(ANN, id))])[0].starts_with("accepted"));
        }
    };
    carry_out(&mut replica, 0..200);
    let mut second = world.replica_with(OFTEN);
    carry_out(&mut second, 200..300);
    // It is not remembered any more, and found.
    assert_eq!(second.tell([ask(&ids[3], note(ANN, &ids[3]))]), ["accepted v5 #5 AttributeRecorded again"]);
    // What comes next leaves no receipt, so the snapshot of it is made of what the search left.
    second.tell([ask("", note(ANN, "x"))]);
    for (number, id) in ids[..300].iter().enumerate() {
        let then = format!("accepted v{0} #{0} AttributeRecorded again", number + 2);
        assert_eq!(world.replica().tell([ask(id, note(ANN, id))]), [then]);
    }
    assert_eq!(world.history(ANN).version, 302);
}

/// The times in a history can be ahead of the store's, where a replica's clock was. The search by the store's time then
/// found nothing stored so late, and every new command was of unknown outcome until the clocks had caught up.
#[test]
fn times_from_a_fast_clock_do_not_stop_new_commands() {
    let world = World::new();
    let hour = i64::try_from(60 * MINUTE).unwrap();
    let mut fast = world.replica_with(OFTEN);
    fast.tell([ask("0", create(ANN)).skewed(hour)]);
    for number in 0..200 {
        fast.tell([ask(&plain(number), note(ANN, "x")).skewed(hour)]);
    }
    world.pass(30 * SECOND);
    for then in ["accepted v202 #202 AttributeRecorded", "accepted v203 #203 AttributeRecorded"] {
        let new = uuid_v7(world.now(), 1);
        let mut cold = world.replica();
        assert_eq!(cold.tell([ask(&new, note(ANN, "new"))]), [then]);
        assert_eq!(cold.tell([ask(&new, note(ANN, "new"))]), [format!("{then} again")]);
        world.pass(30 * SECOND);
    }
}

/// The emptiness of a copy that lags says nothing.
#[test]
fn nothing_found_is_believed_of_the_leader_alone() {
    let world = World::new();
    let hour = i64::try_from(60 * MINUTE).unwrap();
    let mut fast = world.replica_with(OFTEN);
    fast.tell([ask("0", create(ANN)).skewed(hour)]);
    for number in 0..200 {
        fast.tell([ask(&plain(number), note(ANN, "x")).skewed(hour)]);
    }
    world.pass(30 * SECOND);
    let first = uuid_v7(world.now(), 1);
    fast.tell([ask(&first, note(ANN, "first")).skewed(hour)]);
    for number in 200..350 {
        fast.tell([ask(&plain(number), note(ANN, "x")).skewed(hour)]);
    }
    for lag in [0, 150, 201, 202, 300, 352] {
        let mut cold = world.replica();
        cold.faults.lag_at(Some(lag));
        let told = cold.tell([ask(&first, note(ANN, "first"))]);
        let fine = ["accepted v202 #202 AttributeRecorded again", "outcome_unknown"];
        assert!(fine.contains(&told[0].as_str()), "lagging at {lag}: {told:?}");
    }
    assert_eq!(world.history(ANN).times(&first), 1);
}

#[test]
fn an_id_from_the_future_is_searched_for_as_far_as_is_promised() {
    let first = uuid_v7(World::new().now().plus_micros(3_600_000_000), 1);
    let (world, mut replica) = busy(&first, SECOND);
    for told in told_by_all(&world, &mut replica, &[ask(&first, note(ANN, "first"))]) {
        assert_eq!(told, ["accepted v2 #1 AttributeRecorded again"]);
    }
}

/// An id whose time lies beyond what our calendar knows was taken for none that is a UUIDv7.
#[test]
fn an_id_from_the_end_of_time_is_searched_for_too() {
    let first = "ffffffff-ffff-7fff-bfff-ffffffffffff";
    let (world, mut replica) = busy(first, SECOND);
    for told in told_by_all(&world, &mut replica, &[ask(first, note(ANN, "first"))]) {
        assert_eq!(told, ["accepted v2 #1 AttributeRecorded again"]);
    }
}

/// Appends commits to a history without the help of the engine.
fn write_history(world: &World, commits: usize) {
    let (mut log, mut previous, mut expected) = (world.log.clone(), Digest::ZERO, 0);
    let records = world.request(&ask("0", create(ANN)));
    for version in 1..=commits as u64 {
        let at = world.now();
        let event = match &records.commands[0] {
            cim_domain_person::domain::Command::CreatePerson { person_id, name, source } if version == 1 => {
                let (person_id, name, source) = (*person_id, name.clone(), source.clone());
                Event::PersonCreated { person_id, name, source, created_at: at }
            }
            _ if version % 2 == 0 => {
                Event::PersonDeactivated { person_id: id(ANN), reason: "r".to_owned(), deactivated_at: at }
            }
            _ => Event::PersonReactivated { person_id: id(ANN), reason: "r".to_owned(), reactivated_at: at },
        };
        let command_id = uuid_v7(at, version);
        let mut builder = CommitBuilder::default();
        builder.begin_command(CommitCommand {
            command_id: command_id.clone(),
            digest: Digest::of(command_id.as_bytes()),
            events: 0,
            traceparent: None,
            generated: false,
        });
        let record = EventRecord {
            sequence: version,
            event_id: uuid::Uuid::from_u128(u128::from(version)),
            event,
            timestamp: at,
            correlation_id: command_id.clone(),
            causation_id: command_id,
            actor: None,
        };
        builder.add_event(&record).unwrap();
        let payload: Arc<[u8]> = builder.encode(id(ANN), version, previous).unwrap().into();
        previous = Digest::of(&payload);
        let append = Append { person: id(ANN), expected, payload, headers: CommitHeaders::default() };
        match log.append(&[append]).pop() {
            Some(cim_domain_person::engine::ports::Appended::Stored(sequence)) => expected = sequence,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_search_that_would_go_too_far_is_of_unknown_outcome() {
    let world = World::new();
    let made_at = world.now();
    write_history(&world, 8_500);
    // A snapshot, so that only the newest are remembered.
    let loading = load::start(&mut world.snapshots.clone(), &[(id(ANN), load::Freshness::Newest)]);
    let (done, _) = load::run(&mut world.log.clone(), loading, usize::MAX);
    let aggregate = done.into_iter().next().unwrap().finish(&mut Vec::new()).unwrap();
    world.snapshots.forge(id(ANN), Some(DueSnapshot::of(&aggregate).unwrap().bytes));
    let mut replica = world.replica();
    let told = replica.tell([ask(&uuid_v7(made_at, 5_000), deactivate(ANN)), ask("plain", archive(ANN))]);
    assert_eq!(told, ["outcome_unknown", "accepted v8501 #8501 PersonArchived"]);
}

fn receipt(number: u64, at: Timestamp) -> Receipt {
    Receipt {
        command: Digest::of(number.to_string().as_bytes()),
        digest: Digest::ZERO,
        version: number,
        sequence: number,
        at,
        events: [EventKind::NameUpdated].into(),
    }
}

#[test]
fn what_falls_out_of_the_newest_stays_in_memory_for_a_quarter_of_an_hour() {
    let start = time(NOW);
    let named = |number: u64| CommandId::new(number.to_string(), false);
    let mut receipts = Receipts::default();
    for number in 0..2_000 {
        let now = start.plus_micros(number as i64 * 1_000_000);
        receipts.push(receipt(number, now));
        for ago in [0, 1, 128, 129, 500, 900, 901, 1_500] {
            if let Some(earlier) = number.checked_sub(ago) {
                let known =
                    matches!(receipts.look_up(&named(earlier), now), Known::As(receipt) if receipt.version == earlier);
                assert_eq!(known, ago <= 900, "{ago} commands ago at {number}");
            }
        }
    }
    let generated = CommandId::new("1999".to_owned(), true);
    assert_eq!(receipts.look_up(&generated, start), Known::New);
    let (recent, since) = receipts.for_snapshot();
    assert_eq!(recent.last().unwrap().version, 1999);
    let lacking = recent.first().unwrap().version - 1;
    assert_eq!(since, Some(start.plus_micros(lacking as i64 * 1_000_000)));
    let restored = Receipts::restored(recent.clone(), since);
    assert_eq!(restored.for_snapshot(), (recent, since));
    assert!(restored.size() < receipts.size());
}

/// Of a person with thousands of commands a second more was found than is kept, and what was found was forgotten at once:
/// the same search was made again for each new command, and each was of unknown outcome.
#[test]
fn who_asked_gets_an_answer_however_much_a_search_finds() {
    let start = time(NOW);
    let at = |number: u64| start.plus_micros(number as i64 * 10);
    let made = |number: u64| CommandId::new(uuid_v7(at(number), number), false);
    let command = |number: u64| Receipt { command: made(number).digest, ..receipt(number, at(number)) };
    let found: Vec<Receipt> = (0..300_000).map(command).collect();
    let (recent, since) = (found[299_900..].to_vec(), Some(at(299_899)));
    let (now, first, absent) = (at(300_000), made(0), CommandId::new(uuid_v7(start, 1 << 40), false));
    let mut receipts = Receipts::restored(recent, since);
    for id in [&first, &absent] {
        assert_eq!(receipts.look_up(id, now), Known::SearchFrom(start.plus_micros(-1_000_000)));
    }
    let asked = [first.digest, absent.digest];
    receipts.searched(start.plus_micros(-1_000_000), found, asked.into_iter());
    assert_eq!(receipts.look_up(&first, now), Known::As(&command(0)));
    assert_eq!(receipts.look_up(&absent, now), Known::New);
    assert_eq!(receipts.look_up(&made(200_000), now), Known::As(&command(200_000)), "what there is room for is kept");
    // Once it is carried out, what was found is no answer any more.
    receipts.push(Receipt { command: absent.digest, ..command(300_000) });
    assert!(matches!(receipts.look_up(&absent, now), Known::As(_)));
    assert!(matches!(receipts.look_up(&first, now), Known::SearchFrom(_)));
}

/// The older commands of some busy persons filled the whole memory, up to 10 MB each. All others, and in the end these too,
/// had to be loaded for each command, and of what is loaded all but the newest commands has to be searched for.
#[test]
fn a_busy_person_neither_pushes_the_others_out_nor_is_pushed_out_itself() {
    const COMMANDS: usize = 3_000;
    let world = World::new();
    let mut replica = world.replica_with(Limits { cache_bytes: 512 << 10, snapshot_frequency: 100, ..LIMITS });
    replica.tell([ask("ann", create(ANN)), ask("bob", create(BOB)), ask("cat", create(CAT))]);
    for number in 0..COMMANDS {
        world.pass(10 * MILLI);
        let told = replica.tell([ask(&uuid_v7(world.now(), number as u64), rename(ANN, &format!("N{number}")))]);
        assert!(told[0].starts_with("accepted"), "{number}: {told:?}");
    }
    assert_eq!(replica.worker.cached_persons(), 3);
    assert_eq!((replica.counts.loads, replica.counts.cache_hits), (0, COMMANDS as u64));
    assert!(!replica.faults.calls().contains(&"search"));
}
