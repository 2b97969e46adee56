//! Which letter may go next: many at the same time, those about one person one after the other.
//!
//! Every person has a lane, in which the letters about them stand in the order of their lines; one about two persons
//! stands in both. A letter may go when it is the first in all its lanes, and it keeps its place until it is done, however
//! often it has to be sent again. Pure: time comes in as a number, and what is sent is somebody else's business.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Instant;

use crate::cli::send::letter::Letter;
use crate::domain::PersonId;

/// Letters that are not done.
#[derive(Debug, Default)]
pub struct Schedule {
    /// By the numbers of their lines.
    letters: HashMap<u64, Letter>,
    lanes: HashMap<PersonId, VecDeque<u64>>,
    /// Those that may go, in the order in which they came to.
    ready: VecDeque<u64>,
    /// Those that may go again later.
    resting: BinaryHeap<Reverse<(Instant, u64)>>,
    bytes: usize,
}

impl Schedule {
    /// How many letters are not done, those that are under way included.
    pub fn len(&self) -> usize {
        self.letters.len()
    }

    /// Whether all are done.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// How many bytes their payloads have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes in the letter of the next line.
    pub fn push(&mut self, letter: Letter) {
        let line = letter.line;
        for person in &letter.persons {
            self.lanes.entry(*person).or_default().push_back(line);
        }
        self.bytes += letter.payload.len();
        let first = self.is_first(&letter);
        self.letters.insert(line, letter);
        if first {
            self.ready.push_back(line);
        }
    }

    /// The line of a letter that may go now. Whoever takes it says [`rest`](Self::rest) or [`done`](Self::done) of it.
    pub fn next(&mut self, now: Instant) -> Option<u64> {
        match self.resting.peek() {
            Some(Reverse((due, line))) if *due <= now => {
                let line = *line;
                self.resting.pop();
                Some(line)
            }
            _ => self.ready.pop_front(),
        }
    }

    /// When the next of those that rest may go.
    pub fn next_due(&self) -> Option<Instant> {
        self.resting.peek().map(|Reverse((due, _))| *due)
    }

    /// A letter that is not done.
    pub fn letter(&self, line: u64) -> Option<&Letter> {
        self.letters.get(&line)
    }

    /// A letter has to go again, at this time.
    pub fn rest(&mut self, line: u64, until: Instant) {
        self.resting.push(Reverse((until, line)));
    }

    /// A letter is done: those behind it move up.
    pub fn done(&mut self, line: u64) -> Option<Letter> {
        let letter = self.letters.remove(&line)?;
        self.bytes -= letter.payload.len();
        let mut next = Vec::new();
        for person in &letter.persons {
            let Some(lane) = self.lanes.get_mut(person) else { continue };
            lane.pop_front();
            match lane.front() {
                Some(first) => next.push(*first),
                None => drop(self.lanes.remove(person)),
            }
        }
        next.sort_unstable();
        next.dedup();
        for line in next {
            if self.letters.get(&line).is_some_and(|letter| self.is_first(letter)) {
                self.ready.push_back(line);
            }
        }
        Some(letter)
    }

    /// All that are not done, in the order of their lines.
    pub fn abandon(&mut self) -> Vec<Letter> {
        let mut letters: Vec<Letter> = std::mem::take(self).letters.into_values().collect();
        letters.sort_by_key(|letter| letter.line);
        letters
    }

    fn is_first(&self, letter: &Letter) -> bool {
        let mut lanes = letter.persons.iter().filter_map(|person| self.lanes.get(person));
        lanes.all(|lane| lane.front() == Some(&letter.line))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn letter(line: u64, persons: &[u128]) -> Letter {
        let persons = persons.iter().map(|n| PersonId::from_uuid(uuid::Uuid::from_u128(*n))).collect();
        Letter { persons, line, ..Letter::single(vec![0; 10], &line.to_string()) }
    }

    fn schedule(letters: &[(u64, &[u128])]) -> Schedule {
        let mut schedule = Schedule::default();
        letters.iter().for_each(|(line, persons)| schedule.push(letter(*line, persons)));
        schedule
    }

    fn all_ready(schedule: &mut Schedule) -> Vec<u64> {
        let now = Instant::now();
        std::iter::from_fn(|| schedule.next(now)).collect()
    }

    #[test]
    fn persons_go_side_by_side_and_the_letters_about_one_in_a_row() {
        let mut schedule = schedule(&[(1, &[1]), (2, &[1]), (3, &[2]), (4, &[1]), (5, &[])]);
        assert_eq!(all_ready(&mut schedule), [1, 3, 5]);
        schedule.done(1);
        assert_eq!(all_ready(&mut schedule), [2]);
        schedule.done(3);
        assert_eq!(all_ready(&mut schedule), [] as [u64; 0]);
        schedule.done(2);
        assert_eq!(all_ready(&mut schedule), [4]);
        schedule.done(4);
        schedule.done(5);
        assert!(schedule.is_empty() && schedule.bytes() == 0 && schedule.lanes.is_empty());
    }

    #[test]
    fn a_merge_waits_for_both_persons_and_both_wait_for_it() {
        let mut schedule = schedule(&[(1, &[1]), (2, &[2]), (3, &[1, 2]), (4, &[2]), (5, &[1])]);
        assert_eq!(all_ready(&mut schedule), [1, 2]);
        schedule.done(2);
        assert_eq!(all_ready(&mut schedule), [] as [u64; 0]);
        schedule.done(1);
        assert_eq!(all_ready(&mut schedule), [3]);
        schedule.done(3);
        let mut ready = all_ready(&mut schedule);
        ready.sort_unstable();
        assert_eq!(ready, [4, 5]);
    }

    #[test]
    fn two_letters_about_the_same_two_persons_move_up_once() {
        let mut schedule = schedule(&[(1, &[1, 2]), (2, &[2, 1])]);
        assert_eq!(all_ready(&mut schedule), [1]);
        schedule.done(1);
        assert_eq!(all_ready(&mut schedule), [2]);
    }

    #[test]
    fn what_rests_keeps_its_place() {
        let mut schedule = schedule(&[(1, &[1]), (2, &[1])]);
        let now = Instant::now();
        assert_eq!(schedule.next(now), Some(1));
        let later = now + Duration::from_secs(1);
        schedule.rest(1, later);
        assert_eq!((schedule.next(now), schedule.next_due()), (None, Some(later)));
        assert_eq!(schedule.next(later), Some(1));
        assert_eq!(schedule.abandon().iter().map(|letter| letter.line).collect::<Vec<_>>(), [1, 2]);
    }
}
