//! JetStream as the account has it: there or not, and how much of it is left.

use serde_json::Value;

use super::Place;
use super::report::{Report, Verdict};
use crate::cli::doctor::connection::short;
use crate::cli::output::counted;
use crate::cli::shown::at;
use crate::exit::ExitStatus;
use crate::nats::{Question, Said};

/// From this part of a limit on it is a warning, in percent.
const NEARLY_FULL_PERCENT: u64 = 80;

/// JetStream looks for a leader, as it says it.
const TEMPORARILY_UNAVAILABLE: u64 = 10008;

const OFF: &str = "turn it on in nats-server (jetstream {}) and for this account; or see JETSTREAM_DOMAIN";
const NO_LEADER: &str =
    "a cluster needs a majority of its servers, and a moment to find a leader: see which are away, look again";

/// Whether there is one to go on with.
pub fn account(place: &mut Place<'_>, report: &mut Report) -> bool {
    let said = place.examiner.ask_one(Question::new(place.layout.api("INFO"), ""));
    if let Some((name, version)) = place.examiner.server() {
        report.ok("connection", format!("connected to {}, nats-server {version}", short(name)));
    }
    match (&said, said.json()) {
        (Said::Message(_), Some(info)) if info.get("error").is_none() => {
            let level = at(&info, "api.level").as_u64().unwrap_or_default();
            if level < 2 {
                report.wrong("jetstream", "the server that runs JetStream is older than 2.12");
                report.ends_with(ExitStatus::Unavailable);
                return true;
            }
            usage(&info, report);
            true
        }
        (Said::Message(_), answer) => {
            let why = answer.as_ref().map_or("an answer that makes no sense".into(), error_of);
            let without_leader = answer.is_some_and(|answer| at(&answer, "error.err_code") == TEMPORARILY_UNAVAILABLE);
            let advice = if without_leader { NO_LEADER } else { OFF };
            missing(&format!("JetStream is not available: {why}"), advice, report);
            false
        }
        (Said::Denied, _) => {
            report
                .wrong("jetstream", "this user may not ask for the account's limits, as the service does at its start")
                .advise(format!("allow it to publish to {}", place.layout.api("INFO")));
            report.ends_with(ExitStatus::Unavailable);
            true
        }
        (Said::Silent, _) => {
            missing("JetStream calls get no answer", NO_LEADER, report);
            false
        }
        _ => {
            missing("nobody takes JetStream calls: is it off, or the domain another one?", OFF, report);
            false
        }
    }
}

fn missing(says: &str, advice: &str, report: &mut Report) {
    report.wrong("jetstream", says).advise(advice);
    report.ends_with(ExitStatus::Unavailable);
}

/// The words of an error of the API.
pub fn error_of(answer: &Value) -> String {
    let error = at(answer, "error");
    match at(error, "description").as_str() {
        Some(words) => format!("{words} ({}, {})", at(error, "code"), at(error, "err_code")),
        None => "an answer that makes no sense".to_owned(),
    }
}

/// What is used of what there is. An account has limits of its own for each number of copies, or one for all.
fn usage(info: &Value, report: &mut Report) {
    let tiers = at(info, "tiers").as_object().cloned().unwrap_or_default();
    let parts: Vec<(String, Value)> = match tiers.is_empty() {
        true => vec![(String::new(), info.clone())],
        false => tiers.into_iter().map(|(tier, usage)| (format!("{tier}: "), usage)).collect(),
    };
    for (tier, part) in parts {
        let kinds = [
            ("storage", "limits.max_storage"),
            ("streams", "limits.max_streams"),
            ("consumers", "limits.max_consumers"),
        ];
        let mut says = Vec::new();
        let mut verdict = Verdict::Ok;
        for (kind, limit) in kinds {
            let used = at(&part, kind).as_u64().unwrap_or_default();
            let limit = at(&part, limit).as_i64().unwrap_or(-1);
            let used_up = u64::try_from(limit)
                .ok()
                .map(|limit| used.saturating_mul(100) >= limit.saturating_mul(NEARLY_FULL_PERCENT));
            if used_up == Some(true) {
                verdict = Verdict::Warning;
            }
            let of =
                if limit < 0 { "no limit".to_owned() } else { format!("of {}", sized(kind, limit.unsigned_abs())) };
            says.push(format!("{} ({of})", named(kind, used)));
        }
        let finding = report.add(verdict, "jetstream", format!("{tier}{}", says.join(", ")));
        if verdict == Verdict::Warning {
            finding.advise("the account is nearly full: when it is, nothing more can be stored");
        }
    }
    let errors = at(info, "api.errors").as_u64().unwrap_or_default();
    let domain = at(info, "domain").as_str().map_or("no domain".to_owned(), |domain| format!("domain {domain}"));
    report.ok(
        "jetstream",
        format!("API level {}, {domain}, {} so far", at(info, "api.level"), counted(errors, "error", "errors")),
    );
}

fn named(kind: &str, number: u64) -> String {
    match kind {
        "storage" => format!("{} stored", sized(kind, number)),
        "streams" => counted(number, "stream", "streams"),
        _ => counted(number, "consumer", "consumers"),
    }
}

fn sized(kind: &str, number: u64) -> String {
    match kind {
        "storage" => bytesize::ByteSize::b(number).to_string(),
        _ => crate::cli::output::grouped(number),
    }
}
