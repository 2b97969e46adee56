//! Which commands of a person were carried out, so that a retry gets its first outcome instead of a second effect.
//!
//! The newest [`REMEMBERED`] are part of the person's state and of its snapshots. What falls out of them is kept in
//! memory for as long as retries may come, so that a busy person does not need its history searched. Of all that is not in
//! memory [`IdSpans`] tell which ids it can have: those alone are searched for. No clock is asked, neither the client's nor
//! ours.

use std::collections::{HashMap, VecDeque};

use crate::domain::{EventKinds, Timestamp};
use crate::engine::id_spans::{IdSpan, IdSpans, RETRY_HORIZON_MICROS};
use crate::engine::ports::Sequence;
use crate::wire::commit::CommitCommand;
use crate::wire::digest::Digest;
use crate::wire::request::CommandId;
use crate::wire::snapshot::Receipt;

/// How many commands of a person are remembered in its snapshots: each until more than 128 later ones came.
pub const REMEMBERED: usize = 128 + 1;
/// How many more are kept in memory, while they are young: those of some seconds, for the busiest person that a replica can
/// serve, so that a new command need not be searched for because it waited.
const ELDERS_MAX: usize = 262_144;
/// How young those are that are kept where memory is short, in microseconds: as old as a command is that waited as long as
/// commands wait by default, and as much again.
const YOUNG_MICROS: u64 = 10 * 1_000_000;
/// About what an elder takes in memory: its place in a table that is two thirds full, and its place in the order.
const ELDER_BYTES: usize = size_of::<(Digest, Receipt)>() * 3 / 2 + 2 * size_of::<Digest>();

/// What is known of a command id.
#[derive(Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// It was carried out.
    As(&'a Receipt),
    /// It was not, or so long ago that nothing is promised any more.
    New,
    /// It may have been, in a part of the history that is not remembered: commits from this one on are to be searched.
    SearchFrom(Sequence),
    /// It may have been, further back than could be searched.
    Unknown,
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
    /// Commands that were carried out by commits up to this one may be missing.
    missing_until: Option<Sequence>,
    /// Of all of them, the missing ones too: which ids they can have.
    id_spans: IdSpans,
    /// What a search found of the ids that it was made for. It says nothing any more once another command was carried out.
    answers: HashMap<Digest, Option<Receipt>>,
    /// A search from this commit on, or from an earlier one, does not reach what is remembered. A history only grows, so
    /// that it stays so.
    in_vain_from: Option<Sequence>,
}

impl Receipts {
    /// As a snapshot holds them.
    pub fn restored(recent: Vec<Receipt>, missing_until: Option<Sequence>, id_spans: Vec<IdSpan>) -> Self {
        let marks = recent.iter().map(|receipt| receipt.command.mark()).collect();
        let id_spans = IdSpans::restored(id_spans);
        Self { recent: recent.into(), marks, missing_until, id_spans, ..Self::default() }
    }

    /// What a snapshot should hold.
    pub fn for_snapshot(&self) -> (Vec<Receipt>, Option<Sequence>, Vec<IdSpan>) {
        let newest_elder = self.elders_order.back().and_then(|id| self.elders.get(id)).map(|elder| elder.sequence);
        let recent = self.recent.iter().cloned().collect();
        (recent, self.missing_until.max(newest_elder), self.id_spans.for_snapshot())
    }

    /// What is known of this id.
    pub fn look_up(&self, id: &CommandId) -> Known<'_> {
        if id.generated {
            return Known::New;
        }
        match self.find(id.digest) {
            Some(receipt) => Known::As(receipt),
            None => match self.answers.get(&id.digest) {
                Some(answer) => answer.as_ref().map_or(Known::New, Known::As),
                None => self.unless_forgotten(id),
            },
        }
    }

    /// Whether no command was ever forgotten: then nothing has to be searched for.
    pub fn are_complete(&self) -> bool {
        self.missing_until.is_none()
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

    fn unless_forgotten(&self, id: &CommandId) -> Known<'static> {
        let (Some(missing_until), Some(made_at)) = (self.missing_until, id.made_at()) else { return Known::New };
        match self.id_spans.first_that_encloses(made_at, missing_until) {
            None => Known::New,
            Some(from) if self.in_vain_from.is_some_and(|in_vain| from <= in_vain) => Known::Unknown,
            Some(from) => Known::SearchFrom(from),
        }
    }

    /// Adds the receipt of the command that was carried out last, whose id says that it was made at this time.
    pub fn push(&mut self, receipt: Receipt, made_at: Option<Timestamp>) {
        let now = receipt.at;
        let passed_micros = self.recent.back().map_or(0, |last| now.micros_since(last.at));
        self.id_spans.push(receipt.sequence, made_at, passed_micros);
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
    pub fn searched(&mut self, from: Sequence, found: Vec<Receipt>, asked: impl Iterator<Item = Digest>) {
        self.answers.extend(asked.map(|id| (id, None)));
        for receipt in &found {
            if let Some(answer) = self.answers.get_mut(&receipt.command) {
                *answer = Some(receipt.clone());
            }
        }
        let mut missing_until = from.saturating_sub(1);
        // Whatever is not known yet is older than all that is.
        for receipt in found.into_iter().rev() {
            if self.find(receipt.command).is_some() {
                continue;
            }
            if self.elders.len() >= ELDERS_MAX {
                missing_until = receipt.sequence;
                break;
            }
            self.elders_order.push_front(receipt.command);
            self.elders.insert(receipt.command, receipt);
        }
        self.missing_until = self.missing_until.map(|before| before.min(missing_until));
        if let Some(newest) = self.recent.back().map(|receipt| receipt.at) {
            self.forget_elders(newest);
        }
    }

    /// Takes in that a search from this commit on does not reach what is remembered.
    pub fn searched_in_vain(&mut self, from: Sequence) {
        self.in_vain_from = self.in_vain_from.max(Some(from));
    }

    /// Where memory is short: keeps the young elders alone, and of these no more than fit into so many bytes.
    pub fn keep_young(&mut self, elders_bytes_max: usize) {
        let Some(newest) = self.recent.back().map(|receipt| receipt.at) else { return };
        self.forget_elders_beyond(newest.minus_micros(YOUNG_MICROS), elders_bytes_max / ELDER_BYTES);
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
        self.recent.capacity() * RECENT_BYTES + self.elders.len() * ELDER_BYTES + self.id_spans.size()
    }

    fn add_elder(&mut self, elder: Receipt) {
        self.elders_order.push_back(elder.command);
        self.elders.insert(elder.command, elder);
    }

    fn forget_elders(&mut self, now: Timestamp) {
        self.forget_elders_beyond(now.minus_micros(RETRY_HORIZON_MICROS), ELDERS_MAX);
    }

    fn forget_elders_beyond(&mut self, horizon: Timestamp, len_max: usize) {
        while let Some(oldest) = self.elders_order.front() {
            let expired = self.elders.get(oldest).is_none_or(|elder| elder.at < horizon);
            if !expired && self.elders.len() <= len_max {
                break;
            }
            if let Some(forgotten) = self.elders.remove(&self.elders_order.pop_front().unwrap_or_default()) {
                self.missing_until = self.missing_until.max(Some(forgotten.sequence));
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
