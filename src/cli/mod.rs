//! The command line: what was typed, what it means, which of the commands runs, and how the process ends.
//!
//! clap ends a process by itself, with status 2, at the first thing that it does not know. Here every end is a value,
//! an [`ExitStatus`], and the last line on stderr says what was wrong and what would be right.

mod answer;
mod bench;
mod check;
mod client;
mod completions;
mod doctor;
mod export;
mod failure;
mod history;
pub mod import;
mod man;
mod output;
mod progress;
mod reading;
mod repair;
mod send;
mod show;
mod shown;
mod store;
mod usage;
mod verify;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::bench::Bench;
use crate::cli::check::Check;
use crate::cli::completions::Completions;
use crate::cli::doctor::Doctor;
use crate::cli::export::Export;
use crate::cli::failure::Failure;
use crate::cli::history::History;
use crate::cli::import::Import;
use crate::cli::man::Man;
use crate::cli::repair::Repair;
use crate::cli::send::Send;
use crate::cli::show::Show;
use crate::cli::verify::Verify;
use crate::config::{self, Config, ConfigError, Origin, StoreClient, Typed};
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
          Flags go before variables, variables before defaults; an empty variable counts as not set
  person-service show ID, person-service history ID, person-service send create --given Ada --source cli
          Talk to a running service, with the same options for the connection";

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
#[derive(Debug, Subcommand)]
enum Task {
    /// Run the service (so it does without a subcommand, too)
    Run,
    /// Show a person, now or as recorded in the past
    Show(Show),
    /// Show what happened to a person's record
    History(History),
    /// Send commands, one or many
    Send(Box<Send>),
    /// Check all that is stored
    Verify(Verify),
    /// Write all persons, or one person's complete record, as JSON lines
    Export(Export),
    /// Bring in persons of an export or a CSV file, by commands
    Import(Box<Import>),
    /// Repair a damaged history: what can be kept is kept, what is given up is written down
    Repair(Repair),
    /// Show the configuration and where each value came from, and whether the service would start with it
    Check(Check),
    /// Connect as the service would and say what is found, line by line, with a verdict each
    Doctor(Doctor),
    /// Print what a shell needs to complete the command line
    Completions(Completions),
    /// Print the manual, or write its pages into a folder
    Man(Man),
    /// Send a load of test persons, and tell how fast it is answered
    Bench(Box<Bench>),
}

/// Why nothing is run.
enum Refused {
    /// Help or the version was asked for and is printed.
    Answered(clap::Error),
    /// clap does not know what was typed, for which of the clients, if any.
    Usage(clap::Error, Option<&'static str>),
    /// A value is not allowed.
    Config(ConfigError),
}

/// Does what the command line says; `args` begins with the program's own name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitStatus {
    match parse(args) {
        Ok((Task::Run, typed)) => match Config::resolve(&typed) {
            Ok(config) => serve(config),
            Err(error) => refuse(Refused::Config(error)),
        },
        Ok((Task::Check(check), typed)) => end(check.run(&typed)),
        Ok((Task::Doctor(doctor), typed)) => end(examine(&doctor, &typed)),
        Ok((Task::Completions(completions), _)) => end(completions.run()),
        Ok((Task::Man(man), _)) => end(man.run()),
        Ok((task, typed)) => ask(&task, &typed),
        Err(refused) => refuse(refused),
    }
}

/// The options and subcommands, for whoever documents them.
pub fn command() -> Command {
    let command = CommandLine::command().version(VERSION.as_str()).after_long_help(after_help());
    for_others(for_clients(Typed::shared(command).infer_long_args(false)))
}

/// The subcommands that talk to a running service.
const CLIENTS: [&str; 8] = ["show", "history", "send", "bench", "verify", "repair", "export", "import"];

/// Those of them that read the store themselves.
const STORE_CLIENTS: [&str; 3] = ["verify", "repair", "export"];

/// What a client needs of the service's options, beside those of the connection.
const CLIENT_OPTIONS: [&str; 3] = ["subject_prefix", "command_timeout", "log_level"];

/// The options of the service on the subcommands that are clients: those that they need stand in their long help, the
/// others are taken and left alone, so that one environment does for both.
fn for_clients(command: Command) -> Command {
    let options: Vec<Arg> = command.get_arguments().filter(|arg| arg.get_env().is_some()).cloned().collect();
    let shown = |client: &str, option: Arg| {
        let needed = option.get_help_heading() == Some("Connection")
            || CLIENT_OPTIONS.contains(&option.get_id().as_str())
            || (STORE_CLIENTS.contains(&client) && option.get_id() == "stream_name");
        option.hide_short_help(needed).hide(!needed)
    };
    let add = |client: Command| {
        let name = client.get_name().to_owned();
        client.args(options.iter().cloned().map(|option| shown(&name, option)))
    };
    CLIENTS.into_iter().fold(command, |command, name| command.mut_subcommand(name, add))
}

/// The options of the service on the subcommands that are no clients of it: what looks at all of them shows them in the
/// long help, what needs none takes them and shows none.
fn for_others(command: Command) -> Command {
    let options: Vec<Arg> = command.get_arguments().filter(|arg| arg.get_env().is_some()).cloned().collect();
    let hide = |command: Command, name, all: bool| {
        let options = options.iter().cloned().map(|option| option.hide_short_help(true).hide(all));
        command.mut_subcommand(name, |other| other.args(options))
    };
    let command = ["check", "doctor"].into_iter().fold(command, |command, name| hide(command, name, false));
    ["completions", "man"].into_iter().fold(command, |command, name| hide(command, name, true))
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(Task, Typed), Refused> {
    let args: Vec<OsString> = args.into_iter().collect();
    let client = CLIENTS.into_iter().find(|name| args.iter().any(|arg| arg == name));
    let refused = |error: clap::Error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Refused::Answered(error),
        _ => Refused::Usage(error, client),
    };
    let matches = Typed::without_empty(command()).try_get_matches_from(args).map_err(refused)?;
    let mut line = CommandLine::from_arg_matches(&matches).map_err(refused)?;
    line.typed.note_origins(&matches);
    let task = line.task.unwrap_or(Task::Run);
    if let Task::Send(send) = &task {
        send.check().map_err(refused)?;
    }
    Ok((task, line.typed))
}

fn serve(config: Config) -> ExitStatus {
    if let Err(failure) = start_log(&config) {
        logging::last_words(&failure.message);
        return failure.status;
    }
    let status = daemon::run(config);
    logging::write_out_in_time();
    status
}

fn start_log(config: &Config) -> Result<(), Failure> {
    logging::start(config.log_level, config.log_format)
        .map_err(|error| Failure::new(ExitStatus::Bug, format!("the log's thread cannot be started: {error}")))
}

fn examine(doctor: &Doctor, typed: &Typed) -> Result<ExitStatus, Failure> {
    let config = Config::resolve(typed)?;
    if typed.origin("log_level") == Origin::Flag {
        start_log(&config)?;
    }
    doctor.run(&config)
}

/// Is a client. What it has to say it says itself: the log, for looking at the connection, is there at a flag only, since
/// LOG_LEVEL in the environment is meant for the service.
fn ask(task: &Task, typed: &Typed) -> ExitStatus {
    let asked = config::Client::resolve(typed).map_err(Failure::from).and_then(|client| {
        if typed.origin("log_level") == Origin::Flag {
            let config = Config::resolve(typed)?;
            start_log(&config)?;
        }
        match task {
            Task::Run | Task::Check(_) | Task::Doctor(_) | Task::Completions(_) | Task::Man(_) => {
                Err(Failure::new(ExitStatus::Bug, "this is no client of the service, which is a bug"))
            }
            Task::Show(show) => show.run(&client),
            Task::History(history) => history.run(&client),
            Task::Send(send) => send.run(&client),
            Task::Verify(verify) => verify.run(&StoreClient::resolve(typed)?),
            Task::Export(export) => export.run(&StoreClient::resolve(typed)?),
            Task::Import(import) => import.run(&client),
            Task::Repair(repair) => repair.run(&StoreClient::resolve(typed)?),
            Task::Bench(bench) => bench.run(&client),
        }
    });
    end(asked)
}

/// The status to end with; of a failure the last line says why. Whatever was logged is written before.
fn end(ended: Result<ExitStatus, Failure>) -> ExitStatus {
    logging::write_out();
    ended.unwrap_or_else(|failure| {
        logging::last_words(&failure.message);
        failure.status
    })
}

fn refuse(refused: Refused) -> ExitStatus {
    match refused {
        Refused::Answered(answer) => {
            // Whoever closed the pipe has read enough.
            let _ = answer.print();
            ExitStatus::Clean
        }
        Refused::Usage(error, client) => {
            logging::last_words_in_time(&format!("bad usage: {}", usage::in_one_line(&error, client)));
            ExitStatus::Usage
        }
        Refused::Config(error) => {
            logging::last_words_in_time(&format!("bad configuration: {error}"));
            ExitStatus::BadConfiguration
        }
    }
}

fn after_help() -> String {
    let mut text = format!("{EXAMPLES}\n\nExit status:");
    for status in ExitStatus::ALL {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {:>2}  {}", status.code(), status.meaning());
    }
    text
}
