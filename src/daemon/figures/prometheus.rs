//! The figures as Prometheus reads them: its text format 0.0.4, which node_exporter's textfile collector reads as well.

use std::time::Duration;

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::{FIGURES, Kind, PREFIX, Reading, Times, Values};

/// The upper bounds of the buckets, in microseconds: from what a local server takes to what nobody waits for.
const BUCKET_MICROS: [u64; 15] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// All figures; `replica` is a label that each of them bears, where several replicas' figures end up in one place.
pub fn text(now: &Reading, replica: Option<&str>) -> String {
    let families: Vec<MetricFamily> = FIGURES
        .iter()
        .filter_map(|figure| {
            let metrics = metrics((figure.read)(now), figure.kind, replica);
            let mut family = MetricFamily::default();
            family.set_name(format!("{PREFIX}{}", figure.name));
            family.set_help(figure.help.to_owned());
            family.set_field_type(match figure.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            // A family of none is an error to the encoder.
            let is_there = !metrics.is_empty();
            family.set_metric(metrics);
            is_there.then_some(family)
        })
        .collect();
    // It fails on families without name or metrics alone.
    TextEncoder::new().encode_to_string(&families).unwrap_or_default()
}

fn metrics(values: Values, kind: Kind, replica: Option<&str>) -> Vec<Metric> {
    let common = replica.map(|name| ("replica", name));
    let labelled = |own: Option<(&str, &str)>| Metric::from_label(common.into_iter().chain(own).map(pair).collect());
    match values {
        Values::One(value) => vec![with_value(labelled(None), kind, value)],
        Values::By(label, values) => {
            values.into_iter().map(|(name, value)| with_value(labelled(Some((label, &name))), kind, value)).collect()
        }
        Values::Times(times) => vec![with_times(labelled(None), &times)],
        Values::TimesBy(label, times) => {
            times.into_iter().map(|(name, times)| with_times(labelled(Some((label, name))), &times)).collect()
        }
    }
}

fn pair((name, value): (&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn with_value(mut metric: Metric, kind: Kind, value: f64) -> Metric {
    if kind == Kind::Counter {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn with_times(mut metric: Metric, times: &Times) -> Metric {
    let bounds = BUCKET_MICROS.map(Duration::from_micros);
    let buckets = bounds.iter().zip(times.all.up_to(&bounds)).map(|(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(times.all.count());
    histogram.set_sample_sum(times.all.sum().as_secs_f64());
    metric.set_histogram(histogram);
    metric
}
