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

/// Asks them all.
pub fn ask(place: &mut Place<'_>, report: &mut Report) {
    let question = Question::new(format!("$SRV.PING.{SERVICE_NAME}"), "");
    let Some(answers) = place.examiner.gather(&question, ANSWER_WAIT) else {
        report.note("replicas", format!("cannot be counted: this user may not publish to {}", question.subject));
        return;
    };
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    let mut members = BTreeSet::new();
    for answer in &answers {
        let answer: Value = serde_json::from_slice(answer.payload()).unwrap_or_default();
        *versions.entry(text(at(&answer, "version"))).or_default() += 1;
        members.extend(answer.pointer("/metadata/members").and_then(Value::as_str).map(str::to_owned));
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
    if members.iter().any(|members| *members != answers.len().to_string()) {
        let members = members.into_iter().collect::<Vec<_>>().join(", ");
        report.warning("replicas", format!("they do not share the persons: they count {members} members")).advise(
            "right while one comes or goes, or where they are in several clusters; else see the rights of the intake, and the log",
        );
    }
}
