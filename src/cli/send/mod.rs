//! `person-service send`: commands, one or many, brought to the service and told what became of them.
//!
//! ```text
//!  args, build ──► letter ◄── source (lines of a file, a thread)
//!                    │
//!                 schedule   whose turn it is: many at once, one person's in order
//!                    │
//!                 courier    sends, waits, sends again with the same id ──► report, or the one answer
//! ```

pub mod args;
mod build;
mod courier;
pub mod letter;
mod report;
mod schedule;
pub mod source;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use uuid::Uuid;

pub use args::Send;

use crate::cli::answer::{Answer, Problem};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::cli::send::args::{Headers, IN_FLIGHT_DEFAULT};
use crate::cli::send::courier::{Courier, End, Fate, Pace, Recipient, UNREADABLE};
use crate::cli::send::letter::{Letter, LetterMaker};
use crate::cli::send::report::Report;
use crate::cli::send::source::Source;
use crate::cli::shown::at;
use crate::config;
use crate::daemon::logging::last_words;
use crate::exit::ExitStatus;

/// The pause between two attempts to reach NATS for the first time.
const CONNECT_PAUSE: Duration = Duration::from_millis(500);

impl Send {
    /// What clap cannot check, since some options may stand behind a subcommand: that there is exactly one thing to send,
    /// and nothing said of many that makes sense for one.
    pub fn check(&self) -> Result<(), clap::Error> {
        let refused = |kind, what: &str| Err(crate::cli::command().error(kind, what));
        let given = self.command.is_some() || self.file.is_some() || self.lines.is_some();
        let of_one = self.headers.id.is_some() || self.headers.expected_version.is_some();
        let of_many = self.in_flight.is_some() || self.refused.is_some() || self.batch.is_some();
        match (&self.build, given) {
            (None, false) => refused(
                ErrorKind::MissingRequiredArgument,
                "there is nothing to send: give a command as JSON, --file, --lines, or one made from flags, such as create",
            ),
            (Some(_), true) => {
                refused(ErrorKind::ArgumentConflict, "either JSON or a command made from flags, not both")
            }
            _ if self.lines.is_some() && of_one => {
                refused(ErrorKind::ArgumentConflict, "--id and --expected-version are for one command, not for --lines")
            }
            _ if self.lines.is_none() && of_many => {
                refused(ErrorKind::MissingRequiredArgument, "--in-flight, --refused and --batch go with --lines")
            }
            _ => Ok(()),
        }
    }

    /// Sends what there is to send.
    pub fn run(&self, config: &config::Client) -> Result<ExitStatus, Failure> {
        match &self.lines {
            Some(path) => self.send_lines(path, config),
            None => self.send_one(config),
        }
    }

    fn send_one(&self, config: &config::Client) -> Result<ExitStatus, Failure> {
        let id = self.headers.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
        let letter = Letter::single(self.payload(&id)?, &id);
        let mut client = connect(config, self.patience)?;
        let mut one = One(None);
        let pace = Pace { in_flight: 1, patience: self.patience, stops_at_refusals: false };
        Courier::new(&mut client, &self.headers, pace).run(&mut Source::single(letter), &mut one);
        let (answer, failure) = match one.0 {
            Some(Fate::Accepted(answer)) => (Some(answer), None),
            Some(Fate::Rejected(problem, answer)) => {
                (answer, Some(Failure::new(ExitStatus::Refused, format!("refused: {problem}"))))
            }
            Some(Fate::Failed(problem, answer)) => (answer, Some(failed(&problem, &id))),
            None => return Err(Failure::new(ExitStatus::Bug, "nothing became of the command, which is a bug")),
        };
        let mut out = Out::new();
        match &answer {
            Some(answer) if self.json => out.json(&answer.json),
            Some(answer) if failure.is_none() => out.line(accepted(answer)),
            _ => {}
        }
        out.finish()?;
        failure.map_or(Ok(ExitStatus::Clean), Err)
    }

    /// What the one letter holds. A new person's id follows from the command's, so that sending it again with the same
    /// one means the same person.
    fn payload(&self, id: &str) -> Result<Vec<u8>, Failure> {
        let new_person = || letter::new_person(id);
        match (&self.build, &self.file, self.command.as_deref()) {
            (Some(build), _, _) => Ok(serde_json::to_vec(&build.command(new_person)).unwrap_or_default()),
            (None, Some(path), _) => source::read_whole(path),
            (None, None, Some("-")) => source::read_whole(Path::new("-")),
            (None, None, command) => Ok(command.unwrap_or_default().as_bytes().to_vec()),
        }
    }

    fn send_lines(&self, path: &Path, config: &config::Client) -> Result<ExitStatus, Failure> {
        let source = Source::lines(path, LetterMaker::new(self.batch.as_deref().unwrap_or_default()))?;
        deliver(
            source,
            config,
            &Delivery {
                headers: &self.headers,
                in_flight: self.in_flight.unwrap_or(IN_FLIGHT_DEFAULT),
                patience: self.patience,
                stops_at_refusals: false,
                json: self.json,
                refused: self.refused.as_deref(),
                input: self.lines.as_ref(),
            },
        )
    }
}

/// How many letters are delivered.
pub struct Delivery<'a> {
    /// What goes along with each.
    pub headers: &'a Headers,
    /// How many may be under way at the same time.
    pub in_flight: u64,
    /// How long each is tried.
    pub patience: Duration,
    /// Whether those behind a refused one about the same person are left out.
    pub stops_at_refusals: bool,
    /// Whether the replies go to stdout.
    pub json: bool,
    /// Where to write those that were refused.
    pub refused: Option<&'a Path>,
    /// The file that they come from, which is not to be written over.
    pub input: Option<&'a PathBuf>,
}

/// Delivers all letters of a source and reports what became of them.
pub fn deliver(mut source: Source, config: &config::Client, how: &Delivery<'_>) -> Result<ExitStatus, Failure> {
    let refused = how.refused.map(|refused| source::create_private(refused, how.input)).transpose()?;
    let mut client = connect(config, how.patience)?;
    let mut out = Out::new();
    let mut report = Report::new(&mut out, how.json, refused, source.bytes);
    let pace = Pace {
        in_flight: usize::try_from(how.in_flight).unwrap_or(1),
        patience: how.patience,
        stops_at_refusals: how.stops_at_refusals,
    };
    let end = Courier::new(&mut client, how.headers, pace).run(&mut source, &mut report);
    let status = report.finish();
    let unread = if source.has_ended() { "" } else { ", with the rest of the input unread" };
    out.finish()?;
    match end {
        End::Complete => Ok(status),
        End::GaveUp(problem) => {
            Err(Failure::new(ExitStatus::Unavailable, format!("gave up{unread}: {problem}; then send the same again")))
        }
        End::Unreadable(error) => {
            Err(Failure::new(ExitStatus::BadConfiguration, format!("the input could not be read on: {error}")))
        }
    }
}

/// Connects, and tries again where NATS is away, within patience.
fn connect(config: &config::Client, patience: Duration) -> Result<Client, Failure> {
    let deadline = Instant::now() + patience;
    let mut told = false;
    loop {
        match Client::open(config, "send") {
            Err(failure) if failure.status == ExitStatus::Unavailable && Instant::now() < deadline => {
                if !std::mem::replace(&mut told, true) {
                    last_words(&format!("{failure}; trying again for {patience:?} (--patience)"));
                }
                let rest = deadline.saturating_duration_since(Instant::now());
                std::thread::sleep(CONNECT_PAUSE.min(rest));
            }
            opened => return opened,
        }
    }
}

/// The fate of the only letter.
struct One(Option<Fate>);

impl Recipient for One {
    fn settled(&mut self, _: Letter, fate: Fate) {
        self.0 = Some(fate);
    }

    fn waiting(&mut self, _: usize) {}
}

/// What was accepted, for people.
fn accepted(answer: &Answer) -> String {
    let events: Vec<&str> =
        at(&answer.value, "events").as_array().into_iter().flatten().filter_map(|e| e.as_str()).collect();
    let what = match (at(&answer.value, "duplicate") == true, events.is_empty()) {
        (true, _) => format!("accepted before ({})", events.join(", ")),
        (false, true) => "accepted, nothing to change".to_owned(),
        (false, false) => format!("accepted ({})", events.join(", ")),
    };
    let version = answer.number("version").unwrap_or_default();
    format!(
        "{what}: person {} at version {version}, command {}",
        answer.text("aggregate_id"),
        answer.text("command_id")
    )
}

/// Why the only command was not carried out, as far as one knows, and what to do.
fn failed(problem: &Problem, id: &str) -> Failure {
    match problem.code.as_str() {
        _ if problem.retryable => Failure::new(
            ExitStatus::Unavailable,
            format!("not known to be carried out: {problem}; send the same again with --id {id}"),
        ),
        UNREADABLE => Failure::new(ExitStatus::Bug, problem.to_string()),
        _ => Failure::new(ExitStatus::Refused, format!("not carried out: {problem}")),
    }
}
