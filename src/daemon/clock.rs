//! The one clock of the process, and what is stamped on a request at the edge.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::domain::Timestamp;
use crate::engine::turn::Moment;
use crate::wire::digest::Digest;
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

/// What a request that arrives now is stamped with: the time of day, and 16 random bytes.
pub fn stamp() -> Stamp {
    Stamp { at: Timestamp::now(), nonce: nonce() }
}

/// 16 bytes that nobody can guess and that do not come again: a secret of this process and a count, hashed. Asking the
/// system each time costs a call into its kernel.
fn nonce() -> u128 {
    static SECRET: LazyLock<[[u8; 16]; 2]> = LazyLock::new(|| [(); 2].map(|()| *uuid::Uuid::new_v4().as_bytes()));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    u128::from_be_bytes(Digest::of_parts(&[SECRET.as_flattened(), &count]).to_bytes())
}

/// A duration in whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
