//! A message in the stream, read as a commit: from its JSON to the state of the person and back.

use std::sync::Arc;

use cim_domain_person::engine::aggregate::Aggregate;
use cim_domain_person::engine::ports::StoredCommit;
use cim_domain_person::wire::commit::{Commit, CommitBuilder, CommitError, decode};
use cim_domain_person::wire::snapshot;

use super::choice;
use super::marker::{MARKER, marked};

/// What holds of every message in the stream.
pub fn hold(input: &[u8]) {
    match decode(input) {
        Ok(commit) => {
            assert_consistent(&commit);
            assert_same_again(&commit);
            assert_folds(&commit, input);
        }
        Err(error) => assert_told(&error),
    }
    if let Some(payload) = marked(input, choice(input))
        && let Err(error) = decode(&payload)
    {
        assert!(!error.to_string().contains(MARKER), "quoted: {error}");
        assert_told(&error);
    }
}

fn assert_told(error: &CommitError) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() < 256 && !text.contains(char::is_control), "{text:?}");
}

fn assert_consistent(commit: &Commit) {
    let of_commands: usize = commit.by_command().map(|(_, own)| own.len()).sum();
    assert_eq!(of_commands, commit.events.len());
    assert!(commit.by_command().all(|(command, own)| command.events == own.len()));
    assert!(commit.first_version() > 0);
    assert_eq!(commit.first_version() + (commit.events.len() as u64 - 1), commit.version);
    assert!(commit.events.iter().all(|record| record.event.person_id() == commit.aggregate_id));
}

/// Written by the present release it reads the same.
fn assert_same_again(commit: &Commit) {
    let mut builder = CommitBuilder::default();
    for (command, own) in commit.by_command() {
        builder.begin_command(command.clone());
        own.iter().for_each(|record| builder.add_event(record).expect("what was read can be written"));
    }
    let written = builder.encode(commit.aggregate_id, commit.version, commit.previous).unwrap();
    assert_eq!(decode(&written).as_ref(), Ok(commit));
}

/// It continues a history that ends right before it, and the state that comes of it survives a snapshot.
fn assert_folds(commit: &Commit, payload: &[u8]) {
    let mut aggregate = Aggregate::absent(commit.aggregate_id);
    (aggregate.version, aggregate.chain) = (commit.first_version() - 1, commit.previous);
    let stored = StoredCommit { sequence: 9, payload: Arc::from(payload) };
    aggregate.fold(&stored).expect("a commit that is consistent in itself continues the history that it names");
    assert!(aggregate.version == commit.version && aggregate.sequence == 9);
    let again = aggregate.clone().fold(&stored);
    assert!(again.is_err(), "the same commit twice");
    let Some(taken) = aggregate.to_snapshot() else { return };
    let bytes = snapshot::encode(commit.aggregate_id, &taken).unwrap();
    assert_eq!(snapshot::decode(commit.aggregate_id, &bytes), Ok(taken));
    assert_eq!(snapshot::claimed_version(&bytes), Some(commit.version));
}
