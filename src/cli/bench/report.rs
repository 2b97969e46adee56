//! What came out: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::cli::bench::args::Bench;
use crate::cli::bench::cpu::{self, Usage};
use crate::cli::bench::tally::Tally;
use crate::cli::output::{Out, counted, grouped};

/// The parts of all latencies that are told, with the names of their members.
const QUANTILES: [(&str, f64); 7] =
    [("min", 0.0), ("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99_9", 0.999), ("max", 1.0)];

/// The share of the time that this program may take of a core on each connection before it is suspected to be what
/// limits the rate.
const SHARE_MAX: f64 = 0.85;

/// What came out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was asked for.
    pub load: LoadSaid,
    /// How long it was measured.
    pub seconds: f64,
    /// Accepted commands and answered queries.
    pub accepted: u64,
    /// The same within the time, for each second of it.
    pub per_second: f64,
    /// The others, by code.
    pub problems: BTreeMap<String, u64>,
    /// Of those accepted.
    pub latency_ms: BTreeMap<&'static str, f64>,
    /// What this program used itself.
    pub generator: Own,
    /// The processes that were named.
    pub processes: Vec<Usage>,
}

/// What was asked for.
#[derive(Debug, Serialize)]
pub struct LoadSaid {
    persons: u64,
    distribution: String,
    mix: String,
    in_flight: u64,
    connections: u64,
    rate: Option<u64>,
    cold: bool,
    history: u64,
    seed: u64,
}

/// What this program used itself.
#[derive(Debug, Serialize)]
pub struct Own {
    cpu_seconds: f64,
    cpu_us_per_command: f64,
    /// The share of one core.
    cores: f64,
}

impl Report {
    /// Of a measurement that took so long, in which this program used so much CPU itself.
    pub fn new(bench: &Bench, tally: &Tally, took: Duration, own: Duration, processes: Vec<Usage>) -> Self {
        let seconds = took.as_secs_f64().max(1e-6);
        let mut latency_ms: BTreeMap<&'static str, f64> = BTreeMap::new();
        if tally.accepted > 0 {
            latency_ms.extend(QUANTILES.map(|(name, quantile)| (name, millis(tally.micros_at(quantile)))));
            latency_ms.insert("mean", tally.mean_micros() / 1000.0);
        }
        Self {
            load: LoadSaid {
                persons: bench.persons,
                distribution: bench.distribution().to_string(),
                mix: bench.mix.to_string(),
                in_flight: bench.in_flight,
                connections: bench.connections,
                rate: bench.rate,
                cold: bench.cold,
                history: bench.history,
                seed: bench.seed,
            },
            seconds,
            accepted: tally.accepted,
            per_second: if tally.in_time > 0 { 1e6 / cpu::micros_each(took, tally.in_time) } else { 0.0 },
            problems: tally.problems.clone(),
            latency_ms,
            generator: Own {
                cpu_seconds: own.as_secs_f64(),
                cpu_us_per_command: cpu::micros_each(own, tally.accepted),
                cores: own.as_secs_f64() / seconds,
            },
            processes,
        }
    }

    /// Whether the program itself may have been what limited the rate.
    pub fn is_generator_suspect(&self) -> bool {
        let connections = u32::try_from(self.load.connections).unwrap_or(u32::MAX);
        self.accepted > 0 && self.generator.cores > SHARE_MAX * f64::from(connections)
    }

    /// Says it.
    pub fn show(&self, out: &mut Out, json: bool) {
        if json {
            // A struct of strings and numbers: writing it as JSON cannot fail.
            return out.json(&serde_json::to_vec(self).unwrap_or_default());
        }
        out.line(self.table());
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("load", self.said());
        row("accepted", format!("{} in {:.2} s", grouped(self.accepted), self.seconds));
        row("rate", format!("{} a second", decimal(self.per_second)));
        for (code, count) in &self.problems {
            row(code, grouped(*count));
        }
        if !self.latency_ms.is_empty() {
            let named = QUANTILES.map(|(name, _)| (name, self.latency_ms.get(name).copied().unwrap_or(0.0)));
            let text = named.map(|(name, millis)| format!("{} {}", name.replace('_', "."), short(millis))).join("  ");
            row("latency, ms", text);
        }
        let Own { cpu_us_per_command, cores, .. } = &self.generator;
        row("CPU of bench", format!("{cpu_us_per_command:.1} µs a command, {cores:.2} cores"));
        for usage in &self.processes {
            let cores = usage.cpu_seconds / self.seconds;
            let text = format!(
                "{:.1} µs a command, {cores:.2} cores; memory {} MiB, at most {} MiB",
                usage.cpu_us_per_command,
                usage.resident_bytes >> 20,
                usage.peak_bytes >> 20
            );
            row(&format!("CPU of {} ({})", usage.name, usage.pid), text);
        }
        table
    }

    fn said(&self) -> String {
        let LoadSaid { persons, distribution, mix, in_flight, connections, rate, cold, history, .. } = &self.load;
        let rate = rate.map(|rate| format!(", {} a second wanted", grouped(rate))).unwrap_or_default();
        let cold = if *cold { ", cold" } else { "" };
        let history = if *history > 1 { format!(", {history} commits each before") } else { String::new() };
        let connections = if *connections > 1 { format!(" on {connections} connections") } else { String::new() };
        format!(
            "{}, {distribution}{cold}{history}; {mix}; {in_flight} in flight{connections}{rate}",
            counted(*persons, "person", "persons")
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "ten minutes in microseconds are exact")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Three figures, about.
fn short(millis: f64) -> String {
    match millis {
        _ if millis < 10.0 => format!("{millis:.2}"),
        _ if millis < 100.0 => format!("{millis:.1}"),
        _ => format!("{millis:.0}"),
    }
}

/// 41,234.5
fn decimal(number: f64) -> String {
    let tenths = format!("{number:.1}");
    let (whole, tenth) = tenths.split_once('.').unwrap_or((&tenths, "0"));
    whole.parse().map_or_else(|_| tenths.clone(), |whole| format!("{}.{tenth}", grouped(whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_enough_to_be_read() {
        assert_eq!([0.4, 12.345, 123.456].map(short), ["0.40", "12.3", "123"]);
        assert_eq!(decimal(41_234.56), "41,234.6");
    }
}
