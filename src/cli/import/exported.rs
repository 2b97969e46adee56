//! The lines of an export as commands: first all persons with their attributes, then the merges, then what ends a record.
//!
//! In that order, because a merge is only into a person who is in use. The file is read twice, so that nothing but
//! the merges has to be held in memory, at some 100 bytes each.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::str::FromStr;

use serde_json::{Value, json};

use crate::cli::export::FORMAT;
use crate::cli::import::Sink;
use crate::cli::shown::at;
use crate::domain::PersonId;

/// Reads an export and gives what it makes of it to the sink, which says when nobody listens any more.
pub fn read<R: Read>(open: impl Fn() -> io::Result<R>, source: &str, sink: &mut Sink) -> io::Result<()> {
    let mut merges = Merges::default();
    let mut is_complete = false;
    let mut more = true;
    each(open()?, |line, bytes, value| {
        if let Some(format) = at(value, "export.format").as_u64().filter(|format| *format != FORMAT) {
            return Err(broken(&format!("it has format {format}, this release reads {FORMAT}")));
        }
        is_complete |= at(value, "end").is_object();
        let person = at(value, "person");
        if more && person.is_object() {
            let commands = beginning(person, source);
            merges.note(line, person, count(&commands));
            more = sink.person(line, bytes, commands);
        }
        Ok(more)
    })?;
    if more && !is_complete {
        return Err(broken("it has no line with its end: it is cut short, or none that person-service export wrote"));
    }
    for (person, Merge { target, line, version }) in merges.in_order() {
        let command = json!({ "MergePersons": { "source_person_id": person, "target_person_id": target,
            "merge_reason": "DuplicateIdentity" } });
        more = more && sink.later(line, version, vec![command]);
    }
    each(open()?, |line, _, value| {
        let person = at(value, "person");
        let ending = if more && person.is_object() { ending(person) } else { Vec::new() };
        if !ending.is_empty() {
            more = sink.later(line, count(&beginning(person, source)), ending);
        }
        Ok(more)
    })
}

/// Every line with its number and length, until nobody wants more.
fn each(file: impl Read, mut take: impl FnMut(u64, u64, &Value) -> io::Result<bool>) -> io::Result<()> {
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(&line).map_err(|_| broken(&format!("line {number} is no JSON")))?;
        if !take(number, u64::try_from(line.len()).unwrap_or(0) + 1, &value)? {
            return Ok(());
        }
    }
    Ok(())
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn id_of(person: &Value) -> Option<PersonId> {
    PersonId::from_str(at(person, "id").as_str()?).ok()
}

/// The commands that begin a record and say what is known.
fn beginning(person: &Value, source: &str) -> Vec<Value> {
    let id = at(person, "id");
    let name = at(person, "name");
    let mut commands = vec![json!({ "CreatePerson": { "person_id": id, "name": name, "source": source } })];
    if let Some(date) = at(person, "birth_date").as_str() {
        commands.push(json!({ "SetBirthDate": { "person_id": id, "birth_date": date } }));
    }
    let attributes = at(person, "attributes").as_array().into_iter().flatten();
    commands.extend(attributes.map(|one| json!({ "RecordAttribute": { "person_id": id, "attribute": one } })));
    commands
}

/// Each of them makes one event, so this is the version that they lead to.
fn count(commands: &[Value]) -> u64 {
    u64::try_from(commands.len()).unwrap_or(u64::MAX)
}

/// The commands that take a record out of use.
fn ending(person: &Value) -> Vec<Value> {
    let id = at(person, "id");
    let reason = at(person, "lifecycle.reason");
    let death = at(person, "death_date").as_str();
    let death = death.map(|date| json!({ "RecordDeath": { "person_id": id, "date_of_death": date } }));
    let last = match at(person, "lifecycle.state").as_str() {
        Some("Deactivated") => Some(json!({ "DeactivatePerson": { "person_id": id, "reason": reason } })),
        Some("Archived") => Some(json!({ "ArchivePerson": { "person_id": id, "reason": reason } })),
        _ => None,
    };
    death.into_iter().chain(last).collect()
}

/// Who was merged into whom.
#[derive(Default)]
struct Merges {
    into: HashMap<PersonId, Merge>,
}

/// The merge of a person.
struct Merge {
    target: PersonId,
    line: u64,
    /// The version at which the person is by then.
    version: u64,
}

impl Merges {
    fn note(&mut self, line: u64, person: &Value, version: u64) {
        let target = at(person, "lifecycle.target_id").as_str().and_then(|id| PersonId::from_str(id).ok());
        if let (Some(person), Some(target)) = (id_of(person), target) {
            self.into.insert(person, Merge { target, line, version });
        }
    }

    /// Each merge after those into its own source; what is left is a circle, for the service to refuse. The same merges
    /// come in the same order each time.
    fn in_order(mut self) -> Vec<(PersonId, Merge)> {
        let mut waiting_for: HashMap<PersonId, usize> = HashMap::new();
        for merge in self.into.values() {
            *waiting_for.entry(merge.target).or_default() += 1;
        }
        let mut ready: VecDeque<PersonId> =
            self.into.keys().filter(|person| !waiting_for.contains_key(person)).copied().collect();
        ready.make_contiguous().sort_by_key(|person| person.uuid());
        let mut order = Vec::new();
        while let Some(person) = ready.pop_front() {
            let Some(merge) = self.into.remove(&person) else { continue };
            let target = merge.target;
            order.push((person, merge));
            if let Some(count) = waiting_for.get_mut(&target) {
                *count -= 1;
                if *count == 0 {
                    ready.push_back(target);
                }
            }
        }
        let mut circle: Vec<(PersonId, Merge)> = self.into.into_iter().collect();
        circle.sort_by_key(|(person, _)| person.uuid());
        order.extend(circle);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_comes_after_those_into_its_own_source_and_circles_come_last_by_id() {
        let person = |number: u128| PersonId::from_uuid(uuid::Uuid::from_u128(number));
        let mut merges = Merges::default();
        for (from, into) in [(3, 9), (1, 2), (2, 3), (4, 3), (6, 7), (7, 8), (8, 6)] {
            merges.into.insert(person(from), Merge { target: person(into), line: 0, version: 0 });
        }
        let order: Vec<u128> = merges.in_order().iter().map(|(person, _)| person.uuid().as_u128()).collect();
        let place = |number: u128| order.iter().position(|found| *found == number).expect("it is there");
        assert_eq!(order[4..], [6, 7, 8]);
        assert!(order.len() == 7 && place(1) < place(2) && place(2) < place(3) && place(4) < place(3), "{order:?}");
    }
}
