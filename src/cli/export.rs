//! `person-service export`: all persons, or one person's complete record, as JSON lines.
//!
//! It shows one moment: what the stream held up to the message that was its last when the export began. First the stream is
//! read through, to learn who there is and where each history ends at that moment; then a few histories at a time are
//! read and folded. Some 100 bytes a person are in memory, and a few persons.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
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
use crate::engine::aggregate::{Aggregate, Broken};
use crate::engine::history::{End, Freshness, History, Reader, Sink};
use crate::engine::ports::{Page, Read, Sequence, StoredCommit, Unavailable};
use crate::exit::ExitStatus;
use crate::wire::commit;
use crate::wire::digest::Digest;

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
    reader: Reader<Fold>,
    /// Whether a commit of the person was seen at the end: a history that ends before is another one.
    is_seen: bool,
    result: Option<Result<(), Ill>>,
}

/// A person, with the events if they are wanted, up to an end.
struct Fold {
    aggregate: Box<Aggregate>,
    end: Sequence,
    with_events: bool,
    events: Vec<Value>,
}

/// Why a history was not read.
#[derive(Debug, PartialEq)]
enum Ill {
    Damaged(String),
    Unread(Unavailable),
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
        let begin = |(person, end): &(PersonId, Sequence)| Folding::begin(*person, *end, is_seen, self.history);
        let folded = reader.read_all(some.iter().map(begin).collect()).map_err(|error| unavailable(&error))?;
        let mut places: HashMap<PersonId, Folding> =
            folded.into_iter().map(|folding| (folding.reader.person, folding)).collect();
        Ok(some.iter().filter_map(|(person, _)| places.remove(person)).collect())
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

impl Sink for Fold {
    fn ground(&self) -> Option<(Sequence, Digest)> {
        self.aggregate.ground()
    }

    fn take(&mut self, stored: &StoredCommit) -> Result<ControlFlow<()>, Broken> {
        if stored.sequence > self.end {
            return Ok(ControlFlow::Break(()));
        }
        self.aggregate.fold(stored)?;
        if self.with_events
            && let Ok(commit) = commit::decode(&stored.payload)
        {
            self.events.extend(commit.events.iter().map(|record| json!(record)));
        }
        Ok(if stored.sequence == self.end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

impl Fold {
    fn begin(person: PersonId, end: Sequence, with_events: bool) -> Self {
        Self { aggregate: Box::new(Aggregate::absent(person)), end, with_events, events: Vec::new() }
    }
}

impl History for Folding {
    fn is_over(&self) -> bool {
        self.result.is_some()
    }

    fn commits_read(&self) -> usize {
        self.reader.commits_read()
    }

    fn next_read(&self, commits_max: usize) -> Read {
        self.reader.next_read(commits_max)
    }

    fn take(&mut self, page: Result<Page, Unavailable>) {
        self.reader.take(page);
        if let Some(end) = self.reader.end.take() {
            self.judge(end);
        }
    }
}

impl Folding {
    fn begin(person: PersonId, end: Sequence, is_seen: bool, with_events: bool) -> Self {
        // Where nobody has seen the end of a history, the leader has to show it.
        let freshness = if is_seen { Freshness::Reaching(end) } else { Freshness::Newest };
        let reader = Reader::on(person, Fold::begin(person, end, with_events), freshness);
        Self { reader, is_seen, result: None }
    }

    fn judge(&mut self, end: End) {
        let Fold { aggregate, end: last, with_events, .. } = &self.reader.sink;
        self.result = match end {
            // Repaired, erased, or of an older backup than what was seen.
            End::Complete | End::Short if self.is_seen && aggregate.sequence < *last => {
                Some(Err(Ill::Damaged("it changed while it was read".to_owned())))
            }
            End::Complete | End::Short => Some(Ok(())),
            // What a copy showed before is not what the leader has.
            End::Diverged(_) => {
                let again = Fold::begin(self.reader.person, *last, *with_events);
                self.reader.begin_again_by_the_leader(again);
                None
            }
            End::Broken(broken) => Some(Err(Ill::Damaged(broken.to_string()))),
            End::Unavailable(unavailable) => Some(Err(Ill::Unread(unavailable))),
        };
    }

    fn write(self, target: &mut Target) -> Result<Written, Failure> {
        match &self.result {
            Some(Err(Ill::Damaged(what))) => {
                target.line(&json!({ "damaged": { "person_id": self.reader.person, "what": what } }))?;
                return Ok(Written::Damaged);
            }
            Some(Err(Ill::Unread(error))) => return Err(unavailable(error)),
            Some(Ok(())) | None => {}
        }
        let Fold { aggregate, events, .. } = self.reader.sink;
        for event in &events {
            target.line(&json!({ "event": event }))?;
        }
        let Some(state) = &aggregate.state else { return Ok(Written::Nobody) };
        let view = PersonView::new(state, aggregate.version, None);
        target.line(&json!({ "person": view, "sequence": aggregate.sequence }))?;
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
            let mut folding = Folding::begin(person, 5, is_seen, false);
            let mut pages = 0;
            while folding.result.is_none() && pages < 3 {
                folding.take(Ok(Page::default()));
                pages += 1;
            }
            folding.result
        };
        assert_eq!(ended(true), Some(Err(Ill::Damaged("it changed while it was read".to_owned()))));
        assert_eq!(ended(false), Some(Ok(())), "nobody has seen a person who is not there");
    }
}
