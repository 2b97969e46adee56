//! How often what is in memory turns out to be stale, and what follows from it: following what others store, and looking
//! for it where what is heard is not enough.
//!
//! A worker whose replica is alone finds its memory fresh: a commit decided on it is stored at once. With three replicas
//! that share the commands of a person by chance, two of three times another one was there last. A commit decided on a
//! stale state costs a decision, an append in vain and a read; a look before costs the read alone.

/// The part of stale finds among the latest ones, of `WHOLE`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Staleness {
    part: u32,
}

/// All of them.
const WHOLE: u32 = 1 << 16;

/// Each find weighs this part; so about twice as many are remembered.
const WEIGHT_DIVISOR: u32 = 64;

/// From this part on it pays to look first: the look costs about a third of what a conflict does.
const LOOK_FIRST_MIN: u32 = WHOLE / 4;

impl Staleness {
    /// Takes in one find.
    pub fn note(&mut self, is_stale: bool) {
        self.part -= self.part / WEIGHT_DIVISOR;
        if is_stale {
            self.part += WHOLE / WEIGHT_DIVISOR;
        }
    }

    /// Whether it pays to learn of newer commits before something is decided on what is in memory.
    pub const fn is_high(self) -> bool {
        self.part >= LOOK_FIRST_MIN
    }

    /// Whether more is stale than not.
    pub const fn is_the_rule(self) -> bool {
        self.part > WHOLE / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(stale_of_three: usize, finds: usize) -> Staleness {
        let mut staleness = Staleness::default();
        (0..finds).for_each(|find| staleness.note(find % 3 < stale_of_three));
        staleness
    }

    #[test]
    fn it_is_high_with_rivals_and_low_without() {
        assert!(!Staleness::default().is_high());
        assert!(!after(0, 10_000).is_high());
        assert!(after(2, 100).is_high());
        assert!(after(3, 100_000).is_high(), "nothing overflows");
        let mut alone_again = after(2, 10_000);
        (0..200).for_each(|_| alone_again.note(false));
        assert!(!alone_again.is_high());
    }

    #[test]
    fn a_single_conflict_changes_nothing() {
        let mut staleness = after(0, 1000);
        (0..5).for_each(|_| staleness.note(true));
        assert!(!staleness.is_high());
    }
}
