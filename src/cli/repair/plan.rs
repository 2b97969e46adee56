//! What a repair would keep and what it would give up.

use std::ops::ControlFlow;

use serde::Deserialize;

use crate::cli::store::StoreReader;
use crate::domain::PersonId;
use crate::engine::audit::Record;
use crate::engine::link::Link;
use crate::engine::ports::{Sequence, StoredCommit, Unavailable};
use crate::engine::repair::{GIVEN_UP_NAMED_MAX, GivenUp};
use crate::wire::commit::{self, CommitError, EVENTS_MAX};
use crate::wire::digest::Digest;
use crate::wire::snapshot;

/// Versions that may be filled.
pub const FILLED_MAX: u64 = 100_000;

/// What there is of a person, and what would become of it.
#[derive(Debug)]
pub struct Plan {
    /// Where the history stands after what is kept.
    pub kept: Link,
    /// How many commits are kept.
    pub kept_commits: u64,
    /// The version up to which everything checks out.
    pub whole_up_to: u64,
    /// Why it does not go on from there.
    pub why: Option<String>,
    /// Whether that is no damage, but what a newer release wrote.
    pub is_too_new: bool,
    /// How many messages are given up.
    pub given_up: u64,
    /// How many of them check out.
    pub given_up_whole: u64,
    /// The first of them.
    pub named: Vec<GivenUp>,
    /// The highest version that anybody may have seen.
    pub highest: u64,
    /// The highest version that a commit claims and that is not believed, being more than may be filled.
    pub not_believed: Option<u64>,
    /// The version of the snapshot, where there is one that can be read.
    pub snapshot: Option<u64>,
    /// Where the person's newest message lies.
    pub tip: Sequence,
    /// The ends of commits next to the version that was asked for, where none ends there.
    pub no_end_there: Option<(u64, Option<u64>)>,
}

impl Plan {
    /// Reads all that the leader has of a person. Without `keep_to` everything is kept that checks out.
    pub fn make(
        reader: &mut StoreReader,
        person: PersonId,
        keep_to: Option<u64>,
        snapshot: Option<&[u8]>,
    ) -> Result<Self, Unavailable> {
        let mut plan = Self {
            kept: Link::start(),
            kept_commits: 0,
            whole_up_to: 0,
            why: None,
            is_too_new: false,
            given_up: 0,
            given_up_whole: 0,
            named: Vec::new(),
            highest: 0,
            not_believed: None,
            snapshot: snapshot.and_then(|bytes| snapshot::decode(person, bytes).ok()).map(|snapshot| snapshot.version),
            tip: 0,
            no_end_there: None,
        };
        let mut record = Record::start();
        let mut next_end = None;
        reader.each(person, 1, |stored| {
            plan.tip = stored.sequence;
            let checked = if plan.why.is_none() { Some(record.check(person, stored)) } else { None };
            match checked {
                Some(Ok(checked)) => {
                    record = checked.record;
                    plan.whole_up_to = record.link.version;
                    if keep_to.is_none_or(|version| record.link.version <= version) {
                        plan.kept = record.link;
                        plan.kept_commits += 1;
                    } else {
                        next_end = next_end.or(Some(record.link.version));
                        plan.given_up_whole += 1;
                        plan.give_up(person, stored);
                    }
                }
                Some(Err(error)) => {
                    plan.is_too_new = matches!(error, CommitError::TooNew(_));
                    plan.why = Some(format!("at stream sequence {}: {error}", stored.sequence));
                    plan.give_up(person, stored);
                }
                None => plan.give_up(person, stored),
            }
            Ok::<_, Unavailable>(ControlFlow::Continue(()))
        })?;
        plan.highest = plan.highest.max(plan.kept.version).max(plan.snapshot.unwrap_or(0));
        if keep_to.is_some_and(|version| version != plan.kept.version) {
            plan.no_end_there = Some((plan.kept.version, next_end));
        }
        Ok(plan)
    }

    /// Whether there is anything to be repaired.
    pub fn is_needed(&self) -> bool {
        self.given_up > 0 || self.highest > self.kept.version
    }

    fn give_up(&mut self, person: PersonId, stored: &StoredCommit) {
        self.given_up += 1;
        if self.named.len() < GIVEN_UP_NAMED_MAX {
            self.named.push(GivenUp { sequence: stored.sequence, digest: Digest::of(&stored.payload) });
        }
        let at_least = self.highest.max(self.kept.version) + 1;
        let seen = match self.claimed(person, stored) {
            Ok(version) => version,
            Err(version) => {
                self.not_believed = self.not_believed.max(version);
                at_least
            }
        };
        self.highest = self.highest.max(seen);
    }

    /// The version that a commit which is given up says it leads to, as far as it is to be believed.
    fn claimed(&self, person: PersonId, stored: &StoredCommit) -> Result<u64, Option<u64>> {
        #[derive(Deserialize)]
        struct Outline {
            version: u64,
        }
        // A commit of this person was handed out with its version, however many are missing before it.
        if let Ok(commit) = commit::decode(&stored.payload)
            && commit.aggregate_id == person
        {
            let is_fillable = commit.version.saturating_sub(self.kept.version) <= FILLED_MAX;
            return if is_fillable { Ok(commit.version) } else { Err(Some(commit.version)) };
        }
        // What is damaged may claim anything: no commit has more events than one may have.
        let events_max = u64::try_from(EVENTS_MAX).unwrap_or(u64::MAX);
        let possible = self.kept.version.saturating_add(self.given_up.saturating_mul(events_max));
        let outline = serde_json::from_slice::<Outline>(&stored.payload).ok();
        outline.map(|outline| outline.version).filter(|version| *version <= possible).ok_or(None)
    }
}
