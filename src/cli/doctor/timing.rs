//! How far away things are, and whether our clock goes with the servers'.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::Place;
use super::report::Report;
use super::streams::Found;
use crate::cli::shown::at;
use crate::nats::Question;

/// How often each is asked.
const TIMES: usize = 21;

/// A clock that is further off makes ids look as if they came from the future.
const OFF_NOTABLE: SignedDuration = SignedDuration::from_secs(1);

/// Further off, commands sent again may not be recognised.
const OFF_MAX: SignedDuration = SignedDuration::from_secs(5);

/// Measures what can be measured.
pub fn measure(place: &mut Place<'_>, found: &Found, report: &mut Report) {
    let echoes = place.examiner.echoes(TIMES);
    let mut says = Vec::new();
    if let Some(typical) = echoes.get(echoes.len() / 2) {
        says.push(format!("{} to the server and back", millis(*typical)));
    }
    if found.commits {
        let last = json!({"last_by_subj": place.layout.event_subject(place.nobody)});
        for (call, what) in [("DIRECT.GET", "a read of any copy"), ("STREAM.MSG.GET", "a read of the leader")] {
            let subject = place.layout.api(&format!("{call}.{}", place.layout.stream()));
            let times = place.examiner.time(&Question::new(subject, &last), TIMES);
            if let Some((typical, _)) = times.get(times.len() / 2) {
                says.push(format!("{} {what}", millis(*typical)));
            }
        }
    }
    if says.is_empty() {
        report.note("round trips", "could not be measured");
    } else {
        report.ok("round trips", format!("{} (medians of {TIMES})", says.join(", ")));
    }
    if !place.examiner.may_send_to_inboxes() {
        report
            .note("replies", "this user may not send to inboxes of its own accord")
            .advise("right if it has allow_responses, which cannot be tried from here; else nobody gets a reply");
    }
    if found.commits {
        clock(place, report);
    }
}

/// The server's time is in its answer; it was taken at some point between our question and the answer.
fn clock(place: &mut Place<'_>, report: &mut Report) {
    let subject = place.layout.api(&format!("STREAM.INFO.{}", place.layout.stream()));
    let mut best: Option<(SignedDuration, Duration)> = None;
    for _ in 0..TIMES {
        let answers = place.examiner.time(&Question::new(&subject, ""), 1);
        let now = Timestamp::now();
        let Some((took, said)) = answers.first() else { break };
        let theirs = said.json().and_then(|info| at(&info, "ts").as_str()?.parse::<Timestamp>().ok());
        let Some(theirs) = theirs else { break };
        let half = *took / 2;
        let offset = theirs.duration_since(now) + SignedDuration::try_from(half).unwrap_or_default();
        if best.is_none_or(|(_, uncertain)| half < uncertain) {
            best = Some((offset, half));
        }
    }
    let Some((offset, uncertain)) = best else {
        report.note("clock", "cannot be compared: the server does not tell its time");
        return;
    };
    let ahead = if offset.is_negative() { "behind" } else { "ahead of" };
    let says =
        format!("the server's is {} {ahead} ours, give or take {}", millis(offset.unsigned_abs()), millis(uncertain));
    let surely = offset.abs() - SignedDuration::try_from(uncertain).unwrap_or_default();
    if surely > OFF_MAX {
        report
            .wrong("clock", says)
            .advise("set both by NTP: so far apart, a command that is sent again may be done twice");
    } else if surely > OFF_NOTABLE {
        report.warning("clock", says).advise("set both by NTP");
    } else {
        report.ok("clock", says);
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}
