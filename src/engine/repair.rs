//! What stands in the place of events that were given up because a history was damaged.
//!
//! A repair keeps the commits up to a version byte for byte. Each version beyond it that anybody may have seen, and one
//! more, is filled by an event that changes nothing and that every release can read: an attribute that nobody has is
//! invalidated. So versions stay without gap, and no version that was handed out before is the newest one again. Commits
//! with such events bear the member `repaired`, which readers ignore.

use serde::Serialize;
use uuid::Uuid;

use crate::domain::{AttributeType, Event, EventKind, PersonId, Timestamp};
use crate::engine::link::Link;
use crate::engine::ports::{CommitHeaders, Sequence};
use crate::wire::commit::{CommitBuilder, CommitCommand, EVENTS_MAX, EventRecord};
use crate::wire::digest::Digest;

/// Messages that are named in a commit; the others are counted.
pub const GIVEN_UP_NAMED_MAX: usize = 256;

/// What was given up, why, and on whose word: the member `repaired` of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// The version up to which everything was kept.
    pub kept_to: u64,
    /// The highest version that anybody may have seen.
    pub given_up_to: u64,
    /// How many messages were given up.
    pub messages: u64,
    /// The first of them.
    pub given_up: Vec<GivenUp>,
    /// Who confirmed it.
    pub confirmed_by: String,
    /// Why.
    pub reason: String,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GivenUp {
    /// Where it lay.
    pub sequence: Sequence,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// A commit to be stored in the place of given up ones.
#[derive(Debug, Clone)]
pub struct Filling {
    /// Its bytes.
    pub payload: Vec<u8>,
    /// What goes beside it.
    pub headers: CommitHeaders,
}

/// The type of the attribute that nobody has.
fn nobodys_attribute() -> AttributeType {
    let text = |text: &str| text.to_owned();
    AttributeType::Custom {
        organization: text("person-service"),
        attribute_name: text("history"),
        category: text("repair"),
    }
}

/// The commits that fill the versions after the kept ones, up to one beyond what anybody may have seen. `new_id` makes a
/// UUIDv7.
pub fn filling(
    person: PersonId,
    kept: &Link,
    repaired: &Repaired,
    now: Timestamp,
    mut new_id: impl FnMut() -> Uuid,
) -> Result<Vec<Filling>, serde_json::Error> {
    let at = now.max(kept.last_event_at);
    let (mut version, mut previous) = (kept.version, kept.chain);
    let last = repaired.given_up_to.max(kept.version) + 1;
    let record = serde_json::to_string(repaired)?;
    let mut commits = Vec::new();
    while version < last {
        let command_id = new_id().to_string();
        let mut builder = CommitBuilder::default();
        builder.begin_command(CommitCommand {
            command_id: command_id.clone(),
            digest: Digest::of(record.as_bytes()),
            events: 0,
            traceparent: None,
            // No retry can bear this id, so nobody has to remember it.
            generated: true,
        });
        let events = usize::try_from(last - version).unwrap_or(EVENTS_MAX).min(EVENTS_MAX);
        for _ in 0..events {
            version += 1;
            builder.add_event(&EventRecord {
                sequence: version,
                event_id: new_id(),
                event: Event::AttributeInvalidated {
                    person_id: person,
                    attribute_type: nobodys_attribute(),
                    reason: Some(repaired.reason.clone()),
                    invalidated_at: at,
                },
                timestamp: at,
                correlation_id: command_id.clone(),
                causation_id: command_id.clone(),
                actor: Some(repaired.confirmed_by.clone()),
            })?;
        }
        let payload = with_record(builder.encode(person, version, previous)?, &record);
        previous = Digest::of(&payload);
        let event_types = std::iter::repeat_n(EventKind::AttributeInvalidated, events).collect();
        commits.push(Filling {
            payload,
            headers: CommitHeaders { event_types, person_version: version, ..CommitHeaders::default() },
        });
    }
    Ok(commits)
}

/// A commit's JSON with one member more.
fn with_record(mut commit: Vec<u8>, record: &str) -> Vec<u8> {
    commit.pop();
    commit.extend_from_slice(b",\"repaired\":");
    commit.extend_from_slice(record.as_bytes());
    commit.push(b'}');
    commit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::aggregate::Aggregate;
    use crate::engine::ports::StoredCommit;

    #[test]
    fn what_was_given_up_is_filled_with_what_changes_nothing() {
        let person = PersonId::from_uuid(Uuid::from_u128(7));
        for (given_up_to, versions) in [(0, 1), (5, 6), (600, 601)] {
            let repaired = Repaired {
                kept_to: 0,
                given_up_to,
                messages: 1,
                given_up: vec![GivenUp { sequence: 3, digest: Digest::of(b"x") }],
                confirmed_by: "Somebody".to_owned(),
                reason: "a disk".to_owned(),
            };
            let mut aggregate = Aggregate::absent(person);
            let now = Timestamp::from_micros(1_700_000_000_000_000);
            let commits = filling(person, &Link::start(), &repaired, now, Uuid::now_v7).expect("JSON");
            for (sequence, filling) in (1..).zip(commits) {
                let stored = StoredCommit { sequence, payload: filling.payload.clone().into() };
                aggregate.fold(&stored).expect("it continues");
                let commit = crate::wire::commit::decode(&filling.payload).expect("a commit");
                assert!(commit.is_repair && filling.headers.person_version == commit.version);
            }
            assert_eq!((aggregate.version, aggregate.state), (versions, None));
            assert_eq!(aggregate.receipts.oldest_sequence(), None);
        }
    }
}
