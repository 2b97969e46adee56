//! The turn's steps that read: loading persons, searching for old command ids, reading merge targets. Each reads for the
//! whole batch at once, within the budget of a turn; what is more goes on outside of it, or in the next turn.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Command, PersonId, TargetState};
use crate::engine::aggregate::Aggregate;
use crate::engine::draft::MergeTargets;
use crate::engine::history::{self, Compared, Errand, Found, Freshness, LoadError, Loading, NotLoaded, Search, What};
use crate::engine::link::Standing;
use crate::engine::ports::{Tip, Unavailable};
use crate::engine::receipts::Known;
use crate::engine::turn::{DueSnapshot, Notice, Task, Turn};
use crate::engine::worker::{Outside, Target, Work, Worker};
use crate::wire::reply::{Outcome, Problem};

impl Worker {
    /// Brings everybody with waiting requests into memory, up to date as far as that is known to be needed.
    pub(super) fn load(&mut self, turn: &mut Turn) {
        self.desk.values_mut().for_each(|work| work.is_held = false);
        let mut loadings = self.extend_or_presume(turn);
        let mut cold: Vec<_> = self.desk.iter().filter(|(_, work)| work.needs_loading()).collect();
        // There may not be room for all of them: whoever has waited for longest comes first.
        cold.sort_by_key(|(_, work)| work.waiting.front().map(|task| task.arrived));
        let freshness = |work: &Work| work.reload.unwrap_or(Freshness::Guess);
        loadings.extend(cold.into_iter().map(|(person, work)| Loading::cold(*person, freshness(work))));
        let (done, open) = self.read(loadings);
        done.into_iter().for_each(|loading| self.take_loaded(loading, turn));
        for Errand { owner, what } in std::mem::take(&mut self.taken_back) {
            match what {
                What::Load(loading) => self.take_loaded(*loading, turn),
                What::Search(search) => self.take_found(owner, *search),
                // Whoever waits for it looks what came since.
                What::Other(loading) => {
                    if self.read_outside.remove(&loading.person()) {
                        self.take_target_back(*loading, turn);
                    }
                }
            }
        }
        for loading in open {
            let Some(work) = self.desk.get_mut(&loading.person()) else { continue };
            if loading.is_begun() {
                work.outside = Outside::Reading;
                turn.errands.push(Errand { owner: loading.person(), what: What::Load(Box::new(loading)) });
            } else {
                work.put_back_unread(loading);
            }
        }
        self.search_for_old_commands(turn);
    }

    /// Reads on within the budget of a turn.
    fn read<H: history::History>(&mut self, histories: Vec<H>) -> (Vec<H>, Vec<H>) {
        history::run(self.log.as_mut(), self.snapshots.as_mut(), histories, &self.limits.reading)
    }

    /// What is cached needs no loading, or the tail alone where it is known to be stale. A person that is to be created is
    /// presumed not to exist. The append will tell.
    fn extend_or_presume(&mut self, turn: &mut Turn) -> Vec<Loading> {
        let mut loadings = Vec::new();
        for (person, work) in self.desk.iter_mut().filter(|(_, work)| work.wants_aggregate()) {
            if work.aggregate.is_none() {
                work.aggregate = self.cache.take(*person);
                turn.counts.cache_hits += u64::from(work.aggregate.is_some());
                // Who is to be loaded anew was counted when that was first tried.
                turn.counts.cache_misses += u64::from(work.aggregate.is_none() && work.reload.is_none());
            }
            match (work.aggregate.take(), work.reload) {
                (Some(aggregate), Some(freshness)) if aggregate.version > 0 => {
                    loadings.push(Loading::from_cached(aggregate, freshness));
                }
                (Some(aggregate), None) => work.aggregate = Some(aggregate),
                (None, None) if work.begins_with_creation() => {
                    work.aggregate = Some(Box::new(Aggregate::absent(*person)));
                }
                _ => {}
            }
        }
        // Those are being loaded already: not to be started again from their snapshots.
        for loading in &loadings {
            if let Some(work) = self.desk.get_mut(&loading.person()) {
                work.outside = Outside::Reading;
            }
        }
        loadings
    }

    fn take_loaded(&mut self, loading: Loading, turn: &mut Turn) {
        let Some(work) = self.desk.get_mut(&loading.person()) else { return };
        if std::mem::take(&mut work.outside) == Outside::Void {
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

    /// Looks up in the histories those command ids that may have been carried out before the remembered ones.
    fn search_for_old_commands(&mut self, turn: &mut Turn) {
        let searches = self.desk.values().filter(|work| work.is_ready()).filter_map(|work| work.search());
        let searches: Vec<(PersonId, Search)> = searches.collect();
        if searches.is_empty() {
            return;
        }
        let wrap = |(owner, search)| Errand { owner, what: What::Search(Box::new(search)) };
        let (done, open) = self.read(searches.into_iter().map(wrap).collect());
        for errand in done {
            if let What::Search(search) = errand.what {
                self.take_found(errand.owner, *search);
            }
        }
        for errand in open {
            let Some(work) = self.desk.get_mut(&errand.owner) else { continue };
            if history::History::commits_read(&errand) > 0 {
                work.outside = Outside::Reading;
                turn.errands.push(errand);
            } else {
                work.is_held = true;
            }
        }
    }

    /// What is too far back stays unknown, and is answered so; while the store is away nothing is decided.
    fn take_found(&mut self, person: PersonId, search: Search) {
        let Some(work) = self.desk.get_mut(&person) else { return };
        if std::mem::take(&mut work.outside) == Outside::Void {
            return;
        }
        let (from, asked) = (search.from, search.asked.clone());
        match (search.finish(), &mut work.aggregate) {
            (Found::Receipts(found), Some(aggregate)) => aggregate.receipts.searched(from, found, asked.into_iter()),
            (Found::Receipts(_), None) => {}
            (Found::Beyond, aggregate) => {
                aggregate.iter_mut().for_each(|aggregate| aggregate.receipts.searched_in_vain(from));
            }
            (Found::Away(unavailable), _) => work.hold(&unavailable),
        }
    }

    /// Reads, from the leader, the persons that others are to be merged into. Whose target could not be read for want of
    /// room is not decided in this turn.
    pub(super) fn read_merge_targets(&mut self, turn: &mut Turn) -> MergeTargets {
        let mut targets: BTreeMap<PersonId, PersonId> = BTreeMap::new();
        for (source, work) in self.desk.iter().filter(|(_, work)| work.is_ready()) {
            targets.extend(work.merge_targets().map(|target| (target, *source)));
        }
        if targets.is_empty() && self.targets.is_empty() {
            return MergeTargets::new();
        }
        let (mut read, mut unread) = (MergeTargets::new(), self.read_outside.clone());
        let mut before = std::mem::take(&mut self.targets);
        let (mut known, mut unknown, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for target in targets.keys().filter(|target| !unread.contains(target)) {
            match before.remove(target) {
                Some(Ok(target)) => known.push(target),
                Some(Err(problem)) => drop(read.insert(*target, Err(problem))),
                None => unknown.push(*target),
            }
        }
        for (target, standing) in self.compare_targets(known) {
            match standing {
                Ok(Standing::Newest) => found.push(target),
                Ok(Standing::Behind(_) | Standing::Void) => unknown.push(target.person),
                Err(unavailable) => {
                    let error = unavailable.into();
                    read.insert(target.person, Err(self.target_problem(NotLoaded { error, so_far: None })));
                }
            }
        }
        let (mut cached, mut loadings) = (Vec::new(), Vec::new());
        for target in unknown {
            match self.cache.take(target).filter(|aggregate| aggregate.version > 0) {
                Some(aggregate) => cached.push(aggregate),
                None => loadings.push(Loading::cold(target, Freshness::Newest)),
            }
        }
        for compared in history::compare(self.log.as_mut(), cached) {
            match compared {
                Compared::Newest(aggregate) => found.push(self.keep_target(aggregate)),
                Compared::Stale(loading) => loadings.push(loading),
                Compared::Void(loading) => {
                    turn.notices.push(Notice::LostTail(loading.person()));
                    loadings.push(loading);
                }
                Compared::Unknown(aggregate, unavailable) => {
                    let (target, error) = (aggregate.person, unavailable.into());
                    read.insert(target, Err(self.target_problem(NotLoaded { error, so_far: Some(aggregate) })));
                }
            }
        }
        let (done, open) = self.read(loadings);
        for loading in done {
            let target = loading.person();
            match loading.finish(&mut turn.notices) {
                Ok(aggregate) => found.push(self.keep_target(aggregate)),
                Err(not_loaded) => drop(read.insert(target, Err(self.target_problem(not_loaded)))),
            }
        }
        for loading in open {
            let target = loading.person();
            unread.insert(target);
            if loading.is_begun() {
                let owner = targets.get(&target).copied().unwrap_or(target);
                self.read_outside.insert(target);
                turn.errands.push(Errand { owner, what: What::Other(Box::new(loading)) });
            } else {
                loading.into_cached().into_iter().for_each(|aggregate| self.cache.put(aggregate));
            }
        }
        read.extend(found.iter().map(|target| (target.person, Ok(target.state.clone()))));
        self.hold_for(&unread, found);
        read
    }

    /// How the targets that were read before stand to what the leader has now.
    fn compare_targets(&mut self, known: Vec<Target>) -> Vec<(Target, Result<Standing, Unavailable>)> {
        let persons: Vec<PersonId> = known.iter().map(|target| target.person).collect();
        let tips = if persons.is_empty() { Vec::new() } else { self.log.tips(&persons) };
        let compare = |(target, tip): (Target, Result<Option<Tip>, Unavailable>)| {
            let standing = tip.map(|tip| target.link.against(tip.as_ref()));
            (target, standing)
        };
        known.into_iter().zip(tips).map(compare).collect()
    }

    /// Holds whoever waits for a target that is not read yet, and remembers what was read of its other targets: the cache
    /// may have no room for them, and then they would be read again in each turn.
    fn hold_for(&mut self, unread: &BTreeSet<PersonId>, found: Vec<Target>) {
        let mut wanted = BTreeSet::new();
        for work in self.desk.values_mut().filter(|work| work.is_ready()) {
            let targets: Vec<PersonId> = work.merge_targets().collect();
            work.is_held = targets.iter().any(|target| unread.contains(target));
            if work.is_held {
                wanted.extend(targets);
            }
        }
        let held = found.into_iter().filter(|target| wanted.contains(&target.person));
        self.targets.extend(held.map(|target| (target.person, Ok(target))));
    }

    /// A target that was read outside the turn. Where it was not read to its end, for want of room there, it is begun again.
    fn take_target_back(&mut self, loading: Loading, turn: &mut Turn) {
        let (person, is_over) = (loading.person(), history::History::is_over(&loading));
        match loading.finish(&mut turn.notices) {
            Ok(aggregate) => {
                let target = self.keep_target(aggregate);
                self.targets.insert(person, Ok(target));
            }
            Err(not_loaded) => {
                let problem = self.target_problem(not_loaded);
                if is_over {
                    self.targets.insert(person, Err(problem));
                }
            }
        }
    }

    /// What a merge needs to know of its target; the rest goes into the cache.
    fn keep_target(&mut self, aggregate: Box<Aggregate>) -> Target {
        let state = aggregate.state.as_ref();
        let state = state.map_or(TargetState::Missing, |person| TargetState::Exists(person.lifecycle.clone()));
        let target = Target { person: aggregate.person, link: aggregate.link(), state };
        self.cache.put(aggregate);
        target
    }

    fn target_problem(&mut self, NotLoaded { error, so_far }: NotLoaded) -> Problem {
        so_far.into_iter().for_each(|aggregate| self.cache.put(aggregate));
        let problem = error.problem();
        Problem { message: format!("the merge target: {}", problem.message), ..problem }
    }
}

impl Work {
    /// Whether requests wait that could be decided if the person were in memory and fresh.
    fn wants_aggregate(&self) -> bool {
        !self.waiting.is_empty() && self.attempt.is_none() && self.outside == Outside::Nothing
    }

    /// Whether nothing is in memory to begin with.
    fn needs_loading(&self) -> bool {
        self.wants_aggregate() && self.aggregate.is_none()
    }

    fn begins_with_creation(&self) -> bool {
        let first = self.waiting.front().and_then(|task| task.request.commands.first());
        matches!(first, Some(Command::CreatePerson { .. }))
    }

    /// Nothing was read for it, for want of room: the next turn begins with it.
    fn put_back_unread(&mut self, loading: Loading) {
        self.outside = Outside::Nothing;
        let freshness = loading.freshness();
        if let Some(aggregate) = loading.into_cached() {
            self.aggregate = Some(aggregate);
            self.reload.get_or_insert(freshness);
        }
    }

    /// Nothing is decided for it in this turn: something that has to be known could not be read.
    fn hold(&mut self, unavailable: &Unavailable) {
        self.store_was_away(unavailable);
        self.is_held = true;
    }

    /// The search for those of the waiting commands that may have been carried out in a part of the history that is not
    /// remembered.
    fn search(&self) -> Option<(PersonId, Search)> {
        let aggregate = self.aggregate.as_ref().filter(|aggregate| !aggregate.receipts.are_complete())?;
        let sought = |task: &Task| match aggregate.receipts.look_up(&task.request.command_id) {
            Known::SearchFrom(from) => Some((from, task.request.command_id.digest)),
            Known::New | Known::Unknown | Known::As(_) => None,
        };
        let sought: Vec<_> = self.waiting.iter().filter_map(sought).collect();
        let from = sought.iter().map(|(from, _)| *from).min()?;
        let asked = sought.into_iter().map(|(_, id)| id).collect();
        Some((aggregate.person, Search::new(aggregate, from, asked)?))
    }

    fn merge_targets(&self) -> impl Iterator<Item = PersonId> {
        self.waiting.iter().flat_map(|task| &task.request.commands).filter_map(Command::merge_target)
    }
}
