//! `person-service export`: all persons, or one person's complete record, as JSON lines.
//!
//! It shows one moment: what the stream held up to the message that was its last when the export began. First the stream is
//! read through, to learn who there is and where each history ends at that moment; then a few histories at a time are
//! read and folded. Some 100 bytes a person are in memory, and a few persons.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::output::{Out, beside, counted, grouped, private};
use crate::cli::progress::Progress;
use crate::cli::reading::Reading;
use crate::cli::store::{StoreReader, unavailable};
use crate::config::StoreClient;
use crate::daemon::logging::last_words;
use crate::domain::{PersonId, PersonView, Timestamp};
use crate::engine::aggregate::Aggregate;
use crate::engine::ports::{Consistency, EventLog, Page, Read, Sequence, Start};
use crate::exit::ExitStatus;
use crate::wire::commit;

const EXAMPLES: &str = "\
Examples:
  person-service export --out persons.jsonl
          All persons as they are now, one a line
  person-service export --history --out all.jsonl
          With all events, those of a person before the person
  person-service export --person 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30 --history
          One person's complete record

Exit status: 0, or 1 where there is no such person or a damaged history had to be left out; \
'person-service --help' lists all.";

/// The release of the form in which it is written.
pub const FORMAT: u64 = 1;
/// Persons whose histories are read at the same time; each takes up to a page of memory, and the state.
const AT_ONCE: usize = 32;

/// What `export` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Export {
    /// This person alone
    #[arg(long, value_name = "ID")]
    person: Option<PersonId>,

    /// All events too, with their provenance
    #[arg(long)]
    history: bool,

    /// Write to this file, which appears when it is complete [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Replace the file if there is one
    #[arg(long, requires = "out")]
    force: bool,
}

/// Who there is, in the order of the stream, and where each history ends.
#[derive(Default)]
struct Persons {
    ends: Vec<(PersonId, Sequence)>,
    places: HashMap<PersonId, usize>,
}

/// A history that is being folded.
struct Folding {
    aggregate: Aggregate,
    end: Sequence,
    /// Whether a commit of the person was seen at the end: a history that ends before is another one.
    is_seen: bool,
    consistency: Consistency,
    events: Vec<Value>,
    result: Option<Result<(), String>>,
}

/// Where the lines go.
enum Target {
    Stdout(Out),
    File { writer: BufWriter<File>, beside: PathBuf, path: PathBuf },
}

impl Export {
    /// Writes it.
    pub fn run(&self, config: &StoreClient) -> Result<ExitStatus, Failure> {
        let mut target = self.target()?;
        let mut reader = StoreReader::open(config, "export")?;
        let (scan, extent) = reader.scan()?;
        target.line(&json!({ "export": {
            "format": FORMAT, "stream": reader.layout.stream(), "sequence": extent.last, "time": Timestamp::now(),
            "history": self.history,
        } }))?;
        let persons = match self.person {
            Some(person) => vec![(person, extent.last)],
            None => Persons::read(&reader, scan, extent.first, extent.last)?.ends,
        };
        let (mut written, mut damaged) = (0_u64, 0_u64);
        let progress = Progress::new("persons", 1, u64::try_from(persons.len()).unwrap_or(u64::MAX));
        for some in persons.chunks(if self.history { 1 } else { AT_ONCE }) {
            for folding in self.fold(&mut reader, some)? {
                match folding.write(&mut target)? {
                    Written::Person => written += 1,
                    Written::Damaged => damaged += 1,
                    Written::Nobody => {}
                }
            }
            progress.reached(written + damaged + 1, "");
        }
        progress.finish();
        target.line(&json!({ "end": { "persons": written, "damaged": damaged } }))?;
        target.finish()?;
        if self.person.is_some() && written + damaged == 0 {
            return Err(Failure::new(ExitStatus::Refused, "there is no such person"));
        }
        if damaged > 0 {
            let left_out = match damaged {
                1 => "the history of 1 person is damaged and was left out".to_owned(),
                count => format!("the histories of {} persons are damaged and were left out", grouped(count)),
            };
            let message = format!("{left_out}: person-service verify tells of each");
            return Err(Failure::new(ExitStatus::Refused, message));
        }
        if self.out.is_some() {
            last_words(&format!("{}, as of stream sequence {}", counted(written, "person", "persons"), extent.last));
        }
        Ok(ExitStatus::Clean)
    }

    fn target(&self) -> Result<Target, Failure> {
        let Some(path) = &self.out else { return Ok(Target::Stdout(Out::new())) };
        if path.exists() && !self.force {
            let message = format!("--out {}: there is such a file; --force replaces it", path.display());
            return Err(Failure::new(ExitStatus::BadConfiguration, message));
        }
        let beside = beside(path);
        let file = private(&beside).map_err(|error| unwritable(path, &error))?;
        Ok(Target::File { writer: BufWriter::new(file), beside, path: path.clone() })
    }

    /// Reads these histories to their ends.
    fn fold(&self, reader: &mut StoreReader, some: &[(PersonId, Sequence)]) -> Result<Vec<Folding>, Failure> {
        let is_seen = self.person.is_none();
        let begin = |(person, end): &(PersonId, Sequence)| Folding::begin(*person, *end, is_seen);
        let mut foldings: Vec<Folding> = some.iter().map(begin).collect();
        loop {
            let mut open: Vec<&mut Folding> = foldings.iter_mut().filter(|folding| folding.result.is_none()).collect();
            if open.is_empty() {
                return Ok(foldings);
            }
            let reads: Vec<Read> = open.iter().map(|folding| folding.next_read()).collect();
            let pages = reader.log.read(&reads);
            for (folding, page) in open.iter_mut().zip(pages) {
                folding.take(&page.map_err(|error| unavailable(&error))?, self.history);
            }
        }
    }
}

impl Persons {
    fn read(reader: &StoreReader, scan: crate::nats::Scan, from: Sequence, to: Sequence) -> Result<Self, Failure> {
        let mut persons = Self::default();
        let progress = Progress::new("commits", from, to);
        for messages in Reading::start(scan, from, to)?.batches() {
            let messages = messages.map_err(|error| unavailable(&error))?;
            for message in &messages {
                if let Some(person) = reader.layout.person_of_event(&message.subject) {
                    persons.note(person, message.sequence);
                }
            }
            progress.reached(messages.last().map_or(to, |message| message.sequence) + 1, "");
        }
        progress.finish();
        Ok(persons)
    }

    fn note(&mut self, person: PersonId, sequence: Sequence) {
        let place = *self.places.entry(person).or_insert(self.ends.len());
        match self.ends.get_mut(place) {
            Some((_, end)) => *end = sequence,
            None => self.ends.push((person, sequence)),
        }
    }
}

/// What became of a person.
enum Written {
    Person,
    Damaged,
    /// There is no such person.
    Nobody,
}

impl Folding {
    fn begin(person: PersonId, end: Sequence, is_seen: bool) -> Self {
        // Where nobody has seen the end of a history, the leader has to show it.
        let consistency = if is_seen { Consistency::Any } else { Consistency::Leader };
        Self { aggregate: Aggregate::absent(person), end, is_seen, consistency, events: Vec::new(), result: None }
    }

    fn next_read(&self) -> Read {
        let start = Start::Sequence(self.aggregate.sequence + 1);
        Read { person: self.aggregate.person, start, consistency: self.consistency, newest: None }
    }

    fn take(&mut self, page: &Page, with_events: bool) {
        for stored in page.commits.iter().take_while(|stored| stored.sequence <= self.end) {
            if let Err(broken) = self.aggregate.fold(stored) {
                if self.consistency == Consistency::Any {
                    let again = Self::begin(self.aggregate.person, self.end, self.is_seen);
                    *self = Self { consistency: Consistency::Leader, ..again };
                } else {
                    self.result = Some(Err(broken.to_string()));
                }
                return;
            }
            if with_events && let Ok(commit) = commit::decode(&stored.payload) {
                self.events.extend(commit.events.iter().map(|record| json!(record)));
            }
        }
        let past = page.commits.last().is_some_and(|stored| stored.sequence >= self.end);
        if !past && page.more && !page.commits.is_empty() {
            return;
        }
        match self.consistency {
            // A copy that lags has less than was seen.
            Consistency::Any if self.aggregate.sequence < self.end => self.consistency = Consistency::Leader,
            // Repaired, erased, or of an older backup than what was seen.
            Consistency::Leader if self.is_seen && self.aggregate.sequence < self.end => {
                self.result = Some(Err("it changed while it was read".to_owned()));
            }
            _ => self.result = Some(Ok(())),
        }
    }

    fn write(self, target: &mut Target) -> Result<Written, Failure> {
        let person = self.aggregate.person;
        if let Some(Err(what)) = &self.result {
            target.line(&json!({ "damaged": { "person_id": person, "what": what } }))?;
            return Ok(Written::Damaged);
        }
        for event in &self.events {
            target.line(&json!({ "event": event }))?;
        }
        let Some(state) = &self.aggregate.state else { return Ok(Written::Nobody) };
        let view = PersonView::new(state, self.aggregate.version, None);
        target.line(&json!({ "person": view, "sequence": self.aggregate.sequence }))?;
        Ok(Written::Person)
    }
}

impl Target {
    fn line(&mut self, value: &Value) -> Result<(), Failure> {
        match self {
            Self::Stdout(out) => {
                out.json(value.to_string().as_bytes());
                Ok(())
            }
            Self::File { writer, path, .. } => writeln!(writer, "{value}").map_err(|error| unwritable(path, &error)),
        }
    }

    /// The file appears under its name when all of it is on disk.
    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout(out) => out.finish(),
            Self::File { writer, beside, path } => {
                let finish = || -> io::Result<()> {
                    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
                    file.sync_all()?;
                    std::fs::rename(&beside, &path)
                };
                finish().map_err(|error| unwritable(&path, &error))
            }
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(ExitStatus::BadConfiguration, format!("--out {} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was left out without a word, or written as it was before its newest commits.
    #[test]
    fn a_history_that_ends_before_what_was_seen_is_told() {
        let person = PersonId::from_uuid(uuid::Uuid::from_u128(7));
        let ended = |is_seen: bool| {
            let mut folding = Folding::begin(person, 5, is_seen);
            let mut pages = 0;
            while folding.result.is_none() && pages < 3 {
                folding.take(&Page::default(), false);
                pages += 1;
            }
            folding.result
        };
        assert_eq!(ended(true), Some(Err("it changed while it was read".to_owned())));
        assert_eq!(ended(false), Some(Ok(())), "nobody has seen a person who is not there");
    }
}
