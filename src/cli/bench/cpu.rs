//! The CPU and memory of processes: of this one by the clock that the system keeps for it, of others by /proc.

use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::exit::ExitStatus;

/// What this process has used since it began.
pub fn own() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Another process.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    name: String,
}

/// What another process used during a measurement.
#[derive(Debug, Serialize)]
pub struct Usage {
    /// Which.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// CPU, in seconds.
    pub cpu_seconds: f64,
    /// CPU for each accepted command, in microseconds.
    pub cpu_us_per_command: f64,
    /// Memory at the end, in bytes.
    pub resident_bytes: u64,
    /// The most that it ever had, in bytes.
    pub peak_bytes: u64,
}

impl Process {
    /// The process with this id; a failure where there is none or the system does not tell.
    pub fn find(pid: u32) -> Result<Self, Failure> {
        let process = Self { pid, name: String::new() };
        let name = process.read("comm").filter(|_| process.cpu().is_some()).ok_or_else(|| {
            let why = format!("--pid {pid}: there is no such process, or this system has no /proc/PID/stat");
            Failure::new(ExitStatus::BadConfiguration, why)
        })?;
        Ok(Self { name: name.trim().to_owned(), ..process })
    }

    /// What it has used since it began, in steps of 10 ms; `None` when it is gone.
    pub fn cpu(&self) -> Option<Duration> {
        let stat = self.read("stat")?;
        // The name stands in brackets and may have any character in it. State comes behind it; user and system time are
        // the 12th and 13th from there.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.collect::<Result<Vec<_>, _>>().ok().filter(|both| both.len() == 2)?.iter().sum();
        let a_second = rustix::param::clock_ticks_per_second().max(1);
        Some(Duration::from_millis(ticks.saturating_mul(1000) / a_second))
    }

    /// What it used since `before`, over so many commands.
    pub fn usage(&self, before: Duration, after: Duration, commands: u64) -> Usage {
        let used = after.saturating_sub(before);
        let status = self.read("status").unwrap_or_default();
        Usage {
            pid: self.pid,
            name: self.name.clone(),
            cpu_seconds: used.as_secs_f64(),
            cpu_us_per_command: micros_each(used, commands),
            resident_bytes: kibibytes(&status, "VmRSS:"),
            peak_bytes: kibibytes(&status, "VmHWM:"),
        }
    }

    fn read(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(PathBuf::from(format!("/proc/{}/{file}", self.pid))).ok()
    }
}

/// Microseconds for each of so many.
#[expect(clippy::cast_precision_loss, reason = "more commands than a float counts exactly are never measured")]
pub fn micros_each(used: Duration, commands: u64) -> f64 {
    used.as_secs_f64() * 1e6 / commands.max(1) as f64
}

/// A line such as `VmRSS:     1234 kB`, in bytes.
fn kibibytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn both_ways_of_asking_agree_about_this_process() {
        let me = Process::find(std::process::id()).expect("this one");
        let began = own();
        while own() - began < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        let [by_proc, by_clock] = [me.cpu().expect("it is there"), own()];
        let apart = by_proc.abs_diff(by_clock);
        // Tests of other threads go on between both.
        assert!(apart < Duration::from_secs(2) && by_proc >= Duration::from_millis(10), "{by_proc:?} {by_clock:?}");
        let usage = me.usage(Duration::ZERO, by_proc, 10);
        assert!(usage.resident_bytes > 1_000_000 && usage.peak_bytes >= usage.resident_bytes / 2, "{usage:?}");
    }
}
