//! The one clock of the process, and what is stamped on a request at the edge.

use std::time::{Duration, Instant};

use crate::domain::Timestamp;
use crate::engine::turn::Moment;
use crate::wire::request::Stamp;

/// A clock that never runs backwards, counted from the start of the process.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment(micros(self.start.elapsed()))
    }
}

/// What a request that arrives now is stamped with: the time of day, and an id whose 74 random bits nobody can guess. They
/// come from a generator of the thread's own: asking the system each time costs a call into its kernel.
pub fn stamp() -> Stamp {
    let at = Timestamp::now();
    let millis = u64::try_from(at.as_micros() / 1000).unwrap_or(0);
    Stamp { at, id: uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid() }
}

/// A duration in whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
