//! JetStream as the account has it: there or not, and how much of it is left.

use serde_json::Value;

use super::Place;
use super::report::{Report, Verdict};
use crate::cli::doctor::connection::short;
use crate::cli::output::counted;
use crate::cli::shown::at;
use crate::nats::api::TEMPORARILY_UNAVAILABLE;
use crate::nats::{API_LEVEL_MIN, Account, Cause, Obstacle, Question, SERVER_MIN, Said};

/// From this part of a limit on it is a warning, in percent.
pub const NEARLY_FULL_PERCENT: u64 = 80;

/// Whether there is one to go on with.
pub fn account(place: &mut Place<'_>, report: &mut Report) -> bool {
    let said = place.examiner.ask_one(Question::new(place.layout.api("INFO"), ""));
    if let Some((name, version)) = place.examiner.server() {
        report.ok("connection", format!("connected to {}, nats-server {version}", short(name)));
    }
    match (&said, said.json()) {
        (Said::Message(_), Some(info)) if info.get("error").is_none() => {
            let level = at(&info, "api.level").as_u64().unwrap_or_default();
            if level < API_LEVEL_MIN {
                let says = format!("the nats-server that runs JetStream is too old: {SERVER_MIN} or newer is needed");
                report.obstacle("jetstream", &Obstacle::new(Cause::ServerTooOld, says));
                return true;
            }
            place.account = Account::read(&info);
            usage(&info, report);
            true
        }
        (Said::Message(_), answer) => {
            let why = answer.as_ref().map_or("an answer that makes no sense".into(), error_of);
            let without_leader = answer.is_some_and(|answer| at(&answer, "error.err_code") == TEMPORARILY_UNAVAILABLE);
            let cause = if without_leader { Cause::Silent } else { Cause::NoJetStream };
            missing(cause, &format!("JetStream is not available: {why}"), report)
        }
        (Said::Denied, _) => {
            let subject = place.layout.api("INFO");
            report.obstacle(
                "jetstream",
                &Obstacle::no_right(&format!("ask for the account's limits (publish to {subject})")),
            );
            true
        }
        (Said::Silent | Said::NotSent(_), _) => missing(Cause::Silent, "JetStream calls get no answer", report),
        (Said::NobodyListens, _) => {
            let why =
                "JetStream is not available: nobody answers JetStream calls (is it off, or the domain another one?)";
            missing(Cause::NoJetStream, why, report)
        }
    }
}

fn missing(cause: Cause, says: &str, report: &mut Report) -> bool {
    report.obstacle("jetstream", &Obstacle::new(cause, says));
    false
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
