//! What `bench` is told.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use jiff::SignedDuration;

use crate::cli::bench::load::{Distribution, Mix};

const EXAMPLES: &str = "\
Examples:
  SUBJECT_PREFIX=bench STREAM_NAME=BENCH person-service &
  person-service bench --subject-prefix bench
          A service of its own for the load, and ten seconds of it
  person-service bench --subject-prefix bench --persons 10000 --in-flight 512 --distribution zipf --pid $(pidof nats-server)
          Some persons get most of the commands; how much CPU nats-server used
  person-service bench --subject-prefix bench --rate 500 --mix update=8,attribute=1,create=1,query=10 --json
          A steady rate, latencies counted from when each was due, for programs
  person-service bench --subject-prefix bench --history 100 --prepare-only
  person-service bench --subject-prefix bench --history 100 --cold --in-flight 1
          With the service started again in between: what loading a person costs

Exit status: 0 where all was accepted; 1 where something was refused or failed, as the table says; 69 where NATS is \
away or no service answers; 'person-service --help' lists all.";

/// The most commands under way.
const IN_FLIGHT_MAX: u64 = 65_536;
/// The most persons.
const PERSONS_MAX: u64 = 100_000_000;
/// The longest history that is prepared, in commits.
const HISTORY_MAX: u64 = 1_000_000;
/// The most connections.
const CONNECTIONS_MAX: u64 = 64;
/// The highest rate, in commands a second.
const RATE_MAX: u64 = 10_000_000;
/// The longest time to measure or warm up.
const TIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What `bench` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Bench {
    /// Persons that the load is about
    #[arg(long, value_name = "N", default_value = "10000", value_parser = among(PERSONS_MAX))]
    pub persons: u64,

    /// Commands under way at the same time, over all connections
    #[arg(long, value_name = "N", default_value = "64", value_parser = among(IN_FLIGHT_MAX))]
    pub in_flight: u64,

    /// How long to measure [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = time, conflicts_with = "commands")]
    pub duration: Option<Duration>,

    /// Measure so many commands instead
    #[arg(long, value_name = "N", value_parser = among(u64::MAX))]
    pub commands: Option<u64>,

    /// Whom the commands are for: uniform, zipf or zipf:EXPONENT (1.0), one, or each (every person once)
    #[arg(long, value_name = "HOW", default_value = "uniform", value_parser = Distribution::from_str)]
    pub distribution: Distribution,

    /// What is sent, by weight: create, update (a name), attribute, array (both, in one), query
    #[arg(long, value_name = "MIX", default_value = "update=1", value_parser = Mix::from_str)]
    pub mix: Mix,

    /// Commands a second, over all connections; a latency then counts from when the command was due
    ///
    /// Without it the next command leaves when an answer came, so that a slow service is asked less.
    #[arg(long, value_name = "N", value_parser = among(RATE_MAX))]
    pub rate: Option<u64>,

    /// Connections to NATS, each with a thread
    #[arg(long, value_name = "N", default_value = "1", value_parser = among(CONNECTIONS_MAX))]
    pub connections: u64,

    /// Commits that each person has before anything is measured, written in turn so that they lie scattered
    #[arg(long, value_name = "N", default_value = "1", value_parser = among(HISTORY_MAX))]
    pub history: u64,

    /// Write the persons and their histories, and measure nothing
    #[arg(long, conflicts_with_all = ["cold", "duration", "commands"])]
    pub prepare_only: bool,

    /// The persons are there from an earlier run, and the service was started since: no preparation, no warm-up, and
    /// unless --distribution says otherwise every person once
    #[arg(long)]
    pub cold: bool,

    /// Load before the measurement begins [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = time, conflicts_with = "cold")]
    pub warm_up: Option<Duration>,

    /// Names the persons: the same number means the same persons in every run
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,

    /// Tell the CPU and memory of this process too, such as the service or nats-server (Linux); several with commas
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,

    /// Write test persons although no token of SUBJECT_PREFIX begins with bench
    ///
    /// What is written stays in the stream for good, among the real persons.
    #[arg(long)]
    pub leave_test_persons: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

impl Bench {
    /// Whom the commands are for.
    pub fn distribution(&self) -> Distribution {
        // An exponent or a hot person makes no sense where each person is to be met once, unless it was asked for.
        match self.distribution {
            Distribution::Uniform if self.cold => Distribution::Each,
            given => given,
        }
    }

    /// How long to measure, where it is not for a number of commands.
    pub fn measured_time(&self) -> Option<Duration> {
        let counted = self.commands.is_some() || self.distribution() == Distribution::Each;
        self.duration.or((!counted).then_some(Duration::from_secs(10)))
    }

    /// How long to warm up.
    pub fn warm_up(&self) -> Duration {
        let cold = self.cold || self.distribution() == Distribution::Each;
        self.warm_up.unwrap_or(if cold { Duration::ZERO } else { Duration::from_secs(1) })
    }
}

fn among(most: u64) -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..=most)
}

fn time(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed
        .filter(|duration| *duration <= TIME_MAX)
        .ok_or_else(|| "a duration with its unit up to 7 days is allowed, such as 500ms, 10s or 5m".to_owned())
}
