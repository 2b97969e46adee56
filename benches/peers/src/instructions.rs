//! How many instructions the steps of a command take, counted by callgrind, which other work on the machine does not
//! disturb. How long they take, `cargo bench` tells.

use std::error::Error;
use std::process::Command as Program;

use clap::Args;

use crate::steps;

/// Runs under callgrind: what the start of the process takes is the same in both and falls out.
const COUNTED: [u64; 2] = [200, 1200];

/// Counts the instructions of each step.
#[derive(Args)]
pub struct Instructions {
    /// Do one step so many times and say nothing
    #[arg(long, value_name = "STEP", hide = true, requires = "times")]
    only: Option<String>,
    /// See --only
    #[arg(long, hide = true)]
    times: Option<u64>,
}

impl Instructions {
    /// Counts, and prints a table.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        let steps = steps::all()?;
        if let (Some(only), Some(times)) = (&self.only, self.times) {
            let (_, step) = steps.iter().find(|(name, _)| name == only).ok_or("no such step")?;
            (0..times).for_each(|_| step());
            return Ok(());
        }
        println!("| step | instructions |\n|---|---|");
        for (name, _) in &steps {
            println!("| {name} | {} |", instructions(name)?);
        }
        Ok(())
    }
}

/// The instructions of one step.
fn instructions(step: &str) -> Result<u64, Box<dyn Error>> {
    let count = |times: u64| -> Result<u64, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("out");
        let mut valgrind = Program::new("valgrind");
        valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.display()));
        let output = valgrind
            .arg(std::env::current_exe()?)
            .args(["instructions", "--only", step, "--times", &times.to_string()])
            .output()
            .map_err(|error| format!("valgrind: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().find_map(|line| line.split_once("Collected :"));
        Ok(line.ok_or_else(|| said.clone().into_owned())?.1.trim().parse()?)
    };
    let [few, many] = COUNTED;
    Ok((count(many)? - count(few)?) / (many - few))
}
