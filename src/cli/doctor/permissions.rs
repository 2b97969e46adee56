//! What this user may do, found out by trying it in ways that cannot succeed.
//!
//! A commit is offered for a person whom nobody knows, beneath a commit that there cannot be: whoever may publish there is
//! told so by the stream, which refuses it. Subscriptions are to subjects to which nobody sends.

use serde_json::json;

use super::Place;
use super::report::Report;
use super::streams::{Found, name_of};
use crate::nats::{Kept, Question, Said};
use crate::wire::service::ALL_SERVICES;
use crate::wire::subject::SERVICE_NAME;

/// The only thing that the service can do without.
const FOLLOW: &str = "follow commits";
/// No message of a stream has this sequence.
const NO_SEQUENCE: u64 = u64::MAX;

/// Tries everything that the service does.
pub fn try_all(place: &mut Place<'_>, found: &Found, report: &mut Report) {
    let mut lacking = subscriptions(place);
    let questions = questions(place, found);
    let asked: Vec<Question> = questions.iter().map(|(_, question)| question.clone()).collect();
    let answers = place.examiner.ask(&asked);
    let mut stored = Vec::new();
    let mut spared = Vec::new();
    let mut silent = Vec::new();
    for ((what, question), said) in questions.iter().zip(&answers) {
        match said {
            Said::Denied if *what == FOLLOW => spared.push(pattern(place, &question.subject)),
            Said::Denied => lacking.push(format!("{what} (publish to {})", pattern(place, &question.subject))),
            Said::Silent => silent.push(format!("{what} ({})", pattern(place, &question.subject))),
            Said::Message(_)
                if said.json().is_some_and(|answer| answer.get("error").is_none() && answer.get("seq").is_some()) =>
            {
                stored.push(*what);
            }
            Said::Message(_) | Said::NobodyListens | Said::NotSent(_) => {}
        }
    }
    let tried = questions.len() + 3;
    for what in &lacking {
        report.wrong("permissions", format!("this user may not {what}"));
    }
    for what in &silent {
        report.warning("permissions", format!("no answer: {what}"));
    }
    // The stream was told to refuse it, and did not.
    for what in stored {
        report
            .wrong("permissions", format!("the attempt to {what} was stored although it named an impossible sequence"));
    }
    for subject in &spared {
        let instead = "what other replicas store is read instead, at about twice the cost";
        report.note("permissions", format!("this user may not {FOLLOW} (publish to {subject}): {instead}"));
    }
    if lacking.is_empty() && silent.is_empty() && spared.is_empty() {
        report.ok("permissions", format!("this user may do all {tried} things that were tried"));
    }
    let missing: Vec<&str> = [(found.commits, "stream"), (found.snapshots, "bucket")]
        .iter()
        .filter(|(there, _)| !there)
        .map(|(_, what)| *what)
        .collect();
    if !missing.is_empty() {
        report.note("permissions", format!("what takes a {} could not be tried", missing.join(" and a ")));
    }
}

/// The subscriptions that the service could not have.
fn subscriptions(place: &mut Place<'_>) -> Vec<String> {
    let token = format!("doctor-{}", uuid::Uuid::new_v4());
    let below = |all: &str| all.replace('>', &format!("{token}.>"));
    let wanted = [
        ("take commands", place.subjects.all_commands(), Some(SERVICE_NAME)),
        ("take queries", place.subjects.all_queries(), Some(SERVICE_NAME)),
        ("be discovered", ALL_SERVICES.to_owned(), None),
    ];
    let mut lacking = Vec::new();
    for (what, subject, group) in wanted {
        if !place.examiner.may_listen(&below(&subject), group) {
            lacking.push(format!("{what} (subscribe to {subject})"));
        }
    }
    lacking
}

/// What the service does, each as a question that changes nothing.
fn questions(place: &Place<'_>, found: &Found) -> Vec<(&'static str, Question)> {
    let mut questions = Vec::new();
    let mut add = |what, question| questions.push((what, question));
    for (kept, there) in [(Kept::Commits, found.commits), (Kept::Snapshots, found.snapshots)] {
        if !there {
            continue;
        }
        let name = name_of(place, kept);
        let (subject, target, [write, read, lead]) = match kept {
            Kept::Commits => {
                let subject = place.layout.event_subject(place.nobody);
                (subject.clone(), subject, ["store commits", "read commits", "read commits from the leader"])
            }
            Kept::Snapshots => (
                place.layout.snapshot_subject(place.nobody),
                place.layout.snapshot_target(place.nobody),
                ["store snapshots", "read snapshots", "read snapshots from the leader"],
            ),
        };
        let last = json!({"last_by_subj": subject});
        let headers = vec![
            ("Nats-Expected-Stream", name.clone()),
            ("Nats-Expected-Last-Subject-Sequence", NO_SEQUENCE.to_string()),
        ];
        add(write, Question { headers, ..Question::new(target, "") });
        add(read, Question::new(place.layout.api(&format!("DIRECT.GET.{name}")), &last));
        add(lead, Question::new(place.layout.api(&format!("STREAM.MSG.GET.{name}")), &last));
        if kept == Kept::Commits {
            // No definition at all: it is refused as soon as it is read.
            let subject = place.layout.api(&format!("CONSUMER.CREATE.{name}.{}", place.nobody));
            add(FOLLOW, Question::new(subject, "none"));
        }
    }
    if found.jetstream && place.config.store.create && !(found.commits && found.snapshots) {
        // No configuration at all: it is refused as soon as it is read.
        let subject = place.layout.api(&format!("STREAM.CREATE.{}", place.layout.stream()));
        add("make the stream", Question::new(subject, "none"));
    }
    questions
}

/// The subject as permissions name it.
fn pattern(place: &Place<'_>, subject: &str) -> String {
    subject.replace(&place.nobody.to_string(), "*")
}
