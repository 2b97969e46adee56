//! The engine's ports in memory: for tests, examples and trying things out. Nothing outlives the process.
//!
//! They keep the same contract as the pair in [`crate::nats`], and the same tests hold both to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::PersonId;
use crate::engine::ports::{
    Append, Appended, AppendedTogether, EventLog, Page, Read, Sequence, SnapshotStore, SnapshotStored, StoredCommit,
    Tip, Unavailable, VersionOf, unfit_together,
};
use crate::wire::commit::COMMIT_BYTES_MAX;
use crate::wire::snapshot;

/// Commits on one page of a read.
const PAGE_COMMITS_MAX: usize = 256;
/// Bytes on one page of a read; the commit that goes beyond is still on it.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// A log that its clones share, as replicas share a stream.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog {
    stream: Arc<Mutex<Stream>>,
}

#[derive(Debug, Default)]
struct Stream {
    last_sequence: Sequence,
    persons: HashMap<PersonId, BTreeMap<Sequence, Arc<[u8]>>>,
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that is stored of a person, oldest first.
    pub fn commits(&self, person: PersonId) -> Vec<StoredCommit> {
        let stream = self.lock();
        let commits = stream.persons.get(&person).into_iter().flatten();
        commits.map(as_commit).collect()
    }

    /// Everybody who has commits.
    pub fn persons(&self) -> Vec<PersonId> {
        let mut persons: Vec<_> = self.lock().persons.keys().copied().collect();
        persons.sort_unstable();
        persons
    }

    /// Takes away everything after this position, as a restore from an old backup does.
    pub fn lose_after(&self, sequence: Sequence) {
        let mut stream = self.lock();
        stream.last_sequence = stream.last_sequence.min(sequence);
        for commits in stream.persons.values_mut() {
            commits.retain(|at, _| *at <= sequence);
        }
        stream.persons.retain(|_, commits| !commits.is_empty());
    }

    /// Replaces the bytes of a stored commit, as a fault of the disk does.
    pub fn corrupt(&self, person: PersonId, sequence: Sequence, payload: &[u8]) {
        let mut stream = self.lock();
        if let Some(message) = stream.persons.get_mut(&person).and_then(|commits| commits.get_mut(&sequence)) {
            *message = Arc::from(payload);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stream> {
        // A panic elsewhere cannot have left it half changed: every change is one insertion or removal.
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn as_commit((sequence, payload): (&Sequence, &Arc<[u8]>)) -> StoredCommit {
    StoredCommit { sequence: *sequence, payload: Arc::clone(payload) }
}

impl Stream {
    fn read(&self, read: &Read) -> Page {
        let Some(commits) = self.persons.get(&read.person) else { return Page::default() };
        let mut wanted = commits.range(read.start..);
        let mut page = Page::default();
        let mut bytes = 0;
        while page.commits.len() < PAGE_COMMITS_MAX.min(read.commits_max) && bytes < PAGE_BYTES_MAX {
            let Some(commit) = wanted.next().map(as_commit) else { return page };
            bytes += commit.payload.len();
            page.commits.push(commit);
        }
        page.more = wanted.next().is_some();
        page
    }

    fn tip(&self, person: PersonId) -> Option<StoredCommit> {
        let (sequence, message) = self.persons.get(&person)?.last_key_value()?;
        Some(as_commit((sequence, message)))
    }

    fn newest(&self, person: PersonId) -> Sequence {
        self.tip(person).map_or(0, |tip| tip.sequence)
    }

    fn append(&mut self, append: &Append) -> Appended {
        if append.payload.len() > COMMIT_BYTES_MAX {
            return Appended::Refused(Unavailable(format!("more than {COMMIT_BYTES_MAX} bytes")));
        }
        let newest = self.newest(append.person);
        if newest != append.expected {
            return Appended::Conflict(Some(newest));
        }
        Appended::Stored(self.store(append))
    }

    fn append_together(&mut self, appends: &[Append]) -> AppendedTogether {
        if let Some(why) = unfit_together(appends, COMMIT_BYTES_MAX) {
            return AppendedTogether::Refused(why);
        }
        if appends.iter().any(|append| self.newest(append.person) != append.expected) {
            return AppendedTogether::Conflict;
        }
        AppendedTogether::Stored(appends.iter().map(|append| self.store(append)).collect())
    }

    /// Without any check.
    fn store(&mut self, append: &Append) -> Sequence {
        self.last_sequence += 1;
        self.persons.entry(append.person).or_default().insert(self.last_sequence, Arc::clone(&append.payload));
        self.last_sequence
    }
}

impl EventLog for MemoryLog {
    fn payload_bytes_max(&self) -> usize {
        COMMIT_BYTES_MAX
    }

    fn read(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        let stream = self.lock();
        let mut pages: Vec<_> = reads.iter().map(|read| Ok(stream.read(read))).collect();
        Page::cut(&mut pages, bytes_max);
        pages
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<Tip>, Unavailable>> {
        let stream = self.lock();
        persons.iter().map(|person| Ok(stream.tip(*person).as_ref().map(Tip::from))).collect()
    }

    fn append(&mut self, appends: &[Append]) -> Vec<Appended> {
        let mut stream = self.lock();
        appends.iter().map(|append| stream.append(append)).collect()
    }

    fn append_together(&mut self, appends: &[Append]) -> AppendedTogether {
        self.lock().append_together(appends)
    }
}

/// Snapshots that its clones share, as replicas share a bucket.
#[derive(Debug, Clone)]
pub struct MemorySnapshots {
    bucket: Arc<Mutex<HashMap<PersonId, Vec<u8>>>>,
    version_of: VersionOf,
}

impl Default for MemorySnapshots {
    fn default() -> Self {
        Self::with_versions(snapshot::claimed_version)
    }
}

impl MemorySnapshots {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store of snapshots that tell their version in this way.
    pub fn with_versions(version_of: VersionOf) -> Self {
        Self { bucket: Arc::default(), version_of }
    }

    /// Puts any bytes in the place of a person's snapshot; `None` takes it away.
    pub fn forge(&self, person: PersonId, bytes: Option<Vec<u8>>) {
        let mut bucket = self.lock();
        match bytes {
            Some(bytes) => bucket.insert(person, bytes),
            None => bucket.remove(&person),
        };
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PersonId, Vec<u8>>> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotStore for MemorySnapshots {
    fn load(&mut self, persons: &[PersonId]) -> Vec<Option<Vec<u8>>> {
        let bucket = self.lock();
        persons.iter().map(|person| bucket.get(person).cloned()).collect()
    }

    fn store(&mut self, person: PersonId, version: u64, bytes: &[u8]) -> Result<SnapshotStored, Unavailable> {
        let mut bucket = self.lock();
        let there = bucket.get(&person).and_then(|there| (self.version_of)(there));
        if there.is_some_and(|there| there >= version) {
            return Ok(SnapshotStored::NewerExists);
        }
        bucket.insert(person, bytes.to_vec());
        Ok(SnapshotStored::Written)
    }
}
