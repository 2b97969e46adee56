//! Deciding the waiting requests of one person, in order, into at most one commit.
//!
//! A draft is a working copy: nothing in the aggregate changes until the commit is known to be stored.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::domain::{
    self, Command, Context, Decision, Event, EventKinds, Person, PersonId, Refusal, TargetState, Timestamp,
};
use crate::engine::aggregate::Aggregate;
use crate::engine::ports::{Append, CommitHeaders, Sequence};
use crate::engine::receipts::Known;
use crate::wire::commit::{COMMIT_BYTES_MAX, CommitBuilder, CommitCommand, EventRecord, Mark};
use crate::wire::digest::Digest;
use crate::wire::reply::{Accepted, Code, Outcome, Problem};
use crate::wire::request::Request;
use crate::wire::snapshot::Receipt;

/// What the leader said of the persons that others are to be merged into.
pub type MergeTargets = HashMap<PersonId, Result<TargetState, Problem>>;

/// What was decided about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// True whatever happened since.
    Final(Outcome),
    /// To be told once it is known to be true.
    Held(Held),
    /// No room in this commit: to be decided on top of it.
    NextCommit,
}

/// An answer that something else makes true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Carried out by the commit of this draft: true once it is stored, and then the commit's sequence belongs to it. There is
    /// none of these without a commit.
    WithCommit(Accepted),
    /// True if the state that it was decided on is the newest.
    IfNewest(Outcome),
}

/// A working copy of a person, and the commit that grows from it.
pub struct Draft<'a> {
    base: &'a Aggregate,
    targets: &'a MergeTargets,
    payload_bytes_max: usize,
    state: Cow<'a, Option<Person>>,
    version: u64,
    last_event_at: Timestamp,
    commit: CommitBuilder,
    kinds: EventKinds,
    /// Of the commands in the commit, in order, each with the time at which its id was made.
    receipts: Vec<(Receipt, Option<Timestamp>)>,
}

impl<'a> Draft<'a> {
    /// Starts on what is known of a person. No commit may be larger than `payload_bytes_max`.
    pub fn on(base: &'a Aggregate, targets: &'a MergeTargets, payload_bytes_max: usize) -> Self {
        Self {
            base,
            targets,
            payload_bytes_max: payload_bytes_max.min(COMMIT_BYTES_MAX),
            state: Cow::Borrowed(&base.state),
            version: base.version,
            last_event_at: base.last_event_at,
            commit: CommitBuilder::default(),
            kinds: EventKinds::default(),
            receipts: Vec::new(),
        }
    }

    /// Decides one request on top of those before it.
    pub fn decide(&mut self, request: &Request) -> Verdict {
        if let Some(verdict) = self.already_known(request) {
            return verdict;
        }
        if let Some(expected) = request.expected_version
            && expected != self.version
        {
            let message = format!("the person is at version {}, not {expected}", self.version);
            return self.refused(Problem::new(Code::VersionConflict, message), false);
        }
        let checkpoint = Checkpoint::of(self, request);
        self.commit.begin_command(command_of(request));
        match self.carry_out(request) {
            Ok(()) if self.kinds.len() == checkpoint.kinds => {
                checkpoint.restore(self);
                let nothing_to_do = Accepted { version: self.version, ..Accepted::default() };
                Verdict::Held(Held::IfNewest(Outcome::Accepted(nothing_to_do)))
            }
            Ok(()) => self.admitted(&checkpoint, request),
            Err(halt) => {
                let decided_on_base = self.commit.is_empty();
                let room_for_more = checkpoint.kinds > 0;
                checkpoint.restore(self);
                match halt {
                    Halt::Refused { problem, is_final } => {
                        // On a newer state what comes first might not hold any more: the expected version, or the
                        // commands before this one.
                        let comes_first = request.expected_version.is_none() && problem.index.unwrap_or(0) == 0;
                        self.refused(problem, is_final && decided_on_base && comes_first)
                    }
                    Halt::Full if room_for_more => Verdict::NextCommit,
                    Halt::Full => {
                        let message = format!("its events take more than {} bytes", self.payload_bytes_max);
                        self.refused(Problem::new(Code::TooLarge, message), false)
                    }
                }
            }
        }
    }

    /// The commit, and what the person will be once it is stored; `None` when nothing happened. The problem where it cannot
    /// be written, which should not be: every part was encoded before, the envelope adds numbers and hexadecimal digits.
    pub fn seal(self) -> Result<Option<Sealed>, Problem> {
        if self.commit.is_empty() {
            return Ok(None);
        }
        let payload = self
            .commit
            .encode(self.base.person, self.version, self.base.chain)
            .map_err(|_| Problem::new(Code::Invalid, "its commit cannot be written as JSON"))?;
        let traceparent = match self.commit.commands() {
            [only] => only.traceparent.clone(),
            _ => None,
        };
        let headers = CommitHeaders {
            event_types: self.kinds,
            person_version: self.version,
            traceparent,
            trail: self.base.trail.to_header(),
        };
        Ok(Some(Sealed {
            chain: Digest::of(&payload),
            append: Append {
                person: self.base.person,
                expected: self.base.sequence,
                payload: Arc::from(payload),
                headers,
            },
            state: self.state.into_owned(),
            version: self.version,
            last_event_at: self.last_event_at,
            receipts: self.receipts,
        }))
    }

    /// The outcome of an earlier delivery, or of another command under the same id.
    fn already_known(&self, request: &Request) -> Option<Verdict> {
        let id = &request.command_id;
        let mut of_this_commit = self.receipts.iter().map(|(receipt, _)| receipt);
        if let Some(receipt) = of_this_commit.find(|receipt| receipt.command == id.digest && !id.generated) {
            // Its twin waits in this very commit and shares its fate.
            return Some(match repeated(receipt, request) {
                Ok(accepted) => Verdict::Held(Held::WithCommit(accepted)),
                Err(problem) => self.refused(problem, false),
            });
        }
        match self.base.receipts.look_up(id) {
            Known::New => None,
            Known::As(receipt) => Some(Verdict::Final(match repeated(receipt, request) {
                Ok(accepted) => Outcome::Accepted(accepted),
                Err(problem) => Outcome::Problem(problem.on_version(self.base.version)),
            })),
            Known::SearchFrom(_) | Known::Unknown => {
                let message = "whether this command id was carried out lies too far back to be searched";
                Some(Verdict::Final(Outcome::Problem(Problem::new(Code::OutcomeUnknown, message))))
            }
        }
    }

    /// Decides the commands, adding and folding their events. What was done before a halt is for the caller to take back.
    fn carry_out(&mut self, request: &Request) -> Result<(), Halt> {
        let now = request.stamp.at.max(self.last_event_at);
        for (index, command) in request.commands.iter().enumerate() {
            let index = request.is_array.then_some(index);
            let refused = |problem: Problem, is_final| Halt::Refused { problem: problem.at(index), is_final };
            let (merge_target, unread) = match self.merge_target(command) {
                Ok(target) => (target, None),
                Err(problem) => (None, Some(problem)),
            };
            let decision = domain::decide(self.state.as_ref().as_ref(), command, &Context { now, merge_target })
                .map_err(|refusal| match (refusal, unread) {
                    // All else allows the merge: what stands in its way is that the target could not be read.
                    (Refusal::TargetNotRead, Some(problem)) => refused(problem, false),
                    (refusal, _) => refused(problem_of(&refusal), refusal.is_final()),
                })?;
            if let Decision::Happened(event) = decision {
                self.add(request, event, now)?;
            }
        }
        Ok(())
    }

    fn merge_target(&self, command: &Command) -> Result<Option<TargetState>, Problem> {
        let Some(target) = command.merge_target() else { return Ok(None) };
        match self.targets.get(&target) {
            Some(state) => state.clone().map(Some),
            None => Ok(None),
        }
    }

    fn add(&mut self, request: &Request, event: Event, now: Timestamp) -> Result<(), Halt> {
        let record = EventRecord {
            sequence: self.version + 1,
            event_id: event_id(request.stamp.id, self.version, now),
            event,
            timestamp: now,
            correlation_id: request.correlation_id(),
            causation_id: request.command_id.text.as_str(),
            actor: request.actor.as_deref(),
        };
        if self.commit.add_event(&record).is_err() {
            let problem = Problem::new(Code::Invalid, "its event cannot be written as JSON");
            return Err(Halt::Refused { problem, is_final: false });
        }
        // Before folding it, so that a single command that has no room leaves the state as it was.
        if self.commit.is_over(self.payload_bytes_max) {
            return Err(Halt::Full);
        }
        domain::evolve(self.state.to_mut(), &record.event);
        self.kinds.push(record.event.kind());
        self.version += 1;
        self.last_event_at = now;
        Ok(())
    }

    /// Closes a request whose events are in the commit.
    fn admitted(&mut self, checkpoint: &Checkpoint, request: &Request) -> Verdict {
        let own: EventKinds = self.kinds.iter().skip(checkpoint.kinds).copied().collect();
        if !request.command_id.generated {
            let receipt = Receipt {
                command: request.command_id.digest,
                digest: request.digest,
                version: self.version,
                sequence: 0,
                at: self.last_event_at,
                events: own.clone(),
            };
            self.receipts.push((receipt, request.command_id.made_at()));
        }
        let accepted =
            Held::WithCommit(Accepted { version: self.version, events: own, sequence: None, duplicate: false });
        Verdict::Held(accepted)
    }

    fn refused(&self, problem: Problem, is_final: bool) -> Verdict {
        // What could not be decided, for want of the merge target, says nothing of this person.
        if problem.code.is_failure() {
            return Verdict::Final(Outcome::Problem(problem));
        }
        let outcome = Outcome::Problem(problem.on_version(self.version));
        if is_final { Verdict::Final(outcome) } else { Verdict::Held(Held::IfNewest(outcome)) }
    }
}

/// Why a request was not carried out to its end.
enum Halt {
    /// A command was refused. Final, if no newer event could turn the refusal into another answer.
    Refused { problem: Problem, is_final: bool },
    /// The commit would be larger than it may be.
    Full,
}

/// What a draft was before a request, to come back to when the request is refused halfway.
struct Checkpoint {
    commit: Mark,
    kinds: usize,
    version: u64,
    last_event_at: Timestamp,
    /// For arrays alone: a single command folds its event only when nothing is left that could refuse it.
    state: Option<Option<Person>>,
}

impl Checkpoint {
    fn of(draft: &Draft, request: &Request) -> Self {
        Self {
            commit: draft.commit.mark(),
            kinds: draft.kinds.len(),
            version: draft.version,
            last_event_at: draft.last_event_at,
            state: (request.commands.len() > 1).then(|| draft.state.as_ref().clone()),
        }
    }

    fn restore(self, draft: &mut Draft) {
        draft.commit.rewind(self.commit);
        draft.kinds.truncate(self.kinds);
        draft.version = self.version;
        draft.last_event_at = self.last_event_at;
        if let Some(state) = self.state {
            draft.state = Cow::Owned(state);
        }
    }
}

/// A commit that is ready to be stored, and what the person will be then.
#[derive(Debug)]
pub struct Sealed {
    /// What to hand to the log.
    pub append: Append,
    /// The digest of its payload.
    chain: Digest,
    state: Option<Person>,
    version: u64,
    last_event_at: Timestamp,
    receipts: Vec<(Receipt, Option<Timestamp>)>,
}

impl Sealed {
    /// Brings the aggregate that it was drafted on to what it is now that the commit is stored at `sequence`.
    pub fn settle(self, aggregate: &mut Aggregate, sequence: Sequence) {
        aggregate.state = self.state;
        aggregate.trail.advance(sequence);
        aggregate.version = self.version;
        aggregate.sequence = sequence;
        aggregate.chain = self.chain;
        aggregate.last_event_at = self.last_event_at;
        for (receipt, made_at) in self.receipts {
            aggregate.receipts.push(Receipt { sequence, ..receipt }, made_at);
        }
    }
}

/// The outcome that a command had the first time.
fn repeated(receipt: &Receipt, request: &Request) -> Result<Accepted, Problem> {
    if receipt.digest != request.digest {
        return Err(Problem::new(Code::CommandIdReused, "this command id belongs to a different command"));
    }
    Ok(Accepted {
        version: receipt.version,
        events: receipt.events.clone(),
        sequence: (receipt.sequence > 0).then_some(receipt.sequence),
        duplicate: true,
    })
}

/// How the commit names the request. The builder counts its events.
fn command_of(request: &Request) -> CommitCommand {
    CommitCommand {
        command_id: request.command_id.text.clone(),
        digest: request.digest,
        events: 0,
        traceparent: request.traceparent.clone(),
        generated: request.command_id.generated,
    }
}

/// A UUIDv7 of the event's time, whose random part is derived from the request's id: deciding the same request on the same
/// version again makes the same id.
fn event_id(request: Uuid, version: u64, at: Timestamp) -> Uuid {
    let mut seed = [0; 24];
    seed.iter_mut()
        .zip(request.into_bytes().into_iter().chain(version.to_le_bytes()))
        .for_each(|(to, from)| *to = from);
    let derived = Digest::of(&seed).to_bytes();
    let mut random = [0; 10];
    random.iter_mut().zip(derived).for_each(|(to, from)| *to = from);
    let millis = u64::try_from(at.as_micros() / 1000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// The reply to a refusal of the domain.
fn problem_of(refusal: &Refusal) -> Problem {
    let code = match refusal {
        Refusal::Invalid(_) => Code::Invalid,
        Refusal::NotFound(_) => Code::PersonNotFound,
        Refusal::AttributeNotFound(_) => Code::AttributeNotFound,
        Refusal::AlreadyExists => Code::AlreadyExists,
        Refusal::InvalidState { .. } => Code::InvalidState,
        Refusal::BirthDateAlreadySet => Code::BirthDateAlreadySet,
        Refusal::PersonMerged { .. } => Code::PersonMerged,
        Refusal::TooLarge { .. } => Code::TooLarge,
        Refusal::TargetNotRead => Code::Unavailable,
    };
    let moved_to = match refusal {
        Refusal::PersonMerged { moved_to, .. } => Some(*moved_to),
        _ => None,
    };
    Problem { moved_to, ..Problem::new(code, refusal.to_string()) }
}
