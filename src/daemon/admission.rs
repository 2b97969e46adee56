//! How many commands may wait for a worker: as many as it serves within a part of their time.
//!
//! A queue that is full all the time makes everybody wait and serves nobody more. So while more waits than a turn takes,
//! the worker measures how fast it serves, and lets no more in than it will serve within a quarter of their time: the
//! others are told at once. As long as turns leave nothing waiting, nothing is measured and the whole queue may fill.

use std::time::Duration;

use crate::daemon::clock::micros;
use crate::engine::turn::Moment;

/// Commands that are taken into one turn, at most, and at least where a turn of more would take too long.
pub const TURN_TASKS_MAX: usize = 512;
const TURN_TASKS_MIN: usize = 32;
/// Which part of a command's time it may wait in the queue, and which part of the wait for an answer of the store the
/// appends of a turn may take.
const WAIT_DIVISOR: u64 = 4;
const TURN_DIVISOR: u64 = 2;
/// What was measured so long ago counts half.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// What bounds the queue of one worker.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Commands that may wait, whatever else.
    pub queue_len_max: usize,
    /// From arrival to reply.
    pub command_timeout: Duration,
    /// How long a turn may wait for the store's answers.
    pub answer_wait: Duration,
}

/// How much of what waited a turn could take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// As much as it may: more may wait.
    Full,
    /// All, and nothing was left over from turns before.
    Dry,
    /// All, beside what was left over; or nothing, to go on with that.
    LeftOver,
}

impl Load {
    /// The load of a turn that took so many, where it could have taken `room`, with a backlog of its worker's before it.
    pub fn of(taken: usize, room: usize, backlog: usize) -> Self {
        match (taken, backlog) {
            _ if taken >= room => Self::Full,
            (1.., 0) => Self::Dry,
            _ => Self::LeftOver,
        }
    }
}

/// What a worker knows of its own speed.
#[derive(Debug, Clone)]
pub struct Admission {
    bounds: Bounds,
    /// Commands served, and the microseconds that it took: what is longer ago counts less. Zero: not known.
    served: f64,
    micros: f64,
}

impl Admission {
    /// Nothing is known yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, served: 0.0, micros: 0.0 }
    }

    /// Takes in a turn: its load, how many it served, which excludes those that failed, and whether the store left
    /// appends without an answer.
    pub fn turn(&mut self, began: Moment, ended: Moment, load: Load, served: usize, unanswered: bool) {
        if load == Load::Full && served > 0 || unanswered {
            // More than the store can answer in time is too much, as nothing served in that time.
            let took = count(ended.0.saturating_sub(began.0).max(1));
            let weight = 0.5_f64.powf(took / count(micros(HALF_LIFE)));
            self.served = self.served * weight + count(served as u64);
            self.micros = self.micros * weight + took;
        } else if load == Load::Dry {
            // Small turns say nothing about the speed of large ones.
            *self = Self::new(self.bounds);
        }
        // Else it served nobody, for the store is away, or it went on with what was left over: neither tells a speed.
    }

    /// How many may wait beside a worker's backlog, which waits too.
    pub fn room_beside(&self, backlog: usize) -> usize {
        self.room().saturating_sub(backlog)
    }

    /// How many to take into the next turn beside a backlog, which is bounded like what waits for the worker.
    pub fn turn_room_beside(&self, backlog: usize) -> usize {
        self.bounds.queue_len_max.saturating_sub(backlog).min(self.turn_tasks())
    }

    /// How many may wait: two turns' worth at least.
    fn room(&self) -> usize {
        let floor = self.turn_tasks().saturating_mul(2);
        self.served_within(self.wait_micros_max())
            .map_or(self.bounds.queue_len_max, |expected| expected.max(floor).min(self.bounds.queue_len_max))
    }

    /// How many to take into a turn: what the store answers in time.
    fn turn_tasks(&self) -> usize {
        let expected = self.served_within(micros(self.bounds.answer_wait) / TURN_DIVISOR);
        expected.map_or(TURN_TASKS_MAX, |expected| expected.clamp(TURN_TASKS_MIN, TURN_TASKS_MAX))
    }

    /// Whether a command that came then has waited for too long, where more wait than have room.
    pub fn is_late(&self, arrived: Moment, now: Moment) -> bool {
        now.0.saturating_sub(arrived.0) > self.wait_micros_max()
    }

    fn wait_micros_max(&self) -> u64 {
        micros(self.bounds.command_timeout) / WAIT_DIVISOR
    }

    fn served_within(&self, micros: u64) -> Option<usize> {
        (self.micros > 0.0).then(|| (self.served / self.micros * count(micros)) as usize)
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { queue_len_max: 4096, command_timeout: Duration::from_secs(5), answer_wait: Duration::from_secs(1) };

    /// One full turn after another, each at so many a second, until this much time is over.
    fn run(admission: &mut Admission, a_second: usize, time: Duration) {
        let mut now = 0;
        while now < micros(time) {
            let tasks = admission.turn_tasks();
            let took = (tasks * 1_000_000 / a_second) as u64;
            admission.turn(Moment(now), Moment(now + took), Load::Full, tasks, false);
            now += took;
        }
    }

    #[test]
    fn who_knows_nothing_lets_the_queue_fill() {
        let mut admission = Admission::new(BOUNDS);
        assert_eq!((admission.room(), admission.turn_tasks()), (4096, TURN_TASKS_MAX));
        // However slow a small turn is.
        admission.turn(Moment(0), Moment(3_000_000), Load::of(TURN_TASKS_MAX - 1, TURN_TASKS_MAX, 0), 1, false);
        assert_eq!((admission.room(), admission.turn_tasks()), (4096, TURN_TASKS_MAX));
    }

    #[test]
    fn no_more_wait_than_are_served_in_a_quarter_of_their_time() {
        for (a_second, room, turn) in [(600, 750, 300), (2_000, 2_500, 512), (20_000, 4_096, 512), (10, 64, 32)] {
            let mut admission = Admission::new(BOUNDS);
            run(&mut admission, a_second, Duration::from_secs(10));
            assert!(admission.room().abs_diff(room) <= 2, "{a_second}/s: {}", admission.room());
            assert!(admission.turn_tasks().abs_diff(turn) <= 1, "{a_second}/s: {}", admission.turn_tasks());
        }
    }

    #[test]
    fn a_store_that_is_quick_again_is_trusted_again_within_a_second() {
        let mut admission = Admission::new(BOUNDS);
        run(&mut admission, 200, Duration::from_secs(10));
        assert!(admission.room() < 300);
        run(&mut admission, 20_000, Duration::from_secs(1));
        assert!(admission.room() == 4096 && admission.turn_tasks() == TURN_TASKS_MAX, "{admission:?}");
    }

    #[test]
    fn a_store_that_is_away_says_nothing_about_its_speed() {
        let mut admission = Admission::new(BOUNDS);
        run(&mut admission, 2_000, Duration::from_secs(10));
        let before = admission.room();
        (0..10).for_each(|_| admission.turn(Moment(0), Moment(1_000_000), Load::Full, 0, false));
        assert_eq!(admission.room(), before);
    }

    #[test]
    fn a_store_that_leaves_appends_unanswered_gets_fewer_at_a_time() {
        let mut admission = Admission::new(BOUNDS);
        admission.turn(Moment(0), Moment(1_000_000), Load::Full, 0, true);
        assert_eq!((admission.turn_tasks(), admission.room()), (TURN_TASKS_MIN, 2 * TURN_TASKS_MIN));
        run(&mut admission, 20_000, Duration::from_secs(1));
        assert_eq!((admission.turn_tasks(), admission.room()), (TURN_TASKS_MAX, 4096));
    }

    #[test]
    fn a_queue_that_ran_dry_may_fill_again() {
        let mut admission = Admission::new(BOUNDS);
        run(&mut admission, 200, Duration::from_secs(10));
        let tasks = admission.turn_tasks();
        admission.turn(Moment(0), Moment(1_000), Load::of(tasks - 1, tasks, 0), tasks - 1, false);
        assert_eq!((admission.room(), admission.turn_tasks()), (4096, TURN_TASKS_MAX));
    }

    /// One busy person leaves over what its commit has no room for, and turns take in less beside it. That was taken for
    /// a queue that ran dry, and the speed was forgotten while the queue stood full.
    #[test]
    fn what_is_left_over_cuts_turns_short_and_is_no_dry_queue() {
        let mut admission = Admission::new(BOUNDS);
        run(&mut admission, 600, Duration::from_secs(10));
        let (room, backlog) = (admission.room(), 4_000);
        let turn_room = admission.turn_room_beside(backlog);
        assert_eq!(turn_room, 96);
        for taken in [turn_room, 10, 0] {
            admission.turn(Moment(0), Moment(400_000), Load::of(taken, turn_room, backlog), 240, false);
            assert!(admission.room().abs_diff(room) <= 2, "{taken} taken: {}", admission.room());
        }
        assert_eq!(admission.room_beside(500), admission.room() - 500);
        assert_eq!((admission.room_beside(backlog), admission.turn_room_beside(5_000)), (0, 0));
        // Nothing more can be taken: what it serves then is its speed.
        assert_eq!((Load::of(0, 0, 5_000), Load::of(0, 10, 0)), (Load::Full, Load::LeftOver));
    }

    #[test]
    fn a_small_queue_stays_small_and_late_is_past_a_quarter() {
        let mut admission = Admission::new(Bounds { queue_len_max: 1, ..BOUNDS });
        run(&mut admission, 20_000, Duration::from_secs(1));
        assert_eq!(admission.room(), 1);
        assert!(!admission.is_late(Moment(7), Moment(1_250_007)) && admission.is_late(Moment(7), Moment(1_250_008)));
    }
}
