//! What the service did, counted: for the log line of every minute and for `STATUS=`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::daemon::clock::micros;
use crate::engine::turn::{Answer, Counts, Moment};
use crate::wire::commit::Sequence;
use crate::wire::reply::{Code, Outcome};
use crate::wire::service::EndpointStats;

/// Latencies above this, in microseconds, are counted as this.
const LATENCY_MICROS_MAX: u64 = 60_000_000;

/// Counts since the start and since the last report. Locked once a turn, not once a command.
#[derive(Debug, Default)]
pub struct Statistics {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    since_start: Tally,
    since_report: Tally,
    latencies: Option<Histogram<u64>>,
    highest_sequence: Sequence,
}

/// Counts of what happened to commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands carried out, or with nothing to change.
    pub accepted: u64,
    /// Of these, retries of commands that were carried out before.
    pub duplicates: u64,
    /// Commands with a problem, by its code.
    pub problems: BTreeMap<Code, u64>,
    /// Requests dropped for a reply subject that is not allowed.
    pub dropped: u64,
    /// What happened in the workers' turns.
    pub turns: Counts,
    /// Snapshots written.
    pub snapshots: u64,
    /// Queries answered.
    pub queries: u64,
    /// Queries refused or failed.
    pub query_problems: u64,
    /// The code of the last command with a problem.
    pub last_problem: Option<Code>,
    /// The code of the last query with a problem.
    pub last_query_problem: Option<Code>,
    /// Microseconds from the arrival of commands to their answers, over all of them.
    pub command_micros: u64,
    /// The same of queries.
    pub query_micros: u64,
}

/// What a report says of the time since the one before.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What happened in it.
    pub tally: Tally,
    /// How long it was.
    pub period: Duration,
    /// Latencies from arrival to reply at the 50th, 95th and 99th percentile and the highest, in microseconds.
    pub latency_micros: [u64; 4],
}

impl Statistics {
    /// Takes in a turn.
    pub fn turn(&self, now: Moment, answers: &[Answer], counts: &Counts) {
        let mut inner = self.lock();
        inner.each(|tally| {
            tally.turns.add(counts);
            for answer in answers {
                tally.outcome(&answer.outcome);
                tally.command_micros += now.0.saturating_sub(answer.task.arrived.0);
            }
        });
        for answer in answers {
            inner.latency(now.0.saturating_sub(answer.task.arrived.0));
            if let Outcome::Accepted(accepted) = &answer.outcome {
                inner.highest_sequence = inner.highest_sequence.max(accepted.sequence.unwrap_or(0));
            }
        }
    }

    /// Takes in a request that was refused at the door.
    pub fn refused(&self, code: Code) {
        self.lock().each(|tally| tally.problem(code));
    }

    /// Takes in a request that was dropped.
    pub fn dropped(&self) {
        self.lock().each(|tally| tally.dropped += 1);
    }

    /// Takes in a snapshot that was written.
    pub fn snapshot_written(&self) {
        self.lock().each(|tally| tally.snapshots += 1);
    }

    /// Takes in a query: the code of its problem, if it had one, and how long it took.
    pub fn query(&self, problem: Option<Code>, took: Duration) {
        self.lock().each(|tally| {
            tally.query_micros += micros(took);
            tally.queries += u64::from(problem.is_none());
            tally.query_problems += u64::from(problem.is_some());
            tally.last_query_problem = problem.or(tally.last_query_problem);
        });
    }

    /// The highest position in the stream that was acknowledged to this replica.
    pub fn highest_sequence(&self) -> Sequence {
        self.lock().highest_sequence
    }

    /// Begins to count positions anew: the stream is not the one that it was.
    pub fn forget_sequences(&self) {
        self.lock().highest_sequence = 0;
    }

    /// Everything since the start.
    pub fn since_start(&self) -> Tally {
        self.lock().since_start.clone()
    }

    /// What happened since the last report, which was this long ago.
    pub fn report(&self, period: Duration) -> Report {
        let mut inner = self.lock();
        let tally = std::mem::take(&mut inner.since_report);
        let latency_micros = match &mut inner.latencies {
            Some(latencies) => {
                let figures = [0.5, 0.95, 0.99, 1.0].map(|quantile| latencies.value_at_quantile(quantile));
                latencies.reset();
                figures
            }
            None => [0; 4],
        };
        Report { tally, period, latency_micros }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Counts are sound whoever panicked while holding them.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn each(&mut self, count: impl Fn(&mut Tally)) {
        count(&mut self.since_start);
        count(&mut self.since_report);
    }

    fn latency(&mut self, micros: u64) {
        // Two significant figures suffice for a report, and take some tens of kilobytes.
        if self.latencies.is_none() {
            self.latencies = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 2).ok();
        }
        if let Some(latencies) = &mut self.latencies {
            latencies.saturating_record(micros.max(1));
        }
    }
}

impl Tally {
    fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted(accepted) => {
                self.accepted += 1;
                self.duplicates += u64::from(accepted.duplicate);
            }
            Outcome::Problem(problem) => self.problem(problem.code),
        }
    }

    fn problem(&mut self, code: Code) {
        *self.problems.entry(code).or_default() += 1;
        self.last_problem = Some(code);
    }

    /// What the services protocol says of the two endpoints: commands, queries.
    pub fn endpoints(&self) -> [EndpointStats; 2] {
        let errors = self.problems.values().sum();
        let queries = self.queries + self.query_problems;
        [
            endpoint(self.commands(), errors, self.last_problem, self.command_micros),
            endpoint(queries, self.query_problems, self.last_query_problem, self.query_micros),
        ]
    }

    /// Every command that came to an end.
    pub fn commands(&self) -> u64 {
        self.accepted + self.problems.values().sum::<u64>()
    }
}

fn endpoint(num_requests: u64, num_errors: u64, last_error: Option<Code>, micros: u64) -> EndpointStats {
    let processing_time = micros.saturating_mul(1000);
    EndpointStats {
        num_requests,
        num_errors,
        last_error: last_error.map_or("", Code::as_str),
        processing_time,
        average_processing_time: processing_time.checked_div(num_requests).unwrap_or(0),
    }
}

impl Report {
    /// Commands a second.
    pub fn rate(&self) -> f64 {
        let commands = u32::try_from(self.tally.commands()).unwrap_or(u32::MAX);
        f64::from(commands) / self.period.as_secs_f64().max(0.001)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { accepted, duplicates, problems, dropped, turns, snapshots, queries, query_problems, .. } =
            &self.tally;
        let [p50, p95, p99, max] = self.latency_micros.map(|micros| Duration::from_micros(micros).as_secs_f64() * 1e3);
        write!(f, "{:.1} commands/s, accepted {accepted} (duplicates {duplicates})", self.rate())?;
        for (code, count) in problems {
            write!(f, ", {} {count}", code.as_str())?;
        }
        write!(f, ", dropped {dropped}; latency ms p50 {p50:.2} p95 {p95:.2} p99 {p99:.2} max {max:.2}; ")?;
        let Counts { commits, conflicts, unsettled, cache_hits, loads } = turns;
        write!(f, "commits {commits}, conflicts {conflicts}, unsettled {unsettled}, cache hits {cache_hits}, ")?;
        write!(f, "loads {loads}, snapshots {snapshots}; queries {queries}, refused {query_problems}")
    }
}
