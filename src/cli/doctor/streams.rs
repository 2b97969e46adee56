//! The stream of commits and the bucket of snapshots: there or not, as the service would have them or not, and alive.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Place;
use super::connection::short;
use super::jetstream::{NEARLY_FULL_PERCENT, error_of};
use super::report::{Repair, Report, Verdict};
use crate::cli::output::{counted, grouped};
use crate::cli::shown::{at, text};
use crate::exit::ExitStatus;
use crate::nats::api::STREAM_NOT_FOUND;
use crate::nats::{Cause, Drift, Kept, Obstacle, Question, Said, Share, expected, judge};

/// A leader hears of each of its copies every second.
const SILENT_MAX: Duration = Duration::from_secs(3);

/// What is there to be asked further.
#[derive(Debug, Default, Clone, Copy)]
pub struct Found {
    /// JetStream.
    pub jetstream: bool,
    /// The stream of commits.
    pub commits: bool,
    /// The bucket.
    pub snapshots: bool,
}

/// Looks at both.
pub fn look(place: &mut Place<'_>, report: &mut Report) -> Found {
    let commits = one(place, Kept::Commits, report);
    let snapshots = if place.config.snapshot_frequency > 0 {
        one(place, Kept::Snapshots, report)
    } else {
        report.note("bucket", "snapshots are turned off (SNAPSHOT_FREQ is 0): long histories are read whole");
        false
    };
    Found { jetstream: true, commits, snapshots }
}

fn about(kept: Kept) -> &'static str {
    match kept {
        Kept::Commits => "stream",
        Kept::Snapshots => "bucket",
    }
}

/// The name of the stream, and of that under the bucket.
pub fn name_of(place: &Place<'_>, kept: Kept) -> String {
    match kept {
        Kept::Commits => place.layout.stream().to_owned(),
        Kept::Snapshots => place.layout.bucket_stream(),
    }
}

fn one(place: &mut Place<'_>, kept: Kept, report: &mut Report) -> bool {
    let name = name_of(place, kept);
    let subject = place.layout.api(&format!("STREAM.INFO.{name}"));
    let said = place.examiner.ask_one(Question::new(&subject, ""));
    match said.json() {
        Some(info) if at(&info, "error.err_code") == STREAM_NOT_FOUND => missing(place, kept, &name, report),
        Some(info) if info.get("error").is_none() => {
            state(kept, &name, &info, report);
            configuration(place, kept, &name, at(&info, "config"), report);
            copies(kept, &name, &info, report);
            if kept == Kept::Commits {
                durability(at(&info, "config"), report);
            }
            return true;
        }
        Some(error) => {
            let says = format!("{name} cannot be looked at: {}", error_of(&error));
            match kept {
                Kept::Commits => drop(report.obstacle("stream", &Obstacle::new(Cause::Silent, says))),
                // Without a bucket the service goes on.
                Kept::Snapshots => drop(report.warning("bucket", says)),
            }
        }
        None if matches!(said, Said::Denied) => {
            let what = format!("look at {name} (publish to {subject})");
            report.obstacle(about(kept), &Obstacle::no_right(&what));
        }
        None => {
            let says = format!("{name} gives no answer: it has no leader, or too few of its copies are alive");
            report.obstacle(about(kept), &Obstacle::new(Cause::Silent, says));
        }
    }
    false
}

/// What is missing is made at the start, unless that is not wanted, or the account does not let it be made.
fn missing(place: &mut Place<'_>, kept: Kept, name: &str, report: &mut Report) {
    let config = expected(kept, &place.layout, &place.config.store);
    let refusal = place.account.as_ref().and_then(|account| account.refuses(&config, place.alone));
    let refusal = refusal.or_else(|| if kept == Kept::Commits { rivals(place) } else { None });
    let config = match &place.account {
        Some(account) => account.as_demanded(config, share(kept)),
        None => config,
    };
    let finding = match (refusal, place.config.store.create) {
        (_, false) => {
            let says = format!("missing: stream {name}, and STREAM_CREATE is false");
            report.obstacle(about(kept), &Obstacle::new(Cause::Missing, says))
        }
        (None, true) => {
            report.note(about(kept), format!("{name} is not there: the service makes it at its start"));
            return;
        }
        (Some(why), true) => {
            let says = format!("cannot create stream {name}: {why}");
            match kept {
                Kept::Commits => report.obstacle("stream", &Obstacle::new(Cause::NotCreated, says)),
                Kept::Snapshots => report.warning("bucket", format!("no snapshots: {says}")),
            }
        }
    };
    finding.repair(Repair {
        subject: place.layout.api(&format!("STREAM.CREATE.{name}")),
        command: format!("{} stream add {name} --config FILE", place.layout.tool()),
        config,
    });
}

fn share(kept: Kept) -> Share {
    match kept {
        Kept::Commits => Share::Commits,
        Kept::Snapshots => Share::Snapshots,
    }
}

/// Another stream may hold the subjects, and then this one cannot be made.
fn rivals(place: &mut Place<'_>) -> Option<String> {
    let mut rivals: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for subjects in [place.layout.event_subjects(), place.layout.identifier_subjects()] {
        let question = json!({"subject": subjects});
        let said = place.examiner.ask_one(Question::new(place.layout.api("STREAM.NAMES"), question));
        for name in at(&said.json()?, "streams").as_array().into_iter().flatten().map(text) {
            rivals.entry(name).or_default().push(subjects.clone());
        }
    }
    rivals.remove(place.layout.stream());
    let holds =
        |(name, subjects): (&String, &Vec<String>)| format!("{name} holds subjects of {}", subjects.join(" and "));
    let held: Vec<String> = rivals.iter().map(holds).collect();
    (!held.is_empty()).then(|| format!("subjects overlap with an existing stream (400, 10065): {}", held.join("; ")))
}

fn state(kept: Kept, name: &str, info: &Value, report: &mut Report) {
    let number = |path: &str| at(info, path).as_u64().unwrap_or_default();
    let things = if kept == Kept::Commits { ("commit", "commits") } else { ("snapshot", "snapshots") };
    let says = format!(
        "{name} holds {} of {} in {}, since {}",
        counted(number("state.messages"), things.0, things.1),
        counted(number("state.num_subjects"), "person", "persons"),
        bytesize::ByteSize::b(number("state.bytes")),
        text(at(info, "created")).chars().take("2026-01-31".len()).collect::<String>(),
    );
    report.ok(about(kept), says);
    limits(kept, name, info, report);
    let deleted = number("state.num_deleted");
    if kept == Kept::Commits && deleted > 0 {
        report.note("stream", format!("{name} lacks {} that it had", counted(deleted, "commit", "commits")));
    }
}

/// A limit that refuses what is too much is somebody's choice, or the account's demand. It matters when it is nearly
/// reached.
fn limits(kept: Kept, name: &str, info: &Value, report: &mut Report) {
    for (limit, used, unit) in [("max_bytes", "bytes", "bytes"), ("max_msgs", "messages", "messages")] {
        let max = at(info, &format!("config.{limit}")).as_u64().unwrap_or_default();
        if max == 0 || at(info, "config.discard") != "new" {
            continue;
        }
        let used = at(info, &format!("state.{used}")).as_u64().unwrap_or_default();
        let percent = used.saturating_mul(100) / max;
        let says = format!("{name} may hold {} {unit} ({limit}), {percent} % of it is used", grouped(max));
        if percent >= NEARLY_FULL_PERCENT {
            report
                .warning(about(kept), says)
                .advise("raise it in time: when it is reached, nothing more can be stored");
        } else {
            report.note(about(kept), says);
        }
    }
}

fn configuration(place: &Place<'_>, kept: Kept, name: &str, config: &Value, report: &mut Report) {
    let judgement = judge(kept, &place.layout, &place.config.store, config);
    let worst = if kept == Kept::Commits { Verdict::Wrong } else { Verdict::Warning };
    for fault in &judgement.fatal {
        report.add(worst, about(kept), format!("{name} cannot be used: {}", fault.why));
        if kept == Kept::Commits {
            report.ends_with(ExitStatus::Unavailable);
        }
    }
    for why in &judgement.warnings {
        report.warning(about(kept), format!("{name}: {why}"));
    }
    if judgement.drift.is_empty() {
        report.ok(about(kept), format!("{name} is configured as the service would have it"));
        return;
    }
    let differences: Vec<String> = judgement.drift.iter().map(difference).collect();
    let finding = report.note(about(kept), format!("{name} differs: {}", differences.join("; ")));
    let fixed: Vec<&str> =
        judgement.drift.iter().filter(|drift| !drift.changeable).map(|drift| drift.field.as_str()).collect();
    if !fixed.is_empty() {
        let fixed = fixed.join(", ");
        finding.advise(format!("nats-server does not change {fixed} on a stream that is there: that takes a new one"));
    }
    if judgement.drift.iter().any(|drift| drift.changeable) {
        let subject = place.layout.api(&format!("STREAM.UPDATE.{name}"));
        let command = match kept {
            Kept::Commits => format!("{} stream edit {name} --config FILE", place.layout.tool()),
            // Of a bucket's stream `nats stream edit` asks at a terminal whether that is really meant, whatever the flags.
            Kept::Snapshots => format!("nats request '{subject}' < FILE"),
        };
        finding.repair(Repair { subject, command, config: judgement.repaired });
    }
}

fn difference(drift: &Drift) -> String {
    let shown = |value: &Value| if value.is_null() { "not set".to_owned() } else { value.to_string() };
    format!("{} is {}, expected {}", drift.field, shown(&drift.found), shown(&drift.expected))
}

/// The copies: who leads, who lags, who is gone, and how many more may go.
fn copies(kept: Kept, name: &str, info: &Value, report: &mut Report) {
    let peers = at(info, "cluster.replicas").as_array().cloned().unwrap_or_default();
    let leader = short(&text(at(info, "cluster.leader")));
    if peers.is_empty() {
        let where_ = if leader.is_empty() { String::new() } else { format!(" on {leader}") };
        report.note(
            about(kept),
            format!("{name} has one copy{where_}: while that server is away nothing is stored or read"),
        );
        return;
    }
    let mut alive: usize = 1;
    for peer in &peers {
        let name_of_peer = short(&text(at(peer, "name")));
        let silent = Duration::from_nanos(at(peer, "active").as_u64().unwrap_or_default());
        if at(peer, "offline") == true || (at(peer, "current") != true && silent > SILENT_MAX) {
            let says = format!("{name}: the copy on {name_of_peer} is away, not heard of for {} s", silent.as_secs());
            report.warning(about(kept), says);
        } else if at(peer, "current") != true {
            alive += 1;
            let lag = at(peer, "lag").as_u64().unwrap_or_default();
            let says = format!(
                "{name}: the copy on {name_of_peer} catches up, {} behind",
                counted(lag, "message", "messages")
            );
            report.warning(about(kept), says);
        } else {
            alive += 1;
        }
    }
    let all = peers.len() + 1;
    let spare = alive.saturating_sub(all / 2 + 1);
    let says = format!("{name} has {alive} of {all} copies alive, led by {leader}; {spare} more may fail");
    let verdict = if alive == all { Verdict::Ok } else { Verdict::Warning };
    report.add(verdict, about(kept), says);
}

/// What an acknowledgement is worth.
fn durability(config: &Value, report: &mut Report) {
    let copies = at(config, "num_replicas").as_u64().unwrap_or(1);
    let unseen =
        "sync_interval, which says how soon servers flush to the disk (2 min by default), cannot be seen from here";
    if at(config, "storage") == "memory" {
        report.warning("durability", "commits lie in memory: a restart of the servers loses them");
    } else if at(config, "persist_mode") == "async" {
        report.wrong("durability", "a commit is acknowledged before it is written (persist_mode is async)");
    } else if copies > 1 {
        let majority = copies / 2 + 1;
        report
            .ok("durability", format!("a commit is acknowledged when {majority} of {copies} servers have it in a file"))
            .advise(format!("if {majority} lose power at once, the newest may be lost: {unseen}"));
    } else {
        report
            .note("durability", "a commit is acknowledged when one server has it in a file")
            .advise(format!("if its machine loses power, the newest are lost: {unseen}"));
    }
}
