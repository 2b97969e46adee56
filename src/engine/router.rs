//! Which worker owns a person, and which replica is its home.

use crate::domain::PersonId;
use crate::wire::beacon::ReplicaId;

/// The worker, from 0 to `workers - 1`, that owns this person: the same in every replica and every release.
pub fn worker_of(person: PersonId, workers: usize) -> usize {
    let workers = u64::try_from(workers.max(1)).unwrap_or(1);
    usize::try_from(mixed(folded(person.uuid().as_u128())) % workers).unwrap_or(0)
}

/// The replica among these that is the home of this person, by rendezvous hashing (highest random weight, Thaler and
/// Ravishankar 1998): when one comes or goes, the persons that get another home are its own alone. `None` where there are none.
pub fn home_of(person: PersonId, replicas: impl IntoIterator<Item = ReplicaId>) -> Option<ReplicaId> {
    let person = mixed(folded(person.uuid().as_u128()));
    let weight = |replica: &ReplicaId| (mixed(person ^ folded(replica.as_u128())), *replica);
    replicas.into_iter().max_by_key(weight)
}

fn folded(bits: u128) -> u64 {
    let [high, low] = [bits >> 64, bits].map(|half| (half & u128::from(u64::MAX)) as u64);
    high ^ low.rotate_left(32)
}

/// The finalizer of SplitMix64: every bit moves all of the result, so that ids of any UUID version spread, also those that
/// differ in a few bits alone, wherever these are.
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn persons() -> impl Iterator<Item = PersonId> {
        (0..30_000).map(|n| PersonId::from_uuid(uuid::Uuid::from_u128(n)))
    }

    fn replicas(len: u128) -> Vec<ReplicaId> {
        (1..=len).map(|n| ReplicaId::from_u128(n << 70 | n)).collect()
    }

    #[test]
    fn homes_are_shared_evenly_and_beside_the_shares_of_workers() {
        let three = replicas(3);
        let mut shares = BTreeMap::<_, u32>::new();
        for person in persons() {
            *shares.entry((home_of(person, three.iter().copied()), worker_of(person, 2))).or_default() += 1;
        }
        assert_eq!(shares.len(), 6);
        assert!(shares.values().all(|share| share.abs_diff(5_000) < 300), "{shares:?}");
        assert_eq!(home_of(persons().next().expect("one"), []), None);
    }

    #[test]
    fn only_the_persons_of_one_who_comes_or_goes_move() {
        let five = replicas(5);
        for person in persons() {
            let (with, without) =
                (home_of(person, five.iter().copied()), home_of(person, five.iter().copied().take(4)));
            assert!(with == without || with == five.last().copied());
        }
    }
}
