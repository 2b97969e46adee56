//! `person-service repair`: the deliberate way out for a person whose history is damaged.
//!
//! What is kept is written once more behind what lies there, byte for byte; what fills the versions that are given up
//! comes behind it; then everything before is taken out in one step. At no moment does the stream show a history that is
//! whole and shorter: until the last step it is as damaged as it was, and the same command may be given again. One that was
//! whole, of which less is to be kept, is damaged from the first commit that is written on, until the last step.

mod plan;

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::failure::Failure;
use crate::cli::output::{Out, STRONG, counted, grouped, styled};
use crate::cli::progress::Progress;
use crate::cli::repair::plan::{FILLED_MAX, Plan};
use crate::cli::store::{StoreReader, unavailable};
use crate::cli::verify::person::reread;
use crate::config::StoreClient;
use crate::domain::limits::REASON_CHARS_MAX;
use crate::domain::{PersonId, Timestamp};
use crate::engine::audit::Record;
use crate::engine::ports::{Append, Appended, CommitHeaders, EventLog, Sequence, StoredCommit, Unavailable};
use crate::engine::repair::{Repaired, filling};
use crate::engine::trail::Trail;
use crate::exit::ExitStatus;
use crate::nats::{ClockVerdict, Ground, Mend};
use crate::wire::commit;
use crate::wire::digest::Digest;

const EXAMPLES: &str = "\
Examples:
  person-service repair 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30
          Says what could be kept and what would be given up, and changes nothing
  person-service repair 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30 --yes --save ada.damaged.jsonl \\
      --confirmed-by 'M. Perez, records' --reason 'disk failure of 3 May, ticket 4711'
          Does it, after saving all that there is to a file
  person-service repair 0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30 --keep-to 17
          The same with less that is kept, such as everything before a merge in a circle

Exit status: 0 where nothing has to be repaired, or all was; 1 where something has to be; 'person-service --help' lists all.";

/// What `repair` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Repair {
    /// Whose history
    #[arg(value_name = "ID")]
    person: PersonId,

    /// Keep everything up to this version [default: the last one up to which everything checks out]
    #[arg(long, value_name = "VERSION")]
    keep_to: Option<u64>,

    /// The highest version that anybody has seen, where that is higher than what is left tells
    #[arg(long, value_name = "VERSION")]
    seen: Option<u64>,

    /// Do it; without this flag nothing is changed
    #[arg(long, requires_all = ["save", "confirmed_by", "reason"])]
    yes: bool,

    /// Where to save all that there is of the person before it is changed; the file must not exist
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,

    /// Who confirmed that this may be given up, as the history is to say
    #[arg(long, value_name = "NAME", value_parser = words)]
    confirmed_by: Option<String>,

    /// Why, as the history is to say
    #[arg(long, value_name = "TEXT", value_parser = words)]
    reason: Option<String>,
}

fn words(text: &str) -> Result<String, String> {
    let fits = !text.trim().is_empty() && text.chars().count() <= REASON_CHARS_MAX && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("1 to {REASON_CHARS_MAX} characters without control characters are allowed"))
}

impl Repair {
    /// Says what would be done, or does it.
    pub fn run(&self, config: &StoreClient) -> Result<ExitStatus, Failure> {
        let mut reader = StoreReader::open(config, "repair")?;
        let snapshot = reader.snapshot(self.person)?;
        let plan = Plan::make(&mut reader, self.person, self.keep_to, snapshot.as_deref());
        let mut plan = plan.map_err(|error| unavailable(&error))?;
        plan.highest = plan.highest.max(self.seen.unwrap_or(0));
        self.check(&plan)?;
        let mut out = Out::new();
        if !plan.is_needed() {
            out.line("nothing has to be repaired: every commit checks out, and the snapshot is not ahead of them");
            out.finish()?;
            return Ok(ExitStatus::Clean);
        }
        describe(&plan, &mut out);
        let (Some(save), Some(confirmed_by), Some(reason)) = (&self.save, &self.confirmed_by, &self.reason) else {
            return self.only_told(out);
        };
        if !self.yes {
            return self.only_told(out);
        }
        let repaired = Repaired {
            kept_to: plan.kept.version,
            given_up_to: plan.highest,
            messages: plan.given_up,
            given_up: plan.named.clone(),
            confirmed_by: confirmed_by.clone(),
            reason: reason.clone(),
        };
        let mut mend = Mend::new(&reader.store, &reader.layout).map_err(|error| Failure::not_sent(&error))?;
        self.check_ground(&plan, &mend.ground().map_err(|error| unavailable(&error))?)?;
        self.save(save, &mut reader, snapshot.as_deref())?;
        let version = self.carry_out(&mut reader, &mut mend, &plan, &repaired)?;
        out.line(styled(STRONG, format_args!("repaired: the person is whole again, at version {version}")));
        out.finish()?;
        Ok(ExitStatus::Clean)
    }

    fn check(&self, plan: &Plan) -> Result<(), Failure> {
        let refused = |message: String| Err(Failure::new(ExitStatus::Refused, message));
        if plan.tip == 0 && plan.snapshot.is_none() {
            return refused("there is no such person".to_owned());
        }
        if let (true, None, Some(why)) = (plan.is_too_new, self.keep_to, &plan.why) {
            return refused(format!(
                "whole up to version {}; {why}: repair it with that release; --keep-to {} gives up what it wrote",
                plan.whole_up_to, plan.kept.version
            ));
        }
        if let Some((before, after)) = plan.no_end_there {
            let after = after.map_or_else(String::new, |version| format!(" or {version}"));
            return refused(format!(
                "no commit that checks out ends with that version: --keep-to {before}{after} is possible"
            ));
        }
        if plan.highest - plan.kept.version > FILLED_MAX {
            return refused(format!(
                "versions {} to {} would have to be filled, {FILLED_MAX} are allowed",
                plan.kept.version + 1,
                plan.highest
            ));
        }
        Ok(())
    }

    fn check_ground(&self, plan: &Plan, ground: &Ground) -> Result<(), Failure> {
        if plan.given_up > 0 && !ground.is_purge_allowed {
            let message =
                "the stream has deny_purge set, so nothing can be taken out of it: the history stays as it is";
            return Err(Failure::new(ExitStatus::Refused, message));
        }
        match ground.clock.filter(|clock| clock.verdict() == ClockVerdict::TooFar) {
            Some(clock) => {
                let message = format!("{clock}, and the history would bear its time for ever: set both by NTP");
                Err(Failure::new(ExitStatus::Refused, message))
            }
            None => Ok(()),
        }
    }

    fn only_told(&self, mut out: Out) -> Result<ExitStatus, Failure> {
        out.line("nothing was changed: --yes --save FILE --confirmed-by NAME --reason TEXT does it");
        out.finish()?;
        Ok(ExitStatus::Refused)
    }

    /// Copies all that there is of the person to a file, and to disk, before anything is changed.
    fn save(&self, path: &Path, reader: &mut StoreReader, snapshot: Option<&[u8]>) -> Result<(), Failure> {
        use std::os::unix::fs::OpenOptionsExt;
        let refused = |error: std::io::Error| {
            Failure::new(ExitStatus::BadConfiguration, format!("--save {}: {error}", path.display()))
        };
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(refused)?;
        let mut write = |value: Value| writeln!(file, "{value}").map_err(refused);
        reader.each(self.person, 1, |stored| -> Result<_, Failure> {
            write(json!({
                "sequence": stored.sequence,
                "digest": Digest::of(&stored.payload),
                "base64": STANDARD.encode(&stored.payload),
                "text": String::from_utf8_lossy(&stored.payload),
            }))?;
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some(bytes) = snapshot {
            write(json!({ "snapshot_base64": STANDARD.encode(bytes) }))?;
        }
        file.sync_all().map_err(refused)
    }

    /// Writes and takes out. The version that the person is at then.
    fn carry_out(
        &self,
        reader: &mut StoreReader,
        mend: &mut Mend,
        plan: &Plan,
        repaired: &Repaired,
    ) -> Result<u64, Failure> {
        let mut expected = plan.tip;
        let mut trail = Trail::after(expected);
        let mut first = None;
        if plan.given_up > 0 {
            let progress = Progress::new("commits", 1, plan.kept_commits);
            for (number, stored) in (1..).zip(self.kept(reader, plan)?) {
                let headers = headers_of(&stored.payload);
                expected = self.append(reader, expected, stored.payload.clone(), headers, &mut trail)?;
                first = first.or(Some(expected));
                progress.reached(number + 1, "");
            }
            progress.finish();
        }
        let filling = filling(self.person, &plan.kept, repaired, Timestamp::now(), Uuid::now_v7)
            .map_err(|error| Failure::new(ExitStatus::Bug, format!("the record cannot be written: {error}")))?;
        for commit in filling {
            expected = self.append(reader, expected, commit.payload.into(), commit.headers, &mut trail)?;
            first = first.or(Some(expected));
        }
        if let (true, Some(first)) = (plan.given_up > 0, first) {
            // What stays has to be whole by itself before anything goes.
            self.whole(reader, first, expected)?;
            mend.purge_before(self.person, first).map_err(|error| undone(&error))?;
        }
        mend.delete_snapshot(self.person).map_err(|error| undone(&error))?;
        self.whole(reader, 1, expected)
    }

    /// Reads again what lies from a sequence on, which has to be a whole history, with all that was written. The
    /// version that it leads to.
    fn whole(&self, reader: &mut StoreReader, from: Sequence, written: Sequence) -> Result<u64, Failure> {
        let found = reread(reader, self.person, from).map_err(|error| undone(&error))?;
        match found.broken {
            None if found.record.link.sequence >= written => Ok(found.record.link.version),
            _ => Err(undone(&Unavailable("the history is not whole yet: somebody else wrote to it".to_owned()))),
        }
    }

    /// The commits that are kept, read and checked once more: they have to lead to where they led before.
    fn kept(&self, reader: &mut StoreReader, plan: &Plan) -> Result<Vec<StoredCommit>, Failure> {
        let changed = || undone(&Unavailable("the history changed meanwhile".to_owned()));
        let mut kept = Vec::new();
        let mut record = Record::start();
        reader.each(self.person, 1, |stored| -> Result<_, Failure> {
            if stored.sequence > plan.kept.sequence {
                return Ok(ControlFlow::Break(()));
            }
            record = record.check(self.person, stored).map_err(|_| changed())?.record;
            kept.push(stored.clone());
            Ok(ControlFlow::Continue(()))
        })?;
        if record.link == plan.kept { Ok(kept) } else { Err(changed()) }
    }

    fn append(
        &self,
        reader: &mut StoreReader,
        expected: Sequence,
        payload: Arc<[u8]>,
        headers: CommitHeaders,
        trail: &mut Trail,
    ) -> Result<Sequence, Failure> {
        let headers = CommitHeaders { trail: trail.to_header(), ..headers };
        let append = Append { person: self.person, expected, payload, headers };
        match reader.log.append(&[append]).pop() {
            Some(Appended::Stored(sequence)) => {
                *trail = trail.next(sequence);
                Ok(sequence)
            }
            Some(Appended::Conflict(_)) => {
                Err(undone(&Unavailable("somebody else wrote to the person meanwhile".to_owned())))
            }
            Some(Appended::Refused(why) | Appended::Unavailable(why)) => Err(undone(&why)),
            Some(Appended::Unknown) | None => Err(undone(&Unavailable("the store gave no answer in time".to_owned()))),
        }
    }
}

/// It stopped half-way, which changes nothing: what is damaged stays so until the last step.
fn undone(why: &Unavailable) -> Failure {
    let message = format!("not repaired: {why}; nothing is lost, give the same again with another file for --save");
    Failure::new(ExitStatus::Unavailable, message)
}

impl From<Unavailable> for Failure {
    fn from(error: Unavailable) -> Self {
        unavailable(&error)
    }
}

/// The hints that go beside a commit.
fn headers_of(payload: &[u8]) -> CommitHeaders {
    let Ok(commit) = commit::decode(payload) else { return CommitHeaders::default() };
    let event_types = commit.events.iter().map(|record| record.event.kind()).collect();
    let traceparent = match commit.commands.as_slice() {
        [only] => only.traceparent.clone(),
        _ => None,
    };
    CommitHeaders { event_types, person_version: commit.version, traceparent, trail: None }
}

fn describe(plan: &Plan, out: &mut Out) {
    out.line(match &plan.why {
        Some(why) => format!("whole up to version {}; {why}", plan.whole_up_to),
        None => format!("every commit checks out, up to version {}", plan.whole_up_to),
    });
    if let Some(version) = plan.snapshot.filter(|version| *version > plan.whole_up_to) {
        out.line(format!("a snapshot has seen version {version}"));
    }
    if let Some(version) = plan.not_believed {
        out.line(format!(
            "a commit claims version {version}, which is not believed: {FILLED_MAX} versions may be filled"
        ));
    }
    let kept = counted(plan.kept_commits, "commit", "commits");
    out.line(format!("kept: {kept}, up to version {}", plan.kept.version));
    let whole = match plan.given_up_whole {
        0 => String::new(),
        1 => ", 1 of which checks out".to_owned(),
        count => format!(", {} of which check out", grouped(count)),
    };
    out.line(format!("given up: {}{whole}", counted(plan.given_up, "message", "messages")));
    for message in &plan.named {
        out.line(format!("  at stream sequence {}, digest {}", message.sequence, message.digest));
    }
    out.line(format!(
        "versions {} to {} are filled with events that change nothing",
        plan.kept.version + 1,
        plan.highest + 1
    ));
}
