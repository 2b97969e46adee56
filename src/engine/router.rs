//! Which worker owns a person.

use crate::domain::PersonId;

/// The worker, from 0 to `workers - 1`, that owns this person: the same in every replica and every release.
pub fn worker_of(person: PersonId, workers: usize) -> usize {
    let (high, low) = person.uuid().as_u64_pair();
    // Fibonacci hashing spreads ids of any UUID version, also those that differ in a few bits alone. The upper half of
    // the product is the well mixed one.
    let mixed = (high ^ low.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let workers = u64::try_from(workers.max(1)).unwrap_or(1);
    usize::try_from(mixed % workers).unwrap_or(0)
}
