//! How many answers that may be large may be on their way to the process at once, over all who ask for some.
//!
//! Nobody knows how large an answer is before it is there. So each counts as the largest that it can be, and what is
//! asked at once is bounded before it is asked.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Commits on their way at once: 64 MiB, were all of them as large as they may be.
const COMMITS_MAX: usize = 128;

/// The room that is left.
#[derive(Debug)]
pub(super) struct InFlight {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { free: Mutex::new(COMMITS_MAX), freed: Condvar::new() }
    }
}

/// Room for some answers, until it is dropped.
#[derive(Debug)]
pub(super) struct Room<'a> {
    in_flight: &'a InFlight,
    /// For how many answers.
    pub(super) answers: usize,
    commits: usize,
}

impl InFlight {
    /// Room for so many answers of up to `weight` commits each, or for fewer: at most half of what is left, so that others
    /// need not wait, but one at least. `None` where there is none in time.
    pub(super) fn room(&self, answers: usize, weight: usize, wait: Duration) -> Option<Room<'_>> {
        let weight = weight.clamp(1, COMMITS_MAX);
        let deadline = Instant::now() + wait;
        let mut free = self.lock();
        while *free < weight {
            let left = deadline.checked_duration_since(Instant::now())?;
            (free, _) = self.freed.wait_timeout(free, left).unwrap_or_else(PoisonError::into_inner);
        }
        let answers = answers.min(*free / weight / 2).max(1);
        *free -= answers * weight;
        Some(Room { in_flight: self, answers, commits: answers * weight })
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        // A number is never half changed.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        *self.in_flight.lock() += self.commits;
        self.in_flight.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_and_what_is_given_back_is_there_again() {
        let in_flight = InFlight::default();
        let many = in_flight.room(1000, 1, Duration::ZERO).expect("room");
        let large = in_flight.room(1000, 3, Duration::ZERO).expect("room");
        assert_eq!((many.answers, large.answers), (COMMITS_MAX / 2, COMMITS_MAX / 2 / 3 / 2));
        drop((many, large));
        let all: Vec<Room> = std::iter::from_fn(|| in_flight.room(1000, 1, Duration::ZERO)).collect();
        assert_eq!(all.iter().map(|room| room.answers).sum::<usize>(), COMMITS_MAX);
        assert!(in_flight.room(1, 1, Duration::from_millis(1)).is_none());
        drop(all);
        assert!(in_flight.room(1, COMMITS_MAX + 1, Duration::ZERO).is_some(), "the largest answer has room alone");
    }
}
