//! The running log of what happened, with its times: on the terminal as it happens, and kept for the story.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cim_domain_person::domain::Timestamp;

/// Clones write into the same one.
#[derive(Clone)]
pub struct Diary {
    begun: Instant,
    begun_at: Timestamp,
    lines: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Diary {
    pub fn begin() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("later than 1970");
        Self { begun: Instant::now(), begun_at: Timestamp::from_micros(micros(since_1970)), lines: Arc::default() }
    }

    /// The time since the beginning, by which everything is dated.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What a wall clock showed at this time.
    pub fn wall_clock(&self, at: Duration) -> Timestamp {
        self.begun_at.plus_micros(micros(at))
    }

    pub fn note(&self, words: String) {
        let now = self.now();
        println!("{:9.3} s  {words}", now.as_secs_f64());
        self.lines.lock().unwrap().push((now, words));
    }

    pub fn lines(&self) -> Vec<(Duration, String)> {
        self.lines.lock().unwrap().clone()
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).expect("not that long")
}
