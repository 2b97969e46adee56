//! What is counted while the load runs: outcomes, and latencies in an HDR histogram.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::cli::bench::driver::Outcome;

/// Latencies above this, in microseconds, are counted as this.
const LATENCY_MICROS_MAX: u64 = 600_000_000;

/// Three significant figures.
const FIGURES: u8 = 3;

/// Counts of one measurement.
#[derive(Debug)]
pub struct Tally {
    /// Until when an acceptance counts for the rate; what comes later was under way when the time was over.
    until: Option<Instant>,
    /// Accepted commands and answered queries.
    pub accepted: u64,
    /// Of these, those within the time.
    pub in_time: u64,
    /// The others, by code.
    pub problems: BTreeMap<String, u64>,
    /// Latencies of those accepted, in microseconds.
    latencies: Option<Histogram<u64>>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(until: Option<Instant>) -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, FIGURES).ok();
        Self { until, accepted: 0, in_time: 0, problems: BTreeMap::new(), latencies }
    }

    /// Counts an outcome.
    pub fn count(&mut self, now: Instant, latency: Duration, outcome: &Outcome<'_>) {
        match outcome {
            Outcome::Done => {
                self.accepted += 1;
                self.in_time += u64::from(self.until.is_none_or(|until| now <= until));
                if let Some(latencies) = &mut self.latencies {
                    latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
                }
            }
            Outcome::Problem { code, .. } => match self.problems.get_mut(*code) {
                Some(count) => *count += 1,
                None => drop(self.problems.insert((*code).to_owned(), 1)),
            },
        }
    }

    /// Takes in what another connection counted.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.in_time += other.in_time;
        for (code, count) in &other.problems {
            *self.problems.entry(code.clone()).or_default() += count;
        }
        if let (Some(mine), Some(theirs)) = (&mut self.latencies, &other.latencies) {
            // Both have the same bounds.
            let _ = mine.add(theirs);
        }
    }

    /// All that were not accepted.
    pub fn refused(&self) -> u64 {
        self.problems.values().sum()
    }

    /// The latency at this part of all, in microseconds.
    pub fn micros_at(&self, quantile: f64) -> u64 {
        self.latencies.as_ref().map_or(0, |latencies| latencies.value_at_quantile(quantile))
    }

    /// The mean latency, in microseconds.
    pub fn mean_micros(&self) -> f64 {
        self.latencies.as_ref().map_or(0.0, Histogram::mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_what_was_accepted_are_counted_and_problems_by_code() {
        let now = Instant::now();
        let mut tally = Tally::new(Some(now));
        for millis in 1..=100 {
            tally.count(now, Duration::from_millis(millis), &Outcome::Done);
        }
        tally.count(now + Duration::from_secs(1), Duration::from_secs(1), &Outcome::Done);
        let problem = Outcome::Problem { code: "overloaded", retryable: true, version: None };
        tally.count(now, Duration::from_secs(9), &problem);
        let mut all = Tally::new(None);
        all.add(&tally);
        all.add(&tally);
        assert_eq!((all.accepted, all.in_time, all.refused()), (202, 200, 2));
        assert_eq!(all.problems.get("overloaded"), Some(&2));
        // Three significant figures.
        assert!((50_000..=52_000).contains(&all.micros_at(0.5)), "{}", all.micros_at(0.5));
        assert!((1_000_000..=1_001_000).contains(&all.micros_at(1.0)), "{}", all.micros_at(1.0));
    }
}
