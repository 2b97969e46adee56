//! The figures that people see. Each is defined once, in [`FIGURES`]; from there come the `data` of `$SRV.STATS`, the
//! `STATUS=` line, the line of every minute, and what Prometheus reads.

mod data;
mod lines;
mod prometheus;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

pub use data::{commands_endpoint, queries_endpoint};
pub use lines::{minute, status};
pub use prometheus::text;
pub use table::FIGURES;

use crate::daemon::latencies::Latencies;
use crate::daemon::reasons::Reason;
use crate::daemon::statistics::Tally;
use crate::domain::Timestamp;
use crate::nats::{ClockOffset, Health};

/// What every name begins with.
pub const PREFIX: &str = "person_service_";

/// Everything that figures are made from, as it is at one moment.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Counts since the start.
    pub tally: Tally,
    /// What was counted up to the beginning of the time that percentiles and lines speak of.
    pub before: Tally,
    /// How long that time is.
    pub period: Duration,
    /// Commands that wait for a worker.
    pub queue_len: usize,
    /// Commands that could.
    pub queue_len_max: usize,
    /// Commands taken on and not answered.
    pub in_flight: u64,
    /// Whether a command sent now would be answered.
    pub is_ready: bool,
    /// Why it would not be.
    pub reasons: Vec<Reason>,
    /// Attempts to connect that failed, by reason.
    pub connects_failed: BTreeMap<Reason, u64>,
    /// How the connections are doing, by name.
    pub connections: Vec<(&'static str, Health)>,
    /// The version of the server that the store is connected to.
    pub server_version: Option<String>,
    /// Our clock against the server's, once it was compared.
    pub clock_offset: Option<ClockOffset>,
    /// Lines of the log that wait to be written.
    pub log_lines_waiting: usize,
    /// Lines of the log that were dropped.
    pub log_lines_dropped: u64,
    /// When the process started.
    pub started: Option<Timestamp>,
    /// How long ago.
    pub uptime: Duration,
}

/// One figure.
pub struct Figure {
    /// Its name, after [`PREFIX`]. It ends in its unit, and in `_total` if it counts.
    pub name: &'static str,
    /// What it is, for people.
    pub help: &'static str,
    /// What can be done with it.
    pub kind: Kind,
    /// Which of the service's endpoints it belongs to.
    pub scope: Scope,
    /// What it is called in the line of every minute, if it stands there.
    pub minute: Option<&'static str>,
    /// What it is called in `STATUS=`, if it stands there.
    pub status: Option<&'static str>,
    /// Takes it from a reading.
    pub read: fn(&Reading) -> Values,
}

/// What can be done with a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process starts anew.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Durations, counted in buckets.
    Histogram,
}

/// Which endpoint a figure stands with in `$SRV.STATS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Commands, and all that the service does for them.
    Commands,
    /// Queries.
    Queries,
    /// The process: it stands with the commands.
    Process,
}

/// What a figure is at one moment.
#[derive(Debug, Clone)]
pub enum Values {
    /// One number.
    One(f64),
    /// A number for each value of a label.
    By(&'static str, Vec<(String, f64)>),
    /// Durations: since the start, and before the time that percentiles speak of.
    Times(Times),
    /// Durations for each value of a label.
    TimesBy(&'static str, Vec<(&'static str, Times)>),
}

/// Durations: since the start, and lately.
#[derive(Debug, Clone)]
pub struct Times {
    /// Since the start.
    pub all: Latencies,
    /// Of the last minute or two.
    pub lately: Latencies,
}

impl Times {
    fn new(all: &Latencies, before: &Latencies) -> Self {
        Self { all: all.clone(), lately: all.since(before) }
    }
}

impl Reading {
    /// The same reading, with all counters as they were at the beginning of the time that lines speak of.
    fn at_beginning(&self) -> Self {
        Self { tally: self.before.clone(), ..self.clone() }
    }
}
