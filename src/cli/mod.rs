//! The command line: what was typed, what it means, which of the commands runs, and how the process ends.
//!
//! clap ends a process by itself, with status 2, at the first thing that it does not know. Here every end is a value,
//! an [`ExitStatus`], and the last line on stderr says what was wrong and what would be right.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Config, ConfigError, Typed};
use crate::daemon::{self, logging};
use crate::exit::ExitStatus;

/// The version, and the commit where whoever built it named one in `PERSON_SERVICE_COMMIT`.
static VERSION: LazyLock<String> = LazyLock::new(|| match option_env!("PERSON_SERVICE_COMMIT") {
    Some(commit) => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
    None => env!("CARGO_PKG_VERSION").to_owned(),
});

const ABOUT: &str = "Keeps persons: commands in over NATS, events into JetStream, one reply each";

const LONG_ABOUT: &str = "\
Keeps persons: commands in over NATS, events into JetStream, one reply each.

It takes commands on person.commands.>, decides them, stores what happened as events in a JetStream stream, and \
answers. Start as many as you like with the same options: NATS spreads the commands, the stream is the only truth, and \
nothing is kept on this machine's disk.";

const EXAMPLES: &str = "\
Examples:
  person-service
          With a nats-server on this machine that has JetStream on (nats-server -js)
  NATS_URL=tls://nats-1,tls://nats-2 NATS_CREDS=/etc/person.creds person-service
          On a cluster, with credentials
  person-service --nats-url nats://hub:4222 --stream-replicas 3 --log-level debug
          Flags go before variables, variables before defaults; an empty variable counts as not set";

/// What was typed, as a whole.
#[derive(Parser)]
#[command(name = "person-service", about = ABOUT, long_about = LONG_ABOUT)]
struct CommandLine {
    #[command(flatten)]
    typed: Typed,
    #[command(subcommand)]
    task: Option<Task>,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Task {
    /// Run the service (so it does without a subcommand, too)
    Run,
}

/// Why nothing is run.
enum Refused {
    /// Help or the version was asked for and is printed.
    Answered(clap::Error),
    /// clap does not know what was typed.
    Usage(clap::Error),
    /// A value is not allowed.
    Config(ConfigError),
}

/// Does what the command line says; `args` begins with the program's own name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitStatus {
    match parse(args) {
        Ok((Task::Run, config)) => serve(config),
        Err(refused) => refuse(refused),
    }
}

/// The options and subcommands, for whoever documents them.
pub fn command() -> Command {
    let command = CommandLine::command().version(VERSION.as_str()).after_long_help(after_help());
    Typed::shared(command).infer_long_args(false)
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(Task, Config), Refused> {
    let refused = |error: clap::Error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Refused::Answered(error),
        _ => Refused::Usage(error),
    };
    let matches = command().try_get_matches_from(args).map_err(refused)?;
    let mut line = CommandLine::from_arg_matches(&matches).map_err(refused)?;
    line.typed.note_origins(&matches);
    let config = Config::resolve(&line.typed).map_err(Refused::Config)?;
    Ok((line.task.unwrap_or(Task::Run), config))
}

fn serve(config: Config) -> ExitStatus {
    logging::start(config.log_level);
    daemon::run(config)
}

fn refuse(refused: Refused) -> ExitStatus {
    match refused {
        Refused::Answered(answer) => {
            // Whoever closed the pipe has read enough.
            let _ = answer.print();
            ExitStatus::Clean
        }
        Refused::Usage(error) => {
            logging::last_words(&format!("bad usage: {}", in_one_line(&error)));
            ExitStatus::Usage
        }
        Refused::Config(error) => {
            logging::last_words(&format!("bad configuration: {error}"));
            ExitStatus::BadConfiguration
        }
    }
}

/// clap's explanation and its tip, without the usage below them, which would be the last thing to be read.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    let said = said.join("; ");
    format!("{}; allowed: what 'person-service --help' lists", said.strip_prefix("error: ").unwrap_or(&said))
}

fn after_help() -> String {
    let mut text = format!("{EXAMPLES}\n\nExit status:");
    for status in ExitStatus::ALL {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {:>2}  {}", status.code(), status.meaning());
    }
    text
}
