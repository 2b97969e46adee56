//! A person's life: commands in batches, decided, stored, read again, in the cache, from snapshots and from the beginning.
//!
//! Each step is a few bytes: some say what is special about the request, the others seed the generator of the ordinary
//! property tests. So the fuzzer can repeat, swap and join steps, and each one stays the step that it was.

use std::sync::Arc;

use cim_domain_person::domain::limits::{PERSON_ATTRIBUTES_MAX, PERSON_STATE_BYTES_MAX};
use cim_domain_person::domain::{Command, Lifecycle, PersonId, TargetState, Timestamp};
use cim_domain_person::engine::aggregate::Aggregate;
use cim_domain_person::engine::draft::{Draft, Held, MergeTargets, Verdict};
use cim_domain_person::engine::ports::StoredCommit;
use cim_domain_person::wire::commit::{COMMIT_BYTES_MAX, EVENTS_MAX, decode};
use cim_domain_person::wire::digest::Digest;
use cim_domain_person::wire::reply::Outcome;
use cim_domain_person::wire::request::{CommandId, Request, Stamp};
use cim_domain_person::wire::snapshot;
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use uuid::Uuid;

use super::arbitrary;

/// Batches in a story; more would make a run slow without making it other.
const BATCHES_MAX: usize = 16;
/// Steps in a story, for the same reason.
const STEPS_MAX: usize = 48;
/// Whose life it is.
const PERSON: PersonId = PersonId::from_uuid(Uuid::from_u128(1));
/// What a step takes of the input, in bytes: two about the request, the others seed its commands.
const STEP_BYTES: usize = 6;

/// What holds of every life.
pub fn hold(input: &[u8]) {
    let targets = merge_targets();
    let mut life = Life { settled: Aggregate::absent(PERSON), log: Vec::new(), clock: 1_770_000_000_000_000 };
    let mut steps = input.chunks(STEP_BYTES).take(STEPS_MAX).enumerate();
    for _ in 0..BATCHES_MAX {
        let mut batch = Vec::new();
        for (index, bytes) in steps.by_ref() {
            let Some((shape, bytes)) = bytes.split_first_chunk::<2>() else { break };
            let Some(request) = request(*shape, bytes, index, &life) else { break };
            batch.push(request);
            if shape[0] & 3 == 0 {
                break;
            }
        }
        if batch.is_empty() {
            break;
        }
        life.live_through(&batch, &targets);
    }
    life.assert_told_in_every_way_alike();
}

/// A person, and the messages in the stream that made it.
struct Life {
    settled: Aggregate,
    log: Vec<StoredCommit>,
    clock: i64,
}

impl Life {
    fn live_through(&mut self, batch: &[Request], targets: &MergeTargets) {
        let before = self.settled.clone();
        let mut draft = Draft::on(&before, targets, COMMIT_BYTES_MAX);
        let verdicts: Vec<Verdict> = batch.iter().map(|request| draft.decide(request)).collect();
        let sealed = draft.seal().expect("a commit can be written");
        let carried_out =
            |verdict: &&Verdict| matches!(verdict, Verdict::Held(Held::WithCommit(accepted)) if !accepted.duplicate);
        let with_commit = verdicts.iter().filter(carried_out).count();
        for (verdict, request) in verdicts.iter().zip(batch) {
            assert_plausible(verdict, request, before.version);
        }
        let Some(sealed) = sealed else {
            assert_eq!(with_commit, 0, "accepted without a commit");
            return;
        };
        assert!(with_commit > 0, "a commit that carries nothing out");
        let sequence = before.sequence + 3;
        let stored = StoredCommit { sequence, payload: Arc::clone(&sealed.append.payload) };
        assert_eq!(sealed.append.expected, before.sequence);
        assert!(stored.payload.len() <= COMMIT_BYTES_MAX);
        let commit = decode(&stored.payload).expect("what was sealed is a commit");
        assert!((1..=EVENTS_MAX).contains(&commit.events.len()));
        assert_eq!(commit.first_version(), before.version + 1);
        assert_eq!(commit.commands.len(), with_commit);
        sealed.settle(&mut self.settled, sequence);
        // Whoever reads the commit knows the same as who wrote it.
        let mut reader = before;
        reader.fold(&stored).expect("what was sealed continues the history");
        assert_alike(&reader, &self.settled);
        self.log.push(stored);
        for request in batch {
            self.assert_once(request, &verdicts, batch, targets);
        }
    }

    /// A command that was carried out is known from then on: sent again it changes nothing.
    fn assert_once(&self, request: &Request, verdicts: &[Verdict], batch: &[Request], targets: &MergeTargets) {
        let carried_out = batch.iter().zip(verdicts).any(|(other, verdict)| {
            matches!(verdict, Verdict::Held(Held::WithCommit(_)))
                && other.command_id == request.command_id
                && other.digest == request.digest
        });
        if !carried_out || request.command_id.generated {
            return;
        }
        let mut draft = Draft::on(&self.settled, targets, COMMIT_BYTES_MAX);
        let verdict = draft.decide(request);
        let (Verdict::Final(outcome) | Verdict::Held(Held::IfNewest(outcome))) = &verdict else {
            panic!("again: {verdict:?}")
        };
        assert!(matches!(outcome, Outcome::Accepted(accepted) if accepted.duplicate), "{verdict:?}");
        assert!(draft.seal().expect("nothing to write").is_none());
    }

    /// The fold of all commits is the state; so is a snapshot of any of them with the rest folded onto it.
    fn assert_told_in_every_way_alike(&self) {
        let person = self.settled.person;
        let mut folded = Aggregate::absent(person);
        let mut from_snapshot: Option<Aggregate> = None;
        for (index, stored) in self.log.iter().enumerate() {
            folded.fold(stored).expect("the history holds together");
            if let Some(on_top) = &mut from_snapshot {
                on_top.fold(stored).expect("the history goes on from the snapshot");
            }
            if index == self.log.len() / 2 {
                from_snapshot = Some(through_snapshot(&folded));
            }
            if let Some(state) = &folded.state {
                assert!(state.encoded_bytes() <= PERSON_STATE_BYTES_MAX);
                assert!(state.attributes.len() <= PERSON_ATTRIBUTES_MAX);
                assert_eq!(state.id, person);
            }
        }
        assert_alike(&folded, &self.settled);
        if let Some(from_snapshot) = from_snapshot {
            assert_alike(&from_snapshot, &self.settled);
        }
        // A commit left out is noticed.
        if let [_, second, ..] = self.log.as_slice() {
            assert!(Aggregate::absent(person).fold(second).is_err(), "a gap in the history");
        }
    }
}

fn through_snapshot(aggregate: &Aggregate) -> Aggregate {
    let taken = aggregate.to_snapshot().expect("after a commit there is a person");
    let bytes = snapshot::encode(aggregate.person, &taken).expect("it can be encoded");
    let read = snapshot::decode(aggregate.person, &bytes);
    assert_eq!(read.as_ref(), Ok(&taken));
    Aggregate::from_snapshot(aggregate.person, taken)
}

fn assert_alike(one: &Aggregate, other: &Aggregate) {
    assert_eq!(one.to_snapshot(), other.to_snapshot());
}

fn assert_plausible(verdict: &Verdict, request: &Request, version: u64) {
    match verdict {
        Verdict::Held(Held::WithCommit(accepted)) => {
            assert!(accepted.version > version && !accepted.events.is_empty());
            assert!(accepted.events.len() <= request.commands.len());
        }
        Verdict::Held(Held::IfNewest(Outcome::Problem(problem))) | Verdict::Final(Outcome::Problem(problem)) => {
            super::marker::assert_short(problem);
            assert!(problem.index.is_none_or(|index| request.is_array && index < request.commands.len()));
        }
        Verdict::Held(Held::IfNewest(Outcome::Accepted(_)))
        | Verdict::Final(Outcome::Accepted(_))
        | Verdict::NextCommit => {}
    }
}

/// The persons that the generator knows besides this one, each in another state; one of them could not be read.
fn merge_targets() -> MergeTargets {
    let other = |number| PersonId::from_uuid(Uuid::from_u128(number));
    let merged = Lifecycle::MergedInto { target_id: other(3), merged_at: Timestamp::from_micros(0) };
    MergeTargets::from([
        (other(2), Ok(TargetState::Missing)),
        (other(3), Ok(TargetState::Exists(Lifecycle::Active))),
        (other(4), Ok(TargetState::Exists(merged))),
    ])
}

/// One request: 1 or 2 commands, a command id of its own or an old one, perhaps with an expected version.
fn request(shape: [u8; 2], bytes: &[u8], index: usize, life: &Life) -> Option<Request> {
    let commands = commands(bytes, 1 + usize::from(shape[0] & 4 > 0))?;
    let number = if shape[1] & 0x70 == 0 { index / 2 } else { index };
    let command_id = CommandId::new(format!("c{number}"), shape[0] & 8 > 0 && shape[0] & 16 > 0);
    // The clock of another replica may be behind.
    let at = Timestamp::from_micros(life.clock + i64::from(shape[1]) * 1000 - 60_000);
    Some(Request {
        person: PERSON,
        digest: Digest::of_encoded(&commands),
        is_array: commands.len() > 1,
        commands,
        correlation_id: None,
        command_id,
        actor: (shape[0] & 32 > 0).then(|| "clerk".to_owned()),
        expected_version: (shape[0] & 0xc0 == 0xc0).then_some(u64::from(shape[1] & 7)),
        traceparent: None,
        stamp: Stamp { at, id: uuid::Uuid::from_u128(u128::from(shape[1])) },
    })
}

thread_local! {
    /// Made once: that takes longer than making a command with it.
    static COMMANDS: BoxedStrategy<Command> = arbitrary::command_for(PERSON);
}

/// What the generator makes of these bytes.
fn commands(bytes: &[u8], count: usize) -> Option<Vec<Command>> {
    let mut seed = [1; 16];
    seed.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let rng = TestRng::from_seed(RngAlgorithm::XorShift, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    COMMANDS.with(|strategy| (0..count).map(|_| Some(strategy.new_tree(&mut runner).ok()?.current())).collect())
}
