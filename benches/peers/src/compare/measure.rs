//! One measurement: `person-service bench` as a child, and what it found.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::children::{Binaries, NatsServers};

/// A load, and what it is called in the tables.
#[derive(Clone)]
pub struct Load {
    /// The name in the table.
    pub name: String,
    /// What `bench` is told.
    pub args: Vec<String>,
}

impl Load {
    /// With this name and these arguments, in one string.
    pub fn new(name: &str, args: &str) -> Self {
        Self { name: name.to_owned(), args: args.split_whitespace().map(str::to_owned).collect() }
    }
}

/// One figure of one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// The suite.
    pub suite: String,
    /// The load.
    pub load: String,
    /// Who was measured.
    pub who: String,
    /// In which round.
    pub round: usize,
    /// What was found, by name.
    pub figures: BTreeMap<String, f64>,
}

/// Writes the persons of a load.
pub fn prepare(binaries: &Binaries, servers: &NatsServers, args: &[String]) -> Result<(), Box<dyn Error>> {
    let output = bench(binaries, servers).args(args).arg("--prepare-only").output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("writing persons: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Measures. `contestant` are the processes whose CPU is that of whoever is measured, `database` those of PostgreSQL,
/// whose CPU is told with that of the servers.
pub fn measure(
    binaries: &Binaries,
    servers: &NatsServers,
    contestant: &[u32],
    database: &[u32],
    load: &Load,
) -> Result<BTreeMap<String, f64>, Box<dyn Error>> {
    let pids: Vec<String> = contestant.iter().chain(&servers.pids()).chain(database).map(u32::to_string).collect();
    let mut command = bench(binaries, servers);
    command.args(&load.args).args(["--json", "--pid", &pids.join(",")]);
    let output = command.stderr(Stdio::piped()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let found: Value = serde_json::from_slice(&output.stdout).map_err(|_| format!("{}: {said}", load.name))?;
    let number = |path: &str| found.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    let (mut own, mut server, mut peak) = (0.0, 0.0, 0.0_f64);
    for (at, process) in found["processes"].as_array().into_iter().flatten().enumerate() {
        let us = process["cpu_us_per_command"].as_f64().unwrap_or(0.0);
        if at < contestant.len() {
            own += us;
            peak = peak.max(process["peak_bytes"].as_f64().unwrap_or(0.0));
        } else {
            server += us;
        }
    }
    let problems: f64 = found["problems"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, count)| count.as_f64())
        .fold(0.0, |a, b| a + b);
    if problems > 0.0 {
        eprintln!("{}: not accepted: {}", load.name, found["problems"]);
    }
    Ok([
        ("per_second", number("/per_second")),
        ("p50_ms", number("/latency_ms/p50")),
        ("p99_ms", number("/latency_ms/p99")),
        ("not_accepted", problems),
        ("cpu_us", own),
        ("server_cpu_us", server),
        ("generator_cpu_us", number("/generator/cpu_us_per_command")),
        ("generator_cores", number("/generator/cores")),
        ("peak_mib", peak / 1048576.0),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into())
}

fn bench(binaries: &Binaries, servers: &NatsServers) -> Command {
    let mut command = Command::new(&binaries.service);
    command.args(["bench", "--subject-prefix", "bench", "--nats-url", &servers.addresses()]).stdin(Stdio::null());
    command
}
