//! The persons that a worker keeps in memory: least recently used out, bounded in bytes.

use lru::LruCache;

use crate::domain::PersonId;
use crate::engine::aggregate::Aggregate;

/// About what an entry takes besides the person.
const ENTRY_BYTES: usize = size_of::<PersonId>() + size_of::<Cached>() + 48;

/// Persons in memory. Each is a guess that the log can prove stale.
pub struct Cache {
    persons: LruCache<PersonId, Cached>,
    bytes: usize,
    bytes_max: usize,
}

struct Cached {
    aggregate: Box<Aggregate>,
    bytes: usize,
}

impl Cache {
    /// An empty cache that holds about this many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { persons: LruCache::unbounded(), bytes: 0, bytes_max }
    }

    /// Takes a person out, to be put back when the turn is done with it.
    pub fn take(&mut self, person: PersonId) -> Option<Box<Aggregate>> {
        let cached = self.persons.pop(&person)?;
        self.bytes -= cached.bytes;
        Some(cached.aggregate)
    }

    /// Keeps a person, letting go of those that were not used for longest.
    ///
    /// A busy person's older commands take more room than all else, and can be searched for: before others have to go for
    /// them, only those are kept that a new command is compared with, in half of the cache at most.
    pub fn put(&mut self, mut aggregate: Box<Aggregate>) {
        let mut bytes = ENTRY_BYTES + aggregate.size();
        if self.bytes + bytes > self.bytes_max {
            aggregate.receipts.keep_young(self.bytes_max / 2);
            bytes = ENTRY_BYTES + aggregate.size();
        }
        self.bytes += bytes;
        if let Some((_, before)) = self.persons.push(aggregate.person, Cached { bytes, aggregate }) {
            self.bytes -= before.bytes;
        }
        self.let_go();
    }

    fn let_go(&mut self) {
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.persons.pop_lru()
        {
            self.bytes -= oldest.bytes;
        }
    }

    /// Forgets everybody.
    pub fn clear(&mut self) {
        self.persons.clear();
        self.bytes = 0;
    }

    /// How many persons it holds.
    pub fn len(&self) -> usize {
        self.persons.len()
    }

    /// Whether it holds nobody.
    pub fn is_empty(&self) -> bool {
        self.persons.is_empty()
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
