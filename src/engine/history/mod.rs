//! Reading histories: one reader for all who read them, be it a turn, a query, a search for an old command, or a tool.
//!
//! The rules, in one place: a copy of the stream may lag or be wrong, so that what it shows is neither the end nor damage
//! before the leader says so ([`Reader`]); what a state is built on is believed less and less, from what is in memory to
//! the snapshot to nothing ([`Loading`]); and nothing is read without a [`Budget`]: what does not fit into it goes on
//! later, or outside of the turn ([`Errand`]).

mod errand;
mod load;
mod reader;
mod search;

pub use errand::{Errand, What};
pub use load::{LoadError, Loading, NotLoaded};
pub use reader::{End, Reader, Sink};
pub use search::{Found, Search};

use crate::domain::PersonId;
use crate::engine::aggregate::Aggregate;
use crate::engine::link::Standing;
use crate::engine::ports::{EventLog, Page, Read, Sequence, SnapshotStore, Tip, Unavailable};

/// How fresh what is read has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As fresh as any copy of the stream: what is decided on it is proved by the append, or confirmed.
    Guess,
    /// At least up to this position, which is known to be stored.
    Reaching(Sequence),
    /// Everything that the leader has.
    Newest,
}

/// What one call of [`run`] may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Questions in a row.
    pub rounds: usize,
    /// Commits of one history.
    pub commits: usize,
    /// Bytes of all histories together, snapshots included.
    pub bytes: usize,
}

/// Questions in a row within a step of a turn; what needs more is read outside of it.
const TURN_ROUNDS_MAX: usize = 8;
/// Commits of one history that are read within a step of a turn: the same.
const TURN_COMMITS_MAX: usize = 2048;

impl Budget {
    /// For a step of a turn, in which all histories together may have so many bytes.
    pub const fn of_a_turn(bytes: usize) -> Self {
        Self { rounds: TURN_ROUNDS_MAX, commits: TURN_COMMITS_MAX, bytes }
    }

    /// As many rounds and commits as it takes, in rounds of so many bytes.
    pub const fn of_bytes(bytes: usize) -> Self {
        Self { rounds: usize::MAX, commits: usize::MAX, bytes }
    }
}

/// A history that is being read.
pub trait History {
    /// Whether it needs no more reading.
    fn is_over(&self) -> bool;

    /// Whose snapshot it begins with, as long as that was not looked for.
    fn wants_snapshot(&self) -> Option<PersonId> {
        None
    }

    /// Takes in the snapshot that was found.
    fn take_snapshot(&mut self, _bytes: Option<&[u8]>) {}

    /// How many commits were read for it so far.
    fn commits_read(&self) -> usize;

    /// What to ask for next, at most this many commits.
    fn next_read(&self, commits_max: usize) -> Read;

    /// Takes in what was answered.
    fn take(&mut self, page: Result<Page, Unavailable>);
}

/// Snapshots that are asked for at once before it is known how large they are.
const SNAPSHOTS_AT_ONCE: usize = 16;

/// Reads on within a budget, all together: one round trip a round where little is to be read. Returns those that are over,
/// and those that are not, in their order: but those for which nothing was read come first. So whoever calls this again with
/// them lets none of them wait for another one's end.
pub fn run<H: History>(
    log: &mut dyn EventLog,
    snapshots: &mut dyn SnapshotStore,
    histories: Vec<H>,
    budget: &Budget,
) -> (Vec<H>, Vec<H>) {
    let (mut over, mut open): (Vec<H>, Vec<H>) = histories.into_iter().partition(H::is_over);
    let mut before: Vec<usize> = open.iter().map(H::commits_read).collect();
    let mut bytes = budget.bytes;
    for _ in 0..budget.rounds {
        if open.is_empty() || bytes == 0 {
            break;
        }
        // The other half is for what comes after the snapshots.
        let used = load_snapshots(snapshots, &mut open, bytes / 2);
        bytes -= used.min(bytes / 2);
        let may_go_on = |history: &&mut H| {
            history.wants_snapshot().is_none() && !history.is_over() && history.commits_read() < budget.commits
        };
        let mut asked: Vec<&mut H> = open.iter_mut().filter(may_go_on).collect();
        let reads: Vec<Read> =
            asked.iter().map(|history| history.next_read(budget.commits - history.commits_read())).collect();
        if reads.is_empty() {
            break;
        }
        let pages = log.read(&reads, bytes);
        let mut is_stuck = true;
        for (history, page) in asked.iter_mut().zip(pages) {
            bytes = bytes.saturating_sub(page.as_ref().map_or(0, Page::bytes));
            is_stuck &= page.as_ref().is_ok_and(Page::has_no_room);
            history.take(page);
        }
        let (ended, going_on): (Vec<_>, Vec<_>) =
            open.into_iter().zip(before).partition(|(history, _)| history.is_over());
        over.extend(ended.into_iter().map(|(history, _)| history));
        (open, before) = going_on.into_iter().unzip();
        if is_stuck {
            break;
        }
    }
    let was_read = |(history, before): &(H, usize)| history.commits_read() > *before;
    let (read, unread): (Vec<_>, Vec<_>) = open.into_iter().zip(before).partition(was_read);
    (over, unread.into_iter().chain(read).map(|(history, _)| history).collect())
}

/// Gets the snapshots that are wanted, as long as there is room. How many bytes they have.
fn load_snapshots<H: History>(snapshots: &mut dyn SnapshotStore, open: &mut [H], bytes_max: usize) -> usize {
    let mut wanting: Vec<(PersonId, &mut H)> =
        open.iter_mut().filter_map(|history| Some((history.wants_snapshot()?, history))).collect();
    let (mut bytes, mut largest, mut begun) = (0_usize, bytes_max / SNAPSHOTS_AT_ONCE, 0);
    while begun < wanting.len() && (bytes < bytes_max || begun == 0) {
        let at_once = ((bytes_max - bytes.min(bytes_max)) / largest.max(1)).max(1);
        let some: Vec<&mut (PersonId, &mut H)> = wanting.iter_mut().skip(begun).take(at_once).collect();
        let persons: Vec<PersonId> = some.iter().map(|(person, _)| *person).collect();
        begun += persons.len();
        largest = 1;
        for ((_, history), snapshot) in some.into_iter().zip(snapshots.load(&persons)) {
            let len = snapshot.as_ref().map_or(0, Vec::len);
            (bytes, largest) = (bytes + len, largest.max(len));
            history.take_snapshot(snapshot.as_deref());
        }
    }
    bytes
}

/// What is in memory of a person, compared with the leader's newest commit.
pub enum Compared {
    /// There is nothing newer.
    Newest(Box<Aggregate>),
    /// There is more: it is to be read.
    Stale(Loading),
    /// The stream has less, or something else in its place: it is to be read anew.
    Void(Loading),
    /// The store did not answer.
    Unknown(Box<Aggregate>, Unavailable),
}

/// Compares persons in memory with what the leader has, all at once.
pub fn compare(log: &mut dyn EventLog, cached: Vec<Box<Aggregate>>) -> Vec<Compared> {
    let persons: Vec<PersonId> = cached.iter().map(|aggregate| aggregate.person).collect();
    let tips = if persons.is_empty() { Vec::new() } else { log.tips(&persons) };
    let compared = |(aggregate, tip): (Box<Aggregate>, Result<Option<Tip>, Unavailable>)| match tip
        .map(|tip| aggregate.link().against(tip.as_ref()))
    {
        Ok(Standing::Newest) => Compared::Newest(aggregate),
        Ok(Standing::Behind(newest)) => Compared::Stale(Loading::from_cached(aggregate, Freshness::Reaching(newest))),
        Ok(Standing::Void) => Compared::Void(Loading::cold(aggregate.person, Freshness::Newest)),
        Err(unavailable) => Compared::Unknown(aggregate, unavailable),
    };
    cached.into_iter().zip(tips).map(compared).collect()
}

/// Brings one history as far as it was asked for, in rounds of so many bytes.
pub fn read_through<S: Sink>(log: &mut dyn EventLog, reader: &mut Reader<S>, bytes_max: usize) -> End {
    loop {
        if let Some(end) = reader.end.take() {
            return end;
        }
        match log.read(&[reader.next_read(usize::MAX)], bytes_max).pop() {
            Some(Ok(page)) if page.has_no_room() => {
                return End::Unavailable(Unavailable("the store gave an empty page".to_owned()));
            }
            Some(page) => reader.take(page),
            None => return End::Unavailable(Unavailable("the store was not asked".to_owned())),
        }
    }
}
