//! The turn's steps that read: loading persons, searching for old command ids, reading merge targets.

use std::collections::BTreeSet;

use crate::domain::{Command, PersonId, TargetState};
use crate::engine::aggregate::{Aggregate, receipts_in};
use crate::engine::draft::MergeTargets;
use crate::engine::followed::Caught;
use crate::engine::load::{self, Freshness, LoadError, Loading, NotLoaded};
use crate::engine::ports::{Consistency, EventLog, Read, Sequence, Start};
use crate::engine::receipts::Known;
use crate::engine::turn::{DueSnapshot, Task, Turn};
use crate::engine::worker::{Work, Worker};
use crate::wire::commit;
use crate::wire::reply::{Outcome, Problem};
use crate::wire::snapshot::Receipt;

/// Pages of a person's history that are read within a turn; a longer one is read outside it.
const TURN_PAGES_MAX: usize = 8;
/// Pages of a merge target's history that are read within a turn. Merges are rare, and targets have snapshots.
const TARGET_PAGES_MAX: usize = 256;
/// Commits that are searched for an old command id.
const SEARCH_COMMITS_MAX: usize = 8192;

impl Worker {
    /// Brings everybody with waiting requests into memory, up to date as far as that is known to be needed.
    pub(super) fn load(&mut self, turn: &mut Turn) {
        let mut loadings = self.extend_or_presume(turn);
        let cold: Vec<_> = self
            .desk
            .iter()
            .filter(|(_, work)| work.needs_loading())
            .map(|(person, work)| (*person, work.reload.unwrap_or(Freshness::Guess)))
            .collect();
        loadings.extend(load::start(self.snapshots.as_mut(), &cold));
        let (mut done, unfinished) = load::run(self.log.as_mut(), loadings, TURN_PAGES_MAX);
        done.iter().filter_map(Loading::found_stale).for_each(|is_stale| self.found(is_stale));
        done.append(&mut self.taken_back);
        done.into_iter().for_each(|loading| self.take_loaded(loading, turn));
        for loading in unfinished {
            if let Some(work) = self.desk.get_mut(&loading.person()) {
                work.is_loading = true;
                turn.long_loads.push(loading);
            }
        }
        self.search_for_old_commands();
    }

    /// What is cached is brought up to date by what was heard, and needs no loading then, or a tail alone. Where it was
    /// stale so often lately that a look is cheaper than the conflicts, there may be one, unless what is heard is enough. A
    /// person that is to be created is presumed not to exist: the append will tell.
    fn extend_or_presume(&mut self, turn: &mut Turn) -> Vec<Loading> {
        let mut loadings = Vec::new();
        let looks_first = self.staleness.is_high() && !self.trusts_what_it_hears();
        for (person, work) in self.desk.iter_mut().filter(|(_, work)| work.wants_aggregate()) {
            if work.aggregate.is_none() {
                work.aggregate = self.cache.take(*person);
                turn.counts.cache_hits += u64::from(work.aggregate.is_some());
                // Who is to be loaded anew was counted when that was first tried.
                turn.counts.cache_misses += u64::from(work.aggregate.is_none() && work.reload.is_none());
            }
            if let Some(aggregate) = &mut work.aggregate {
                match self.followed.catch_up(aggregate) {
                    Caught::Nothing => {}
                    Caught::Up => {
                        turn.counts.followed += 1;
                        self.staleness.note(true);
                    }
                    Caught::Gap(sequence) => work.reload = Some(work.reload.unwrap_or(Freshness::Reaching(sequence))),
                }
                if let Some(Freshness::Reaching(sequence)) = work.reload
                    && aggregate.sequence >= sequence
                {
                    work.reload = None;
                }
            }
            match (work.aggregate.take(), work.reload) {
                (Some(aggregate), Some(freshness)) if aggregate.version > 0 => {
                    loadings.push(Loading::from_cached(aggregate, freshness));
                }
                (Some(aggregate), None) if aggregate.version > 0 && looks_first => {
                    loadings.push(Loading::from_cached(aggregate, Freshness::Guess));
                }
                (Some(aggregate), None) => {
                    work.aggregate = Some(aggregate);
                    work.is_unread = true;
                }
                (None, None) if work.begins_with_creation() => {
                    work.aggregate = Some(Box::new(Aggregate::absent(*person)));
                }
                _ => {}
            }
        }
        // Those are being loaded already: not to be started again from their snapshots.
        for loading in &loadings {
            if let Some(work) = self.desk.get_mut(&loading.person()) {
                work.is_loading = true;
            }
        }
        loadings
    }

    fn take_loaded(&mut self, loading: Loading, turn: &mut Turn) {
        let Some(work) = self.desk.get_mut(&loading.person()) else { return };
        work.is_loading = false;
        if std::mem::take(&mut work.is_void) {
            return;
        }
        let (base_version, is_tail) = (loading.base_version(), loading.is_tail());
        match loading.finish(&mut turn.notices) {
            Ok(aggregate) => {
                turn.counts.tails += u64::from(is_tail);
                turn.counts.loads += u64::from(!is_tail);
                // A snapshot was missing, or could not be used, or lags behind: the next load is to be cheaper.
                if self.limits.is_snapshot_due(base_version, aggregate.version) {
                    turn.snapshots.extend(DueSnapshot::of(&aggregate));
                }
                work.aggregate = Some(aggregate);
                work.is_unread = false;
                work.reload = None;
            }
            // The next turn goes on with what there is, for as long as there is time.
            Err(NotLoaded { error: LoadError::Unavailable(unavailable), so_far }) => {
                work.store_was_away(&unavailable);
                work.aggregate = so_far;
                work.reload.get_or_insert(Freshness::Guess);
            }
            Err(NotLoaded { error, .. }) => {
                let problem = error.problem();
                for task in std::mem::take(&mut work.waiting) {
                    turn.answer(task, Outcome::Problem(problem.clone()));
                }
            }
        }
    }

    /// Looks up in the history those command ids that may have been carried out before the remembered ones.
    fn search_for_old_commands(&mut self) {
        for work in self.desk.values_mut().filter(|work| work.is_ready()) {
            let Work { waiting, aggregate: Some(aggregate), .. } = work.as_mut() else { continue };
            if aggregate.receipts.are_complete() {
                continue;
            }
            let sought = |task: &Task| match aggregate.receipts.look_up(&task.request.command_id) {
                Known::SearchFrom(from) => Some((from, task.request.command_id.digest)),
                Known::New | Known::As(_) => None,
            };
            let sought: Vec<_> = waiting.iter().filter_map(sought).collect();
            if let Some(from) = sought.iter().map(|(from, _)| *from).min()
                && let Some(found) = commands_since(self.log.as_mut(), aggregate, from)
            {
                aggregate.receipts.searched(from, found, sought.into_iter().map(|(_, id)| id));
            }
        }
    }

    /// Reads, from the leader, the persons that others are to be merged into.
    pub(super) fn read_merge_targets(&mut self, turn: &mut Turn) -> MergeTargets {
        let targets: BTreeSet<PersonId> = self
            .desk
            .values()
            .filter(|work| work.is_ready())
            .flat_map(|work| work.waiting.iter().flat_map(|task| &task.request.commands))
            .filter_map(Command::merge_target)
            .collect();
        if targets.is_empty() {
            return MergeTargets::new();
        }
        let (cached, cold): (Vec<_>, Vec<_>) =
            targets.iter().map(|target| (*target, self.cache.take(*target))).partition(|(_, cached)| cached.is_some());
        let cold: Vec<_> = cold.into_iter().map(|(target, _)| (target, Freshness::Newest)).collect();
        let mut loadings = load::start(self.snapshots.as_mut(), &cold);
        let extended = cached.into_iter().filter_map(|(_, cached)| cached);
        loadings.extend(extended.map(|aggregate| Loading::from_cached(aggregate, Freshness::Newest)));
        let (mut done, unfinished) = load::run(self.log.as_mut(), loadings, TARGET_PAGES_MAX);
        done.extend(unfinished);
        done.into_iter().map(|loading| self.take_target(loading, turn)).collect()
    }

    fn take_target(&mut self, loading: Loading, turn: &mut Turn) -> (PersonId, Result<TargetState, Problem>) {
        let target = loading.person();
        let state = match loading.finish(&mut turn.notices) {
            Ok(aggregate) => {
                let state = aggregate.state.as_ref();
                let state = state.map_or(TargetState::Missing, |person| TargetState::Exists(person.lifecycle.clone()));
                self.cache.put(aggregate);
                Ok(state)
            }
            Err(NotLoaded { error, so_far }) => {
                so_far.into_iter().for_each(|aggregate| self.cache.put(aggregate));
                let problem = error.problem();
                Err(Problem { message: format!("the merge target: {}", problem.message), ..problem })
            }
        };
        (target, state)
    }
}

impl Work {
    /// Whether requests wait that could be decided if the person were in memory and fresh.
    fn wants_aggregate(&self) -> bool {
        !self.waiting.is_empty() && self.attempt.is_none() && !self.is_loading
    }

    /// Whether nothing is in memory to begin with.
    fn needs_loading(&self) -> bool {
        self.wants_aggregate() && self.aggregate.is_none()
    }

    fn begins_with_creation(&self) -> bool {
        let first = self.waiting.front().and_then(|task| task.request.commands.first());
        matches!(first, Some(Command::CreatePerson { .. }))
    }
}

/// The receipts of the commands from the commit at `from` on that come before those that the aggregate remembers; `None`
/// when the store does not answer, or has too many of them, or its copy has a gap.
fn commands_since(log: &mut dyn EventLog, aggregate: &Aggregate, from: Sequence) -> Option<Vec<Receipt>> {
    let end = aggregate.receipts.oldest_sequence()?;
    let mut found = Vec::new();
    let mut start = from;
    let mut consistency = Consistency::Any;
    let mut next_version = None;
    let mut commits = 0;
    while commits < SEARCH_COMMITS_MAX {
        let start_at = Start::Sequence(start);
        let read = Read { person: aggregate.person, start: start_at, consistency, newest: None };
        let page = log.read(&[read]).pop()?.ok()?;
        let Some(last) = page.commits.last().map(|commit| commit.sequence) else {
            match consistency {
                // The copy that answered may lag behind what is remembered.
                Consistency::Any => consistency = Consistency::Leader,
                Consistency::Leader => return None,
            }
            continue;
        };
        for stored in &page.commits {
            let commit = commit::decode(&stored.payload).ok()?;
            if next_version.map_or(stored.sequence != from, |next| next != commit.first_version()) {
                return None;
            }
            next_version = commit.version.checked_add(1);
            found.extend(receipts_in(&commit, stored.sequence).map(|(receipt, _)| receipt));
            // This commit may have others in it besides those that are remembered.
            if stored.sequence >= end {
                return Some(found);
            }
            commits += 1;
        }
        start = last + 1;
        if !page.more {
            match consistency {
                Consistency::Any => consistency = Consistency::Leader,
                Consistency::Leader => return None,
            }
        }
    }
    None
}
