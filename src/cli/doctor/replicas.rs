//! Which replicas of the service run at this moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::Place;
use super::report::Report;
use crate::cli::output::counted;
use crate::cli::shown::{at, text};
use crate::nats::Question;
use crate::wire::subject::SERVICE_NAME;

/// How long replicas get to answer.
const ANSWER_WAIT: Duration = Duration::from_millis(500);
/// How many are named.
const NAMED_MAX: usize = 8;

/// What replicas have in common that can hand commands to each other.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    protocol: String,
    cluster: String,
}

/// A replica, and how many share the persons by what it says, itself included.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Replica {
    members: usize,
    id: String,
}

/// Asks them all.
pub fn ask(place: &mut Place<'_>, report: &mut Report) {
    let question = Question::new(format!("$SRV.PING.{SERVICE_NAME}"), "");
    let Some(answers) = place.examiner.gather(&question, ANSWER_WAIT) else {
        report.note("replicas", format!("cannot be counted: this user may not publish to {}", question.subject));
        return;
    };
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    let mut groups: BTreeMap<Kind, Vec<Replica>> = BTreeMap::new();
    for answer in &answers {
        let answer: Value = serde_json::from_slice(answer.payload()).unwrap_or_default();
        *versions.entry(text(at(&answer, "version"))).or_default() += 1;
        let told = |name| answer.pointer(name).and_then(Value::as_str);
        let members = told("/metadata/members").and_then(|members| members.parse().ok());
        if let (Some(protocol), Some(cluster), Some(members)) =
            (told("/metadata/protocol"), told("/metadata/cluster"), members)
        {
            let kind = Kind { protocol: protocol.to_owned(), cluster: cluster.to_owned() };
            groups.entry(kind).or_default().push(Replica { members, id: text(at(&answer, "id")) });
        }
    }
    let shown: Vec<String> = versions.iter().map(|(version, count)| format!("{count} of version {version}")).collect();
    let count = counted(versions.values().sum(), "replica runs", "replicas run");
    match shown.as_slice() {
        [] => drop(report.note("replicas", "none runs, or none that may answer")),
        [version] => drop(report.ok("replicas", format!("{count}: {version}; this is {}", env!("CARGO_PKG_VERSION")))),
        _ => {
            report
                .warning("replicas", format!("{count}, of different versions: {}", shown.join(", ")))
                .advise("right in the middle of an upgrade; the older ones cannot read what only the newer ones write");
        }
    }
    name_groups(&groups, report);
    groups.values().for_each(|replicas| name_who_miscounts(replicas, report));
}

/// Says which replicas cannot share the persons with each other.
fn name_groups(groups: &BTreeMap<Kind, Vec<Replica>>, report: &mut Report) {
    if groups.len() < 2 {
        return;
    }
    let shown: Vec<String> = groups
        .iter()
        .map(|(Kind { protocol, cluster }, replicas)| {
            let place = if cluster.is_empty() { "no cluster".to_owned() } else { format!("cluster {cluster}") };
            let ids = named(replicas.iter().map(|replica| replica.id.clone()));
            format!("hand-over version {protocol} in {place}: {ids}")
        })
        .collect();
    let says = format!("they do not all share the persons with each other: {}", shown.join("; "));
    let protocols: BTreeSet<&str> = groups.keys().map(|kind| kind.protocol.as_str()).collect();
    if protocols.len() > 1 {
        report
            .warning("replicas", says)
            .advise("right in the middle of an upgrade; until it is over they meet in conflicts");
    } else {
        report
            .note("replicas", says)
            .advise("right where each region has its own persons; else they meet in conflicts");
    }
}

/// Names those that could share the persons and do not count each other.
fn name_who_miscounts(replicas: &[Replica], report: &mut Report) {
    let mut odd: Vec<&Replica> = replicas.iter().filter(|replica| replica.members != replicas.len()).collect();
    if odd.is_empty() {
        return;
    }
    odd.sort();
    let counts = odd.iter().map(|Replica { members, id }| match members {
        1 => format!("{id} serves alone"),
        _ => format!("{id} counts {members}"),
    });
    let all = counted(replicas.len() as u64, "replica does", "replicas do");
    report
        .warning("replicas", format!("{all} not count each other: {}", named(counts)))
        .advise("right while one comes or goes; else see the rights of the intake, and their logs");
}

/// A list that stays readable, however many there are.
fn named(all: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = all.collect();
    let more = all.len().saturating_sub(NAMED_MAX);
    all.truncate(NAMED_MAX);
    let shown = all.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
