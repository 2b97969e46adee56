//! What is sent: a payload, whom it is about, and the id by which a repetition is recognised.

use std::collections::HashMap;
use std::str::FromStr;

use serde_json::Value;
use uuid::Builder;

use crate::cli::shown::at;
use crate::domain::PersonId;
use crate::wire::subject::Subjects;

/// The same for the persons that commands without one begin.
const PERSON_CONTEXT: &str = "person-service send create, person ids, version 1";
/// What keeps these ids apart from any other use of the same hash. A change here would make every file's ids new, and
/// what was carried out would be carried out again.
const ID_CONTEXT: &str = "person-service send --lines, command ids, version 1";
/// The tail of the subject of what names no person: the service says what is wrong with it.
const NOBODY: &str = "unaddressed";

/// One command or array, on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its place among all, from 1.
    pub line: u64,
    /// The line of the input that it comes from.
    pub origin: u64,
    /// How many bytes of the input are done with it.
    pub input_bytes: u64,
    /// The version at which the person has to be.
    pub expected_version: Option<u64>,
    /// The command id.
    pub id: String,
    /// Whom it is about, the one whose record changes first; a merge has two.
    pub persons: Vec<PersonId>,
    /// The bytes, as they were given.
    pub payload: Vec<u8>,
}

impl Letter {
    /// The only one.
    pub fn single(payload: Vec<u8>, id: &str) -> Self {
        let persons = serde_json::from_slice(&payload).map(|json| persons(&json)).unwrap_or_default();
        Self { id: id.to_owned(), ..Self::new(1, persons, payload) }
    }

    /// Of a line of its own, without an id.
    fn new(line: u64, persons: Vec<PersonId>, payload: Vec<u8>) -> Self {
        let input_bytes = u64::try_from(payload.len()).unwrap_or(0) + 1;
        Self { line, origin: line, input_bytes, expected_version: None, id: String::new(), persons, payload }
    }

    /// Where it is to go.
    pub fn subject(&self, subjects: &Subjects) -> String {
        match self.persons.first() {
            Some(person) => subjects.commands(*person),
            None => subjects.all_commands().replace('>', NOBODY),
        }
    }
}

/// Makes letters of lines, with ids that are the same whenever the same file is read.
pub struct LetterMaker {
    batch: String,
    /// How many lines have said this so far. It grows with the file, by some 40 bytes a line.
    said: HashMap<[u8; 16], u64>,
}

impl LetterMaker {
    /// For a batch of this name.
    pub fn new(batch: &str) -> Self {
        Self { batch: batch.to_owned(), said: HashMap::new() }
    }

    /// The letter of a line.
    pub fn letter(&mut self, line: u64, payload: Vec<u8>) -> Letter {
        // As compact JSON with sorted members: how a line is written does not change what it says.
        let (persons, said) = match serde_json::from_slice::<Value>(&payload) {
            Ok(json) => (persons(&json), json.to_string().into_bytes()),
            Err(_) => (Vec::new(), payload.clone()),
        };
        Letter { id: self.id(&said), ..Letter::new(line, persons, payload) }
    }

    fn id(&mut self, said: &[u8]) -> String {
        let content = first_16_bytes(blake3::Hasher::new_derive_key(ID_CONTEXT).update(said));
        let earlier = self.said.entry(content).or_default();
        let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
        hasher.update(&content).update(&earlier.to_le_bytes()).update(self.batch.as_bytes());
        *earlier += 1;
        // Version 8: a UUID with a meaning of one's own.
        Builder::from_custom_bytes(first_16_bytes(&hasher)).into_uuid().to_string()
    }
}

/// The person whom a command with this id begins, where it names none.
pub fn new_person(command_id: &str) -> PersonId {
    let hash = first_16_bytes(blake3::Hasher::new_derive_key(PERSON_CONTEXT).update(command_id.as_bytes()));
    PersonId::from_uuid(Builder::from_custom_bytes(hash).into_uuid())
}

fn first_16_bytes(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Whom a command or an array is about, each once. Only these members are looked at: the service is to judge the rest,
/// and it may know commands that this release does not.
fn persons(json: &Value) -> Vec<PersonId> {
    let commands = match json {
        Value::Array(commands) => commands.as_slice(),
        command => std::slice::from_ref(command),
    };
    let fields = commands.iter().filter_map(|command| command.as_object()?.values().next());
    let ids =
        fields.flat_map(|fields| ["person_id", "source_person_id", "target_person_id"].map(|name| at(fields, name)));
    let mut persons = Vec::new();
    for person in ids.filter_map(|id| PersonId::from_str(id.as_str()?).ok()) {
        if !persons.contains(&person) {
            persons.push(person);
        }
    }
    persons
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0197c5a0-0000-7000-8000-000000000001";
    const B: &str = "0197c5a0-0000-7000-8000-000000000002";

    fn ids(batch: &str, lines: &[&str]) -> Vec<String> {
        let mut maker = LetterMaker::new(batch);
        lines.iter().map(|line| maker.letter(1, line.as_bytes().to_vec()).id).collect()
    }

    #[test]
    fn ids_follow_from_what_lines_say_and_never_change() {
        // These very ids are in people's streams: a change of how they are made would do their files twice.
        assert_eq!(ids("", &[r#"{"a":1}"#]), ["087878c6-8863-8abe-acb0-905e9f2969b3"]);
        assert_eq!(ids("march", &[r#"{"a":1}"#]), ["f0355ab1-6fae-82cb-a77e-7d5013b4f991"]);
    }

    #[test]
    fn a_line_keeps_its_id_when_the_file_around_it_changes() {
        let [first, second] = [r#"{"a":1,"b":2}"#, r#"{"a":2}"#];
        let alone = ids("", &[second]);
        assert_eq!(ids("", &[first, second])[1], alone[0]);
        assert_eq!(ids("", &[" { \"b\" : 2, \"a\":1 } "]), ids("", &[first]), "how it is written does not matter");
        assert_ne!(ids("x", &[first]), ids("", &[first]));
    }

    #[test]
    fn lines_that_say_the_same_are_told_apart_by_their_number() {
        let twice = ids("", &["{}", "{}", "{}"]);
        assert!(twice[0] != twice[1] && twice[1] != twice[2]);
        assert_eq!(twice, ids("", &["{}", "{}", "{}"]));
    }

    #[test]
    fn whom_a_line_is_about() {
        let about = |json: &str| Letter::single(json.as_bytes().to_vec(), "id").persons;
        let [a, b] = [A, B].map(|id| PersonId::from_str(id).expect("a UUID"));
        assert_eq!(about(&format!(r#"{{"ArchivePerson":{{"person_id":"{A}"}}}}"#)), [a]);
        let merge = format!(r#"{{"MergePersons":{{"source_person_id":"{B}","target_person_id":"{A}"}}}}"#);
        assert_eq!(about(&merge), [b, a]);
        let array = format!(r#"[{{"X":{{"person_id":"{A}"}}}},{{"Y":{{"person_id":"{A}"}}}},{merge}]"#);
        assert_eq!(about(&array), [a, b]);
        for nobody in ["", "7", "{}", "[]", r#"{"X":{"person_id":"me"}}"#, r#"{"X":3}"#] {
            assert_eq!(about(nobody), [], "{nobody}");
        }
    }
}
