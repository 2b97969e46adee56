//! The steps of a command by themselves, without a server: what `cargo bench` times and `peers instructions` counts.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;

use cim_domain_person::domain::{Event, Person, PersonId, Timestamp, evolve};
use cim_domain_person::engine::aggregate::Aggregate;
use cim_domain_person::engine::draft::{Draft, MergeTargets};
use cim_domain_person::engine::ports::StoredCommit;
use cim_domain_person::wire::reply::{self, Accepted, Outcome};
use cim_domain_person::wire::request::{self, Header, Headers, Request, Stamp};
use cim_domain_person::wire::snapshot;
use cim_domain_person::wire::subject::Subjects;
use cim_domain_person::wire::{commit, digest::Digest};

/// Largest payload of a commit.
const PAYLOAD_BYTES_MAX: usize = 512 * 1024;
/// Changes that the person has behind it.
const HISTORY: u64 = 50;

/// A step by its name.
pub type Step = (&'static str, Box<dyn Fn()>);

/// A person with a history, and what happens when one more change comes.
pub fn all() -> Result<Vec<Step>, Box<dyn Error>> {
    let subjects = Subjects::new("bench");
    let person: PersonId = "0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30".parse()?;
    let mut aggregate = Aggregate::absent(person);
    let mut stored = Vec::new();
    for number in 0..=HISTORY {
        let request = ask(&subjects, person, number)?;
        let targets = MergeTargets::new();
        let mut draft = Draft::on(&aggregate, &targets, PAYLOAD_BYTES_MAX);
        draft.decide(&request);
        let sealed = draft.seal().ok().flatten().ok_or("nothing happened")?;
        stored.push(StoredCommit { sequence: number + 1, payload: Arc::clone(&sealed.append.payload) });
        sealed.settle(&mut aggregate, number + 1);
    }
    let last = stored.last().cloned().ok_or("no commit")?;
    let before = aggregate_before(person, &stored)?;
    let event: Event = commit::decode(&last.payload)?.events.remove(0).event;
    let state: Option<Person> = before.state.clone();
    let request = ask(&subjects, person, HISTORY + 1)?;
    let shot = aggregate.to_snapshot().ok_or("no snapshot")?;
    let bytes = snapshot::encode(person, &shot)?;
    eprintln!("a commit of {} bytes, a snapshot of {} bytes", last.payload.len(), bytes.len());
    let accepted = Outcome::Accepted(Accepted {
        version: 52,
        events: [event.kind()].into(),
        sequence: Some(52),
        duplicate: false,
    });
    let (decided_on, digested, unfolded) = (aggregate.clone(), Arc::clone(&last.payload), before.clone());
    Ok(vec![
        ("decode", Box::new(move || drop(black_box(ask(&subjects, person, 7))))),
        (
            "decide and encode",
            Box::new(move || {
                let targets = MergeTargets::new();
                let mut draft = Draft::on(&decided_on, &targets, PAYLOAD_BYTES_MAX);
                black_box(draft.decide(&request));
                drop(black_box(draft.seal()));
            }),
        ),
        ("reply", Box::new(move || drop(black_box(reply::encode(Some("c1"), Some(person), &accepted))))),
        (
            "evolve",
            Box::new(move || {
                let mut state = state.clone();
                evolve(&mut state, black_box(&event));
                drop(black_box(state));
            }),
        ),
        (
            "fold a stored commit",
            Box::new(move || {
                let mut aggregate = unfolded.clone();
                drop(black_box(aggregate.fold(black_box(&last))));
            }),
        ),
        ("clone an aggregate", Box::new(move || drop(black_box(before.clone())))),
        ("digest a commit", Box::new(move || _ = black_box(Digest::of(&digested)))),
        ("encode a snapshot", Box::new(move || drop(black_box(snapshot::encode(person, &shot))))),
        ("decode a snapshot", Box::new(move || drop(black_box(snapshot::decode(person, &bytes))))),
    ])
}

/// All commits but the last one, folded.
fn aggregate_before(person: PersonId, stored: &[StoredCommit]) -> Result<Aggregate, Box<dyn Error>> {
    let mut aggregate = Aggregate::absent(person);
    for commit in stored.iter().take(stored.len() - 1) {
        aggregate.fold(commit)?;
    }
    Ok(aggregate)
}

/// A request as it comes over the wire: the creation, or a change of the name.
fn ask(subjects: &Subjects, person: PersonId, number: u64) -> Result<Request, Box<dyn Error>> {
    let name = format!(
        r#"{{"components":{{"given_names":["Bench"],"family_names":["Name-{number}"],"prefixes":[],"suffixes":[]}},"naming_convention":"Western"}}"#
    );
    let payload = match number {
        0 => format!(r#"{{"CreatePerson":{{"person_id":"{person}","name":{name},"source":"steps"}}}}"#),
        _ => format!(r#"{{"UpdateName":{{"person_id":"{person}","name":{name}}}}}"#),
    };
    let id = format!("0197c5a0-5b3c-7d3e-9a52-{number:012x}");
    let stamp =
        Stamp { at: Timestamp::from_micros(1_800_000_000_000_000), id: uuid::Uuid::from_u128(u128::from(number)) };
    let subject = subjects.commands(person);
    request::decode(subjects, &subject, &CommandId(&id), payload.as_bytes(), stamp)
        .map_err(|refused| format!("{refused:?}").into())
}

/// The only header.
struct CommandId<'a>(&'a str);

impl Headers for CommandId<'_> {
    fn get(&self, name: &str) -> Header<'_> {
        if name == "Nats-Msg-Id" { Header::One(self.0) } else { Header::Absent }
    }
}
