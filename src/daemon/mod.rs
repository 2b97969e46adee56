//! Threads, time and signals around the engine.
//!
//! [`run`] goes through the life of the process: connect and prepare the store ([`startup`]), start the threads
//! ([`service`]), watch over them until a signal or a fault ([`supervisor`]), answer what was taken, leave.

pub mod admission;
pub mod background;
pub mod besides;
pub mod checkup;
pub mod clock;
pub mod company;
pub mod discovery;
pub mod door;
pub mod figures;
pub mod journal;
pub mod latencies;
pub mod logging;
pub mod metrics_file;
pub mod metrics_http;
pub mod monitor;
pub mod notices;
pub mod notify;
pub mod pool;
pub mod pulse;
pub mod queries;
pub mod reasons;
pub mod replier;
pub mod service;
pub mod sharing;
pub mod signals;
pub mod stages;
pub mod startup;
pub mod statistics;
pub mod supervisor;
pub mod threads;

use std::io::{ErrorKind, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, ConfigError, Metrics};
use crate::daemon::metrics_file::MetricsFile;
use crate::daemon::monitor::Monitor;
use crate::daemon::notify::Notifier;
use crate::daemon::service::Service;
use crate::daemon::signals::Signals;
use crate::daemon::startup::NotStarted;
use crate::daemon::supervisor::Supervisor;
use crate::exit::ExitStatus;

/// How long taking the file with the metrics away may hold up the end, and telling the service manager about it.
const FAREWELL: Duration = Duration::from_millis(250);
/// How long the definitions for the operator may take to be printed.
const PRINT_WAIT: Duration = Duration::from_secs(2);

/// Runs the service until it is told to stop.
pub fn run(config: Config) -> ExitStatus {
    let signals = match Signals::take_over() {
        Ok(signals) => signals,
        Err(error) => return fail(ExitStatus::Bug, &format!("signals cannot be received: {error}")),
    };
    let notifier = match Notifier::start() {
        Ok(notifier) => notifier,
        Err(error) => return fail(ExitStatus::Bug, &format!("a thread cannot be started: {error}")),
    };
    log::info!("person-service {} starts, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
    let monitor = Arc::new(Monitor::start());
    let file = match start_metrics(&config.metrics, &monitor) {
        Ok(file) => file,
        Err((status, why)) => return fail(status, &why),
    };
    let status = serve(&config, &signals, &notifier, &monitor);
    let deadline = Instant::now() + FAREWELL;
    notifier.end(deadline);
    if let Some(file) = file {
        file.end(deadline);
    }
    status
}

fn serve(config: &Config, signals: &Signals, notifier: &Notifier, monitor: &Arc<Monitor>) -> ExitStatus {
    let connected = match startup::connect(config, signals, notifier, monitor) {
        Ok(connected) => connected,
        Err(NotStarted::ToldToStop) => return ExitStatus::Clean,
        Err(NotStarted::Refused { status, why, by_hand }) => {
            print_by_hand(by_hand);
            return fail(status, &why);
        }
    };
    match Service::start(config, connected, monitor) {
        Ok(service) => Supervisor::new(config, service, signals, notifier, Arc::clone(monitor)).run(),
        Err(error) => fail(ExitStatus::Bug, &format!("the threads cannot be started: {error}")),
    }
}

/// Figures can be had before NATS can: somebody may want to know why the service does not get ready.
fn start_metrics(metrics: &Metrics, monitor: &Arc<Monitor>) -> Result<Option<MetricsFile>, (ExitStatus, String)> {
    let bad = |error: ConfigError| (ExitStatus::BadConfiguration, format!("bad configuration: {error}"));
    if let Some(address) = metrics.address {
        metrics_http::start(address, monitor).map_err(|error| match error.kind() {
            // Others may let go of it: an older process that is still draining, a network that is not up yet.
            ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable => {
                (ExitStatus::Unavailable, format!("METRICS_ADDR {address} cannot be listened on: {error}"))
            }
            _ => bad(ConfigError::address("METRICS_ADDR", address, &error)),
        })?;
    }
    let started = metrics.file.as_deref().map(|path| {
        MetricsFile::start(path, Arc::clone(monitor))
            .map_err(|error| bad(ConfigError::unwritable("METRICS_FILE", path.as_os_str(), &error)))
    });
    started.transpose()
}

fn fail(status: ExitStatus, why: &str) -> ExitStatus {
    log::error!("{why}");
    status
}

/// What an operator is to create or change: on stdout, to be piped into a file or a command. Where nobody reads it, or
/// nobody any more, the process ends all the same.
fn print_by_hand(definitions: Vec<String>) {
    let print = move || {
        let mut stdout = std::io::stdout().lock();
        let _ = definitions.iter().try_for_each(|definition| writeln!(stdout, "{definition}"));
    };
    if let Err(error) = threads::within(PRINT_WAIT, "stdout", print) {
        log::warn!("the definitions cannot be printed: {error}");
    }
}
