//! Persons who are better not read directly, for a while.
//!
//! A stored message with malformed headers costs the connection each time that it is read directly; the leader's answers wrap
//! the headers up and do not. Whoever was being read when a connection was lost is read from the leader for a while: there
//! may be such a message. More often it was an ordinary loss, and a leader shows one message at a time: so it is tried again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::domain::PersonId;

/// Persons remembered. When they are that many, all are forgotten.
const SHUNNED_MAX: usize = 1024;

/// How long each is read from the leader alone.
const SHUNNED_FOR: Duration = Duration::from_secs(60);

/// Who, and since when.
#[derive(Debug, Default)]
pub(super) struct Shunned(HashMap<PersonId, Instant>);

impl Shunned {
    /// Remembers these.
    pub(super) fn add(&mut self, persons: impl IntoIterator<Item = PersonId>, now: Instant) {
        if self.0.len() >= SHUNNED_MAX {
            self.0.clear();
        }
        self.0.extend(persons.into_iter().map(|person| (person, now)));
    }

    /// Forgets those whose time is over.
    pub(super) fn forgive(&mut self, now: Instant) {
        self.0.retain(|_, since| now.saturating_duration_since(*since) < SHUNNED_FOR);
    }

    /// Whether the person is one of them.
    pub(super) fn contains(&self, person: PersonId) -> bool {
        self.0.contains_key(&person)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_shunned_for_longer_than_a_minute() {
        let [one, two] = [1, 2].map(|number| PersonId::from_uuid(uuid::Uuid::from_u128(number)));
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut shunned = Shunned::default();
        shunned.add([one], start);
        shunned.add([two], start + 30 * second);
        shunned.forgive(start + 59 * second);
        assert!(shunned.contains(one) && shunned.contains(two));
        shunned.forgive(start + 60 * second);
        assert!(!shunned.contains(one) && shunned.contains(two));
        // The message is still there: the connection was lost again.
        shunned.add([one], start + 61 * second);
        shunned.forgive(start + 100 * second);
        assert!(shunned.contains(one) && !shunned.contains(two));
    }
}
