//! `person-service verify`: reads all that is stored and says what is wrong with it, person by person.
//!
//! ```text
//!  stream ──► reading ──► ledger        every commit: decodes, is the next of its person, was possible
//!             (a thread)    │
//!                           ▼
//!             suspects, read again from the leader ──► findings ◄── merges: circles, targets that are missing
//!  bucket ──► snapshots, each against its log ──────────►
//! ```

mod finding;
mod ledger;
mod merges;
pub mod person;
mod saved;
mod snapshots;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use clap::Args;
use serde_json::json;

use crate::cli::failure::Failure;
use crate::cli::output::{Out, counted};
use crate::cli::progress::Progress;
use crate::cli::reading::Reading;
use crate::cli::store::{StoreReader, unavailable};
use crate::cli::verify::finding::{Finding, Findings, Kind, Severity};
use crate::cli::verify::ledger::{Ledger, Part};
use crate::cli::verify::saved::Place;
use crate::config::StoreClient;
use crate::domain::PersonId;
use crate::engine::ports::EventLog;
use crate::exit::ExitStatus;
use crate::nats::{Extent, Scan};

const EXAMPLES: &str = "\
Examples:
  person-service verify
          Every commit and every snapshot; the findings, the worst first, and a summary
  person-service verify --state /var/lib/person-verify/state
          Goes on after an interruption, and next time reads only what is new; delete the file to read all again
  person-service verify --person 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30
          One person alone

Exit status: 0 where nothing is damaged, 1 where something is or was written by a newer release, 69 where the store could \
not be read to its end; 'person-service --help' lists all.";

/// How often what was done is written to the file of --state.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// The least memory for the table of persons.
const MEMORY_MIN: ByteSize = ByteSize::mib(1);

/// What `verify` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Verify {
    /// Check this person alone
    #[arg(long, value_name = "ID", conflicts_with_all = ["state", "memory"])]
    person: Option<PersonId>,

    /// Memory for what is kept of each person while the stream is read; reading itself takes some 50 MiB more
    ///
    /// 256MiB are enough for 1,700,000 persons. Where there are more, the stream is read several times, each time for a
    /// part of them.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = memory)]
    memory: ByteSize,

    /// Keep in this file how far it came, to go on from there after an interruption, and next time with what is new
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Leave out the snapshots
    #[arg(long)]
    no_snapshots: bool,

    /// Print each finding and the summary as JSON, one a line
    #[arg(long)]
    json: bool,
}

fn memory(text: &str) -> Result<ByteSize, String> {
    let parsed = text.parse::<ByteSize>().ok().filter(|size| *size >= MEMORY_MIN);
    parsed.ok_or_else(|| format!("a size from {MEMORY_MIN} on is allowed, such as 256MiB"))
}

/// A check under way.
struct Check<'a> {
    told: &'a Verify,
    reader: StoreReader,
    ledger: Ledger,
    findings: Findings,
    place: Place,
    stop: Arc<AtomicBool>,
    saved_at: Instant,
}

/// What was looked at, for the summary.
struct Looked {
    commits: u64,
    events: u64,
    persons: u64,
    snapshots: u64,
    sequence: Option<u64>,
}

impl Verify {
    /// Checks all, or one person.
    pub fn run(&self, config: &StoreClient) -> Result<ExitStatus, Failure> {
        let began = Instant::now();
        let mut reader = StoreReader::open(config, "verify")?;
        if let Some(person) = self.person {
            let mut findings = Findings::default();
            let [commits, events, snapshots] = person::check(&mut reader, person, !self.no_snapshots, &mut findings)?;
            if commits == 0 && findings.is_empty() {
                return Err(Failure::new(ExitStatus::Refused, "there is no such person"));
            }
            let looked = Looked { commits, events, persons: 1, snapshots, sequence: None };
            return self.report(findings, &looked, began);
        }
        let (scan, extent) = reader.scan()?;
        let mut check = Check::begin(self, reader, extent)?;
        let persons = check.histories(scan)?;
        check.merges()?;
        let snapshots = if self.no_snapshots { 0 } else { check.snapshots()? };
        let Check { ledger, findings, place, .. } = check;
        let (commits, events) = (ledger.commits, ledger.events);
        self.report(findings, &Looked { commits, events, persons, snapshots, sequence: Some(place.end) }, began)
    }

    fn report(&self, mut findings: Findings, looked: &Looked, began: Instant) -> Result<ExitStatus, Failure> {
        let mut out = Out::new();
        findings.list(&mut out, self.json);
        let seconds = began.elapsed().as_secs_f64();
        if self.json {
            let summary = json!({ "summary": {
                "persons": looked.persons, "commits": looked.commits, "events": looked.events,
                "snapshots": looked.snapshots, "sequence": looked.sequence, "seconds": seconds,
                "findings": findings.counts(), "unlisted": findings.unlisted(),
            } });
            out.json(summary.to_string().as_bytes());
        } else {
            out.line(format!(
                "{}, {}, {}, {} in {seconds:.1} s: {}",
                counted(looked.persons, "person", "persons"),
                counted(looked.commits, "commit", "commits"),
                counted(looked.events, "event", "events"),
                counted(looked.snapshots, "snapshot", "snapshots"),
                findings.summary()
            ));
        }
        out.finish()?;
        let bad = findings.count(Severity::Damage) + findings.count(Severity::Unchecked);
        Ok(if bad == 0 { ExitStatus::Clean } else { ExitStatus::Refused })
    }
}

impl<'a> Check<'a> {
    /// From the beginning, or from where the file says.
    fn begin(told: &'a Verify, reader: StoreReader, extent: Extent) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let stream = (reader.layout.stream().to_owned(), extent.created.clone());
        let parts = Part::count(extent.subjects, told.memory.as_u64());
        let fresh = Place {
            stream: stream.clone(),
            part: Part { number: 0, of: parts },
            next: extent.first,
            end: extent.last,
            is_complete: false,
        };
        let mut check = Self {
            told,
            reader,
            ledger: Ledger::default(),
            findings: Findings::default(),
            place: fresh,
            stop,
            saved_at: Instant::now(),
        };
        if let Some(path) = &told.state {
            for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
                // Without it the process ends at the signal, and goes on from an earlier place next time.
                let _ = signal_hook::flag::register(signal, Arc::clone(&check.stop));
            }
            if let Some((place, ledger, findings)) = saved::load(path)? {
                check.go_on(place, ledger, findings, extent.last)?;
            }
        }
        check.ledger.reserve(extent.subjects / u64::try_from(check.place.part.of).unwrap_or(1));
        Ok(check)
    }

    fn go_on(&mut self, place: Place, ledger: Ledger, findings: Findings, last: u64) -> Result<(), Failure> {
        let Some(path) = &self.told.state else { return Ok(()) };
        if place.stream != self.place.stream {
            return Err(saved::unusable(path, "it is of another stream, or of one that was made anew since"));
        }
        if place.next > last + 1 {
            return Err(saved::unusable(path, "the stream ends before the place up to which it was checked"));
        }
        // A part that is complete says nothing of the others: with several, the next check begins anew.
        if place.is_complete && place.part.of > 1 {
            return Ok(());
        }
        let end = if place.is_complete { last } else { place.end };
        (self.ledger, self.findings) = (ledger, findings);
        if place.is_complete {
            // That was told, and is no more.
            self.findings.forget(|finding| finding.kind == Kind::CopyDiffers);
        }
        self.place = Place { end, is_complete: false, ..place };
        Ok(())
    }

    /// Reads the stream, once for each part of the persons. How many persons there are.
    fn histories(&mut self, scan: Scan) -> Result<u64, Failure> {
        let mut scan = Some(scan);
        loop {
            self.part(scan.take())?;
            self.reread_suspects()?;
            let Part { number, of } = self.place.part;
            if number + 1 >= of {
                self.place.is_complete = true;
                self.save()?;
                return Ok(self.ledger.persons_before + self.ledger.len());
            }
            self.place.part.number += 1;
            self.place.next = 1;
            self.ledger.next_part();
        }
    }

    fn part(&mut self, scan: Option<Scan>) -> Result<(), Failure> {
        let (scan, _) = scan.map_or_else(|| self.reader.scan(), |scan| Ok((scan, Extent::default())))?;
        let Part { number, of } = self.place.part;
        let title = if of > 1 { format!("part {} of {of}", number + 1) } else { "commits".to_owned() };
        let progress = Progress::new(&title, self.place.next, self.place.end);
        let reading = Reading::start(scan, self.place.next, self.place.end)?;
        for messages in reading.batches() {
            let messages = messages.map_err(|error| unavailable(&error))?;
            for message in messages {
                self.place.next = message.sequence + 1;
                match self.reader.layout.person_of_event(&message.subject) {
                    Some(person) => self.ledger.take(person, message, self.place.part, &mut self.findings),
                    None if self.reader.layout.is_identifier(&message.subject) => {}
                    None if number == 0 => self.findings.add(foreign(&message.subject, message.sequence)),
                    None => {}
                }
            }
            progress.reached(self.place.next, &format!("{} suspects", self.ledger.suspects.len()));
            self.save_now_and_then()?;
        }
        self.place.next = self.place.end + 1;
        progress.finish();
        Ok(())
    }

    /// What a copy of the stream showed may be wrong, and a person may have been repaired meanwhile.
    fn reread_suspects(&mut self) -> Result<(), Failure> {
        let of_this_part = |(person, _): &(&PersonId, &Finding)| self.place.part.has(**person);
        let suspects: Vec<(PersonId, Finding)> = self
            .ledger
            .suspects
            .iter()
            .filter(of_this_part)
            .map(|(person, finding)| (*person, finding.clone()))
            .collect();
        let read_again: HashSet<PersonId> = suspects.iter().map(|(person, _)| *person).collect();
        let is_past = |person: PersonId| read_again.contains(&person);
        self.findings.forget(|found| found.kind == Kind::EventImpossible && found.person.is_some_and(is_past));
        for (person, suspected) in suspects {
            let found = person::reread(&mut self.reader, person, 1).map_err(|error| unavailable(&error))?;
            self.ledger.correct(person, &found.record, found.broken.is_some());
            match found.merged_into {
                Some(target) => drop(self.ledger.merged.insert(person, target)),
                None => drop(self.ledger.merged.remove(&person)),
            }
            if let Some(finding) = found.impossible(person) {
                self.findings.add(finding);
            }
            match found.damage(person) {
                // It stays a suspect, so that the next check with the same file reads it again.
                Some(finding) => drop(self.ledger.suspects.insert(person, finding)),
                None => {
                    self.ledger.suspects.remove(&person);
                    let what =
                        format!("what was read first looked damaged ({}), the leader's is whole", suspected.what);
                    self.findings.add(Finding::of(Kind::CopyDiffers, person, suspected.sequence, what));
                }
            }
        }
        Ok(())
    }

    /// Merges in a circle, and into persons who do not exist; and the damage that is certain now.
    fn merges(&mut self) -> Result<(), Failure> {
        self.ledger.suspects.values().for_each(|finding| self.findings.add(finding.clone()));
        for _ in 0..self.ledger.unlisted_suspects {
            self.findings.count_only(Kind::HistoryDamaged);
        }
        for circle in merges::circles(&self.ledger.merged) {
            self.findings.add(person::circle(&circle));
        }
        let whole = self.place.part.of <= 1;
        let is_seen = |target: &PersonId| whole && self.ledger.knows(*target);
        let unseen = |target: &PersonId| !self.ledger.merged.contains_key(target) && !is_seen(target);
        let unseen: Vec<(PersonId, PersonId)> =
            self.ledger.merged.iter().map(|(from, into)| (*from, *into)).filter(|(_, into)| unseen(into)).collect();
        for chunk in unseen.chunks(crate::cli::store::QUESTIONS_AT_ONCE) {
            let targets: Vec<PersonId> = chunk.iter().map(|(_, into)| *into).collect();
            for ((person, target), tip) in chunk.iter().zip(self.reader.log.tips(&targets)) {
                if tip.map_err(|error| unavailable(&error))?.is_none() {
                    self.findings.add(person::missing_target(*person, *target));
                }
            }
        }
        Ok(())
    }

    /// Every snapshot against its log. How many there are.
    fn snapshots(&mut self) -> Result<u64, Failure> {
        let layout = self.reader.layout.clone();
        let mut scan = Scan::snapshots(&self.reader.store, &layout).map_err(|error| Failure::not_sent(&error))?;
        let Some(extent) = scan.extent().map_err(|error| unavailable(&error))? else { return Ok(0) };
        let progress = Progress::new("snapshots", extent.first, extent.last);
        let reading = Reading::start(scan, extent.first, extent.last)?;
        let mut count = 0;
        for messages in reading.batches() {
            let messages = messages.map_err(|error| unavailable(&error))?;
            let reached = messages.last().map_or(0, |message| message.sequence + 1);
            let mut found = Vec::new();
            for message in messages.into_iter().filter(|message| !message.is_tombstone) {
                match layout.person_of_snapshot(&message.subject) {
                    Some(person) => found.push((person, Some(message.sequence), message.payload)),
                    None => self.findings.add(foreign(&message.subject, message.sequence)),
                }
            }
            count += u64::try_from(found.len()).unwrap_or(0);
            while !found.is_empty() {
                let rest = found.split_off(found.len().min(snapshots::AT_ONCE));
                let some = std::mem::replace(&mut found, rest);
                snapshots::check(&mut self.reader, some, &mut self.findings).map_err(|error| unavailable(&error))?;
                self.stop_if_asked()?;
            }
            progress.reached(reached, "");
        }
        progress.finish();
        Ok(count)
    }

    fn save_now_and_then(&mut self) -> Result<(), Failure> {
        if self.told.state.is_some() && self.saved_at.elapsed() >= SAVE_INTERVAL {
            self.save()?;
        }
        self.stop_if_asked()
    }

    fn stop_if_asked(&mut self) -> Result<(), Failure> {
        if !self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !self.place.is_complete {
            self.save()?;
        }
        Err(Failure::new(ExitStatus::Unavailable, "interrupted; the same again goes on from here"))
    }

    fn save(&mut self) -> Result<(), Failure> {
        if let Some(path) = &self.told.state {
            saved::save(path, &self.place, &self.ledger, &self.findings)?;
        }
        self.saved_at = Instant::now();
        Ok(())
    }
}

/// Something that the service did not put there. The subject may be anything, so it is not shown whole.
fn foreign(subject: &str, sequence: u64) -> Finding {
    let what = format!("a message on a subject of {} characters that is no person's", subject.chars().count());
    Finding { kind: Kind::ForeignMessage, person: None, sequence: Some(sequence), whole_up_to: None, what }
}
