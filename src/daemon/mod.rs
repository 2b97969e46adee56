//! Threads, time and signals around the engine.
//!
//! [`run`] goes through the life of the process: connect and prepare the store ([`startup`]), start the threads
//! ([`service`]), watch over them until a signal or a fault ([`supervisor`]), answer what was taken, leave.

pub mod background;
pub mod clock;
pub mod discovery;
pub mod intake;
pub mod logging;
pub mod notices;
pub mod notify;
pub mod pool;
pub mod pulse;
pub mod queries;
pub mod replier;
pub mod service;
pub mod signals;
pub mod startup;
pub mod statistics;
pub mod supervisor;
pub mod threads;

use crate::config::Config;
use crate::daemon::notify::Notifier;
use crate::daemon::service::Service;
use crate::daemon::signals::Signals;
use crate::daemon::startup::NotStarted;
use crate::daemon::supervisor::Supervisor;
use crate::exit::ExitStatus;

/// Runs the service until it is told to stop.
pub fn run(config: Config) -> ExitStatus {
    let notifier = Notifier::new();
    let signals = match Signals::take_over() {
        Ok(signals) => signals,
        Err(error) => return fail(ExitStatus::Bug, &format!("signals cannot be received: {error}")),
    };
    log::info!("person-service {} starts, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
    let connected = match startup::connect(&config, &signals, &notifier) {
        Ok(connected) => connected,
        Err(NotStarted::ToldToStop) => return ExitStatus::Clean,
        Err(NotStarted::Refused { status, why, by_hand }) => {
            print_by_hand(&by_hand);
            return fail(status, &why);
        }
    };
    match Service::start(&config, connected) {
        Ok(service) => Supervisor::new(&config, service, &signals, &notifier).run(),
        Err(error) => fail(ExitStatus::Bug, &format!("the threads cannot be started: {error}")),
    }
}

fn fail(status: ExitStatus, why: &str) -> ExitStatus {
    log::error!("{why}");
    status
}

/// What an operator is to create: on stdout, to be piped into a file or a command.
#[expect(clippy::print_stdout, reason = "it is what stdout is for here")]
fn print_by_hand(definitions: &[String]) {
    definitions.iter().for_each(|definition| println!("{definition}"));
}
