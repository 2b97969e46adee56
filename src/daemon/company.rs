//! Group commit: for how long a worker waits for company before its next turn, where its commits go in batches.
//!
//! A batch costs the store about the same whether it holds thirty commits or sixty. With few commands under way the turns
//! would fall into halves: one half of the clients waits while the other half is stored, and each batch is half as large
//! as it could be. So after a batch a worker waits a moment for those whom it has just answered, as clients who wait for
//! one answer before they send the next command come back at once. PostgreSQL has the same as `commit_delay`.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::nats::BATCH_LEN_MIN;

/// The part of the time that the last batch took which may be waited for the next one's commits.
const WAIT_DIVISOR: u32 = 2;
/// Where more are expected nobody is waited for: most of a batch's time is that of its commits then, and while half of
/// them are stored the others are decoded.
const LEN_MAX: usize = 256;
/// Nothing arrived for this long: nobody else is on the way.
const QUIET: Duration = Duration::from_micros(500);

/// Those who are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Company {
    /// How many commands are expected, with those that wait already.
    len: usize,
    /// For how long at most.
    within: Duration,
}

impl Company {
    /// Nobody is waited for: each turn takes what is there.
    pub const NONE: Self = Self { len: 0, within: Duration::ZERO };

    /// Those who come after a turn that stored so many commits within `append`, while `waiting` others arrived, and that
    /// answered so many.
    pub fn after(commits: u64, append: Duration, waiting: usize, answered: usize) -> Self {
        let len = waiting.saturating_add(answered);
        if commits < BATCH_LEN_MIN as u64 || len > LEN_MAX {
            return Self::NONE;
        }
        Self { len, within: append / WAIT_DIVISOR }
    }

    /// Adds what else arrives to what is there, until as many are there as are expected, but no more than `room`, or it
    /// took too long, or nobody came for a moment.
    pub fn gather<T>(self, arrivals: &Receiver<T>, room: usize, taken: &mut Vec<T>) {
        let len = self.len.min(room);
        let ends = Instant::now() + self.within;
        while taken.len() < len {
            let Ok(next) = arrivals.recv_deadline(ends.min(Instant::now() + QUIET)) else { return };
            taken.push(next);
            taken.extend(arrivals.try_iter().take(room - taken.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn those_who_wait_and_those_who_were_answered_are_expected_for_half_a_batch() {
        let append = Duration::from_millis(3);
        let expected = Company { len: 64, within: Duration::from_micros(1500) };
        assert_eq!(Company::after(32, append, 32, 32), expected);
        // Of few commits each went by itself, and whoever waits for them only loses time.
        assert_eq!(Company::after(BATCH_LEN_MIN as u64 - 1, append, 60, 5), Company::NONE);
        assert_ne!(Company::after(BATCH_LEN_MIN as u64, append, 60, 6), Company::NONE);
        // And large batches need no company.
        assert_ne!(Company::after(56, append, LEN_MAX - 56, 56), Company::NONE);
        assert_eq!(Company::after(56, append, LEN_MAX - 55, 56), Company::NONE);
    }

    /// How many are taken of so many that are there, by whoever has three already.
    fn gathered(company: Company, there: u32, room: usize) -> usize {
        let (sender, arrivals) = bounded(100);
        (0..there).for_each(|one| sender.send(one).expect("there is room"));
        let mut taken = vec![0; 3];
        company.gather(&arrivals, room, &mut taken);
        assert_eq!(taken.len() - 3 + arrivals.len(), there as usize, "nothing is lost");
        taken.len()
    }

    /// Waiting to the end of the time given would take hours.
    #[test]
    fn nobody_is_waited_for_who_is_not_expected_and_not_for_long_while_nobody_comes() {
        let of = |len| Company { len, within: LONG };
        assert_eq!(gathered(Company::NONE, 5, 10), 3, "the turn takes what is there before");
        assert_eq!(gathered(of(3), 5, 10), 3);
        assert_eq!(gathered(of(8), 5, 10), 8);
        assert_eq!(gathered(of(4), 5, 10), 8, "what is there anyway is taken along");
        assert_eq!(gathered(of(90), 5, 10), 8, "nobody else comes");
        assert_eq!(gathered(of(90), 50, 10), 10, "the turn has no more room");
        assert_eq!(gathered(of(90), 50, 3), 3);
    }

    #[test]
    fn who_comes_a_little_later_is_waited_for_and_then_nobody_any_more() {
        let (sender, arrivals) = bounded(2);
        let company = Company { len: 40, within: LONG };
        let mut taken = vec![0];
        std::thread::scope(|scope| {
            // Each of them comes as soon as the queue has room, which is when one before was taken.
            scope.spawn(|| (1..1000).try_for_each(|one| sender.send(one)).expect("somebody takes them"));
            taken.push(arrivals.recv().expect("one comes"));
            company.gather(&arrivals, 50, &mut taken);
            let left = arrivals.iter().take(1000 - taken.len()).count();
            assert_eq!(taken.len() + left, 1000);
        });
        assert!(taken.len() <= 50 && taken.is_sorted(), "{taken:?}");
    }

    #[test]
    fn a_queue_that_is_closed_ends_the_wait() {
        let (sender, arrivals) = bounded::<u32>(1);
        drop(sender);
        Company { len: 2, within: LONG }.gather(&arrivals, 10, &mut Vec::new());
    }
}
