//! Whether first commits lie where they were sent.
//!
//! A `subject_transform` that somebody puts on the stream stores what comes under other subjects, and acknowledges it as
//! ever. Whoever has a commit already is safe: the expected sequence is compared under the other subject, where it is not.
//! A person's first commit expects nothing to be there, and finds nothing. It would be acknowledged and never be found
//! again. So of the first commits that an append stored, the newest is looked at, and all of them where that one is not in
//! its place: what moves persons in the middle of an append moves the newest, too.
//!
//! The leader is asked what lies at the acknowledged position. That it shows nothing there says nothing: it may be one that
//! was replaced and does not know. It is moved only where the very commit is seen under another subject.

use std::time::{Duration, Instant};

use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::leader::{ask_leader, at_sequence, next_of_subject};
use crate::engine::ports::{Append, Appended, Sequence, Unavailable};
use crate::wire::digest::Digest;
use crate::wire::request::Header;

/// What becomes of a commit that lies elsewhere.
pub(super) fn moved() -> Unavailable {
    Unavailable("the stream stores commits under other subjects (subject_transform)".to_owned())
}

/// A person's first commit, acknowledged at this position.
#[derive(Clone, Copy)]
struct First<'a> {
    index: usize,
    append: &'a Append,
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
    let firsts: Vec<First<'_>> = (0..)
        .zip(appends.iter().zip(&outcomes))
        .filter_map(|(index, (append, outcome))| match outcome {
            Appended::Stored(sequence) if append.expected == 0 => Some(First { index, append, sequence: *sequence }),
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
            // A further attempt would be stored there too, or conflict with this one.
            Ok(false) => *outcome = Appended::Refused(moved()),
            Err(_) => *outcome = Appended::Unknown,
        }
    }
    outcomes
}

/// A copy that lags does not show it; that says nothing.
fn is_shown_by_any_copy(inbox: &mut Inbox, layout: &Layout, wait: Duration, first: First<'_>) -> bool {
    let question = next_of_subject(&layout.event_subject(first.append.person), first.sequence).to_string();
    match inbox.request(&layout.direct_get(layout.stream()), question.as_bytes(), wait) {
        Exchanged::Answered(answer) => match answer.header("Nats-Sequence") {
            Header::One(sequence) => sequence.parse() == Ok(first.sequence),
            Header::Absent | Header::Several => false,
        },
        Exchanged::NotSent(_) | Exchanged::Silent => false,
    }
}

fn by_leader(
    inbox: &mut Inbox,
    layout: &Layout,
    wait: Duration,
    firsts: &[First<'_>],
) -> Vec<Result<bool, Unavailable>> {
    let questions: Vec<_> = firsts.iter().map(|first| at_sequence(first.sequence)).collect();
    let shown = ask_leader(inbox, &layout.leader_get(layout.stream()), &questions, wait, |shown| {
        (shown.subject, Digest::of(&shown.payload))
    });
    shown.into_iter().zip(firsts).map(|(shown, first)| is_in_place(shown?, first.append, layout)).collect()
}

/// Whether it lies under its subject, by the subject and the digest of what the leader shows at its position.
fn is_in_place(shown: Option<(String, Digest)>, append: &Append, layout: &Layout) -> Result<bool, Unavailable> {
    match shown {
        Some((subject, digest)) if digest == Digest::of(&append.payload) => {
            Ok(subject == layout.event_subject(append.person))
        }
        Some(_) => Err(Unavailable("the leader shows another message in its place".to_owned())),
        None => Err(Unavailable("the leader does not show it".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ports::CommitHeaders;
    use crate::nats::layout::tests::layout;

    /// A leader that was replaced without knowing shows nothing at a position that its successor gave away. That was read as
    /// "moved", so a commit that is stored was called not stored.
    #[test]
    fn only_the_very_commit_under_another_subject_was_moved() {
        let person = "0197c5a0-0000-7000-8000-000000000001".parse().expect("a UUID");
        let append = Append { person, expected: 0, payload: (*b"ours").into(), headers: CommitHeaders::default() };
        let layout = layout(None);
        let shown = |subject: &str, payload: &[u8]| Some((subject.to_owned(), Digest::of(payload)));
        let subject = layout.event_subject(person);
        assert_eq!(is_in_place(shown(&subject, b"ours"), &append, &layout), Ok(true));
        assert_eq!(is_in_place(shown("moved.1", b"ours"), &append, &layout), Ok(false));
        assert!(is_in_place(shown("moved.1", b"theirs"), &append, &layout).is_err());
        assert!(is_in_place(None, &append, &layout).is_err());
    }
}
