//! The log as it is on a bad day: what a script says goes wrong, the rest works as in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cim_domain_person::domain::PersonId;
use cim_domain_person::engine::ports::{
    Append, Appended, AppendedTogether, Consistency, EventLog, Page, Read, Sequence, Tip, Unavailable,
};
use cim_domain_person::memory::MemoryLog;
use cim_domain_person::wire::commit::COMMIT_BYTES_MAX;

/// What happens to one append.
#[derive(Default)]
pub enum OnAppend {
    /// Nothing unusual.
    #[default]
    Works,
    /// Stored, but the acknowledgement is lost.
    AckLost,
    /// Lost on its way in; nobody says so.
    WriteLost,
    /// No answer; it arrives when the log is used the next time.
    LandsLater,
    /// No answer; it arrives when [`Faults::land`] says so.
    LandsWhenTold,
    /// The store is away, and says so.
    Unavailable,
    /// The store says no, and would say so again.
    Refused,
    /// The store does not take it and does not say what is newest instead.
    VagueConflict,
    /// Somebody else does this first.
    Rival(Box<dyn FnOnce() + Send>),
}

/// What happens to one call of `read` or `tips`.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub enum OnRead {
    /// Nothing unusual.
    #[default]
    Works,
    /// The store is away.
    Unavailable,
}

/// The script, and what was done to the log.
#[derive(Default)]
struct Script {
    appends: VecDeque<OnAppend>,
    reads: VecDeque<OnRead>,
    tips: VecDeque<OnRead>,
    /// When set, reads from any copy lack what comes after this position.
    lagging_at: Option<Sequence>,
    /// What any copy but the leader shows in the place of this commit.
    garbled: Option<(Sequence, &'static [u8])>,
    page_commits_max: Option<usize>,
    payload_bytes_max: Option<usize>,
    under_way: Vec<Append>,
    told_to_land: Vec<Append>,
    calls: Vec<&'static str>,
    /// The last commit of each person that was shown: what is read from before it is searched once more.
    shown: HashMap<PersonId, Sequence>,
    commits_read: usize,
    most_bytes: usize,
}

/// The hand on the faults of one replica's log.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Script>>);

impl Faults {
    /// What happens to the next appends, one after the other.
    pub fn on_append(&self, faults: impl IntoIterator<Item = OnAppend>) {
        self.lock().appends.extend(faults);
    }

    /// What happens to the next calls of `read`.
    pub fn on_read(&self, faults: impl IntoIterator<Item = OnRead>) {
        self.lock().reads.extend(faults);
    }

    /// What happens to the next calls of `tips`.
    pub fn on_tips(&self, faults: impl IntoIterator<Item = OnRead>) {
        self.lock().tips.extend(faults);
    }

    /// From now on any copy but the leader lacks what comes after this position.
    pub fn lag_at(&self, sequence: Option<Sequence>) {
        self.lock().lagging_at = sequence;
    }

    /// From now on any copy but the leader shows this in the place of a commit.
    pub fn garble(&self, sequence: Sequence, payload: &'static [u8]) {
        self.lock().garbled = Some((sequence, payload));
    }

    /// The commits on one page of a read.
    pub fn page_commits_max(&self, commits: usize) {
        self.lock().page_commits_max = Some(commits);
    }

    /// The largest payload that the store takes.
    pub fn payload_bytes_max(&self, bytes: usize) {
        self.lock().payload_bytes_max = Some(bytes);
    }

    /// What was asked of the log since the last time, one word a call.
    pub fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.lock().calls)
    }

    /// How many commits were read since the last time.
    pub fn commits_read(&self) -> usize {
        std::mem::take(&mut self.lock().commits_read)
    }

    /// How many bytes of commits were read at once, at most, since the last time.
    pub fn most_bytes(&self) -> usize {
        std::mem::take(&mut self.lock().most_bytes)
    }

    /// Lets the appends that were held back arrive.
    pub fn land(&self, log: &mut MemoryLog) {
        let held = std::mem::take(&mut self.lock().told_to_land);
        log.append(&held);
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log with faults in front of one in memory.
pub struct FaultyLog {
    inner: MemoryLog,
    faults: Faults,
}

impl FaultyLog {
    pub fn new(inner: MemoryLog, faults: Faults) -> Self {
        Self { inner, faults }
    }

    /// What was under way arrives before the next thing is done.
    fn let_late_ones_land(&mut self) {
        let late = std::mem::take(&mut self.faults.lock().under_way);
        self.inner.append(&late);
    }

    fn append_one(&mut self, append: &Append) -> Appended {
        let fault = self.faults.lock().appends.pop_front().unwrap_or_default();
        let away = || Unavailable("the store is away".to_owned());
        let mut store = || self.inner.append(std::slice::from_ref(append)).pop().unwrap();
        match fault {
            OnAppend::Works => store(),
            OnAppend::Rival(rival) => {
                rival();
                store()
            }
            OnAppend::AckLost => {
                store();
                Appended::Unknown
            }
            OnAppend::WriteLost => Appended::Unknown,
            OnAppend::LandsLater => {
                self.faults.lock().under_way.push(append.clone());
                Appended::Unknown
            }
            OnAppend::LandsWhenTold => {
                self.faults.lock().told_to_land.push(append.clone());
                Appended::Unknown
            }
            OnAppend::Unavailable => Appended::Unavailable(away()),
            OnAppend::Refused => Appended::Refused(Unavailable("maximum bytes exceeded".to_owned())),
            OnAppend::VagueConflict => Appended::Conflict(None),
        }
    }

    fn read_one(&mut self, read: &Read) -> Page {
        let mut page = self.inner.read(std::slice::from_ref(read), usize::MAX).pop().unwrap().unwrap();
        let script = self.faults.lock();
        if read.consistency == Consistency::Any {
            script.show_as_a_copy_does(&mut page);
        }
        let page_commits_max = script.page_commits_max.unwrap_or(usize::MAX);
        drop(script);
        if page.commits.len() > page_commits_max {
            page.commits.truncate(page_commits_max);
            page.more = true;
        }
        if let Some(last) = page.commits.last() {
            self.faults.lock().shown.insert(read.person, last.sequence);
        }
        page
    }
}

impl Script {
    fn show_as_a_copy_does(&self, page: &mut Page) {
        let all = page.commits.len();
        page.commits.retain(|commit| self.lagging_at.is_none_or(|newest| commit.sequence <= newest));
        page.more &= page.commits.len() == all;
        for commit in &mut page.commits {
            if let Some((_, payload)) = self.garbled.filter(|(sequence, _)| *sequence == commit.sequence) {
                commit.payload = Arc::from(payload);
            }
        }
    }
}

impl EventLog for FaultyLog {
    fn payload_bytes_max(&self) -> usize {
        self.faults.lock().payload_bytes_max.unwrap_or(COMMIT_BYTES_MAX)
    }

    fn read(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        self.let_late_ones_land();
        let fault = {
            let mut script = self.faults.lock();
            let again = |read: &Read| script.shown.get(&read.person).is_some_and(|shown| read.start < *shown);
            let again = reads.iter().any(again);
            let leader = reads.iter().any(|read| read.consistency == Consistency::Leader);
            script.calls.push(match (again, leader) {
                (true, _) => "search",
                (false, true) => "read leader",
                (false, false) => "read",
            });
            script.reads.pop_front().unwrap_or_default()
        };
        if fault == OnRead::Unavailable {
            return reads.iter().map(|_| Err(Unavailable("the store is away".to_owned()))).collect();
        }
        let mut pages: Vec<_> = reads.iter().map(|read| Ok(self.read_one(read))).collect();
        Page::cut(&mut pages, bytes_max);
        let mut script = self.faults.lock();
        script.commits_read += pages.iter().flatten().map(|page| page.commits.len()).sum::<usize>();
        script.most_bytes = script.most_bytes.max(pages.iter().flatten().map(Page::bytes).sum());
        pages
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<Tip>, Unavailable>> {
        self.let_late_ones_land();
        let fault = {
            let mut script = self.faults.lock();
            script.calls.push("tips");
            script.tips.pop_front().unwrap_or_default()
        };
        if fault == OnRead::Unavailable {
            return persons.iter().map(|_| Err(Unavailable("the store is away".to_owned()))).collect();
        }
        self.inner.tips(persons)
    }

    fn append(&mut self, appends: &[Append]) -> Vec<Appended> {
        self.let_late_ones_land();
        self.faults.lock().calls.push("append");
        appends.iter().map(|append| self.append_one(append)).collect()
    }

    fn append_together(&mut self, appends: &[Append]) -> AppendedTogether {
        self.let_late_ones_land();
        self.faults.lock().calls.push("append together");
        self.inner.append_together(appends)
    }
}
