//! The turn's steps that store, and that make sure of what was decided: what became of unsettled appends, appending,
//! and confirming what was decided without a commit.

use crate::domain::PersonId;
use crate::engine::draft::Held;
use crate::engine::history::Freshness;
use crate::engine::link::{Link, Standing};
use crate::engine::ports::{Append, Appended, Consistency, Page, Read, Sequence, Tip, Unavailable};
use crate::engine::turn::{DueSnapshot, Limits, Notice, Turn};
use crate::engine::worker::{Attempt, Work, Worker};
use crate::wire::reply::{Accepted, Code, Outcome, Problem};

/// Conflicts in a row from which on, and after each as many more, a person is said to be in a replay loop.
const REPLAY_LOOP_CONFLICTS: u32 = 8;

impl Worker {
    /// Finds out what became of the appends that got no answer. The first commit after the expected one is the only one
    /// that can have taken its place: it is ours, byte for byte, or somebody else's, and then ours can never be stored
    /// any more. Where there is none yet, ours may still arrive: it is sent again, the same bytes with the same
    /// expectation, so that at most one of them is stored.
    pub(super) fn find_out(&mut self, turn: &mut Turn) {
        let reads: Vec<Read> = self
            .desk
            .iter()
            .filter_map(|(person, work)| {
                let attempt = work.attempt.as_ref()?;
                let expected = attempt.sealed.append.expected;
                // The one that is asked for, and whether another came after it; where the stream may be another one, what it
                // builds on as well.
                let with_base = attempt.is_void && expected > 0;
                let (start, commits_max) = if with_base { (expected, 3) } else { (expected + 1, 2) };
                Some(Read { person: *person, start, consistency: Consistency::Leader, newest: None, commits_max })
            })
            .collect();
        if reads.is_empty() {
            return;
        }
        let pages = self.log.read(&reads, self.limits.reading.bytes);
        for (read, page) in reads.iter().zip(pages) {
            if let Some(work) = self.desk.get_mut(&read.person) {
                work.learn(page, &self.limits, turn);
            }
        }
    }

    /// Hands all commits to the log together, and settles each.
    pub(super) fn append(&mut self, turn: &mut Turn) {
        let appends: Vec<Append> = self.desk.values().filter_map(|work| work.append_to_send()).collect();
        if appends.is_empty() {
            return;
        }
        let appended = self.log.append(&appends);
        for (append, appended) in appends.iter().zip(appended) {
            if let Some(work) = self.desk.get_mut(&append.person) {
                work.settle(append.person, appended, &self.limits, turn);
            }
        }
    }

    /// Asks the leader whether what was decided without a commit was decided on the newest state.
    pub(super) fn confirm(&mut self, turn: &mut Turn) {
        let persons: Vec<PersonId> =
            self.desk.iter().filter(|(_, work)| !work.unconfirmed.is_empty()).map(|(person, _)| *person).collect();
        if persons.is_empty() {
            return;
        }
        let tips = self.log.tips(&persons);
        for (person, tip) in persons.into_iter().zip(tips) {
            if let Some(work) = self.desk.get_mut(&person) {
                work.confirm(person, tip, turn);
            }
        }
    }
}

/// How fresh a person has to be who is to have all that the page shows, or may have left out.
fn newest_of(page: &Page) -> Option<Freshness> {
    match page.commits.as_slice() {
        // Room ended here, or time.
        [_] if page.more => Some(Freshness::Newest),
        commits => commits.last().map(|last| Freshness::Reaching(last.sequence)),
    }
}

impl Work {
    fn append_to_send(&self) -> Option<Append> {
        self.attempt.as_ref().filter(|attempt| attempt.send).map(|attempt| attempt.sealed.append.clone())
    }

    /// Takes what the leader has where the unsettled commit would be.
    fn learn(&mut self, mut page: Result<Page, Unavailable>, limits: &Limits, turn: &mut Turn) {
        let Some(mut attempt) = self.attempt.take() else { return };
        if attempt.is_void
            && let Ok(page) = &mut page
        {
            attempt.is_void = !self.takes_base(page);
        }
        let newest = page.as_ref().ok().and_then(newest_of);
        // Those for which there was no room are asked for again.
        if page.as_ref().is_ok_and(Page::has_no_room) {
            self.attempt = Some(attempt);
            return;
        }
        match page.map(|page| page.commits.into_iter().next()) {
            Ok(Some(stored)) if stored.payload == attempt.sealed.append.payload => {
                self.stored_earlier(attempt, stored.sequence, newest, limits, turn);
            }
            Ok(_) if attempt.is_void => {
                self.aggregate = None;
                self.decide_again(attempt.decided, Freshness::Newest);
            }
            Ok(Some(others)) => self.decide_again(attempt.decided, Freshness::Reaching(others.sequence)),
            Ok(None) => {
                attempt.send = true;
                self.attempt = Some(attempt);
            }
            Err(unavailable) => {
                self.store_was_away(&unavailable);
                self.attempt = Some(attempt);
            }
        }
    }

    /// Whether the stream still has what the commit builds on, which is taken off the page then. A creation builds on nothing,
    /// which is there in any stream.
    fn takes_base(&self, page: &mut Page) -> bool {
        let base = self.aggregate.as_ref().map_or_else(Link::start, |aggregate| aggregate.link());
        let first = page.commits.first().map(Tip::from);
        let is_there = base.sequence == 0 || first.is_some_and(|first| base.against(Some(&first)) == Standing::Newest);
        if is_there && base.sequence > 0 {
            page.commits.remove(0);
        }
        is_there
    }

    fn settle(&mut self, person: PersonId, appended: Appended, limits: &Limits, turn: &mut Turn) {
        let Some(mut attempt) = self.attempt.take() else { return };
        attempt.send = false;
        match appended {
            Appended::Stored(sequence) => self.stored(attempt, sequence, limits, turn),
            Appended::Unknown => {
                turn.counts.unsettled += 1;
                attempt.may_be_stored = true;
                self.attempt = Some(attempt);
            }
            // What it builds on is no more, so that it is not stored either, or no more.
            Appended::Conflict(Some(newest)) if newest < attempt.sealed.append.expected => {
                turn.counts.conflicts += 1;
                self.conflict(person, attempt, Some(newest), turn);
            }
            // It speaks of this append alone; the earlier one without an answer may be the one that it conflicts with.
            Appended::Conflict(_) | Appended::Unavailable(_) | Appended::Refused(_) if attempt.may_be_stored => {
                self.attempt = Some(attempt);
            }
            Appended::Conflict(newest) => {
                self.count_conflict(person, turn);
                self.conflict(person, attempt, newest, turn);
            }
            Appended::Unavailable(unavailable) => {
                self.store_was_away(&unavailable);
                self.put_back(attempt.decided);
            }
            Appended::Refused(refused) => {
                let problem = Problem::new(Code::Unavailable, format!("the store refused it: {refused}"));
                attempt.decided.into_iter().for_each(|(task, _)| turn.answer(task, Outcome::Problem(problem.clone())));
            }
        }
    }

    /// Others may have been stored since: then what was decided without an event is decided again, on the newest state.
    fn stored_earlier(
        &mut self,
        mut attempt: Attempt,
        sequence: Sequence,
        newest: Option<Freshness>,
        limits: &Limits,
        turn: &mut Turn,
    ) {
        let Some(freshness) = newest.filter(|newest| *newest != Freshness::Reaching(sequence)) else {
            return self.stored(attempt, sequence, limits, turn);
        };
        let decided = std::mem::take(&mut attempt.decided);
        let (stored, others) = decided.into_iter().partition(|(_, held)| matches!(held, Held::WithCommit(_)));
        attempt.decided = stored;
        self.stored(attempt, sequence, limits, turn);
        if !others.is_empty() || freshness != Freshness::Newest {
            self.decide_again(others, freshness);
        }
    }

    fn stored(&mut self, attempt: Attempt, sequence: Sequence, limits: &Limits, turn: &mut Turn) {
        turn.counts.commits += 1;
        turn.newest_stored = turn.newest_stored.max(Some(sequence));
        self.conflicts_in_a_row = 0;
        if let Some(aggregate) = &mut self.aggregate {
            let before = aggregate.version;
            attempt.sealed.settle(aggregate, sequence);
            if limits.is_snapshot_due(before, aggregate.version) {
                turn.snapshots.extend(DueSnapshot::of(aggregate));
            }
        }
        for (task, held) in attempt.decided {
            let outcome = match held {
                Held::WithCommit(accepted) => Outcome::Accepted(Accepted { sequence: Some(sequence), ..accepted }),
                // The commit was accepted on top of the state that this was decided on: it was the newest.
                Held::IfNewest(outcome) => outcome,
            };
            turn.answer(task, outcome);
        }
    }

    /// Two replicas that keep getting in each other's way cost both a load for each try: worth knowing.
    fn count_conflict(&mut self, person: PersonId, turn: &mut Turn) {
        turn.counts.conflicts += 1;
        self.conflicts_in_a_row += 1;
        if self.conflicts_in_a_row.is_multiple_of(REPLAY_LOOP_CONFLICTS) {
            turn.counts.replay_loops += 1;
            turn.notices.push(Notice::ReplayLoop(person, self.conflicts_in_a_row));
        }
    }

    fn conflict(&mut self, person: PersonId, attempt: Attempt, newest: Option<Sequence>, turn: &mut Turn) {
        let expected = attempt.sealed.append.expected;
        let freshness = match newest {
            Some(newest) if newest > expected => Freshness::Reaching(newest),
            Some(newest) if newest < expected => {
                turn.notices.push(Notice::LostTail(person));
                self.aggregate = None;
                Freshness::Newest
            }
            _ => Freshness::Newest,
        };
        self.decide_again(attempt.decided, freshness);
    }

    fn confirm(&mut self, person: PersonId, tip: Result<Option<Tip>, Unavailable>, turn: &mut Turn) {
        let decided = std::mem::take(&mut self.unconfirmed);
        let link = self.aggregate.as_ref().map_or_else(Link::start, |aggregate| aggregate.link());
        match tip.map(|tip| link.against(tip.as_ref())) {
            Ok(Standing::Newest) => {
                decided.into_iter().for_each(|(task, outcome)| turn.answer(task, outcome));
            }
            Ok(Standing::Behind(newest)) => self.decide_again(decided, Freshness::Reaching(newest)),
            Ok(Standing::Void) => {
                turn.notices.push(Notice::LostTail(person));
                self.aggregate = None;
                self.decide_again(decided, Freshness::Newest);
            }
            Err(unavailable) => {
                self.store_was_away(&unavailable);
                self.put_back(decided);
            }
        }
    }
}
