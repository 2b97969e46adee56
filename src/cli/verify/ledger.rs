//! What is kept of each person while the stream goes by, and what it says of the next commit.
//!
//! 65 bytes a place in the table, so that a million persons take at most 130 MiB. Where there are more persons than memory
//! allows, the stream is read several times, each time for a part of them.

use std::collections::HashMap;

use bincode::{Decode, Encode};
use uuid::Uuid;

use crate::cli::verify::finding::{Finding, Findings, Kind};
use crate::domain::{LifecycleState, PersonId, Timestamp};
use crate::engine::audit::Record;
use crate::engine::link::Link;
use crate::engine::ports::StoredCommit;
use crate::engine::router::worker_of;
use crate::nats::Scanned;
use crate::wire::commit::CommitError;
use crate::wire::digest::Digest;

/// Persons with damage that are read again and listed; others are counted.
const SUSPECTS_MAX: usize = 10_000;
/// What a place in the table takes, in bytes.
const PLACE_BYTES: u64 = 65;

/// Which of the persons are looked at, when not all fit into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// Which part, from 0.
    pub number: usize,
    /// Of how many.
    pub of: usize,
}

/// The persons of a part.
#[derive(Debug, Default)]
pub struct Ledger {
    persons: HashMap<[u8; 16], Packed>,
    /// How many persons the parts before this one had.
    pub persons_before: u64,
    /// Into whom a person was merged; of all parts.
    pub merged: HashMap<PersonId, PersonId>,
    /// Whose histories look damaged, and why.
    pub suspects: HashMap<PersonId, Finding>,
    /// Persons of whom more than the first so many were damaged.
    pub unlisted_suspects: u64,
    /// Commits that were looked at.
    pub commits: u64,
    /// Events in them.
    pub events: u64,
}

/// A [`Record`] in 48 bytes.
#[derive(Debug, Clone, Copy, Encode, Decode)]
pub struct Packed {
    version: u64,
    sequence: u64,
    chain: [u8; 16],
    last_event_at: i64,
    lifecycle: Option<LifecycleState>,
    is_suspect: bool,
}

impl Packed {
    fn new(record: &Record, is_suspect: bool) -> Self {
        let Link { version, sequence, chain, last_event_at } = record.link;
        let (chain, last_event_at) = (chain.to_bytes(), last_event_at.as_micros());
        Self { version, sequence, chain, last_event_at, lifecycle: record.lifecycle, is_suspect }
    }

    fn record(&self) -> Record {
        let link = Link {
            version: self.version,
            sequence: self.sequence,
            chain: Digest::from_bytes(self.chain),
            last_event_at: Timestamp::from_micros(self.last_event_at),
        };
        Record { link, lifecycle: self.lifecycle }
    }
}

impl Part {
    /// In how many parts so many persons have to be looked at, with so many bytes for the table.
    pub fn count(persons: u64, memory_bytes: u64) -> usize {
        let fits = |parts: &u64| table_bytes(persons / parts + persons / parts / 50 + 64) <= memory_bytes;
        let parts = (1..=persons.max(1)).find(fits).unwrap_or(1);
        usize::try_from(parts).unwrap_or(usize::MAX)
    }

    /// Whether this person is looked at in it.
    pub fn has(self, person: PersonId) -> bool {
        self.of <= 1 || worker_of(person, self.of) == self.number
    }
}

/// What a table for so many persons takes: its places are a power of two, an eighth of which stay free.
fn table_bytes(persons: u64) -> u64 {
    (persons + persons / 7 + 1).next_power_of_two() * PLACE_BYTES
}

impl Ledger {
    /// Makes room for so many persons at once, so that the table never has to be copied into a larger one.
    pub fn reserve(&mut self, persons: u64) {
        self.persons.reserve(usize::try_from(persons).unwrap_or(0));
    }

    /// Forgets the persons of a part, before the next one.
    pub fn next_part(&mut self) {
        self.persons_before += self.len();
        self.persons.clear();
    }

    /// How many persons of this part were seen.
    pub fn len(&self) -> u64 {
        u64::try_from(self.persons.len()).unwrap_or(u64::MAX)
    }

    /// Whether this person was seen, if they are of this part.
    pub fn knows(&self, person: PersonId) -> bool {
        self.persons.contains_key(&key(person))
    }

    /// Takes the next message of the stream.
    pub fn take(&mut self, person: PersonId, message: Scanned, part: Part, findings: &mut Findings) {
        if !part.has(person) {
            return;
        }
        let place = self.persons.entry(key(person)).or_insert_with(|| Packed::new(&Record::start(), false));
        if place.is_suspect || message.sequence <= place.sequence {
            return;
        }
        self.commits += 1;
        let stored = StoredCommit { sequence: message.sequence, payload: message.payload.into() };
        match place.record().check(person, &stored) {
            Ok(checked) => {
                *place = Packed::new(&checked.record, false);
                self.events += u64::try_from(checked.commit.events.len()).unwrap_or(0);
                if let Some(target) = checked.merged_into {
                    self.merged.insert(person, target);
                }
                if let Some((version, kind)) = checked.misfit {
                    let what = format!("version {version} is {}, which was not possible then", kind.as_str());
                    findings.add(Finding::of(Kind::EventImpossible, person, Some(stored.sequence), what));
                }
                if let Some(what) = message.hints.and_then(|hints| hints.differ(&checked.commit)) {
                    findings.add(Finding::of(Kind::HeaderDiffers, person, Some(stored.sequence), what));
                }
            }
            Err(error) => {
                place.is_suspect = true;
                let version = place.version;
                self.suspect(damage(person, stored.sequence, version, &error));
            }
        }
    }

    fn suspect(&mut self, finding: Finding) {
        let Some(person) = finding.person else { return };
        if self.suspects.len() < SUSPECTS_MAX {
            self.suspects.insert(person, finding);
        } else {
            self.unlisted_suspects += 1;
        }
    }

    /// What the leader showed of a person who had looked damaged.
    pub fn correct(&mut self, person: PersonId, record: &Record, is_damaged: bool) {
        self.persons.insert(key(person), Packed::new(record, is_damaged));
    }

    /// The persons of this part, to be saved.
    pub fn saved(&self) -> impl ExactSizeIterator<Item = ([u8; 16], Packed)> {
        self.persons.iter().map(|(person, packed)| (*person, *packed))
    }

    /// One of those that were saved.
    pub fn restore(&mut self, person: [u8; 16], packed: Packed) {
        self.persons.insert(person, packed);
    }
}

/// A damaged history as a finding.
pub fn damage(person: PersonId, sequence: u64, whole_up_to: u64, error: &CommitError) -> Finding {
    let kind = match error {
        CommitError::TooNew(_) => Kind::HistoryTooNew,
        CommitError::Damaged(_) => Kind::HistoryDamaged,
    };
    let finding = Finding::of(kind, person, Some(sequence), error.to_string());
    Finding { whole_up_to: Some(whole_up_to), ..finding }
}

fn key(person: PersonId) -> [u8; 16] {
    Uuid::into_bytes(person.uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_decides_in_how_many_parts_persons_are_looked_at() {
        const MIB: u64 = 1024 * 1024;
        for (persons, memory, parts) in
            [(0, MIB, 1), (1_000, MIB, 1), (1_000_000, 256 * MIB, 1), (1_700_000, 256 * MIB, 1)]
        {
            assert_eq!(Part::count(persons, memory), parts, "{persons} in {memory}");
        }
        for persons in [2_000_000, 10_000_000] {
            let parts = Part::count(persons, 256 * MIB);
            assert!(parts > 1 && table_bytes(persons / parts as u64) <= 256 * MIB, "{persons}: {parts}");
        }
    }

    #[test]
    fn what_is_kept_of_a_person_is_small_and_comes_back_as_it_was() {
        assert!(size_of::<([u8; 16], Packed)>() < PLACE_BYTES as usize);
        let link = Link { version: 7, sequence: 9, chain: Digest::of(b"x"), last_event_at: Timestamp::from_micros(-5) };
        let record = Record { link, lifecycle: Some(LifecycleState::Archived) };
        assert_eq!(Packed::new(&record, true).record(), record);
    }

    #[test]
    fn every_person_is_of_one_part() {
        for number in 0..100 {
            let person = PersonId::from_uuid(Uuid::from_u128(number * 7919));
            let parts = (0..3).filter(|number| Part { number: *number, of: 3 }.has(person)).count();
            assert_eq!(parts, 1);
        }
    }
}
