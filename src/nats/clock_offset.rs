//! How far the clock of this machine is off from the server's, and how much of that is too much.

use std::fmt;

use crate::domain::Timestamp;
use crate::engine::id_spans::CLOCK_OFFSET_MAX_MICROS;

/// An offset above which somebody should know, in microseconds: clocks that are set by NTP are some milliseconds off.
pub const CLOCK_OFFSET_NOTABLE_MICROS: u64 = 1_000_000;

/// How far this machine's clock is off from the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// By how much ours is ahead, in microseconds; less than 0 where it is behind.
    pub ahead_micros: i64,
    /// How far from that the truth may be: half the time that the question took.
    pub give_or_take_micros: u64,
}

impl ClockOffset {
    /// What follows from an answer that names the server's time: that is some moment between question and answer.
    pub fn between(asked: Timestamp, said: Timestamp, answered: Timestamp) -> Self {
        let give_or_take_micros = answered.micros_since(asked) / 2;
        let middle = asked.as_micros().saturating_add_unsigned(give_or_take_micros);
        Self { ahead_micros: middle.saturating_sub(said.as_micros()), give_or_take_micros }
    }

    /// How far they are apart at least, in microseconds.
    pub fn at_least_micros(&self) -> u64 {
        self.ahead_micros.unsigned_abs().saturating_sub(self.give_or_take_micros)
    }

    /// What to think of it.
    pub fn verdict(&self) -> ClockVerdict {
        match self.at_least_micros() {
            0..=CLOCK_OFFSET_NOTABLE_MICROS => ClockVerdict::Right,
            micros if micros <= CLOCK_OFFSET_MAX_MICROS => ClockVerdict::Notable,
            _ => ClockVerdict::TooFar,
        }
    }

    /// Why a clock that is too far off is in the way, for people.
    pub fn too_far(&self) -> String {
        let minutes = CLOCK_OFFSET_MAX_MICROS / 60_000_000;
        format!("{self}, more than {minutes} min: no command is to bear such a time; set both clocks by NTP")
    }
}

/// What to think of an offset. What cannot be told for the time that the question took is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockVerdict {
    /// They agree.
    Right,
    /// Somebody should set them.
    Notable,
    /// No commands are to be taken.
    TooFar,
}

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, side) = (self.ahead_micros.unsigned_abs(), if self.ahead_micros < 0 { "behind" } else { "ahead of" });
        let (by, give_or_take) = (in_words(by), in_words(self.give_or_take_micros));
        write!(f, "the clock of this machine is {by} {side} the server's, give or take {give_or_take}")
    }
}

/// A length of time in the unit in which people would say it.
fn in_words(micros: u64) -> String {
    const UNITS: [(u64, &str); 5] =
        [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms")];
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| micros >= *unit).unwrap_or((1_000, "ms"));
    let hundredths = micros.saturating_mul(100) / unit;
    format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const MINUTE: u64 = 60 * SECOND;

    fn ahead(micros: i64, took: u64) -> ClockOffset {
        let said = Timestamp::from_micros(1_767_268_800_000_000);
        let middle = said.plus_micros(micros);
        ClockOffset::between(
            middle.minus_micros(took / 2),
            said,
            middle.plus_micros(i64::try_from(took / 2).expect("some seconds")),
        )
    }

    /// A service whose clock was two years ahead stamped its events with it for ever, and nothing said so.
    #[test]
    fn a_clock_is_judged_by_what_is_sure() {
        for sign in [1, -1] {
            for (off, took, verdict) in [
                (0, 0, ClockVerdict::Right),
                (SECOND, 0, ClockVerdict::Right),
                (SECOND + 1, 0, ClockVerdict::Notable),
                (SECOND + 1, 2, ClockVerdict::Right),
                (2 * MINUTE, 0, ClockVerdict::Notable),
                (2 * MINUTE + 1, 0, ClockVerdict::TooFar),
                (2 * MINUTE + SECOND, 2 * SECOND, ClockVerdict::Notable),
                (2 * 365 * 1440 * MINUTE, SECOND, ClockVerdict::TooFar),
            ] {
                let offset = ahead(sign * i64::try_from(off).expect("some years"), took);
                assert_eq!(offset.verdict(), verdict, "{offset}");
            }
        }
    }

    #[test]
    fn an_offset_is_said_in_the_unit_that_fits() {
        for (offset, says) in [
            (ahead(10, 100), "0.01 ms ahead of the server's, give or take 0.05 ms"),
            (ahead(-2_500_000, 4_000), "2.50 s behind the server's, give or take 2.00 ms"),
            (ahead(730 * 86_400_000_000, 0), "730.00 d ahead of the server's, give or take 0.00 ms"),
        ] {
            assert_eq!(offset.to_string(), format!("the clock of this machine is {says}"));
        }
    }

    #[test]
    fn no_time_that_a_server_names_is_too_strange() {
        let [first, last] = [i64::MIN, i64::MAX].map(Timestamp::from_micros);
        for (asked, said, answered) in
            [(first, last, first), (last, first, last), (first, first, last), (last, last, first)]
        {
            let offset = ClockOffset::between(asked, said, answered);
            assert!(!offset.too_far().is_empty() && offset.at_least_micros() <= i64::MAX.unsigned_abs(), "{offset}");
        }
    }
}
