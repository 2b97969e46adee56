//! Answering questions: the present from snapshot and tail, the past by folding as far as was asked.
//!
//! Every answer includes all that the stream's leader has when it is asked, so that whoever got a reply to a command
//! from any replica sees its effect here.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::num::NonZeroUsize;

use lru::LruCache;

use crate::domain::{Person, PersonId, PersonView, evolve};
use crate::engine::aggregate::{Aggregate, Broken};
use crate::engine::cache::Cache;
use crate::engine::link::{Link, Standing};
use crate::engine::load::{self, Freshness, LoadError, Loading, NotLoaded};
use crate::engine::ports::{Consistency, EventLog, Read, Sequence, SnapshotStore, Start, StoredCommit};
use crate::engine::receipts::Receipts;
use crate::engine::turn::Notice;
use crate::wire::commit::{self, Commit, CommitError, EventRecord};
use crate::wire::query::{Get, History, HistoryPage, Query, RecordedAt, encode_person};
use crate::wire::reply::{Code, Problem};

/// Places in histories that are remembered, so that the next page need not be looked for from the beginning.
const BOOKMARKS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// Answers questions.
pub struct Inquiry {
    log: Box<dyn EventLog + Send>,
    snapshots: Box<dyn SnapshotStore + Send>,
    cache: Cache,
    /// By person and version: the commit that has the version's event.
    bookmarks: LruCache<(PersonId, u64), Sequence>,
    answer_bytes_max: usize,
    notices: Vec<Notice>,
}

impl Inquiry {
    /// With a cache of this many bytes, for answers of at most so many bytes.
    pub fn new(
        log: Box<dyn EventLog + Send>,
        snapshots: Box<dyn SnapshotStore + Send>,
        cache_bytes: usize,
        answer_bytes_max: usize,
    ) -> Self {
        let bookmarks = LruCache::new(BOOKMARKS_MAX);
        Self { log, snapshots, cache: Cache::new(cache_bytes), bookmarks, answer_bytes_max, notices: Vec::new() }
    }

    /// From now on answers have at most so many bytes.
    pub fn limit_answers(&mut self, bytes_max: usize) {
        self.answer_bytes_max = bytes_max;
    }

    /// Whether answering may take reading a whole history.
    pub fn is_slow(query: &Query) -> bool {
        !matches!(query, Query::Get(Get { at: RecordedAt::Now, .. }))
    }

    /// The answers' JSON, in the order of the questions. Everybody is brought up to date together.
    pub fn answer(&mut self, queries: &[Query]) -> Vec<Result<Vec<u8>, Problem>> {
        let persons: BTreeSet<PersonId> = queries.iter().map(Query::person).collect();
        let present = self.bring_up_to_date(persons);
        let answers = queries.iter().map(|query| match present.get(&query.person()) {
            Some(Ok(now)) => self.answer_one(query, now),
            Some(Err(problem)) => Err(problem.clone()),
            None => Err(Problem::new(Code::Unavailable, "the person was not read")),
        });
        let answers = answers.collect();
        present.into_values().flatten().for_each(|aggregate| self.keep(aggregate));
        answers
    }

    fn keep(&mut self, mut aggregate: Box<Aggregate>) {
        // No question is about them, and a busy person's take more room than all else.
        aggregate.receipts = Receipts::default();
        self.cache.put(aggregate);
    }

    /// What was noticed since this was last asked, for the log.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        mem::take(&mut self.notices)
    }

    fn answer_one(&mut self, query: &Query, now: &Aggregate) -> Result<Vec<u8>, Problem> {
        if now.version == 0 {
            return Err(Problem::new(Code::PersonNotFound, "the person does not exist").on_version(0));
        }
        let json = match query {
            Query::Get(get) => self.get(get, now),
            Query::History(history) => self.history(history, now),
        }?;
        if json.len() > self.answer_bytes_max { Err(self.too_large()) } else { Ok(json) }
    }

    /// Every person with all that the leader has. Of those in memory the leader's newest commit tells what is missing.
    fn bring_up_to_date(&mut self, persons: BTreeSet<PersonId>) -> BTreeMap<PersonId, Result<Box<Aggregate>, Problem>> {
        let mut cached = Vec::new();
        let mut cold = Vec::new();
        for person in persons {
            match self.cache.take(person) {
                Some(aggregate) => cached.push(aggregate),
                None => cold.push((person, Freshness::Newest)),
            }
        }
        let known: Vec<PersonId> = cached.iter().map(|aggregate| aggregate.person).collect();
        let tips = if known.is_empty() { Vec::new() } else { self.log.tips(&known) };
        let mut present = BTreeMap::new();
        let mut loadings = load::start(self.snapshots.as_mut(), &cold);
        for (aggregate, tip) in cached.into_iter().zip(tips) {
            match tip.map(|tip| aggregate.link().against(tip.as_ref())) {
                Ok(Standing::Newest) => {
                    present.insert(aggregate.person, Ok(aggregate));
                }
                Ok(Standing::Behind(newest)) => {
                    loadings.push(Loading::from_cached(aggregate, Freshness::Reaching(newest)));
                }
                Ok(Standing::Void) => {
                    self.notices.push(Notice::LostTail(aggregate.person));
                    loadings.extend(load::start(self.snapshots.as_mut(), &[(aggregate.person, Freshness::Newest)]))
                }
                Err(error) => {
                    let problem = Problem::new(Code::Unavailable, error.to_string());
                    present.insert(aggregate.person, Err(problem));
                    self.keep(aggregate);
                }
            }
        }
        let (done, _) = load::run(self.log.as_mut(), loadings, usize::MAX);
        for loading in done {
            let person = loading.person();
            let loaded = loading.finish(&mut self.notices).map_err(|NotLoaded { error, so_far }| {
                so_far.into_iter().for_each(|aggregate| self.keep(aggregate));
                error.problem()
            });
            present.insert(person, loaded);
        }
        present
    }

    fn get(&mut self, get: &Get, now: &Aggregate) -> Result<Vec<u8>, Problem> {
        let (person, version) = match get.at {
            RecordedAt::Version(version) if version > now.version => {
                let message = format!("at_version: the person is at version {}", now.version);
                return Err(Problem::new(Code::Invalid, message).on_version(now.version));
            }
            RecordedAt::Version(version) if version < now.version => self.fold_while(now, version, |_| true)?,
            RecordedAt::Time(time) if time < now.last_event_at => {
                self.fold_while(now, now.version, |event| event.timestamp <= time)?
            }
            RecordedAt::Now | RecordedAt::Version(_) | RecordedAt::Time(_) => (now.state.clone(), now.version),
        };
        match person {
            Some(person) => {
                Ok(encode_person(now.version, now.sequence, &PersonView::new(&person, version, get.valid_on)))
            }
            None => Err(Problem::new(Code::PersonNotFound, "the person did not exist then").on_version(now.version)),
        }
    }

    /// The state after the first events of the history, up to this version at most, as long as they are wanted.
    fn fold_while(
        &mut self,
        now: &Aggregate,
        version_max: u64,
        is_wanted: impl Fn(&EventRecord) -> bool,
    ) -> Result<(Option<Person>, u64), Problem> {
        let mut state = None;
        let mut version = 0;
        self.each_event(now, 1, |_, event| {
            let wanted = is_wanted(&event);
            if wanted {
                version = event.sequence;
                evolve(&mut state, &event.event);
            }
            wanted && version < version_max
        })?;
        Ok((state, version))
    }

    fn history(&mut self, history: &History, now: &Aggregate) -> Result<Vec<u8>, Problem> {
        let mut page = HistoryPage::new(self.answer_bytes_max);
        let wanted = usize::try_from(history.limit).unwrap_or(usize::MAX);
        let mut next = None;
        if history.from_version <= now.version {
            self.each_event(now, history.from_version, |sequence, event| {
                if event.sequence < history.from_version {
                    return true;
                }
                let is_on_it = page.len() < wanted && page.add(&event);
                if !is_on_it {
                    next = Some((event.sequence, sequence));
                }
                is_on_it
            })?;
        }
        if page.is_empty() && next.is_some() {
            return Err(self.too_large());
        }
        if let Some((version, sequence)) = next {
            self.bookmarks.put((history.person, version), sequence);
        }
        Ok(page.encode(now.version, next.map(|(version, _)| version)))
    }

    /// Goes through the events up to the present one, from a commit on that has this version or comes before it, until
    /// the visitor has seen enough. What a copy shows that does not check out is read again from the leader.
    fn each_event(
        &mut self,
        now: &Aggregate,
        from_version: u64,
        mut visit: impl FnMut(Sequence, EventRecord) -> bool,
    ) -> Result<(), Problem> {
        let bookmark = self.bookmarks.get(&(now.person, from_version)).copied();
        let mut place = bookmark.map_or(Place::beginning(), |from| Place { from, link: None });
        let mut consistency = Consistency::Any;
        while place.from <= now.sequence {
            let read = Read { person: now.person, start: Start::Sequence(place.from), consistency, newest: None };
            let page = self.log.read(&[read]).pop().unwrap_or_else(|| Ok(Default::default()));
            let page = page.map_err(|error| Problem::new(Code::Unavailable, error.to_string()))?;
            if page.commits.is_empty() && consistency == Consistency::Leader {
                return Err(Problem::new(Code::Unavailable, "the stream has less than it just had"));
            }
            // The copy that answered may lag behind the leader, which has been seen to have more.
            let mut is_from_the_leader_next = page.commits.is_empty();
            for stored in page.commits.iter().filter(|stored| stored.sequence <= now.sequence) {
                match place.follow(now.person, stored) {
                    // The stream was restored since the place was remembered.
                    Ok((_, commit)) if place.link.is_none() && commit.first_version() > from_version => {
                        self.bookmarks.pop(&(now.person, from_version));
                        return self.each_event(now, from_version, visit);
                    }
                    Ok((next, commit)) => {
                        place = next;
                        if !commit.events.into_iter().all(|event| visit(stored.sequence, event)) {
                            return Ok(());
                        }
                    }
                    Err(_) if consistency == Consistency::Any => {
                        is_from_the_leader_next = true;
                        break;
                    }
                    Err(broken) => return Err(LoadError::from(broken).problem()),
                }
            }
            if is_from_the_leader_next {
                consistency = Consistency::Leader;
            } else if page.commits.last().is_some_and(|last| last.sequence >= now.sequence) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn too_large(&self) -> Problem {
        let message = format!("the answer does not fit into a message of {} bytes", self.answer_bytes_max);
        Problem::new(Code::TooLarge, message)
    }
}

/// A place between two commits of a history.
struct Place {
    /// Where the next commit is looked for.
    from: Sequence,
    /// What the next commit has to continue; `None` where that is not known.
    link: Option<Link>,
}

impl Place {
    fn beginning() -> Self {
        Self { from: 1, link: Some(Link::start()) }
    }

    /// The place behind the next commit, and the commit, if it is the next.
    fn follow(&self, person: PersonId, stored: &StoredCommit) -> Result<(Self, Commit), Broken> {
        let broken = |error| Broken { sequence: stored.sequence, error };
        let commit = commit::decode(&stored.payload).map_err(broken)?;
        let link = match &self.link {
            Some(link) => link.follow(person, stored, &commit),
            None if commit.aggregate_id == person => Ok(Link::after(stored, &commit)),
            None => Err("a commit of another person".to_owned()),
        };
        let link = link.map_err(|what| broken(CommitError::Damaged(what)))?;
        Ok((Self { from: stored.sequence + 1, link: Some(link) }, commit))
    }
}
