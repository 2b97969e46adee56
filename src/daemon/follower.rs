//! Following what other replicas store, while that spares the workers questions.
//!
//! What is heard is of the stream as it was while one connection stood. After a reconnect, or when everything is to be
//! forgotten, it may be of a stream that lost its newest part: then the feed is opened anew, and what was heard before and
//! not used yet counts for nothing. `Life` tells them apart.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use crate::daemon::clock::{Clock, micros};
use crate::daemon::pulse::Pulse;
use crate::domain::PersonId;
use crate::engine::ports::{Sequence, StoredCommit, Unavailable};
use crate::engine::router::worker_of;
use crate::engine::turn::Moment;
use crate::engine::worker::Worker;
use crate::log_limit::RateLimited;
use crate::nats::Feed;

/// How soon the end of a wish is noticed when nothing arrives.
const LOOK_UP: Duration = Duration::from_millis(50);
/// How often a worker that wants to follow says so.
const WISH_PERIOD: Duration = Duration::from_millis(250);
/// A wish that was not repeated for so long is none any more.
const WISH_MAX: Duration = Duration::from_secs(5);
/// When nothing is heard for so long, though workers that want to follow store, the feed is opened anew.
const DEAF_MAX: Duration = Duration::from_secs(2);
/// The pause after the feed could not be opened, or brought nothing at all: it doubles from the first to the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// So many failures in a row are no passing trouble any more.
const FAILURES_MIN: u32 = 3;
/// Commits that are taken in a row.
const RUN_MAX: usize = 256;
/// Commits that may wait to be taken, and about how many bytes: beyond that the feed is opened anew.
const ARRIVALS_LEN_MAX: usize = 8192;
const ARRIVALS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Commits that may wait for a worker, and their bytes over all workers; what finds no room is left out.
const WAITING_LEN_MAX: usize = 16 * 1024;
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

static NOT_FOLLOWING: RateLimited = RateLimited::new(Duration::from_secs(600));

/// Tells which of its lives the connection is in on which the commits arrive.
pub type Generation = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Of which life what is heard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Life {
    generation: u64,
    /// How often everything was to be forgotten.
    forgotten: u64,
}

/// What the workers and the thread that follows share.
struct Shared {
    generation: Generation,
    forgotten: AtomicU64,
    /// When a worker last wanted to follow; when one that did had not heard of its own commits; when something was heard.
    /// All in microseconds.
    wanted_at: AtomicU64,
    deaf_at: AtomicU64,
    heard_at: AtomicU64,
}

/// What is under way to the workers.
#[derive(Clone)]
pub struct Hearsay(Arc<Shared>);

/// A commit on its way to a worker.
struct Told {
    life: Life,
    person: PersonId,
    commit: StoredCommit,
}

/// A worker's end: what it hears, and whether it wants to.
pub struct Ear {
    told: Receiver<Told>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Wakes the thread that follows; at this moment it was last done.
    wish: Sender<()>,
    wished_at: Cell<Moment>,
    /// Of which life what the worker heard last is.
    life: Cell<Life>,
    shared: Arc<Shared>,
}

/// The way to one worker's ear.
struct Way {
    told: Sender<Told>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// The end of the thread that follows.
pub struct Follower {
    ways: Vec<Way>,
    /// Says that somebody wants to follow. It ends with the last worker.
    wishes: Receiver<()>,
    shared: Arc<Shared>,
}

impl Shared {
    fn life(&self) -> Life {
        Life { generation: (self.generation)(), forgotten: self.forgotten.load(Ordering::SeqCst) }
    }
}

impl Hearsay {
    /// From now on nothing is heard that was stored before: the stream is not the one that it was.
    pub fn forget(&self) {
        self.0.forgotten.fetch_add(1, Ordering::SeqCst);
    }
}

impl Ear {
    /// Hands the worker what was heard, and takes in whether it wants to hear more. Returns the highest position that was
    /// heard of.
    pub fn listen(&self, now: Moment, worker: &mut Worker) -> Option<Sequence> {
        let life = self.shared.life();
        if self.life.replace(life) != life {
            worker.forget_what_was_heard();
        }
        let mut newest = None;
        for told in self.told.try_iter() {
            self.waiting_bytes.fetch_sub(told.commit.payload.len(), Ordering::Relaxed);
            if told.life == life {
                newest = newest.max(Some(told.commit.sequence));
                worker.hear(told.person, told.commit);
            }
        }
        if newest.is_some() {
            self.shared.heard_at.store(now.0, Ordering::Relaxed);
        }
        if worker.wants_to_follow() {
            self.wish(now, worker.is_current());
        }
        newest
    }

    fn wish(&self, now: Moment, is_current: bool) {
        self.shared.wanted_at.store(now.0.max(1), Ordering::Relaxed);
        if !is_current {
            self.shared.deaf_at.store(now.0, Ordering::Relaxed);
        }
        if now.0.saturating_sub(self.wished_at.get().0) >= micros(WISH_PERIOD) {
            self.wished_at.set(now);
            // One that is there already says the same.
            let _ = self.wish.try_send(());
        }
    }
}

impl Follower {
    /// For so many workers, with the end of each. The commits arrive on a connection whose lives are told apart.
    pub fn new(workers: usize, generation: Generation) -> (Self, Vec<Ear>) {
        let zero = || AtomicU64::new(0);
        let shared = Shared { generation, forgotten: zero(), wanted_at: zero(), deaf_at: zero(), heard_at: zero() };
        let (shared, (wish, wishes)) = (Arc::new(shared), bounded(1));
        let life = Cell::new(shared.life());
        let (ways, ears) = (0..workers)
            .map(|_| {
                let (sender, told) = bounded(WAITING_LEN_MAX);
                let waiting_bytes = Arc::new(AtomicUsize::new(0));
                let way = Way { told: sender, waiting_bytes: Arc::clone(&waiting_bytes) };
                let (wish, wished_at, shared) = (wish.clone(), Cell::default(), Arc::clone(&shared));
                (way, Ear { told, waiting_bytes, wish, wished_at, life: life.clone(), shared })
            })
            .unzip();
        (Self { ways, wishes, shared }, ears)
    }

    /// What is under way from it, to be forgotten.
    pub fn hearsay(&self) -> Hearsay {
        Hearsay(Arc::clone(&self.shared))
    }

    /// Follows while a worker wants to, until all workers have ended.
    pub fn run(&self, clock: Clock, pulse: &Pulse, open: impl Fn() -> Result<Feed, Unavailable>) {
        let mut failures = 0;
        let mut not_before = Moment(0);
        while self.wishes.recv().is_ok() {
            if !self.is_wanted(clock) || clock.now() < not_before {
                continue;
            }
            let (began, life) = (clock.now(), self.shared.life());
            let followed = pulse.while_busy(&open).map(|feed| self.follow(&feed, life, clock, pulse));
            let has_heard = self.shared.heard_at.load(Ordering::Relaxed) > began.0;
            failures = match followed {
                Ok(()) if has_heard || !self.is_deaf(began) => 0,
                Ok(()) | Err(_) => failures + 1,
            };
            if failures > 0 {
                not_before = Moment(clock.now().0.saturating_add(micros(pause(failures))));
            }
            if failures >= FAILURES_MIN {
                let why = followed.err().map_or("nothing arrives".to_owned(), |why| why.to_string());
                NOT_FOLLOWING
                    .warn(format_args!("what other replicas store cannot be followed, it is read instead: {why}"));
            }
        }
    }

    fn follow(&self, feed: &Feed, life: Life, clock: Clock, pulse: &Pulse) {
        let began = clock.now();
        let mut payload_bytes = 0;
        while self.is_wanted(clock) && !self.is_over() && self.shared.life() == life && !self.is_deaf(began) {
            let waiting = feed.waiting();
            if waiting > ARRIVALS_LEN_MAX || waiting.saturating_mul(payload_bytes) > ARRIVALS_BYTES_MAX {
                return;
            }
            let run = feed.take_run(RUN_MAX, LOOK_UP, |person, commit| {
                payload_bytes = commit.payload.len();
                pulse.while_busy(|| self.hand_over(Told { life, person, commit }));
            });
            if run.is_err() {
                return;
            }
        }
    }

    fn hand_over(&self, told: Told) {
        let bytes = told.commit.payload.len();
        let Some(way) = self.ways.get(worker_of(told.person, self.ways.len())) else { return };
        let waiting = way.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let bytes_max = WAITING_BYTES_MAX / self.ways.len().max(1);
        if waiting.saturating_add(bytes) > bytes_max || way.told.try_send(told).is_err() {
            way.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Whether all workers have ended.
    fn is_over(&self) -> bool {
        self.wishes.try_recv() == Err(TryRecvError::Disconnected)
    }

    fn is_wanted(&self, clock: Clock) -> bool {
        let wanted_at = self.shared.wanted_at.load(Ordering::Relaxed);
        wanted_at > 0 && clock.now().0.saturating_sub(wanted_at) < micros(WISH_MAX)
    }

    /// Whether workers that want to follow have heard of nothing for long, not of their own commits either.
    fn is_deaf(&self, began: Moment) -> bool {
        let heard_at = self.shared.heard_at.load(Ordering::Relaxed).max(began.0);
        self.shared.deaf_at.load(Ordering::Relaxed).saturating_sub(heard_at) > micros(DEAF_MAX)
    }
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(PAUSE_MAX)
}
