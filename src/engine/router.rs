//! Which worker owns a person.

use crate::domain::PersonId;

/// The worker, from 0 to `workers - 1`, that owns this person: the same in every replica and every release.
pub fn worker_of(person: PersonId, workers: usize) -> usize {
    let (high, low) = person.uuid().as_u64_pair();
    // The finalizer of SplitMix64: every bit of the id moves all of the result, so that ids of any UUID version spread,
    // also those that differ in a few bits alone, wherever these are.
    let mixed = high ^ low.rotate_left(32);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let mixed = mixed ^ (mixed >> 31);
    let workers = u64::try_from(workers.max(1)).unwrap_or(1);
    usize::try_from(mixed % workers).unwrap_or(0)
}
