//! When the ids of a person's commands were made, by their own word: where in the history an id can stand.
//!
//! A UUIDv7 bears the time at which it was made, by the clock of whoever made it. That clock may be wrong, and is never
//! compared with another one: an id is compared with the ids that were carried out, since the same id bears the same time.
//! What was carried out one after the other is a span, with the earliest and the latest of these times. An id whose time lies
//! in no span was not carried out; otherwise it can only stand in those whose times enclose its own. A retry is found however
//! far off its client's clock is, and a new command, whose time is later than that of all that were carried out, needs no
//! search. A client with a wrong clock costs searches, and nothing else.

use crate::domain::Timestamp;
use crate::engine::ports::Sequence;
pub use crate::wire::snapshot::IdSpan;

/// How long a command is remembered for its retries, in microseconds of the person's history.
pub const RETRY_HORIZON_MICROS: u64 = 17 * 60 * 1_000_000;
/// How far a service's clock may be off from the store's, in microseconds; with more it takes no commands.
pub const CLOCK_OFFSET_MAX_MICROS: u64 = 2 * 60 * 1_000_000;
/// The most that passes between two commands, in microseconds. More is not counted: the clock that stamped the later one may
/// be wrong, and one step of it must not end what is promised.
const STEP_MICROS_MAX: u64 = 60 * 1_000_000;
/// The 10 minutes that are promised; what two clocks may be off; the longest `COMMAND_TIMEOUT`, since an event bears the time
/// at which its command arrived; and one step that a wrong clock made.
const _: () = {
    const MINUTE: u64 = 60 * 1_000_000;
    assert!(RETRY_HORIZON_MICROS == 10 * MINUTE + 2 * CLOCK_OFFSET_MAX_MICROS + 2 * MINUTE + STEP_MICROS_MAX);
};
/// How long a span is at least, in microseconds. As it grows older it is joined with its neighbours.
const SPAN_MICROS_MIN: u64 = 1_000_000;

/// The spans of a person's commands, oldest first: of the last [`RETRY_HORIZON_MICROS`], none much longer than it is old.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdSpans(Vec<IdSpan>);

impl IdSpans {
    /// As a snapshot holds them.
    pub fn restored(spans: Vec<IdSpan>) -> Self {
        Self(spans)
    }

    /// What a snapshot should hold.
    pub fn for_snapshot(&self) -> Vec<IdSpan> {
        self.0.clone()
    }

    /// Adds the command that was carried out last, by the commit at `sequence`, when so much time had passed since the one
    /// before it. Of an id that is no UUIDv7 only the time counts.
    pub fn push(&mut self, sequence: Sequence, made_at: Option<Timestamp>, passed_micros: u64) {
        let passed_micros = passed_micros.min(STEP_MICROS_MAX);
        for span in &mut self.0 {
            span.first_micros_ago = span.first_micros_ago.saturating_add(passed_micros);
            span.last_micros_ago = span.last_micros_ago.saturating_add(passed_micros);
        }
        let Some(made_at) = made_at else { return };
        match self.0.last_mut() {
            Some(newest) if newest.first_micros_ago < SPAN_MICROS_MIN => {
                newest.last_micros_ago = 0;
                newest.made_from = newest.made_from.min(made_at);
                newest.made_until = newest.made_until.max(made_at);
            }
            _ => {
                self.join_old_ones();
                let (first_micros_ago, last_micros_ago) = (0, 0);
                let (made_from, made_until) = (made_at, made_at);
                self.0.push(IdSpan { first: sequence, first_micros_ago, last_micros_ago, made_from, made_until });
            }
        }
    }

    /// From which commit on an id of this time can stand in the history, among those up to `until`; `None` when it cannot.
    pub fn first_that_encloses(&self, made_at: Timestamp, until: Sequence) -> Option<Sequence> {
        let is_it = |span: &&IdSpan| span.first <= until && (span.made_from..=span.made_until).contains(&made_at);
        self.0.iter().find(is_it).map(|span| span.first)
    }

    /// About how many bytes of memory they take.
    pub fn size(&self) -> usize {
        self.0.capacity() * size_of::<IdSpan>()
    }

    /// Forgets those beyond the horizon, and joins neighbours that are no longer together than the newer of them is old: so
    /// there are about two for each doubling of the age.
    fn join_old_ones(&mut self) {
        let mut joined: Vec<IdSpan> = Vec::with_capacity(self.0.len() + 1);
        for span in self.0.iter().rev().filter(|span| span.last_micros_ago <= RETRY_HORIZON_MICROS) {
            match joined.last_mut() {
                Some(newer) if span.first_micros_ago.saturating_sub(newer.last_micros_ago) <= newer.last_micros_ago => {
                    newer.first = span.first;
                    newer.first_micros_ago = span.first_micros_ago;
                    newer.made_from = newer.made_from.min(span.made_from);
                    newer.made_until = newer.made_until.max(span.made_until);
                }
                _ => joined.push(*span),
            }
        }
        joined.reverse();
        self.0 = joined;
    }
}
