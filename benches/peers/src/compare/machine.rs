//! Where it was measured: machine, versions, and what a write to the disk costs there at that moment.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::children::Binaries;

/// Writes that are probed, and how large each is.
const PROBES: usize = 50;
const PROBE_BYTES: usize = 4096;

/// Where it was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub date: String,
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub service: String,
    pub nats_server: String,
    pub postgres: String,
    /// The load average when it began: the machine may be shared.
    pub load_average: String,
}

impl Machine {
    /// This one, now.
    pub fn here(binaries: &Binaries) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = after(&read("/proc/meminfo"), "MemTotal");
        Self {
            date: said(Command::new("date").arg("-u").arg("+%Y-%m-%d")),
            cpu: after(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
            kernel: said(Command::new("uname").arg("-sr")),
            service: said(Command::new(&binaries.service).arg("--version")),
            nats_server: said(Command::new(&binaries.nats_server).arg("--version")),
            postgres: said(Command::new(binaries.postgres.join("postgres")).arg("--version")),
            load_average: read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}

/// The median time that it takes to write 4 KiB behind a file's end and have it on the disk.
pub fn fsync_probe(folder: &Path) -> Result<Duration, Box<dyn Error>> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let block = [7_u8; PROBE_BYTES];
    let mut times = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[PROBES / 2])
}
