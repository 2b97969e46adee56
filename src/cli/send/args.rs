//! What `send` is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{ArgGroup, Args};
use jiff::SignedDuration;

use crate::cli::send::build::Build;
use crate::wire::request::{COMMAND_ID_CHARS_MAX, HEADER_CHARS_MAX};

const EXAMPLES: &str = "\
Examples:
  person-service send create --given Ada --family Lovelace --source cli
          A command made from flags; the answer names the new person
  person-service send rename 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30 --given Ada --family King --reason marriage
          'person-service send --help' lists the commands that can be made so
  person-service send '{\"SetBirthDate\":{\"person_id\":\"0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30\",\"birth_date\":\"1815-12-10\"}}'
          A command as JSON; '-' and --file read one from stdin or a file
  person-service send --lines people.jsonl --refused refused.jsonl
          Many: on each line a command, or an array of commands for one person. Send the same file again whenever you \
like: what was carried out is recognised and not done twice

Exit status: 0 where all was accepted; 1 where something was refused; 69 where something could not be carried out in \
--patience, or NATS is away, or no service answers (send the same again); 'person-service --help' lists all.";

/// The commands that may be under way at the same time, unless it is said.
pub const IN_FLIGHT_DEFAULT: u64 = 64;
/// The most that may be under way.
pub const IN_FLIGHT_MAX: u64 = 4096;
/// The longest patience.
const PATIENCE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What `send` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, subcommand_value_name = "MADE FROM FLAGS", subcommand_help_heading = "Commands made from flags")]
#[command(group = ArgGroup::new("given").args(["command", "file", "lines"]))]
pub struct Send {
    /// A command, or an array of commands for one person, as JSON; - reads it from stdin
    #[arg(value_name = "JSON")]
    pub command: Option<String>,

    /// Read the command or array from a file; - is stdin
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Read many, on each line a command or an array; - is stdin
    ///
    /// Commands for one person are carried out in the order of the lines, each after the answer to the one before.
    /// Those for different persons are not in any order. Empty lines are left out.
    #[arg(long, value_name = "FILE")]
    pub lines: Option<PathBuf>,

    /// What goes along with each command.
    #[command(flatten)]
    pub headers: Headers,

    /// How many commands of --lines may be under way at the same time [default: 64]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..=IN_FLIGHT_MAX))]
    pub in_flight: Option<u64>,

    /// Where to write the lines that were refused or failed, as JSON lines with the reason; it is written anew
    #[arg(long, value_name = "FILE")]
    pub refused: Option<PathBuf>,

    /// A name that goes into the command ids of --lines: the same lines under another name are done once more
    ///
    /// The id of a line is made from this name and what the line says (and, for a line that says the same as an earlier
    /// one, how many did so), so that sending a file again repeats nothing, also after lines were added or mended.
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,

    /// How long to try again where nobody answers or the service cannot do it now
    #[arg(long, value_name = "DURATION", global = true, default_value = "60s", value_parser = patience)]
    pub patience: Duration,

    /// Print the replies' JSON, one a line
    #[arg(long, global = true)]
    pub json: bool,

    /// A command made from flags.
    #[command(subcommand)]
    pub build: Option<Build>,
}

/// What goes along with a command.
#[derive(Debug, Args)]
pub struct Headers {
    /// The command's id: sending it again with the same id does nothing twice [default: a new UUIDv7]
    #[arg(long, value_name = "ID", global = true, value_parser = command_id)]
    pub id: Option<String>,

    /// Refuse the command unless the person is at exactly this version; 0 means that it must not exist
    #[arg(long, value_name = "N", global = true)]
    pub expected_version: Option<u64>,

    /// Who acts, as the history is to say
    #[arg(long, value_name = "NAME", global = true, value_parser = header_text)]
    pub actor: Option<String>,

    /// Ties the command to what it belongs to [default: the command's id]
    #[arg(long, value_name = "ID", global = true, value_parser = header_text)]
    pub correlation_id: Option<String>,
}

impl Headers {
    /// The headers of a command with this id, as they go over the wire.
    pub fn of<'a>(&'a self, id: &'a str, version: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
        let optional = [
            ("Nats-Msg-Id", Some(id)),
            ("Expected-Version", version),
            ("Actor", self.actor.as_deref()),
            ("Correlation-Id", self.correlation_id.as_deref()),
        ];
        optional.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

fn command_id(text: &str) -> Result<String, String> {
    let fits = (1..=COMMAND_ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("1 to {COMMAND_ID_CHARS_MAX} visible ASCII characters are allowed"))
}

/// A text as a header may hold it.
pub fn header_text(text: &str) -> Result<String, String> {
    let fits = (1..=HEADER_CHARS_MAX).contains(&text.chars().count()) && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("1 to {HEADER_CHARS_MAX} characters without control characters are allowed"))
}

/// A patience, as it is typed.
pub fn patience(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed
        .filter(|duration| *duration <= PATIENCE_MAX)
        .ok_or_else(|| "a duration with its unit up to 24h is allowed, such as 10s or 5m; 0s tries once".to_owned())
}
