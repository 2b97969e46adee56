//! Which commands of a person were carried out, so that a retry gets its first outcome instead of a second effect.
//!
//! The newest [`REMEMBERED`] are part of the person's state and of its snapshots. What falls out of them is kept in
//! memory for as long as retries may come, so that a busy person does not need its history searched.

use std::collections::{HashMap, VecDeque};

use crate::domain::{EventKinds, Timestamp};
use crate::wire::commit::CommitCommand;
use crate::wire::digest::Digest;
use crate::wire::request::CommandId;
use crate::wire::snapshot::Receipt;

/// How many commands of a person are remembered in its snapshots: each until more than 128 later ones came.
pub const REMEMBERED: usize = 128 + 1;
/// How many more are kept in memory, while they are young: those of some seconds, for the busiest person that a replica can
/// serve, so that a new command need not be searched for because it waited.
const ELDERS_MAX: usize = 262_144;
/// How young those are that are kept where memory is short, in microseconds: as old as a command can be while it waits, and
/// as much again for the clocks.
const YOUNG_MICROS: i64 = 10 * 1_000_000;
/// How long after a UUIDv7 was made its retries are recognised, in microseconds: the 10 minutes that are promised, and
/// half as much for the clocks of client and service.
pub const RETRY_HORIZON_MICROS: i64 = 15 * 60 * 1_000_000;
/// How far a client's clock may run ahead of the service's before its ids are taken to be of unknown age, and how far
/// behind the newest forgotten command an id must be to be worth a search, in microseconds.
const CLOCK_SLACK_MICROS: i64 = 1_000_000;

/// About what an elder takes in memory: its place in a table that is two thirds full, and its place in the order.
const ELDER_BYTES: usize = size_of::<(Digest, Receipt)>() * 3 / 2 + 2 * size_of::<Digest>();

/// What is known of a command id.
#[derive(Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// It was carried out.
    As(&'a Receipt),
    /// It was not, or so long ago that nothing is promised any more.
    New,
    /// It may have been, in a part of the history that is not remembered: commits from this time on are to be searched.
    SearchFrom(Timestamp),
}

/// The commands of one person that were carried out.
#[derive(Debug, Clone, Default)]
pub struct Receipts {
    /// At most [`REMEMBERED`], oldest first.
    recent: VecDeque<Receipt>,
    /// A part of the id of each of `recent`, in the same order: nearly every look-up is of an id that is in none of
    /// them, and learns so from a few hundred bytes instead of ten thousand.
    marks: VecDeque<u32>,
    /// Those that fell out of `recent` within the horizon.
    elders: HashMap<Digest, Receipt>,
    /// The ids of `elders`, in the order in which they are to be forgotten.
    elders_order: VecDeque<Digest>,
    /// Commands carried out at this time or before may be missing.
    since: Option<Timestamp>,
    /// What a search found of the ids that it was made for. It says nothing any more once another command was carried out.
    answers: HashMap<Digest, Option<Receipt>>,
}

impl Receipts {
    /// As a snapshot holds them.
    pub fn restored(recent: Vec<Receipt>, since: Option<Timestamp>) -> Self {
        let marks = recent.iter().map(|receipt| receipt.command.mark()).collect();
        Self { recent: recent.into(), marks, since, ..Self::default() }
    }

    /// What a snapshot should hold.
    pub fn for_snapshot(&self) -> (Vec<Receipt>, Option<Timestamp>) {
        let newest_elder = self.elders_order.back().and_then(|id| self.elders.get(id)).map(|elder| elder.at);
        (self.recent.iter().cloned().collect(), self.since.max(newest_elder))
    }

    /// What is known of this id at this time.
    pub fn look_up(&self, id: &CommandId, now: Timestamp) -> Known<'_> {
        if id.generated {
            return Known::New;
        }
        match self.find(id.digest) {
            Some(receipt) => Known::As(receipt),
            None => match self.answers.get(&id.digest) {
                Some(answer) => answer.as_ref().map_or(Known::New, Known::As),
                None => self.unless_forgotten(id, now),
            },
        }
    }

    /// Whether no command was ever forgotten: then nothing has to be searched for.
    pub fn are_complete(&self) -> bool {
        self.since.is_none()
    }

    fn find(&self, id: Digest) -> Option<&Receipt> {
        let mark = id.mark();
        let (older, newer) = self.marks.as_slices();
        if older.contains(&mark) || newer.contains(&mark) {
            let recent = self.recent.iter().rev().find(|receipt| receipt.command == id);
            return recent.or_else(|| self.elders.get(&id));
        }
        self.elders.get(&id)
    }

    fn unless_forgotten(&self, id: &CommandId, now: Timestamp) -> Known<'static> {
        let (Some(since), Some(made_at)) = (self.since, id.made_at()) else { return Known::New };
        // An id from the future says nothing about when it was first sent.
        let from_the_future = made_at > now.plus_micros(CLOCK_SLACK_MICROS);
        let first_sent = if from_the_future { now.plus_micros(-RETRY_HORIZON_MICROS) } else { made_at };
        let search_from = first_sent.plus_micros(-CLOCK_SLACK_MICROS);
        let promised = first_sent >= now.plus_micros(-RETRY_HORIZON_MICROS);
        if promised && search_from <= since { Known::SearchFrom(search_from) } else { Known::New }
    }

    /// Adds the receipt of the command that was carried out last.
    pub fn push(&mut self, receipt: Receipt) {
        let now = receipt.at;
        self.answers.clear();
        if self.recent.len() == self.recent.capacity() {
            // Twice as many, but no room that will never be needed.
            let more = self.recent.len().max(4).min(REMEMBERED + 1 - self.recent.len());
            self.recent.reserve_exact(more);
            self.marks.reserve_exact(more);
        }
        self.marks.push_back(receipt.command.mark());
        self.recent.push_back(receipt);
        if self.recent.len() > REMEMBERED
            && let Some(elder) = self.recent.pop_front()
        {
            self.marks.pop_front();
            self.add_elder(elder);
        }
        self.forget_elders(now);
    }

    /// Takes in what a search of the history from `from` on found, in the order of the history, for those who `asked`. They
    /// get their answer however much was found; of the rest the newest are kept.
    pub fn searched(&mut self, from: Timestamp, found: Vec<Receipt>, asked: impl Iterator<Item = Digest>) {
        self.answers = asked.map(|id| (id, None)).collect();
        for receipt in &found {
            if let Some(answer) = self.answers.get_mut(&receipt.command) {
                *answer = Some(receipt.clone());
            }
        }
        let mut missing_until = from.plus_micros(-1);
        // Whatever is not known yet is older than all that is.
        for receipt in found.into_iter().rev() {
            if self.find(receipt.command).is_some() {
                continue;
            }
            if self.elders.len() >= ELDERS_MAX {
                missing_until = receipt.at;
                break;
            }
            self.elders_order.push_front(receipt.command);
            self.elders.insert(receipt.command, receipt);
        }
        self.since = self.since.map(|since| since.min(missing_until));
        if let Some(newest) = self.recent.back().map(|receipt| receipt.at) {
            self.forget_elders(newest);
        }
    }

    /// Where memory is short: keeps the young elders alone, and of these no more than fit into so many bytes.
    pub fn keep_young(&mut self, elders_bytes_max: usize) {
        let Some(newest) = self.recent.back().map(|receipt| receipt.at) else { return };
        self.forget_elders_beyond(newest.plus_micros(-YOUNG_MICROS), elders_bytes_max / ELDER_BYTES);
        if self.elders.len() < self.elders.capacity() / 4 {
            self.elders.shrink_to(2 * self.elders.len());
            self.elders_order.shrink_to(2 * self.elders.len());
        }
    }

    /// Where the commit of the oldest remembered command lies, up to which a search has to read.
    pub fn oldest_sequence(&self) -> Option<u64> {
        self.recent.front().map(|receipt| receipt.sequence)
    }

    /// About how many bytes of memory they take.
    pub fn size(&self) -> usize {
        const RECENT_BYTES: usize = size_of::<Receipt>() + size_of::<u32>();
        self.recent.capacity() * RECENT_BYTES + self.elders.len() * ELDER_BYTES
    }

    fn add_elder(&mut self, elder: Receipt) {
        self.elders_order.push_back(elder.command);
        self.elders.insert(elder.command, elder);
    }

    fn forget_elders(&mut self, now: Timestamp) {
        self.forget_elders_beyond(now.plus_micros(-RETRY_HORIZON_MICROS), ELDERS_MAX);
    }

    fn forget_elders_beyond(&mut self, horizon: Timestamp, len_max: usize) {
        while let Some(oldest) = self.elders_order.front() {
            let expired = self.elders.get(oldest).is_none_or(|elder| elder.at < horizon);
            if !expired && self.elders.len() <= len_max {
                break;
            }
            if let Some(forgotten) = self.elders.remove(&self.elders_order.pop_front().unwrap_or_default()) {
                self.since = self.since.max(Some(forgotten.at));
            }
        }
    }
}

/// The receipt of a request that a commit carried out; `None` for one whose id the service made.
pub fn receipt_of(
    command: &CommitCommand,
    events: EventKinds,
    version: u64,
    at: Timestamp,
    sequence: u64,
) -> Option<Receipt> {
    (!command.generated).then(|| Receipt {
        command: Digest::of(command.command_id.as_bytes()),
        digest: command.digest,
        version,
        sequence,
        at,
        events,
    })
}
