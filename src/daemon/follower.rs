//! Following what other replicas store, while that spares the workers questions.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use crate::daemon::clock::{Clock, micros};
use crate::daemon::pulse::Pulse;
use crate::domain::PersonId;
use crate::engine::ports::{StoredCommit, Unavailable};
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
/// When the workers hear of nothing for so long, though they store, the feed is opened anew.
const DEAF_MAX: Duration = Duration::from_secs(2);
/// The pause after the feed could not be opened, or brought nothing at all.
const PAUSE: Duration = Duration::from_secs(60);
/// Commits that are taken in a row.
const RUN_MAX: usize = 256;
/// Commits that may wait to be taken: beyond that the feed is opened anew.
const ARRIVALS_LEN_MAX: usize = 8192;
/// Commits that may wait for a worker, and their bytes over all workers; what finds no room is left out.
const WAITING_LEN_MAX: usize = 16 * 1024;
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

static NOT_FOLLOWING: RateLimited = RateLimited::new(Duration::from_secs(600));

/// What the workers and the thread that follows share.
#[derive(Debug, Default)]
struct Shared {
    /// When a worker last wanted to follow, and when one that wants to last heard of its own commits; in microseconds.
    wanted_at: AtomicU64,
    heard_at: AtomicU64,
    /// How often everything was to be forgotten: what was stored before may be of another stream.
    epoch: AtomicU64,
    waiting_bytes: AtomicUsize,
}

/// A commit on its way to a worker.
struct Told {
    epoch: u64,
    person: PersonId,
    commit: StoredCommit,
}

/// A worker's end: what it hears, and whether it wants to.
pub struct Ear {
    told: Receiver<Told>,
    /// Wakes the thread that follows; at this moment it was last done.
    wish: Sender<()>,
    wished_at: Cell<Moment>,
    /// From which epoch on it listens.
    epoch: Cell<u64>,
    shared: Arc<Shared>,
}

/// The end of the thread that follows.
pub struct Follower {
    workers: Vec<Sender<Told>>,
    /// Says that somebody wants to follow. It ends with the last worker.
    wishes: Receiver<()>,
    shared: Arc<Shared>,
}

impl Ear {
    /// From now on nothing is heard that was stored before: the stream is not the one that it was.
    pub fn forget(&self) {
        self.epoch.set(self.shared.epoch.fetch_add(1, Ordering::SeqCst) + 1);
    }

    /// Hands the worker what was heard, and takes in whether it wants to hear more.
    pub fn listen(&self, now: Moment, worker: &mut Worker) {
        for Told { epoch, person, commit } in self.told.try_iter() {
            self.shared.waiting_bytes.fetch_sub(commit.payload.len(), Ordering::Relaxed);
            if epoch >= self.epoch.get() {
                worker.hear(person, commit);
            }
        }
        if worker.wants_to_follow() {
            self.shared.wanted_at.store(now.0.max(1), Ordering::Relaxed);
            if worker.is_current() {
                self.shared.heard_at.store(now.0, Ordering::Relaxed);
            }
            if now.0.saturating_sub(self.wished_at.get().0) >= micros(WISH_PERIOD) {
                self.wished_at.set(now);
                // One that is there already says the same.
                let _ = self.wish.try_send(());
            }
        }
    }
}

impl Follower {
    /// For so many workers, with the end of each.
    pub fn new(workers: usize) -> (Self, Vec<Ear>) {
        let shared = Arc::new(Shared::default());
        let (wish, wishes) = bounded(1);
        let (senders, ears) = (0..workers)
            .map(|_| {
                let (sender, told) = bounded(WAITING_LEN_MAX);
                let (wish, shared) = (wish.clone(), Arc::clone(&shared));
                (sender, Ear { told, wish, wished_at: Cell::default(), epoch: Cell::new(0), shared })
            })
            .unzip();
        (Self { workers: senders, wishes, shared }, ears)
    }

    /// Follows while a worker wants to, until all workers have ended.
    pub fn run(&self, clock: Clock, pulse: &Pulse, open: impl Fn() -> Result<Feed, Unavailable>) {
        let mut not_before = Moment(0);
        while self.wishes.recv().is_ok() {
            if !self.is_wanted(clock) || clock.now() < not_before {
                continue;
            }
            let epoch = self.shared.epoch.load(Ordering::SeqCst);
            match pulse.while_busy(&open) {
                Ok(feed) => {
                    let began = clock.now();
                    self.follow(&feed, epoch, clock, pulse);
                    if self.is_deaf(began) && !self.has_heard_since(began) {
                        not_before = later(clock);
                    }
                }
                Err(why) => {
                    NOT_FOLLOWING
                        .warn(format_args!("what other replicas store cannot be followed, it is read instead: {why}"));
                    not_before = later(clock);
                }
            }
        }
    }

    fn follow(&self, feed: &Feed, epoch: u64, clock: Clock, pulse: &Pulse) {
        let began = clock.now();
        while self.is_wanted(clock) && !self.is_over() && !self.is_void(feed, epoch, began) {
            let run = feed.take_run(RUN_MAX, LOOK_UP, |person, commit| {
                pulse.while_busy(|| self.hand_over(Told { epoch, person, commit }))
            });
            if run.is_err() {
                return;
            }
        }
    }

    fn hand_over(&self, told: Told) {
        let bytes = told.commit.payload.len();
        let Some(worker) = self.workers.get(worker_of(told.person, self.workers.len())) else { return };
        let waiting = self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting.saturating_add(bytes) > WAITING_BYTES_MAX || worker.try_send(told).is_err() {
            self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
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

    /// Whether the feed is worth nothing any more: another stream may be there, or more has piled up than is worth
    /// reading, or the workers that want to follow have not heard of their own commits for long.
    fn is_void(&self, feed: &Feed, epoch: u64, began: Moment) -> bool {
        self.shared.epoch.load(Ordering::SeqCst) != epoch || feed.waiting() > ARRIVALS_LEN_MAX || self.is_deaf(began)
    }

    fn is_deaf(&self, began: Moment) -> bool {
        let heard_at = self.shared.heard_at.load(Ordering::Relaxed).max(began.0);
        self.shared.wanted_at.load(Ordering::Relaxed).saturating_sub(heard_at) > micros(DEAF_MAX)
    }

    fn has_heard_since(&self, began: Moment) -> bool {
        self.shared.heard_at.load(Ordering::Relaxed) > began.0
    }
}

fn later(clock: Clock) -> Moment {
    Moment(clock.now().0.saturating_add(micros(PAUSE)))
}
