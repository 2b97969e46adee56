//! Queries over the ports in memory: what they answer is what a fold of the stored events says.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper of a test may fail it, as the test may")]

mod errors;
mod properties;
mod shapes;
mod troubles;

use cim_domain_person::domain::Person;
use cim_domain_person::domain::{PersonView, evolve};
use cim_domain_person::engine::inquiry::Inquiry;
use cim_domain_person::wire::commit::{self, EventRecord};
use cim_domain_person::wire::query;
use serde_json::{Value, json};

use crate::engine::World;
use crate::engine::faults::{Faults, FaultyLog};

const CACHE_BYTES: usize = 1 << 20;
const ANSWER_BYTES_MAX: usize = 1 << 20;
const ROUND_BYTES_MAX: usize = 1 << 20;

/// Somebody who answers queries and has nothing in memory.
fn inquiry(world: &World, answer_bytes_max: usize) -> Inquiry {
    Inquiry::new(
        Box::new(world.log.clone()),
        Box::new(world.snapshots.clone()),
        CACHE_BYTES,
        answer_bytes_max,
        ROUND_BYTES_MAX,
    )
}

/// The same, with something wrong between them and the log.
fn inquiry_with(world: &World, faults: &Faults, answer_bytes_max: usize) -> Inquiry {
    let log = FaultyLog::new(world.log.clone(), faults.clone());
    Inquiry::new(Box::new(log), Box::new(world.snapshots.clone()), CACHE_BYTES, answer_bytes_max, ROUND_BYTES_MAX)
}

/// The answer's JSON, or the code of the problem as a string.
fn ask(inquiry: &mut Inquiry, name: &str, payload: &Value) -> Value {
    match bytes(inquiry, name, payload) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
        Err(code) => Value::from(code),
    }
}

fn bytes(inquiry: &mut Inquiry, name: &str, payload: &Value) -> Result<Vec<u8>, &'static str> {
    let query = query::decode(name, payload.to_string().as_bytes()).map_err(|refused| refused.problem.code.as_str())?;
    inquiry.answer(&[query]).pop().unwrap().map_err(|problem| problem.code.as_str())
}

fn get(inquiry: &mut Inquiry, person: &str) -> Value {
    ask(inquiry, "get", &json!({ "person_id": person }))
}

/// What is stored of a person: the truth that answers are held to.
struct Truth {
    events: Vec<EventRecord>,
    /// The events as they stand in the commits.
    json: Vec<Value>,
    sequence: u64,
}

impl Truth {
    fn of(world: &World, person: &str) -> Self {
        let mut truth = Self { events: Vec::new(), json: Vec::new(), sequence: 0 };
        for stored in world.log.commits(person.parse().unwrap()) {
            let json: Value = serde_json::from_slice(&stored.payload).unwrap();
            truth.json.extend(json["events"].as_array().unwrap().iter().cloned());
            truth.events.extend(commit::decode(&stored.payload).unwrap().events);
            truth.sequence = stored.sequence;
        }
        truth
    }

    fn version(&self) -> u64 {
        self.events.len() as u64
    }

    /// The fold of the events that are wanted.
    fn fold(&self, is_wanted: impl Fn(&EventRecord) -> bool) -> (Option<Person>, u64) {
        let mut state = None;
        let wanted = self.events.iter().filter(|event| is_wanted(event));
        let count = wanted.inspect(|event| evolve(&mut state, &event.event)).count();
        (state, count as u64)
    }

    /// The whole answer to a `get` that shows the fold of these events.
    fn answer(&self, is_wanted: impl Fn(&EventRecord) -> bool) -> Value {
        match self.fold(is_wanted) {
            (None, _) => json!("person_not_found"),
            (Some(person), version) => json!({
                "status": "ok",
                "version": self.version(),
                "sequence": self.sequence,
                "person": PersonView::new(&person, version, None),
            }),
        }
    }
}
