//! A stream as it is read by a thread of its own, so that what was read is checked while more is on its way.

use crossbeam_channel::{Receiver, bounded};

use crate::cli::failure::Failure;
use crate::engine::ports::Unavailable;
use crate::exit::ExitStatus;
use crate::nats::{Scan, Scanned};

/// Batches that wait to be checked. Each has up to 8 MiB.
const WAITING_MAX: usize = 2;

/// A stream from one sequence to another.
pub struct Reading {
    batches: Receiver<Result<Vec<Scanned>, Unavailable>>,
}

impl Reading {
    /// Begins to read, both ends included. It ends with the stream, or when nobody takes any more.
    pub fn start(mut scan: Scan, from: u64, to: u64) -> Result<Self, Failure> {
        let (sender, batches) = bounded(WAITING_MAX);
        let read = move || {
            let mut next = from.max(1);
            loop {
                let batch = scan.next(next, to);
                let last = batch.as_ref().ok().and_then(|messages| messages.last()).map(|message| message.sequence);
                let is_over = matches!(&batch, Ok(messages) if messages.is_empty());
                if is_over || sender.send(batch).is_err() {
                    return;
                }
                match last {
                    Some(last) => next = last + 1,
                    None => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("reading".to_owned()).spawn(read);
        thread.map_err(|error| Failure::new(ExitStatus::Bug, format!("no thread can be started: {error}")))?;
        Ok(Self { batches })
    }

    /// What was read, in order, up to the end or an error.
    pub fn batches(&self) -> impl Iterator<Item = Result<Vec<Scanned>, Unavailable>> + '_ {
        self.batches.iter()
    }
}
