//! How long things took: counts by duration, cheap to add to, from which percentiles and buckets are read.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Durations above this, in microseconds, are counted as this.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
/// Significant figures: a percentile is off by a hundredth at most, and a histogram takes some tens of kilobytes.
const FIGURES: u8 = 2;

/// Durations that were measured.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    /// Made at the first one: much is never measured.
    counts: Option<Histogram<u64>>,
    sum_micros: u64,
}

impl Latencies {
    /// Takes in one duration, in microseconds.
    pub fn record(&mut self, micros: u64) {
        if self.counts.is_none() {
            self.counts = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, FIGURES).ok();
        }
        if let Some(counts) = &mut self.counts {
            counts.saturating_record(micros.max(1));
            self.sum_micros += micros;
        }
    }

    /// Takes in all of the other's.
    pub fn add(&mut self, other: &Self) {
        self.sum_micros += other.sum_micros;
        match (&mut self.counts, &other.counts) {
            // All have the same bounds, so that nothing can be out of them.
            (Some(counts), Some(others)) => counts.add(others).unwrap_or_default(),
            (None, Some(others)) => self.counts = Some(others.clone()),
            (_, None) => {}
        }
    }

    /// Those that came after `earlier`, which is an earlier state of these.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut rest = self.clone();
        if let (Some(counts), Some(before)) = (&mut rest.counts, &earlier.counts)
            && counts.subtract(before).is_err()
        {
            // It is no earlier state of these.
            return Self::default();
        }
        rest.sum_micros = self.sum_micros.saturating_sub(earlier.sum_micros);
        rest
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.counts.as_ref().map_or(0, Histogram::len)
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros)
    }

    /// The duration that this share of them, from 0 to 1, does not exceed; zero when there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let micros = self.counts.as_ref().filter(|counts| !counts.is_empty());
        Duration::from_micros(micros.map_or(0, |counts| counts.value_at_quantile(share)))
    }

    /// How many took no longer than each of these bounds, which ascend.
    pub fn up_to(&self, bounds: &[Duration]) -> Vec<u64> {
        let mut cells: Vec<(u64, u64)> = Vec::new();
        if let Some(counts) = &self.counts {
            cells = counts.iter_recorded().map(|cell| (cell.value_iterated_to(), cell.count_at_value())).collect();
        }
        let up_to = |bound: &Duration| {
            let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
            cells.iter().take_while(|(value, _)| *value <= micros).map(|(_, count)| count).sum()
        };
        bounds.iter().map(up_to).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        micros.iter().for_each(|micros| latencies.record(*micros));
        latencies
    }

    #[test]
    fn none_at_all_is_zero_everywhere() {
        let none = Latencies::default();
        assert_eq!((none.count(), none.sum(), none.quantile(0.99)), (0, Duration::ZERO, Duration::ZERO));
        assert_eq!(none.up_to(&[Duration::from_secs(1)]), [0]);
        assert_eq!(none.since(&none).count(), 0);
    }

    #[test]
    fn what_came_since_is_what_is_not_in_the_earlier_state() {
        let mut all = of(&[100, 200]);
        let earlier = all.clone();
        all.record(5_000);
        let since = all.since(&earlier);
        assert_eq!((since.count(), since.sum()), (1, Duration::from_micros(5_000)));
        assert!(
            since.quantile(0.5) >= Duration::from_micros(5_000) && since.quantile(0.5) < Duration::from_micros(5_100)
        );
        assert_eq!(all.since(&Latencies::default()).count(), 3);
    }

    #[test]
    fn two_make_one_of_both() {
        let mut sum = Latencies::default();
        sum.add(&of(&[100]));
        sum.add(&of(&[300, 400]));
        assert_eq!((sum.count(), sum.sum()), (3, Duration::from_micros(800)));
    }

    #[test]
    fn buckets_count_everything_up_to_their_bound() {
        let latencies = of(&[500, 900, 2_000, 70_000_000]);
        let bounds = [1, 5, 100_000].map(Duration::from_millis);
        assert_eq!(latencies.up_to(&bounds), [2, 3, 4], "a minute and more is counted as a minute");
    }
}
