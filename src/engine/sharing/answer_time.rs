//! How long a home's answer is waited for.

use super::{PATIENCE_MICROS_MAX, PATIENCE_MICROS_MIN};

/// How long homes take to answer: a mean, and how far from it answers are, as TCP has it (RFC 6298).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AnswerTime {
    mean_micros: u64,
    deviation_micros: u64,
}

impl AnswerTime {
    pub(super) fn note(&mut self, took_micros: u64) {
        if self.mean_micros == 0 {
            (self.mean_micros, self.deviation_micros) = (took_micros, took_micros / 2);
            return;
        }
        self.deviation_micros = (3 * self.deviation_micros + took_micros.abs_diff(self.mean_micros)) / 4;
        self.mean_micros = (7 * self.mean_micros + took_micros) / 8;
    }

    pub(super) fn patience_micros(self) -> u64 {
        if self.mean_micros == 0 {
            return PATIENCE_MICROS_MAX;
        }
        (self.mean_micros + 4 * self.deviation_micros).clamp(PATIENCE_MICROS_MIN, PATIENCE_MICROS_MAX)
    }
}
