//! Which replicas of the service run at this moment.

use std::collections::BTreeMap;
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
    // Those in one cluster share the persons, by what each of them counts.
    let mut sharing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for answer in &answers {
        let answer: Value = serde_json::from_slice(answer.payload()).unwrap_or_default();
        *versions.entry(text(at(&answer, "version"))).or_default() += 1;
        let told = |name| answer.pointer(name).and_then(Value::as_str);
        if let (Some(cluster), Some(members)) = (told("/metadata/cluster"), told("/metadata/members")) {
            sharing.entry(cluster.to_owned()).or_default().push(members.to_owned());
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
    for counted in sharing.values().filter(|all| all.iter().any(|members| *members != all.len().to_string())) {
        let counted = counted.join(", ");
        report
            .warning("replicas", format!("they do not share the persons: they count {counted} members"))
            .advise("right while one comes or goes; else see the rights of the intake, and their logs");
    }
}
