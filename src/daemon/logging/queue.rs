//! What is to be written waits here, so that nobody who logs waits for whoever reads.
//!
//! stderr may be a pipe that nobody empties, a terminal that was stopped, a file on a disk that hangs; the journal may
//! hang as well. One thread writes, and it alone waits for them. What finds no room is dropped and counted, and one line
//! in its place says how many lines are missing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Lines that may wait, and their bytes.
const WAITING_LINES_MAX: usize = 4096;
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// Of both, what is kept for errors: the lines before an end matter most.
const ERROR_LINES_RESERVE: usize = 256;
const ERROR_BYTES_RESERVE: usize = 256 * 1024;

/// One event, ready to be written.
#[derive(Debug, Default)]
pub struct Entry {
    /// The line for stderr, with its end.
    pub line: String,
    /// The same for the journal, where it is asked first.
    pub datagram: Option<Vec<u8>>,
    /// Whether it may take the room that is kept for errors.
    pub is_error: bool,
}

impl Entry {
    fn bytes(&self) -> usize {
        size_of::<Item>() + self.line.len() + self.datagram.as_ref().map_or(0, Vec::len)
    }
}

/// Lines that are missing in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// How many.
    pub lines: u64,
    /// When the first of them was to be written.
    pub since: Timestamp,
}

/// What waits, in order.
#[derive(Debug)]
pub enum Item {
    /// An event.
    Entry(Entry),
    /// The place of events that found no room.
    Gap(Gap),
}

/// The queue between those who log and the thread that writes.
#[derive(Debug)]
pub struct LogQueue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct State {
    items: VecDeque<Item>,
    /// How many of them are no gaps, and their bytes.
    lines: usize,
    bytes: usize,
    /// Whether the thread has taken an item that it has not written yet.
    is_writing: bool,
}

impl LogQueue {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(State { items: VecDeque::new(), lines: 0, bytes: 0, is_writing: false }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Puts an entry at the end, or counts it where there is no room. Never waits.
    pub fn push(&self, entry: Entry) {
        let mut state = self.state();
        if state.has_room(&entry) {
            state.lines += 1;
            state.bytes += entry.bytes();
            state.items.push_back(Item::Entry(entry));
        } else {
            self.count_dropped();
            match state.items.back_mut() {
                Some(Item::Gap(gap)) => gap.lines += 1,
                _ => state.items.push_back(Item::Gap(Gap { lines: 1, since: Timestamp::now() })),
            }
        }
        drop(state);
        self.filled.notify_one();
    }

    /// The oldest item, waiting until there is one. For the one thread that writes: the item before is written by then.
    pub fn next(&self) -> Item {
        let mut state = self.state();
        state.is_writing = false;
        loop {
            if let Some(item) = state.items.pop_front() {
                if let Item::Entry(entry) = &item {
                    state.lines -= 1;
                    state.bytes -= entry.bytes();
                }
                state.is_writing = true;
                return item;
            }
            self.emptied.notify_all();
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everything is written, at most this long; without a limit for as long as it takes. Whether it is.
    pub fn wait_until_written(&self, limit: Option<Duration>) -> bool {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut state = self.state();
        while state.is_writing || !state.items.is_empty() {
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => return false,
                Some(left) => self.emptied.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }

    /// One more line that nobody will read.
    pub fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Lines that were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Lines that wait to be written, with the one that is being written.
    pub fn waiting(&self) -> usize {
        let state = self.state();
        state.lines + usize::from(state.is_writing)
    }

    /// Sound whoever panicked while holding it: nothing in here panics between two changes.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, entry: &Entry) -> bool {
        let (lines_max, bytes_max) = match entry.is_error {
            true => (WAITING_LINES_MAX, WAITING_BYTES_MAX),
            false => (WAITING_LINES_MAX - ERROR_LINES_RESERVE, WAITING_BYTES_MAX - ERROR_BYTES_RESERVE),
        };
        self.lines < lines_max && self.bytes + entry.bytes() <= bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str, is_error: bool) -> Entry {
        Entry { line: line.to_owned(), datagram: None, is_error }
    }

    /// What the writer would take, shortened to what matters: lines, and how many are missing where.
    fn taken(queue: &LogQueue) -> Vec<String> {
        let count = queue.state().items.len();
        let shown = |item| match item {
            Item::Entry(entry) => entry.line,
            Item::Gap(gap) => format!("({} missing)", gap.lines),
        };
        (0..count).map(|_| shown(queue.next())).collect()
    }

    /// What finds no room is missing in its place, is counted, and never takes the room of errors.
    #[test]
    fn what_finds_no_room_is_counted_where_it_is_missing() {
        let queue = LogQueue::new();
        let ordinary = WAITING_LINES_MAX - ERROR_LINES_RESERVE;
        (0..ordinary + 3).for_each(|_| queue.push(entry("x", false)));
        queue.push(entry("an error", true));
        (0..2).for_each(|_| queue.push(entry("x", false)));
        assert_eq!((queue.dropped(), queue.waiting()), (5, ordinary + 1));
        let taken = taken(&queue);
        assert_eq!(taken[ordinary..], ["(3 missing)", "an error", "(2 missing)"]);
        queue.push(entry("on it goes", false));
        assert_eq!(queue.state().items.len(), 1, "there is room again");
    }

    #[test]
    fn bytes_are_bounded_as_lines_are() {
        let queue = LogQueue::new();
        let long = "x".repeat(8 * 1024);
        (0..1000).for_each(|_| queue.push(entry(&long, false)));
        (0..1000).for_each(|_| queue.push(entry(&long, true)));
        let state = queue.state();
        assert!(state.bytes <= WAITING_BYTES_MAX && state.bytes > WAITING_BYTES_MAX - 2 * long.len());
        assert_eq!(state.lines as u64 + queue.dropped(), 2000);
    }

    #[test]
    fn the_end_waits_for_what_is_being_written_but_not_for_ever() {
        let queue = LogQueue::new();
        assert!(queue.wait_until_written(Some(Duration::ZERO)), "nothing waits");
        queue.push(entry("x", false));
        queue.next();
        assert!(!queue.wait_until_written(Some(Duration::from_millis(1))), "it is taken, not written");
        std::thread::scope(|scope| {
            // Its next question says that the line is written.
            let writer = scope.spawn(|| queue.next());
            assert!(queue.wait_until_written(None));
            queue.push(entry("to end the thread", false));
            writer.join().expect("it ends");
        });
    }
}
