//! What is bounded: the memory for persons, and how persons spread over the workers.

use cim_domain_person::domain::PersonId;
use cim_domain_person::engine::aggregate::Aggregate;
use cim_domain_person::engine::cache::Cache;
use cim_domain_person::engine::router::worker_of;
use uuid::Uuid;

use super::*;

fn person(number: u128) -> PersonId {
    PersonId::from_uuid(Uuid::from_u128(number))
}

fn absent(number: u128) -> Box<Aggregate> {
    Box::new(Aggregate::absent(person(number)))
}

#[test]
fn the_cache_is_bounded_in_bytes_and_lets_go_of_the_least_recently_used() {
    let mut one = Cache::new(usize::MAX);
    one.put(absent(0));
    let bytes_each = one.bytes();
    assert!(bytes_each >= size_of::<Aggregate>());

    let mut cache = Cache::new(10 * bytes_each);
    for number in 0..10 {
        cache.put(absent(number));
    }
    assert_eq!((cache.len(), cache.bytes()), (10, 10 * bytes_each));
    // Used again: not the next to go.
    let used = cache.take(person(0)).unwrap();
    assert_eq!((cache.len(), cache.bytes()), (9, 9 * bytes_each));
    cache.put(used);
    cache.put(absent(10));
    assert_eq!((cache.len(), cache.bytes()), (10, 10 * bytes_each));
    assert!(cache.take(person(1)).is_none());
    assert!(cache.take(person(0)).is_some());
    // In its own place.
    cache.put(absent(10));
    assert_eq!((cache.len(), cache.bytes()), (9, 9 * bytes_each));
    cache.clear();
    assert_eq!((cache.len(), cache.bytes(), cache.is_empty()), (0, 0, true));
    let mut none = Cache::new(0);
    none.put(absent(1));
    assert_eq!((none.len(), none.bytes()), (0, 0));
}

#[test]
fn large_persons_count_for_more() {
    let world = World::new();
    let mut replica = world.replica_with(Limits { cache_bytes: 600_000, ..LIMITS });
    for number in 0..20 {
        let person = person(number).to_string();
        replica.tell([ask("1", json!([create(&person), large_note(&person, 60_000)]))]);
    }
    let cached = replica.worker.cached_persons();
    assert!((3..=10).contains(&cached), "{cached} persons of 60 kB in 600 kB");
    // Whoever is not in memory any more is served as before.
    let told = replica.tell((0..20).map(|number| ask("2", note(&person(number).to_string(), "x"))));
    assert!(told.iter().all(|outcome| outcome.starts_with("accepted v3")), "{told:?}");
}

#[test]
fn a_worker_without_room_for_anybody_works() {
    let world = World::new();
    let mut replica = world.replica_with(Limits { cache_bytes: 0, ..LIMITS });
    assert_eq!(replica.tell([ask("1", create(ANN))]), ["accepted v1 #1 PersonCreated"]);
    assert_eq!(replica.worker.cached_persons(), 0);
    assert_eq!(replica.tell([ask("2", note(ANN, "x"))]), ["accepted v2 #2 AttributeRecorded"]);
}

/// Where a person's commands are decided must not change by accident.
#[test]
fn the_router_is_pinned() {
    let persons = [
        "00000000-0000-0000-0000-000000000000",
        "00000000-0000-0000-0000-000000000001",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ANN,
        BOB,
        CAT,
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",
    ];
    let table: Vec<_> = [1, 2, 3, 8, 60].map(|workers| persons.map(|person| worker_of(id(person), workers))).into();
    assert_eq!(
        table,
        [
            [0, 0, 0, 0, 0, 0, 0, 0],
            [0, 1, 0, 1, 0, 0, 1, 0],
            [0, 1, 0, 0, 1, 2, 2, 0],
            [0, 7, 0, 7, 6, 6, 3, 2],
            [0, 43, 0, 39, 46, 50, 23, 54],
        ]
    );
    assert_eq!(worker_of(id(ANN), 0), 0);
}

/// A kind of ids, and the nth of them.
type Kind = (&'static str, fn(u128) -> u128);

/// The lower half of the product was taken for the well mixed one: ids whose clock ticks in milliseconds (UUIDv1), or
/// that differ in their first letters alone, all went to the same worker.
#[test]
fn persons_spread_evenly() {
    let kinds: [Kind; 8] = [
        ("counting", |n| n),
        ("counting in the upper half", |n| n << 64),
        ("counting in the first letters", |n| n << 112),
        ("counting in thousands", |n| n * 1000),
        ("UUIDv1 in steps of a millisecond", |n| (n * 10_000) << 96 | 0x9414_11EC << 64 | 0xB3C8_9F6B_DECE_D846),
        ("UUIDv7, one a millisecond, random otherwise", |n| {
            let mut chance = chance::Chance::new(u64::try_from(n).unwrap());
            (0x0197_A1B2_0000 + n) << 80 | 7 << 76 | u128::from(chance.next()) >> 2 | 1 << 63
        }),
        ("UUIDv7, counting in the last letters", |n| (0x0197_A1B2_0000 + n / 64) << 80 | 7 << 76 | 1 << 63 | (n % 64)),
        ("UUIDv4", |n| {
            let mut chance = chance::Chance::new(u64::try_from(n).unwrap());
            u128::from(chance.next()) << 64 | u128::from(chance.next())
        }),
    ];
    for (kind, nth) in kinds {
        for workers in [2, 3, 4, 7, 8, 16, 60] {
            let mut shares = vec![0_usize; workers];
            let persons = 400 * workers;
            (1..=persons as u128).for_each(|n| shares[worker_of(person(nth(n)), workers)] += 1);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(*least > 200 && *most < 800, "{kind}, {workers} workers: {shares:?}");
        }
    }
}
