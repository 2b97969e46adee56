//! A limit on how often the same thing is said.
//!
//! What a stranger can provoke with one message, or an outage a thousand times a second, would fill the disk and hide
//! the line that matters. So such a warning is let through once in a while, with a count of what was held back.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one event pass in a period, and counts the others. One stands beside each place that logs.
#[derive(Debug)]
pub struct RateLimited {
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    passed_at: Option<Instant>,
    held_back: u64,
}

impl RateLimited {
    /// One event in each `period`; the first passes at once. It can be a `static`.
    pub const fn new(period: Duration) -> Self {
        Self { period, state: Mutex::new(State { passed_at: None, held_back: 0 }) }
    }

    /// Whether an event of now may be logged: `Some` with the number held back since the last one that was.
    pub fn pass(&self, now: Instant) -> Option<HeldBack> {
        // The state is two plain values, sound whoever panicked while holding it.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let too_soon = state.passed_at.is_some_and(|at| now.saturating_duration_since(at) < self.period);
        if too_soon {
            state.held_back = state.held_back.saturating_add(1);
            return None;
        }
        state.passed_at = Some(now);
        Some(HeldBack(std::mem::take(&mut state.held_back)))
    }

    /// Logs at `warn` if the limit lets it pass: `LIMIT.warn(format_args!("dropped a request: {reason}"))`. The message is
    /// put together only then.
    pub fn warn(&self, message: fmt::Arguments<'_>) {
        if let Some(held_back) = self.pass(Instant::now()) {
            log::warn!("{message}{held_back}");
        }
    }
}

/// How many events were held back; as text, the end of a log line, or nothing when it is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack(pub u64);

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more like it were not logged)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_passes_in_a_period_and_tells_of_the_others() {
        let limit = RateLimited::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |millis| limit.pass(start + Duration::from_millis(millis)).map(|held_back| held_back.0);
        assert_eq!(at(0), Some(0), "the first passes");
        assert_eq!((at(1), at(5_000), at(9_999)), (None, None, None), "within the period none");
        assert_eq!(at(10_000), Some(3), "the next period's first passes and tells of three");
        assert_eq!(at(30_000), Some(0), "none were held back");
        assert_eq!(at(29_000), None, "an earlier time, which threads that race can bring, counts as the same moment");
    }

    #[test]
    fn the_count_ends_the_line_only_where_there_is_one() {
        assert_eq!(HeldBack(0).to_string(), "");
        assert_eq!(HeldBack(7).to_string(), " (7 more like it were not logged)");
    }

    #[test]
    fn it_can_be_a_static() {
        static LIMIT: RateLimited = RateLimited::new(Duration::from_secs(3_600));
        LIMIT.warn(format_args!("a {}", "message"));
        assert_eq!(LIMIT.pass(Instant::now()), None);
    }
}
