//! How far away things are, and whether our clock goes with the servers'.

use std::time::Duration;

use serde_json::json;

use super::Place;
use super::report::Report;
use super::streams::Found;
use crate::cli::shown::at;
use crate::domain::Timestamp;
use crate::nats::{ClockOffset, ClockVerdict, Question};

/// How often each is asked.
const TIMES: usize = 21;

/// What to do where it is too much.
const TOO_FAR: &str = "set both by NTP: so far apart, the service takes no commands";

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

/// The server's time is in its answer. What is said of it is what the running service would say.
fn clock(place: &mut Place<'_>, report: &mut Report) {
    let subject = place.layout.api(&format!("STREAM.INFO.{}", place.layout.stream()));
    let mut best: Option<ClockOffset> = None;
    for _ in 0..TIMES {
        let asked = Timestamp::now();
        let Some(said) = place.examiner.ask(&[Question::new(&subject, "")]).into_iter().next() else { break };
        let answered = Timestamp::now();
        let theirs = said.json().and_then(|info| at(&info, "ts").as_str()?.parse::<Timestamp>().ok());
        let Some(theirs) = theirs else { break };
        let offset = ClockOffset::between(asked, theirs, answered);
        if best.is_none_or(|best| offset.give_or_take_micros < best.give_or_take_micros) {
            best = Some(offset);
        }
    }
    let Some(offset) = best else {
        report.note("clock", "cannot be compared: the server does not tell its time");
        return;
    };
    match offset.verdict() {
        ClockVerdict::Right => report.ok("clock", offset.to_string()),
        ClockVerdict::Notable => report.warning("clock", offset.to_string()).advise("set both by NTP"),
        ClockVerdict::TooFar => report.wrong("clock", offset.to_string()).advise(TOO_FAR),
    };
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}
