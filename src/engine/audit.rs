//! Checking a history commit by commit, keeping so little of each person that millions fit into memory.
//!
//! Folding cannot fail, so a fold proves nothing by itself. What is checked here beside the chain is that every event was
//! possible when it happened: that is told by the person's lifecycle alone, which takes one byte.

use std::str::FromStr;

use bincode::{Decode, Encode};

use crate::domain::{Event, EventKind, LifecycleState, PersonId};
use crate::engine::link::Link;
use crate::engine::ports::StoredCommit;
use crate::wire::commit::{self, Commit, CommitError};

/// What is kept of a person between two commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Record {
    /// Where the history stands.
    pub link: Link,
    /// The state of the person's lifecycle; `None` before the creation.
    pub lifecycle: Option<LifecycleState>,
}

/// What stands beside a stored commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// The header `Event-Type`.
    pub event_types: Option<String>,
    /// The header `Person-Version`.
    pub person_version: Option<String>,
}

/// A commit that checks out.
#[derive(Debug)]
pub struct Checked {
    /// What is known of the person after it.
    pub record: Record,
    /// It, decoded.
    pub commit: Commit,
    /// The first event that was not possible when it happened, by its version.
    pub misfit: Option<(u64, EventKind)>,
    /// Into whom it merged the person.
    pub merged_into: Option<PersonId>,
}

impl Record {
    /// Before the first commit.
    pub fn start() -> Self {
        Self { link: Link::start(), lifecycle: None }
    }

    /// Checks the next commit of this person. An error where it does not continue the history.
    pub fn check(&self, person: PersonId, stored: &StoredCommit) -> Result<Checked, CommitError> {
        let commit = commit::decode(&stored.payload)?;
        let link = self.link.follow(person, stored, &commit).map_err(CommitError::Damaged)?;
        let mut record = Self { link, lifecycle: self.lifecycle };
        let (mut misfit, mut merged_into) = (None, None);
        for event in &commit.events {
            match after(record.lifecycle, event.event.kind()) {
                Some(state) => record.lifecycle = Some(state),
                // What stands in the place of events that were given up is possible at any time.
                None if commit.is_repair => {}
                None => misfit = misfit.or(Some((event.sequence, event.event.kind()))),
            }
            if let Event::PersonMergedInto { merged_into_id, .. } = &event.event {
                merged_into = Some(*merged_into_id);
            }
        }
        Ok(Checked { record, commit, misfit, merged_into })
    }
}

/// The state after an event of this type; `None` where it is not possible.
fn after(state: Option<LifecycleState>, kind: EventKind) -> Option<LifecycleState> {
    use LifecycleState::{Active, Archived, Deactivated, Deceased, MergedInto};
    match (kind, state) {
        (EventKind::PersonCreated, None) | (EventKind::PersonReactivated, Some(Deactivated)) => Some(Active),
        (
            EventKind::NameUpdated
            | EventKind::AttributeRecorded
            | EventKind::AttributeUpdated
            | EventKind::AttributeInvalidated,
            Some(Active),
        ) => state,
        (EventKind::BirthDateSet, Some(Active | Deactivated)) => state,
        (EventKind::DeathRecorded, Some(Active | Deactivated)) => Some(Deceased),
        (EventKind::PersonDeactivated, Some(Active)) => Some(Deactivated),
        (EventKind::PersonMergedInto, Some(Active)) => Some(MergedInto),
        (EventKind::PersonArchived, Some(Active | Deactivated | Deceased)) => Some(Archived),
        _ => None,
    }
}

impl Hints {
    /// What differs from the commit that they stand beside; `None` where they agree.
    pub fn differ(&self, commit: &Commit) -> Option<String> {
        let version = self.person_version.as_deref().and_then(|text| u64::from_str(text).ok());
        if version != Some(commit.version) {
            return Some("the header Person-Version differs from the commit".to_owned());
        }
        let mut kinds = commit.events.iter().map(|record| record.event.kind().as_str());
        let mut named = self.event_types.as_deref().unwrap_or_default().split(',');
        let same = kinds.all(|kind| named.next() == Some(kind)) && named.next().is_none();
        (!same).then(|| "the header Event-Type differs from the commit".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each of these may happen to a person in this state is what `domain::decide` says too.
    #[test]
    fn every_event_has_states_in_which_it_is_possible() {
        use LifecycleState::{Active, Archived, Deactivated, Deceased, MergedInto};
        let possible = |kind: EventKind| -> Vec<LifecycleState> {
            LifecycleState::ALL.iter().copied().filter(|state| after(Some(*state), kind).is_some()).collect()
        };
        for kind in EventKind::ALL {
            let expected: &[LifecycleState] = match kind {
                EventKind::PersonCreated => &[],
                EventKind::BirthDateSet | EventKind::DeathRecorded => &[Active, Deactivated],
                EventKind::PersonReactivated => &[Deactivated],
                EventKind::PersonArchived => &[Active, Deactivated, Deceased],
                _ => &[Active],
            };
            assert_eq!(possible(*kind), expected, "{kind:?}");
            assert_eq!(after(None, *kind).is_some(), *kind == EventKind::PersonCreated);
        }
        assert_eq!(after(Some(Active), EventKind::PersonMergedInto), Some(MergedInto));
        assert_eq!(after(Some(Deactivated), EventKind::DeathRecorded), Some(Deceased));
        assert_eq!(after(Some(Deceased), EventKind::PersonArchived), Some(Archived));
    }
}
