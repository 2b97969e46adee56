//! Answering questions: the present from snapshot and tail, the past by folding as far as was asked.
//!
//! Every answer includes all that the stream's leader has when it is asked, so that whoever got a reply to a command
//! from any replica sees its effect here.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::mem;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use lru::LruCache;

use crate::domain::{Person, PersonId, PersonView, evolve};
use crate::engine::aggregate::{Aggregate, Broken};
use crate::engine::cache::Cache;
use crate::engine::history::{self, Budget, Compared, End, Freshness, LoadError, Loading, NotLoaded, Reader, Sink};
use crate::engine::link::Link;
use crate::engine::ports::{EventLog, Sequence, SnapshotStore, StoredCommit};
use crate::engine::receipts::Receipts;
use crate::engine::turn::Notice;
use crate::wire::commit::{self, CommitError, EventRecord};
use crate::wire::digest::Digest;
use crate::wire::query::{Get, History, HistoryPage, Query, RecordedAt, encode_person};
use crate::wire::reply::{Code, Problem};

/// Places in histories that are remembered, so that the next page need not be looked for from the beginning.
const BOOKMARKS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// Persons of whom more than a page is to be read, at once.
const LONG_MAX: usize = 32;

/// The number by which whoever asks knows a question.
pub type Ticket = u64;

/// An answer's JSON.
pub type Answer = Result<Vec<u8>, Problem>;

/// Answers questions.
pub struct Inquiry {
    log: Box<dyn EventLog + Send>,
    snapshots: Box<dyn SnapshotStore + Send>,
    cache: Cache,
    /// By person and version: the commit that has the version's event.
    bookmarks: LruCache<(PersonId, u64), Sequence>,
    answer_bytes_max: usize,
    /// What may be read in a round.
    round: Budget,
    /// Not begun yet: the person is being read for others who asked before, or is to be.
    waiting: Vec<(Ticket, Query)>,
    /// Who is being read, in the order in which that began, and what is asked about them.
    open: Vec<Loading>,
    /// Who is to be read from the beginning once there is room for one more long history.
    put_off: Vec<Loading>,
    asked: BTreeMap<PersonId, Vec<(Ticket, Query)>>,
    notices: Vec<Notice>,
}

impl Inquiry {
    /// With a cache of this many bytes, for answers of at most so many bytes; a round may read `round_bytes_max`.
    pub fn new(
        log: Box<dyn EventLog + Send>,
        snapshots: Box<dyn SnapshotStore + Send>,
        cache_bytes: usize,
        answer_bytes_max: usize,
        round_bytes_max: usize,
    ) -> Self {
        Self {
            log,
            snapshots,
            cache: Cache::new(cache_bytes),
            bookmarks: LruCache::new(BOOKMARKS_MAX),
            answer_bytes_max,
            round: Budget { rounds: 2, ..Budget::of_bytes(round_bytes_max / 2) },
            waiting: Vec::new(),
            open: Vec::new(),
            put_off: Vec::new(),
            asked: BTreeMap::new(),
            notices: Vec::new(),
        }
    }

    /// From now on answers have at most so many bytes.
    pub fn limit_answers(&mut self, bytes_max: usize) {
        self.answer_bytes_max = bytes_max;
    }

    /// Whether answering may take going through a whole history that is not kept.
    pub fn is_slow(query: &Query) -> bool {
        !matches!(query, Query::Get(Get { at: RecordedAt::Now, .. }))
    }

    /// The answers, in the order of the questions, once all of them can be given.
    pub fn answer(&mut self, queries: &[Query]) -> Vec<Answer> {
        let mut arrivals: Vec<(Ticket, Query)> = (0..).zip(queries.iter().cloned()).collect();
        let mut answers: BTreeMap<Ticket, Answer> = BTreeMap::new();
        while !(arrivals.is_empty() && self.is_idle()) {
            self.round(std::mem::take(&mut arrivals), &mut |ticket, answer| drop(answers.insert(ticket, answer)));
        }
        answers.into_values().collect()
    }

    /// Whether every question was answered.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.open.is_empty() && self.put_off.is_empty()
    }

    /// Goes on with all questions, these among them, and answers those that can be answered by then. A long history takes
    /// as many rounds as it needs, and the others do not wait for it.
    pub fn round(&mut self, arrivals: Vec<(Ticket, Query)>, reply: &mut dyn FnMut(Ticket, Answer)) {
        self.waiting.extend(arrivals);
        self.begin(reply);
        // Whoever has not been looked at yet comes first: most need no second look.
        let open = mem::take(&mut self.open);
        let (begun, mut new): (Vec<Loading>, Vec<Loading>) = open.into_iter().partition(Loading::is_begun);
        let room = LONG_MAX.saturating_sub(begun.len()).min(self.put_off.len());
        new.extend(self.put_off.drain(..room));
        for loadings in [new, begun] {
            let (over, open) = history::run(self.log.as_mut(), self.snapshots.as_mut(), loadings, &self.round);
            self.open.splice(0..0, open);
            over.into_iter().for_each(|loading| self.finish(loading, reply));
        }
        // Each of these takes memory: those that went on for longest stay.
        self.open.sort_by_key(|loading| Reverse(loading.is_begun()));
        let long = self.open.iter().take_while(|loading| loading.is_begun()).count();
        let excess = self.open.drain(LONG_MAX.min(long)..long);
        self.put_off.extend(excess.map(|loading| Loading::cold(loading.person(), Freshness::Newest)));
    }

    /// Stops looking for answers to those questions that are `late`; what was read is kept. Their tickets.
    pub fn give_up(&mut self, is_late: impl Fn(Ticket) -> bool) -> Vec<Ticket> {
        let mut late = Vec::new();
        let mut keep_others = |of_one: &mut Vec<(Ticket, Query)>| {
            late.extend(of_one.extract_if(.., |(ticket, _)| is_late(*ticket)).map(|(ticket, _)| ticket));
        };
        keep_others(&mut self.waiting);
        self.asked.values_mut().for_each(&mut keep_others);
        self.asked.retain(|_, of_one| !of_one.is_empty());
        let asked = &self.asked;
        let is_unwanted = |loading: &mut Loading| !asked.contains_key(&loading.person());
        let unwanted = self.open.extract_if(.., is_unwanted).chain(self.put_off.extract_if(.., is_unwanted));
        let unwanted: Vec<Loading> = unwanted.collect();
        unwanted.into_iter().for_each(|loading| drop(self.loaded(loading)));
        late
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

    fn answer_one(&mut self, query: &Query, now: &Aggregate) -> Answer {
        if now.version == 0 {
            return Err(Problem::new(Code::PersonNotFound, "the person does not exist").on_version(0));
        }
        let json = match query {
            Query::Get(get) => self.get(get, now),
            Query::History(history) => self.history(history, now),
        }?;
        if json.len() > self.answer_bytes_max { Err(self.too_large()) } else { Ok(json) }
    }

    /// Begins with those who wait and about whom nobody asked before: what is read for others may be from before this was
    /// asked. Of those in memory the leader's newest commit tells what is missing.
    fn begin(&mut self, reply: &mut dyn FnMut(Ticket, Answer)) {
        let asked = &self.asked;
        let now = self.waiting.extract_if(.., |(_, query)| !asked.contains_key(&query.person()));
        let mut new: BTreeMap<PersonId, Vec<(Ticket, Query)>> = BTreeMap::new();
        now.for_each(|(ticket, query)| new.entry(query.person()).or_default().push((ticket, query)));
        let mut cached = Vec::new();
        for person in new.keys() {
            match self.cache.take(*person) {
                Some(aggregate) => cached.push(aggregate),
                None => self.open.push(Loading::cold(*person, Freshness::Newest)),
            }
        }
        self.asked.append(&mut new);
        for compared in history::compare(self.log.as_mut(), cached) {
            match compared {
                Compared::Newest(aggregate) => self.answer_all(aggregate.person, Ok(aggregate), reply),
                Compared::Stale(loading) => self.open.push(loading),
                Compared::Void(loading) => {
                    self.notices.push(Notice::LostTail(loading.person()));
                    self.open.push(loading);
                }
                Compared::Unknown(aggregate, error) => {
                    let problem = LoadError::from(error).problem();
                    self.answer_all(aggregate.person, Err(problem), reply);
                    self.keep(aggregate);
                }
            }
        }
    }

    fn finish(&mut self, loading: Loading, reply: &mut dyn FnMut(Ticket, Answer)) {
        let person = loading.person();
        let loaded = self.loaded(loading);
        self.answer_all(person, loaded, reply);
    }

    fn loaded(&mut self, loading: Loading) -> Result<Box<Aggregate>, Problem> {
        loading.finish(&mut self.notices).map_err(|NotLoaded { error, so_far }| {
            so_far.into_iter().for_each(|aggregate| self.keep(aggregate));
            error.problem()
        })
    }

    /// Answers all that is asked about a person, each as soon as it is written: all of them may take much room.
    fn answer_all(
        &mut self,
        person: PersonId,
        now: Result<Box<Aggregate>, Problem>,
        reply: &mut dyn FnMut(Ticket, Answer),
    ) {
        for (ticket, query) in self.asked.remove(&person).into_iter().flatten() {
            let answer = match &now {
                Ok(now) => self.answer_one(&query, now),
                Err(problem) => Err(problem.clone()),
            };
            reply(ticket, answer);
        }
        now.into_iter().for_each(|aggregate| self.keep(aggregate));
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
        let fold = |(state, version): &mut (Option<Person>, u64), _, event: EventRecord| {
            let wanted = is_wanted(&event);
            if wanted {
                *version = event.sequence;
                evolve(state, &event.event);
            }
            wanted && *version < version_max
        };
        self.each_event(now, 1, || (None, 0), fold)
    }

    fn history(&mut self, history: &History, now: &Aggregate) -> Answer {
        let bytes_max = self.answer_bytes_max;
        let empty = || (HistoryPage::new(bytes_max), None);
        let wanted = usize::try_from(history.limit).unwrap_or(usize::MAX);
        let add = |(page, next): &mut (HistoryPage, Option<(u64, Sequence)>), sequence, event: EventRecord| {
            if event.sequence < history.from_version {
                return true;
            }
            let is_on_it = page.len() < wanted && page.add(&event);
            if !is_on_it {
                *next = Some((event.sequence, sequence));
            }
            is_on_it
        };
        let (page, next) = match history.from_version <= now.version {
            true => self.each_event(now, history.from_version, empty, add)?,
            false => empty(),
        };
        if page.is_empty() && next.is_some() {
            return Err(self.too_large());
        }
        if let Some((version, sequence)) = next {
            self.bookmarks.put((history.person, version), sequence);
        }
        Ok(page.encode(now.version, next.map(|(version, _)| version)))
    }

    /// Goes through the events up to the present one, from a commit on that has this version or comes before it, until
    /// the visitor has seen enough; what it made of them, beginning with `empty`.
    fn each_event<T>(
        &mut self,
        now: &Aggregate,
        from_version: u64,
        empty: impl Fn() -> T,
        visit: impl FnMut(&mut T, Sequence, EventRecord) -> bool,
    ) -> Result<T, Problem> {
        let bookmark = self.bookmarks.get(&(now.person, from_version)).copied();
        let goal = Freshness::Reaching(now.sequence);
        let link = if bookmark.is_some() { None } else { Some(Link::start()) };
        let (person, last, made) = (now.person, now.sequence, empty());
        let visits = Visits { person, link, last, from_version, is_beyond: false, made, visit };
        let mut reader = Reader::on(now.person, visits, goal).starting_at(bookmark.unwrap_or(1));
        loop {
            let end = history::read_through(self.log.as_mut(), &mut reader, self.round.bytes);
            let place_is_wrong = reader.sink.is_beyond;
            match end {
                End::Complete if !place_is_wrong => return Ok(reader.sink.made),
                // The stream was restored since the place was remembered; or what a copy showed is not what the leader has.
                End::Complete | End::Diverged(_) => {
                    self.bookmarks.pop(&(now.person, from_version));
                    let visits = Visits { link: Some(Link::start()), is_beyond: false, made: empty(), ..reader.sink };
                    reader = Reader::on(now.person, visits, goal);
                    if !place_is_wrong {
                        reader = reader.by_the_leader();
                    }
                }
                End::Short => return Err(Problem::new(Code::Unavailable, "the stream has less than it just had")),
                End::Broken(broken) => return Err(LoadError::from(broken).problem()),
                End::Unavailable(error) => return Err(LoadError::from(error).problem()),
            }
        }
    }

    fn too_large(&self) -> Problem {
        let message = format!("the answer does not fit into a message of {} bytes", self.answer_bytes_max);
        Problem::new(Code::TooLarge, message)
    }
}

/// What goes through the events of a history.
struct Visits<T, V> {
    person: PersonId,
    /// What the next commit has to continue; `None` where that is not known.
    link: Option<Link>,
    /// The commit with which the history ended when it was asked for.
    last: Sequence,
    /// Where the events that are wanted begin.
    from_version: u64,
    /// Whether the first commit comes after that.
    is_beyond: bool,
    made: T,
    visit: V,
}

impl<T, V: FnMut(&mut T, Sequence, EventRecord) -> bool> Sink for Visits<T, V> {
    fn ground(&self) -> Option<(Sequence, Digest)> {
        self.link.filter(|link| link.sequence > 0).map(|link| (link.sequence, link.chain))
    }

    fn take(&mut self, stored: &StoredCommit) -> Result<ControlFlow<()>, Broken> {
        let broken = |error| Broken { sequence: stored.sequence, error };
        let commit = commit::decode(&stored.payload).map_err(broken)?;
        self.is_beyond = self.link.is_none() && commit.first_version() > self.from_version;
        if self.is_beyond || stored.sequence > self.last {
            return Ok(ControlFlow::Break(()));
        }
        let link = Link::follow_or_begin(self.link.as_ref(), self.person, stored, &commit);
        self.link = Some(link.map_err(|what| broken(CommitError::Damaged(what)))?);
        let wants_more = commit.events.into_iter().all(|event| (self.visit)(&mut self.made, stored.sequence, event));
        Ok(if wants_more && stored.sequence < self.last { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }
}
