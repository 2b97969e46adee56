//! Threads, time and signals around the engine.

pub mod log_limit;
pub mod logging;
pub mod notify;
pub mod signals;

use crate::config::Config;
use crate::exit::ExitStatus;

/// Runs the service until it is told to stop.
pub fn run(_config: Config) -> ExitStatus {
    log::info!("nothing to run yet");
    ExitStatus::Clean
}
