//! What others stored of the persons in memory, heard of without asking.
//!
//! A replica that follows the log is handed commits soon after they are stored, its own among them. They are hints: one may
//! be missing, and each is folded only when its person is asked for, and only where it continues what is in memory. The
//! append proves what is decided on them, as it proves all memory.

use std::collections::HashMap;

use crate::domain::PersonId;
use crate::engine::aggregate::Aggregate;
use crate::engine::ports::{Sequence, StoredCommit};

/// What a commit takes besides its payload, in bytes.
const ENTRY_BYTES: usize = 192;

/// The commits that one worker heard of and has not folded yet.
#[derive(Debug)]
pub struct Followed {
    commits: HashMap<PersonId, Vec<StoredCommit>>,
    bytes: usize,
    bytes_max: usize,
    newest: Sequence,
    /// Where the worker's own newest commits lay after the turn before the last one, and after the last one.
    own: [Sequence; 2],
}

/// What became of a person by what was heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Caught {
    /// Nothing newer was heard of.
    Nothing,
    /// It was brought up to date as far as was heard.
    Up,
    /// A commit at this position was heard of, and what comes before it was not.
    Gap(Sequence),
}

impl Followed {
    /// Nothing heard of, and room for about this many bytes of commits.
    pub fn new(bytes_max: usize) -> Self {
        Self { commits: HashMap::new(), bytes: 0, bytes_max, newest: 0, own: [0; 2] }
    }

    /// Takes in that something was stored there.
    pub fn heard_of(&mut self, sequence: Sequence) {
        self.newest = self.newest.max(sequence);
    }

    /// Keeps a commit of a person that is in memory. Whether there is room for more: if not, everybody is to
    /// [catch up](Self::catch_up).
    #[must_use]
    pub fn keep(&mut self, person: PersonId, commit: StoredCommit) -> bool {
        self.bytes += ENTRY_BYTES + commit.payload.len();
        self.commits.entry(person).or_default().push(commit);
        self.bytes <= self.bytes_max
    }

    /// Everybody of whom something was heard.
    pub fn persons(&self) -> Vec<PersonId> {
        self.commits.keys().copied().collect()
    }

    /// Gives up what was heard of a person.
    pub fn give_up(&mut self, person: PersonId) {
        drop(self.take(person));
    }

    /// Brings a person up to date by what was heard of it.
    pub fn catch_up(&mut self, aggregate: &mut Aggregate) -> Caught {
        // As ever where nothing is followed: then each command is spared the look-up.
        if self.commits.is_empty() {
            return Caught::Nothing;
        }
        let mut caught = Caught::Nothing;
        for commit in self.take(aggregate.person) {
            if commit.sequence <= aggregate.sequence {
                continue;
            }
            if aggregate.fold(&commit).is_err() {
                return Caught::Gap(commit.sequence);
            }
            caught = Caught::Up;
        }
        caught
    }

    /// A turn is over, in which the worker's own newest commit was stored there, if any was.
    pub fn turn_ended(&mut self, own: Option<Sequence>) {
        let [_, last] = self.own;
        self.own = [last, own.unwrap_or(last)];
    }

    /// Whether what is heard is up to date: the worker has heard of its own commits, but for those of the last turn.
    pub fn is_current(&self) -> bool {
        let [own, _] = self.own;
        self.newest > 0 && self.newest >= own
    }

    /// Forgets everything, and that anything was heard.
    pub fn forget(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    fn take(&mut self, person: PersonId) -> Vec<StoredCommit> {
        let commits = self.commits.remove(&person).unwrap_or_default();
        self.bytes -= commits.iter().map(|commit| ENTRY_BYTES + commit.payload.len()).sum::<usize>();
        commits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn it_says_when_there_is_no_more_room() {
        let commit = |sequence| StoredCommit { sequence, payload: vec![0; 1000].into() };
        let person = |number| PersonId::from_uuid(Uuid::from_u128(number));
        let mut followed = Followed::new(4 * 1024);
        assert!(followed.keep(person(1), commit(1)));
        assert!(followed.keep(person(2), commit(2)));
        assert!(followed.keep(person(1), commit(3)));
        assert!(!followed.keep(person(1), commit(4)));
        followed.give_up(person(1));
        assert_eq!(followed.persons(), [person(2)]);
        assert!(followed.keep(person(2), commit(5)));
        followed.give_up(person(2));
        assert_eq!(followed.bytes, 0);
    }

    #[test]
    fn it_is_current_while_the_commits_before_the_last_turn_were_heard_of() {
        let mut followed = Followed::new(1024);
        assert!(!followed.is_current(), "nothing was heard of");
        followed.heard_of(7);
        followed.turn_ended(Some(7));
        followed.turn_ended(Some(9));
        assert!(followed.is_current());
        followed.turn_ended(None);
        assert!(!followed.is_current(), "9 is late");
        followed.heard_of(8);
        assert!(!followed.is_current());
        followed.heard_of(10);
        assert!(followed.is_current());
        followed.forget();
        assert!(!followed.is_current());
    }
}
