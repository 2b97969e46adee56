//! Where a person's earlier commits lie: a hint in a header of each commit, so that whoever has none of them in memory
//! can ask for many at once by their sequences instead of having the server search for them.
//!
//! Commits are counted from 0. The trail of commit `n` names the eight before it, the multiples of 8 in the block of 64
//! of its predecessor, the multiples of 64 in its block of 512, and the multiples of 512 in its block of 4,096. So each
//! trail follows from the one before it, and from any commit a few rounds of questions lead to all before it. At most
//! 29 are named, in about 150 bytes.
//!
//! A hint and no more: what is read by it counts only if it is linked without gap and its chain of digests holds. Where
//! a trail is not known, a new one begins.

use crate::engine::ports::Sequence;

/// How many of the nearest are named, and how many steps make one of the next size.
const WIDTH: u64 = 8;
const NEAREST: usize = WIDTH as usize;

/// How many sizes of steps there are besides the smallest.
const LEVELS: u32 = 3;

/// A header with more than so many sequences is none of ours.
const NAMED_MAX: usize = 64;

/// The trail of one commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// How many commits come before it, as far as is known.
    count: u64,
    /// Where those lie whose numbers [`numbers`] gives, the newest first.
    named: Vec<Sequence>,
}

impl Trail {
    /// That of a person's first commit.
    pub const fn of_first() -> Self {
        Self { count: 0, named: Vec::new() }
    }

    /// That of a commit of which nothing is known but the one before it; of a first one, where that is 0.
    pub fn after(before: Sequence) -> Self {
        if before == 0 { Self::of_first() } else { Self { count: 1, named: vec![before] } }
    }

    /// Becomes that of the commit after the one whose trail this is, and which lies at `sequence`.
    pub fn advance(&mut self, sequence: Sequence) {
        let newest = self.count;
        self.count = newest.saturating_add(1);
        self.named.insert(0, sequence);
        if newest.is_multiple_of(WIDTH * WIDTH) {
            // A block is full: of its steps only the larger ones stay.
            let mut known = std::iter::once(newest).chain(numbers(newest)).zip(std::mem::take(&mut self.named));
            let wanted = numbers(self.count).filter_map(|wanted| known.find(|(number, _)| *number == wanted));
            self.named = wanted.map(|(_, sequence)| sequence).collect();
        } else if newest.checked_sub(WIDTH).is_some_and(|number| !number.is_multiple_of(WIDTH)) {
            // The ninth before is no longer one of the nearest, and no step either.
            self.named.remove(NEAREST);
        }
    }

    /// That of the commit after the one whose trail this is, and which lies at `sequence`.
    pub fn next(&self, sequence: Sequence) -> Self {
        let mut next = self.clone();
        next.advance(sequence);
        next
    }

    /// How many bytes of memory it takes, besides itself.
    pub fn size(&self) -> usize {
        self.named.capacity() * size_of::<Sequence>()
    }

    /// How many commits come before it, as far as is known.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The sequences that it names, the newest first.
    pub fn named(&self) -> &[Sequence] {
        &self.named
    }

    /// The header: the count, and the distance from each to the next older one. The newest is not in it: the header of
    /// optimistic concurrency names it. `None` for the first commit.
    pub fn to_header(&self) -> Option<String> {
        const NUMBER_BYTES: usize = 8;
        let mut newer = *self.named.first()?;
        let mut text = String::with_capacity(NUMBER_BYTES * (1 + self.named.len()));
        let mut digits = itoa::Buffer::new();
        text.extend([digits.format(self.count), ":"]);
        for (index, older) in self.named.iter().skip(1).enumerate() {
            let comma = if index > 0 { "," } else { "" };
            text.extend([comma, digits.format(newer.saturating_sub(*older))]);
            newer = *older;
        }
        Some(text)
    }

    /// The trail that a commit's headers give; `None` when that is none.
    pub fn read(header: &str, before: Sequence) -> Option<Self> {
        let (count, distances) = header.split_once(':')?;
        let count: u64 = count.parse().ok()?;
        let mut named = vec![before];
        for distance in distances.split(',').filter(|distance| !distance.is_empty()).take(NAMED_MAX) {
            let older = named.last()?.checked_sub(distance.parse().ok().filter(|distance| *distance > 0)?)?;
            named.push(older);
        }
        let fits = named.iter().all(|sequence| *sequence > 0) && named.len() == numbers(count).count();
        fits.then_some(Self { count, named })
    }
}

/// The numbers of the commits that the trail of commit number `count` names, the newest first.
fn numbers(count: u64) -> impl Iterator<Item = u64> {
    let newest = count.checked_sub(1);
    let nearest = newest.map(|newest| newest.saturating_sub(WIDTH - 1)..=newest).into_iter().flatten().rev();
    let mut low = newest.map_or(0, |newest| newest.saturating_sub(WIDTH - 1));
    let steps = (1..=LEVELS).flat_map(move |level| {
        let step = WIDTH.pow(level);
        let newest = newest.unwrap_or(0);
        let block = newest - newest % (step * WIDTH);
        let first = low.div_ceil(step) * step;
        let down = move |nth: u64| first.checked_sub(nth * step).filter(|number| *number >= block);
        low = low.min(block);
        (1..=WIDTH).map_while(down)
    });
    nearest.chain(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// What the text on top says, written down another way.
    fn numbers_as_described(count: u64) -> BTreeSet<u64> {
        let Some(newest) = count.checked_sub(1) else { return BTreeSet::new() };
        let near = |number: &u64| newest - number < 8;
        let in_block =
            |number: &u64, step: u64| number.is_multiple_of(step) && number / (8 * step) == newest / (8 * step);
        (0..count).filter(|number| near(number) || [8, 64, 512].iter().any(|step| in_block(number, *step))).collect()
    }

    #[test]
    fn names_are_those_that_are_described_and_never_many() {
        for count in 0..5000 {
            let numbers: Vec<u64> = numbers(count).collect();
            assert!(numbers.is_sorted_by(|a, b| a > b), "{count}: {numbers:?}");
            assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), numbers_as_described(count), "{count}");
            assert!(numbers.len() <= 29, "{count}: {}", numbers.len());
        }
    }

    /// Sequences with gaps of all sizes, and the trails of a history there.
    fn history(length: u64) -> BTreeMap<Sequence, Trail> {
        let mut trails = BTreeMap::new();
        let (mut trail, mut sequence) = (Trail::of_first(), 1);
        for number in 0..length {
            trails.insert(sequence, trail.clone());
            trail = trail.next(sequence);
            sequence += 1 + (number * 7919) % 1500;
        }
        trails
    }

    #[test]
    fn each_trail_follows_from_the_one_before_and_survives_its_header() {
        let trails = history(5000);
        let sequences: Vec<Sequence> = trails.keys().copied().collect();
        for (number, trail) in trails.values().enumerate() {
            let named: Vec<Sequence> = numbers(number as u64).map(|number| sequences[number as usize]).collect();
            assert_eq!(trail.named(), named);
            match trail.to_header() {
                None => assert_eq!(number, 0),
                Some(header) => {
                    assert!(header.len() <= 170, "{header}");
                    assert_eq!(Trail::read(&header, sequences[number - 1]).as_ref(), Some(trail));
                }
            }
        }
    }

    #[test]
    fn a_few_rounds_lead_from_the_newest_to_all() {
        for (length, rounds_max) in [(1, 1), (9, 2), (10, 3), (100, 4), (1000, 6), (4000, 8)] {
            let trails = history(length);
            let mut found: BTreeSet<Sequence> = BTreeSet::new();
            let mut wanted: BTreeSet<Sequence> = trails.keys().next_back().copied().into_iter().collect();
            let mut rounds = 0;
            while !wanted.is_empty() {
                rounds += 1;
                found.extend(&wanted);
                let named = wanted.iter().flat_map(|sequence| trails[sequence].named());
                wanted = named.filter(|sequence| !found.contains(sequence)).copied().collect();
            }
            assert_eq!(found.len() as u64, length);
            assert!(rounds <= rounds_max, "{length} commits took {rounds} rounds");
        }
    }

    #[test]
    fn a_new_trail_begins_where_none_is_known() {
        let trail = Trail::after(70).next(90);
        assert_eq!((trail.named(), trail.to_header().as_deref()), ([90, 70].as_slice(), Some("2:20")));
    }

    #[test]
    fn what_is_no_trail_is_none() {
        assert_eq!(Trail::read("1:", 7), Some(Trail::after(7)));
        let huge = "9".repeat(400);
        let many = format!("3:{}1", "1,".repeat(5000));
        for header in
            ["", "1", ":", "x:", "1:1", "2:", "2:0", "2:7", "2:8", "2:-1", "2:1,", "3:1,1,1", "3:1;1", &huge, &many]
        {
            // `2:1,` is ours but for a comma too many.
            let expected = (header == "2:1,").then(|| Trail { count: 2, named: vec![7, 6] });
            assert_eq!(Trail::read(header, 7), expected, "{header:.20}");
        }
    }
}
