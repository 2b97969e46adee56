//! One command id, one effect: what is remembered, what is searched for, and what is admitted not to be known.

use cim_domain_person::domain::{Event, EventKind};
use cim_domain_person::engine::id_spans::RETRY_HORIZON_MICROS;
use cim_domain_person::engine::ports::{Append, CommitHeaders, EventLog};
use cim_domain_person::engine::receipts::{Known, Receipts};
use cim_domain_person::wire::commit::{CommitBuilder, CommitCommand, EventRecord};
use cim_domain_person::wire::request::CommandId;

use proptest::prelude::*;

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

/// How far a client's clock may be off, in microseconds: not at all, by less and more than what was once granted to clocks,
/// and by years.
const OFF: [i64; 7] = {
    const SECOND: i64 = 1_000_000;
    const YEAR: i64 = 365 * 86_400 * SECOND;
    [0, 100 * SECOND, -100 * SECOND, 960 * SECOND, -960 * SECOND, 30 * YEAR, -30 * YEAR]
};
/// Snapshots as often as they are needed here, and not more.
const SOMETIMES: Limits = Limits { snapshot_frequency: 50, ..LIMITS };

fn one_more(world: &World, number: u64) -> Ask {
    ask(&uuid_v7(world.now(), number), rename(ANN, &format!("N{number}")))
}

/// A client's clock was 100 s ahead. Its command was stored, 200 more of the person followed, one a second, and a replica that
/// had not the person in memory got the retry 200 s later: by its own time the id was made after all that was forgotten, so it
/// was taken for new and carried out twice.
#[test]
fn a_retry_is_recognised_however_far_off_its_clients_clock_is() {
    for off in OFF {
        for (later, apart) in [(200, SECOND), (130, 4_500 * MILLI), (300, 20 * MILLI)] {
            let world = World::new();
            let mut replica = world.replica_with(SOMETIMES);
            let first = uuid_v7(world.now().plus_micros(off), 1);
            replica.tell([ask("0", create(ANN)), ask(&first, note(ANN, "first"))]);
            for number in 0..later {
                world.pass(apart);
                replica.tell([one_more(&world, 2 + number)]);
            }
            for told in told_by_all(&world, &mut replica, &[ask(&first, note(ANN, "first"))]) {
                assert_eq!(told, ["accepted v2 #1 AttributeRecorded again"], "{off} µs off, {later} later ones");
            }
        }
    }
}

/// A service whose clock was 16 minutes ahead took the command and 400 more, and was restarted. By its clock the id was made
/// too long ago to be looked for. The retry had a second effect. So also where the clock was moved forward in between: all
/// that came before was taken for older than is promised.
#[test]
fn a_retry_is_recognised_however_far_off_the_services_clock_is() {
    let minutes = |minutes: i64| minutes * 60_000_000;
    for (at_first, later, at_last) in [(16, 16, 16), (0, 16, 16), (0, 16, 0), (16, 0, 0), (-16, 0, 16), (0, -16, 16)] {
        let world = World::new();
        let mut replica = world.replica_with(SOMETIMES);
        let first = uuid_v7(world.now(), 1);
        let create = ask("0", create(ANN)).skewed(minutes(at_first));
        replica.tell([create, ask(&first, note(ANN, "first")).skewed(minutes(at_first))]);
        for number in 0..400 {
            world.pass(SECOND);
            replica.tell([one_more(&world, 2 + number).skewed(minutes(later))]);
        }
        let again = ask(&first, note(ANN, "first")).skewed(minutes(at_last));
        for told in told_by_all(&world, &mut replica, &[again]) {
            assert_eq!(told, ["accepted v2 #1 AttributeRecorded again"], "{at_first}, {later}, {at_last} minutes off");
        }
    }
}

/// What a right clock costs: a new command is not searched for, also on a replica that has not the person in memory, and
/// however fast commands came; and neither is it where all clients are off in the same way.
#[test]
fn a_new_command_is_not_searched_for() {
    for off in OFF {
        for apart in [10, MILLI, SECOND] {
            let world = World::new();
            let mut replica = world.replica_with(SOMETIMES);
            replica.tell([ask("0", create(ANN))]);
            for number in 0..400 {
                world.pass(apart);
                let id = uuid_v7(world.now().plus_micros(off), number);
                replica.tell([ask(&id, rename(ANN, &format!("N{number}")))]);
            }
            world.pass(10 * MILLI);
            let mut cold = world.replica();
            let new = uuid_v7(world.now().plus_micros(off), 1_000);
            assert_eq!(cold.tell([ask(&new, note(ANN, "new"))]), ["accepted v402 #402 AttributeRecorded"]);
            assert!(!cold.faults.calls().contains(&"search"), "{off} µs off, one each {apart} µs");
        }
    }
}

#[test]
fn ten_minutes_are_searched_and_an_hour_of_commands_is_not_promised() {
    for (minutes, then) in
        [(10, "accepted v2 #1 AttributeRecorded again"), (60, "accepted v143 #142 AttributeRecorded")]
    {
        let world = World::new();
        let mut replica = world.replica_with(SOMETIMES);
        let first = uuid_v7(world.now(), 1);
        replica.tell([ask("0", create(ANN)), ask(&first, note(ANN, "first"))]);
        for number in 0..140 {
            world.pass(minutes * MINUTE / 140);
            replica.tell([one_more(&world, 2 + number)]);
        }
        assert_eq!(world.replica().tell([ask(&first, note(ANN, "first"))]), [then], "after {minutes} minutes");
    }
}

#[test]
fn a_search_that_cannot_be_made_yet_is_waited_for() {
    let first = uuid_v7(World::new().now(), 1);
    let (world, _) = busy(&first, SECOND);
    let retry = [ask(&first, note(ANN, "first")), ask("plain", note(ANN, "x"))];
    // The history is read, and then the store is away.
    let mut cold = world.replica();
    cold.faults.on_read([OnRead::Works, OnRead::Unavailable]);
    let told = cold.tell(retry.clone());
    assert_eq!(told[0], "accepted v2 #1 AttributeRecorded again");
    assert!(told[1].starts_with("accepted"), "{told:?}");
    let mut cold = world.replica();
    cold.faults.on_read([OnRead::Works].into_iter().chain((0..10_000).map(|_| OnRead::Unavailable)));
    assert_eq!(cold.tell([retry[0].clone()]), ["unavailable"], "nothing is said of an id that was not searched for");
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

/// Appends commits to a history without the help of the engine, with a pause before the one of this version.
fn write_history(world: &World, commits: usize, pause_before: u64) {
    let (mut log, mut previous, mut expected) = (world.log.clone(), Digest::ZERO, 0);
    let records = world.request(&ask("0", create(ANN)));
    for version in 1..=commits as u64 {
        if version == pause_before {
            world.pass(2 * SECOND);
        }
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
    write_history(&world, 8_500, 0);
    // A snapshot, so that only the newest are remembered.
    world.snapshots.forge(id(ANN), Some(DueSnapshot::of(&loaded(&world, ANN)).unwrap().bytes));
    let mut replica = world.replica();
    let told = replica.tell([ask(&uuid_v7(made_at, 5_000), deactivate(ANN)), ask("plain", archive(ANN))]);
    assert_eq!(told, ["outcome_unknown", "accepted v8501 #8501 PersonArchived"]);
}

/// A client whose clock is ahead made ids that lie too far back. Each that was asked for took those along that lay near, and
/// each command that came meanwhile was searched for anew, while nobody was answered.
#[test]
fn what_lies_too_far_back_is_searched_for_once_and_takes_nobody_along() {
    let world = World::new();
    let far_made_at = world.now();
    write_history(&world, 8_500, 8_300);
    let near_made_at = world.now();
    world.snapshots.forge(id(ANN), Some(DueSnapshot::of(&loaded(&world, ANN)).unwrap().bytes));
    let mut replica = world.replica();
    let far = |number| ask(&uuid_v7(far_made_at, number), deactivate(ANN));
    let told = replica.tell([far(100_000), ask(&uuid_v7(near_made_at, 8_301), deactivate(ANN))]);
    assert_eq!(told, ["outcome_unknown", "command_id_reused v8500"]);
    replica.faults.calls();
    let told = replica.tell([far(100_001), ask("plain", archive(ANN))]);
    assert_eq!(told, ["outcome_unknown", "accepted v8501 #8501 PersonArchived"]);
    let calls = replica.faults.calls();
    assert!(!calls.contains(&"search") && !calls.contains(&"read"), "{calls:?}");
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
fn what_falls_out_of_the_newest_stays_in_memory_for_the_horizon() {
    let start = time(NOW);
    let named = |number: u64| CommandId::new(number.to_string(), false);
    let mut receipts = Receipts::default();
    for number in 0..2_000 {
        let now = start.plus_micros(number as i64 * 1_000_000);
        receipts.push(receipt(number, now), None);
        let horizon = RETRY_HORIZON_MICROS / SECOND;
        for ago in [0, 1, 128, 129, 500, horizon, horizon + 1, 1_500] {
            if let Some(earlier) = number.checked_sub(ago) {
                let known =
                    matches!(receipts.look_up(&named(earlier)), Known::As(receipt) if receipt.version == earlier);
                assert_eq!(known, ago <= horizon, "{ago} commands ago at {number}");
            }
        }
    }
    let generated = CommandId::new("1999".to_owned(), true);
    assert_eq!(receipts.look_up(&generated), Known::New);
    let (recent, missing_until, id_spans) = receipts.for_snapshot();
    assert_eq!(recent.last().unwrap().version, 1999);
    assert_eq!(missing_until, Some(recent.first().unwrap().version - 1));
    let restored = Receipts::restored(recent.clone(), missing_until, id_spans.clone());
    assert_eq!(restored.for_snapshot(), (recent, missing_until, id_spans));
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
    let (first, absent) = (made(0), CommandId::new(uuid_v7(start, 1 << 40), false));
    let mut all = Receipts::default();
    found.iter().for_each(|receipt| all.push(receipt.clone(), made(receipt.version).made_at()));
    // As a snapshot has them.
    let (recent, missing_until, id_spans) = all.for_snapshot();
    let mut receipts = Receipts::restored(recent, missing_until, id_spans);
    for id in [&first, &absent] {
        assert_eq!(receipts.look_up(id), Known::SearchFrom(0));
    }
    let asked = [first.digest, absent.digest];
    receipts.searched(0, found, asked.into_iter());
    assert_eq!(receipts.look_up(&first), Known::As(&command(0)));
    assert_eq!(receipts.look_up(&absent), Known::New);
    assert_eq!(receipts.look_up(&made(200_000)), Known::As(&command(200_000)), "what there is room for is kept");
    // Once it is carried out, what was found is no answer any more.
    receipts.push(Receipt { command: absent.digest, ..command(300_000) }, absent.made_at());
    assert!(matches!(receipts.look_up(&absent), Known::As(_)));
    assert!(matches!(receipts.look_up(&first), Known::SearchFrom(_)));
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

/// One command of a person: how long after the one before it, by the clock of the service that stamped it, and how far off
/// the client's clock was, both in milliseconds.
#[derive(Debug, Clone)]
struct Step {
    passed: u64,
    client_off: i64,
    is_v7: bool,
    /// What happens to the memory afterwards.
    then: Then,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Nothing,
    Restart,
    MemoryIsShort,
}

fn step() -> impl Strategy<Value = Step> {
    let passed = prop_oneof![4 => 0..50_u64, 2 => 0..5_000_u64, 1 => 0..100_000_u64];
    let off = 0..=3_600_000_i64;
    let client_off =
        prop_oneof![4 => Just(0), 1 => -100_000..=100_000_i64, 1 => off.clone(), 1 => off.prop_map(|off| -off)];
    let then = prop_oneof![20 => Just(Then::Nothing), 1 => Just(Then::Restart), 1 => Just(Then::MemoryIsShort)];
    (passed, client_off, prop::bool::weighted(0.9), then).prop_map(|(passed, client_off, is_v7, then)| Step {
        passed,
        client_off,
        is_v7,
        then,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What was carried out in the last ten minutes is known, or searched for in a part of the history where it is. Ids that
    /// are later than all that were carried out are new, without a search. And the spans stay few.
    #[test]
    fn no_command_of_ten_minutes_is_taken_for_new(steps in prop::collection::vec(step(), 200..700)) {
        const PROMISED_MILLIS: u64 = 600_000;
        let (mut receipts, mut millis, mut done) = (Receipts::default(), 0_u64, Vec::new());
        let mut latest = i64::MIN;
        for (number, step) in (1..).zip(&steps) {
            millis += step.passed;
            let at = time(NOW).plus_micros(i64::try_from(millis).unwrap() * 1_000);
            let made_at = at.plus_micros(step.client_off * 1_000);
            let text = if step.is_v7 { uuid_v7(made_at, number) } else { plain(number as usize) };
            let id = CommandId::new(text, false);
            receipts.push(Receipt { command: id.digest, ..receipt(number, at) }, id.made_at());
            if step.is_v7 {
                latest = latest.max(made_at.as_micros());
                done.push((id, millis, number));
            }
            match step.then {
                Then::Nothing => {}
                Then::MemoryIsShort => receipts.keep_young(1_000),
                Then::Restart => {
                    let (recent, missing_until, id_spans) = receipts.for_snapshot();
                    prop_assert!(id_spans.len() <= 32, "{} spans", id_spans.len());
                    receipts = Receipts::restored(recent, missing_until, id_spans);
                }
            }
        }
        for (id, at, number) in done.iter().filter(|(_, at, _)| at + PROMISED_MILLIS >= millis) {
            match receipts.look_up(id) {
                Known::As(receipt) => prop_assert_eq!(receipt.version, *number),
                Known::SearchFrom(from) => prop_assert!(from <= *number, "searched from {} on, it is at {}", from, number),
                Known::New | Known::Unknown => prop_assert!(false, "{} of {} ms ago is taken for new", number, millis - at),
            }
        }
        let new = CommandId::new(uuid_v7(Timestamp::from_micros(latest + 1_000), 1 << 40), false);
        prop_assert_eq!(receipts.look_up(&new), Known::New);
    }
}
