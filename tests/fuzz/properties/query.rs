//! A question as a stranger asks it. The input: the query's name and a line break, the payload.

use cim_domain_person::wire::query::{HISTORY_EVENTS_MAX, NotAQuery, Query, RecordedAt, decode};
use cim_domain_person::wire::reply::Code;

use super::marker::{assert_quotes_nothing, assert_short, marked};
use super::{choice, first_line};

/// What holds of every question.
pub fn hold(input: &[u8]) {
    let (name, payload) = first_line(input);
    match decode(name, payload) {
        Ok(query) => {
            assert_eq!(name, if matches!(query, Query::Get(_)) { "get" } else { "history" });
            assert_sound(&query);
        }
        Err(NotAQuery { problem, .. }) => {
            assert!(matches!(problem.code, Code::Malformed | Code::Invalid | Code::TooLarge), "{problem:?}");
            assert_short(&problem);
        }
    }
    if let Some(payload) = marked(payload, choice(input))
        && let Err(not) = decode(name, &payload)
    {
        assert_quotes_nothing(&not.problem);
    }
}

fn assert_sound(query: &Query) {
    match query {
        Query::Get(get) => assert!(get.at != RecordedAt::Version(0)),
        Query::History(history) => {
            assert!(history.from_version > 0 && (1..=HISTORY_EVENTS_MAX).contains(&history.limit));
        }
    }
}
