//! The connection of a tool that reads the store itself, beside the service: stream, log and bucket.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::failure::Failure;
use crate::config::StoreClient;
use crate::domain::PersonId;
use crate::engine::history::{self, Budget, History};
use crate::engine::ports::{Consistency, EventLog, Read, Sequence, StoredCommit, Unavailable};
use crate::exit::ExitStatus;
use crate::memory::MemorySnapshots;
use crate::nats::{Connection, Extent, Layout, NatsLog, Scan, Store};

/// What a round of answers may take.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Questions that are asked at once.
pub const QUESTIONS_AT_ONCE: usize = 128;

/// What a round of reading may bring, in bytes.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A tool's view of the store.
pub struct StoreReader {
    /// The connection.
    pub store: Store,
    /// Names.
    pub layout: Layout,
    /// The commits by person.
    pub log: NatsLog,
}

impl StoreReader {
    /// Tries once to connect. `name` is what the server's operators see.
    pub fn open(config: &StoreClient, name: &str) -> Result<Self, Failure> {
        let store = Store::new(Arc::new(Connection::open(&config.client.nats, name)?));
        let layout = Layout::of_client(config);
        let log = NatsLog::new(&store, &layout, ANSWER_WAIT).map_err(|error| Failure::not_sent(&error))?;
        Ok(Self { store, layout, log })
    }

    /// Reads these histories to their ends, some at a time, however long they are.
    pub fn read_all<H: History>(&mut self, histories: Vec<H>) -> Result<Vec<H>, Unavailable> {
        let (mut over, mut open) = (Vec::new(), histories);
        while !open.is_empty() {
            let before: usize = open.iter().map(H::commits_read).sum();
            let (ended, left) =
                history::run(&mut self.log, &mut MemorySnapshots::new(), open, &Budget::of_bytes(READ_BYTES_MAX));
            if ended.is_empty() && left.iter().map(H::commits_read).sum::<usize>() == before {
                return Err(Unavailable("the stream's copy gave an empty page".to_owned()));
            }
            over.extend(ended);
            open = left;
        }
        Ok(over)
    }

    /// The stream of commits from end to end, and how far it reaches.
    pub fn scan(&self) -> Result<(Scan, Extent), Failure> {
        let mut scan = Scan::events(&self.store, &self.layout).map_err(|error| Failure::not_sent(&error))?;
        match scan.extent().map_err(|error| unavailable(&error))? {
            Some(extent) => Ok((scan, extent)),
            None => Err(Failure::new(
                ExitStatus::Unavailable,
                format!("there is no stream {}: see whether STREAM_NAME is that of the service", self.layout.stream()),
            )),
        }
    }

    /// Everything that the leader has of a person from a sequence on, in order, until `take` has enough.
    pub fn each<E: From<Unavailable>>(
        &mut self,
        person: PersonId,
        mut from: Sequence,
        mut take: impl FnMut(&StoredCommit) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let (consistency, newest, commits_max) = (Consistency::Leader, None, usize::MAX);
        loop {
            let read = Read { person, start: from, consistency, newest, commits_max };
            let page = self.log.read(&[read], READ_BYTES_MAX).pop();
            let page = page.unwrap_or_else(|| Err(Unavailable("the store was not asked".to_owned())))?;
            for stored in &page.commits {
                if take(stored)?.is_break() {
                    return Ok(());
                }
                from = stored.sequence + 1;
            }
            if !page.more || page.commits.is_empty() {
                return Ok(());
            }
        }
    }

    /// The person's snapshot by the word of the bucket's leader; `None` where there is none, or no bucket.
    pub fn snapshot(&self, person: PersonId) -> Result<Option<Vec<u8>>, Failure> {
        let mut scan = Scan::snapshots(&self.store, &self.layout).map_err(|error| Failure::not_sent(&error))?;
        if scan.extent().map_err(|error| unavailable(&error))?.is_none() {
            return Ok(None);
        }
        let newest = scan.newest(&self.layout.snapshot_subject(person)).map_err(|error| {
            let message = format!("the snapshot cannot be read: {error}; try again");
            Failure::new(ExitStatus::Unavailable, message)
        })?;
        Ok(newest.filter(|message| !message.is_tombstone).map(|message| message.payload))
    }
}

/// The store gave no answer.
pub fn unavailable(error: &Unavailable) -> Failure {
    Failure::new(ExitStatus::Unavailable, format!("the store cannot be read: {error}; try again"))
}
