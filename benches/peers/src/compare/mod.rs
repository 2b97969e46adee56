//! Service, ceilings and rivals measured side by side: in turn, over several rounds, each on a fresh server, so that what
//! else the machine does falls upon all of them alike. What is told are medians, and ratios within a round.

mod children;
mod machine;
mod measure;
mod plot;
mod suites;
mod table;

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use children::Binaries;
use machine::Machine;
use measure::Sample;

/// Measures the suites that are named, and writes tables and plots.
#[derive(Args)]
pub struct Compare {
    /// What to measure; all by default
    #[arg(value_name = "SUITE")]
    suites: Vec<Suite>,
    /// Times that each is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that each load is measured
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The service and load generator
    #[arg(long, default_value = "target/release/person-service")]
    service: PathBuf,
    /// An earlier build, measured beside this one in the suite of replicas
    #[arg(long)]
    earlier: Option<PathBuf>,
    /// The server
    #[arg(long, env = "NATS_SERVER_BIN", default_value = "nats-server")]
    nats_server: PathBuf,
    /// The folder with PostgreSQL's programs
    #[arg(long, default_value = "/usr/lib/postgresql/15/bin")]
    postgres: PathBuf,
    /// Where servers keep their data, on the disk that is to be measured
    #[arg(long, default_value = "/var/tmp")]
    data: PathBuf,
    /// Where to write samples, tables and plots; suites measured there earlier are kept
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Measure nothing: write tables and plots of the samples that are there
    #[arg(long)]
    only_report: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Throughput and latency over commands in flight; Zipf and one hot person; against the ceilings
    Ceilings,
    /// 64 in flight, against the rivals, with both durabilities
    Rivals,
    /// `sync_interval: always`, against the bare loop, and raw publish one by one and in batches
    Always,
    /// A cluster of three servers, against the bare loop
    Cluster,
    /// 1, 2, 3 and 5 replicas, of an earlier build too
    Replicas,
    /// 1,000 to 1,000,000 persons in the stream
    Persons,
    /// Persons that are not in memory, in a stream of 1,000,000 messages
    Cold,
    /// Start, idle memory and CPU, size
    Start,
}

/// All that was found, as it is written.
#[derive(Default, Serialize, Deserialize)]
struct Found {
    /// Where and when each suite was measured.
    runs: Vec<Run>,
    samples: Vec<Sample>,
}

/// One suite's measurement.
#[derive(Serialize, Deserialize)]
struct Run {
    suite: String,
    rounds: usize,
    seconds: f64,
    /// The median of the probes, one a round, in milliseconds.
    fsync_ms: f64,
    machine: Machine,
}

impl Compare {
    /// Measures and writes.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        children::end_at_signals()?;
        std::fs::create_dir_all(&self.out)?;
        let file = self.out.join("samples.json");
        let mut found: Found = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => Found::default(),
        };
        let all = Suite::value_variants();
        let chosen = if self.suites.is_empty() { all } else { &self.suites };
        for suite in chosen.iter().filter(|_| !self.only_report) {
            self.measure(*suite, &mut found)?;
            std::fs::write(&file, serde_json::to_vec_pretty(&found)?)?;
        }
        std::fs::write(self.out.join("tables.md"), table::markdown(&found))?;
        plot::all(&found, &self.out)?;
        println!("{}", table::markdown(&found));
        Ok(())
    }

    fn measure(&self, suite: Suite, found: &mut Found) -> Result<(), Box<dyn Error>> {
        let binaries = Binaries {
            service: absolute(&self.service)?,
            earlier: self.earlier.as_deref().map(absolute).transpose()?,
            nats_server: self.nats_server.clone(),
            postgres: self.postgres.clone(),
        };
        let name = suite.name();
        let machine = Machine::here(&binaries);
        let mut field = suites::Field {
            binaries,
            data: absolute(&self.data)?,
            rounds: self.rounds,
            seconds: self.seconds,
            suite: name.clone(),
            samples: Vec::new(),
            probes: Vec::new(),
        };
        field.run(suite)?;
        let fsync_ms = median(std::mem::take(&mut field.probes)).unwrap_or(0.0);
        found.samples.retain(|sample| sample.suite != name);
        found.runs.retain(|run| run.suite != name);
        found.samples.append(&mut field.samples);
        found.runs.push(Run { suite: name, rounds: self.rounds, seconds: self.seconds, fsync_ms, machine });
        Ok(())
    }
}

impl Suite {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Box<dyn Error>> {
    path.canonicalize().map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The middle one; the mean of the two in the middle of an even number.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => values.get(middle).copied(),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}
