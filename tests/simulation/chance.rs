//! Numbers that look random and are the same for the same seed.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A source of its own, so that drawing more here changes nothing there.
    pub fn split(&mut self) -> Self {
        Self(self.next())
    }

    /// A number below `end`; 0 if there is none.
    pub fn draw(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A place in something of this length.
    pub fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.draw(u64::try_from(len).unwrap())).unwrap()
    }

    /// True so often in a thousand.
    pub fn in_1000(&mut self, times: u64) -> bool {
        times > 0 && self.draw(1000) < times
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.place(from.len())]
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
