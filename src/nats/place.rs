//! Whether first commits lie where they were sent.
//!
//! A `subject_transform` that somebody puts on the stream stores what comes under other subjects, and acknowledges it as
//! ever. Whoever has a commit already is safe: the expected sequence is compared under the other subject, where it is not.
//! A person's first commit expects nothing to be there, and finds nothing. It would be acknowledged and never be found
//! again. So of the first commits that an append stored, the newest is looked at, and all of them where that one is not in
//! its place: what moves persons in the middle of an append moves the newest, too.

use std::time::{Duration, Instant};

use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::leader::{ask_leader, next_of_subject};
use crate::domain::PersonId;
use crate::engine::ports::{Append, Appended, Sequence, Unavailable};
use crate::wire::request::Header;

/// What becomes of a commit that lies elsewhere.
pub(super) fn moved() -> Unavailable {
    Unavailable("the stream stores commits under other subjects (subject_transform)".to_owned())
}

/// A person's first commit, acknowledged at this position.
#[derive(Clone, Copy)]
struct First {
    index: usize,
    person: PersonId,
    sequence: Sequence,
}

/// The outcomes, with those corrected that were acknowledged and lie elsewhere. What cannot be told by then is unknown.
pub(super) fn checked(
    inbox: &mut Inbox,
    layout: &Layout,
    deadline: Instant,
    appends: &[Append],
    mut outcomes: Vec<Appended>,
) -> Vec<Appended> {
    let firsts: Vec<First> = (0..)
        .zip(appends.iter().zip(&outcomes))
        .filter_map(|(index, (append, outcome))| match outcome {
            Appended::Stored(sequence) if append.expected == 0 => {
                Some(First { index, person: append.person, sequence: *sequence })
            }
            _ => None,
        })
        .collect();
    let Some(newest) = firsts.iter().max_by_key(|first| first.sequence) else { return outcomes };
    let left = || deadline.saturating_duration_since(Instant::now());
    if is_shown_by_any_copy(inbox, layout, left() / 2, *newest)
        || by_leader(inbox, layout, left() / 2, &[*newest]) == [Ok(true)]
    {
        return outcomes;
    }
    for (first, is_in_place) in firsts.iter().zip(by_leader(inbox, layout, left(), &firsts)) {
        let Some(outcome) = outcomes.get_mut(first.index) else { continue };
        match is_in_place {
            Ok(true) => {}
            Ok(false) => *outcome = Appended::Unavailable(moved()),
            Err(_) => *outcome = Appended::Unknown,
        }
    }
    outcomes
}

/// A copy that lags does not show it; that says nothing.
fn is_shown_by_any_copy(inbox: &mut Inbox, layout: &Layout, wait: Duration, first: First) -> bool {
    let question = next_of_subject(&layout.event_subject(first.person), first.sequence).to_string();
    match inbox.request(&layout.direct_get(layout.stream()), question.as_bytes(), wait) {
        Exchanged::Answered(answer) => match answer.header("Nats-Sequence") {
            Header::One(sequence) => sequence.parse() == Ok(first.sequence),
            Header::Absent | Header::Several => false,
        },
        Exchanged::NotSent(_) | Exchanged::Silent => false,
    }
}

fn by_leader(inbox: &mut Inbox, layout: &Layout, wait: Duration, firsts: &[First]) -> Vec<Result<bool, Unavailable>> {
    let question = |first: &First| next_of_subject(&layout.event_subject(first.person), first.sequence);
    let questions: Vec<_> = firsts.iter().map(question).collect();
    let shown = ask_leader(inbox, &layout.leader_get(layout.stream()), &questions, wait, |shown| shown.sequence);
    let is_it = |(shown, first): (Result<Option<Sequence>, Unavailable>, &First)| {
        shown.map(|shown| shown == Some(first.sequence))
    };
    shown.into_iter().zip(firsts).map(is_it).collect()
}
