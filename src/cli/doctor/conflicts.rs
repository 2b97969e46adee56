//! Other streams that answer in place of the service.

use super::Place;
use super::report::Report;
use crate::nats::{Cause, Conflict, Obstacle, Question, Said, listing, listings, read_page};

/// Pages of one list; beyond it the rest is not looked at, which is said.
const PAGES_MAX: usize = 64;

/// Looks at all streams of the account that take something of ours.
pub fn look(place: &mut Place<'_>, report: &mut Report) {
    let mut found: Vec<Conflict> = Vec::new();
    for (call, subjects) in listings(&place.layout) {
        let mut next = Some(0);
        for _ in 0..PAGES_MAX {
            let Some(offset) = next else { break };
            let said = place.examiner.ask_one(Question::new(&call, listing(&subjects, offset)));
            let page = match &said {
                Said::Message(message) => read_page(message.payload(), &place.layout),
                Said::Denied => Err(format!("this user may not publish to {call}")),
                Said::NobodyListens | Said::Silent | Said::NotSent(_) => Err("there is no answer".to_owned()),
            };
            match page {
                Ok(page) => {
                    found.extend(page.conflicts);
                    next = page.next;
                }
                Err(why) => {
                    report.note(
                        "conflicts",
                        format!("whether another stream answers in place of the service is unknown: {why}"),
                    );
                    return;
                }
            }
        }
        if next.is_some() {
            report.note("conflicts", "there are more streams than were looked at");
        }
    }
    found.sort_by(|a, b| a.stream.cmp(&b.stream));
    found.dedup();
    if found.is_empty() {
        report.ok("conflicts", "no other stream answers in place of the service");
    }
    for conflict in found {
        report.obstacle("conflicts", &Obstacle::new(Cause::Conflict, conflict.to_string()));
    }
}
