//! `person-service import`: persons of an export, or of a CSV file, brought in by commands like everybody's.
//!
//! ```text
//!  exported | table ──► sink ──► letters (ids from what they say) ──► the courier of `send`
//! ```

mod exported;
mod table;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::failure::Failure;
pub use crate::cli::import::table::{Mapping, Table};
use crate::cli::send::args::{Headers, IN_FLIGHT_DEFAULT, IN_FLIGHT_MAX, header_text, patience};
use crate::cli::send::letter::{Letter, LetterMaker};
use crate::cli::send::source::Source;
use crate::cli::send::{Delivery, deliver};
use crate::config;
use crate::exit::ExitStatus;

const EXAMPLES: &str = "\
Examples:
  person-service import persons.jsonl --refused refused.jsonl
          The persons of an export; the same again does nothing twice
  person-service import people.csv --source crm --key customer_no \\
      --map given_names=first_name --map family_names=last_name --map birth_date=born --map Physical.Height=height_m
          The rows of a table; each person's id is made of --source and the key, so that it is the same every time

Exit status: 0 where all was accepted; 1 where something was refused; 69 where something could not be carried out in \
--patience (send the same again); 'person-service --help' lists all.";

/// Commands in an array, and bytes of one.
const ARRAY_COMMANDS_MAX: usize = 100;
const ARRAY_BYTES_MAX: usize = 200 * 1024;

/// What is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// What `person-service export` wrote
    Export,
    /// A table with a line of headings
    Csv,
}

/// What `import` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Import {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// What is in it [default: csv for a name that ends in .csv, else export]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,

    /// Where the records come from; with a key, part of what persons' ids are made of
    #[arg(long, value_name = "TEXT", default_value = "import", value_parser = header_text)]
    source: String,

    /// Of a table: what is in a column, such as given_names=first_name or Physical.Height=height; once for each
    #[arg(long, value_name = "FIELD=COLUMN")]
    map: Vec<Mapping>,

    /// Of a table: the column from which persons' ids are made, where none holds UUIDs (person_id=COLUMN)
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,

    /// Of a table: the character between columns
    #[arg(long, value_name = "CHARACTER", default_value_t = ',', value_parser = delimiter)]
    delimiter: char,

    /// Where to write what was refused or failed, as JSON lines with the reason; it is written anew
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,

    /// Who acts, as the history is to say
    #[arg(long, value_name = "NAME", value_parser = header_text)]
    actor: Option<String>,

    /// How many commands may be under way at the same time
    #[arg(long, value_name = "N", default_value_t = IN_FLIGHT_DEFAULT, value_parser = RangedU64ValueParser::<u64>::new().range(1..=IN_FLIGHT_MAX))]
    in_flight: u64,

    /// How long to try again where nobody answers or the service cannot do it now
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = patience)]
    patience: Duration,

    /// Print the replies' JSON, one a line
    #[arg(long)]
    json: bool,
}

fn delimiter(text: &str) -> Result<char, String> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(one), None) if one.is_ascii() && !one.is_ascii_alphanumeric() => Ok(one),
        _ => Err("one ASCII character that is no letter or digit is allowed".to_owned()),
    }
}

impl Import {
    /// Brings them in.
    pub fn run(&self, config: &config::Client) -> Result<ExitStatus, Failure> {
        let is_csv = self.file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        let format = self.format.unwrap_or(if is_csv { Format::Csv } else { Format::Export });
        let length = std::fs::metadata(&self.file).map_err(|error| {
            Failure::new(ExitStatus::BadConfiguration, format!("{} cannot be read: {error}", self.file.display()))
        })?;
        let path = self.file.clone();
        let persons = match format {
            Format::Export => Persons::Exported { source: self.source.clone() },
            Format::Csv => Persons::Rows(Table {
                mappings: self.map.clone(),
                key: self.key.clone(),
                source: self.source.clone(),
                delimiter: u8::try_from(self.delimiter).unwrap_or(b','),
            }),
        };
        let letters = Source::spawn(Some(length.len()), move |given| {
            persons.read(|| File::open(&path), &mut |letter| given.give(letter))
        })?;
        let headers = Headers { id: None, expected_version: None, actor: self.actor.clone(), correlation_id: None };
        deliver(
            letters,
            config,
            &Delivery {
                headers: &headers,
                in_flight: self.in_flight,
                patience: self.patience,
                stops_at_refusals: true,
                json: self.json,
                refused: self.refused.as_deref(),
                input: Some(&self.file),
            },
        )
    }
}

/// Persons in a file, and how they stand there.
#[derive(Debug)]
pub enum Persons {
    /// As `person-service export` writes them.
    Exported {
        /// Where the records come from.
        source: String,
    },
    /// As rows of a table.
    Rows(Table),
}

impl Persons {
    /// Makes letters of them, in order, until one is not taken. The file is opened as often as it has to be read.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not what it should be: which line or column is wrong, and nothing that stands there.
    pub fn read<R: Read>(
        &self,
        open: impl Fn() -> io::Result<R>,
        give: &mut dyn FnMut(Letter) -> bool,
    ) -> io::Result<()> {
        let mut sink = Sink { give, maker: LetterMaker::new(BATCH), number: 0 };
        match self {
            Self::Exported { source } => exported::read(open, source, &mut sink),
            Self::Rows(table) => table.read(open()?, &mut sink),
        }
    }
}

/// Keeps the ids of imports apart from those of `send --lines`.
const BATCH: &str = "import";

/// Takes commands and makes letters of them.
struct Sink<'a> {
    give: &'a mut dyn FnMut(Letter) -> bool,
    maker: LetterMaker,
    number: u64,
}

impl Sink<'_> {
    /// A new person, in as many arrays as it takes: the first makes the person, so that it is refused as a whole where the
    /// person exists; the others insist on the version that those before have led to. False when nobody listens any more.
    fn person(&mut self, line: u64, bytes: u64, commands: Vec<Value>) -> bool {
        let mut version = None;
        let mut input_bytes = bytes;
        for array in arrays(commands) {
            let events = u64::try_from(array.len()).unwrap_or(0);
            if !self.letter(line, input_bytes, array, version) {
                return false;
            }
            input_bytes = 0;
            version = Some(version.unwrap_or(0) + events);
        }
        true
    }

    /// What comes later for a person who was made before: it insists on the version that this has led to, so that a
    /// person who was there already is left alone.
    fn later(&mut self, line: u64, version: u64, commands: Vec<Value>) -> bool {
        self.letter(line, 0, commands, Some(version))
    }

    fn letter(&mut self, line: u64, input_bytes: u64, commands: Vec<Value>, version: Option<u64>) -> bool {
        self.number += 1;
        let letter = self.maker.letter(self.number, Value::Array(commands).to_string().into_bytes());
        (self.give)(Letter { origin: line, input_bytes, expected_version: version, ..letter })
    }
}

/// The commands in arrays that the service takes.
fn arrays(commands: Vec<Value>) -> Vec<Vec<Value>> {
    let (mut arrays, mut bytes) = (vec![Vec::new()], 0);
    for command in commands {
        let length = command.to_string().len() + 1;
        let last_len = arrays.last().map_or(0, Vec::len);
        if last_len >= ARRAY_COMMANDS_MAX || (last_len > 0 && bytes + length > ARRAY_BYTES_MAX) {
            arrays.push(Vec::new());
            bytes = 0;
        }
        bytes += length;
        if let Some(array) = arrays.last_mut() {
            array.push(command);
        }
    }
    arrays
}
