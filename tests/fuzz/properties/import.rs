//! A file of persons, as `person-service import` reads it. The input: how it is read and a line break, the file. How it is
//! read is, with tabs between: `export`; or `csv`, the delimiter, the key's column, and mappings of fields to columns.

use std::collections::{BTreeMap, BTreeSet};

use cim_domain_person::cli::import::{Mapping, Persons, Table};
use cim_domain_person::domain::Timestamp;
use cim_domain_person::wire::request::{Header, Headers, Stamp, decode};
use cim_domain_person::wire::subject::Subjects;
use serde_json::{Map, Value};

use super::first_line;

/// Commands in an array, and bytes of one that has several.
const ARRAY_COMMANDS_MAX: usize = 100;
const ARRAY_BYTES_MAX: usize = 200 * 1024 + 1;
/// What makes a person and says what is known. All else comes later, when these are there.
const BEGINNING: [&str; 3] = ["CreatePerson", "SetBirthDate", "RecordAttribute"];

/// What is made of a row or a record.
#[derive(Debug, PartialEq)]
struct Made {
    place: u64,
    origin: u64,
    input_bytes: u64,
    version: Option<u64>,
    id: String,
    subject: String,
    payload: Vec<u8>,
}

/// What holds of every file.
pub fn hold(input: &[u8]) {
    let (how, file) = first_line(input);
    let Some(persons) = persons(how) else { return };
    let (made, end) = read(&persons, file, usize::MAX);
    let (again, end_again) = read(&persons, file, usize::MAX);
    assert!((&made, &end) == (&again, &end_again), "the same file says the same");
    if let Err(why) = &end {
        assert!(!why.is_empty() && !why.contains(char::is_control), "{why:?}");
    }
    // Whoever wants no more gets no more.
    let some = read(&persons, file, made.len() / 2 + 1).0;
    assert_eq!(some.len(), made.len().min(made.len() / 2 + 1));
    assert!(some == made[..some.len()]);
    let length = u64::try_from(file.len()).unwrap();
    // The last line may have no end.
    assert!(made.iter().map(|one| one.input_bytes).sum::<u64>() <= length + 1);
    let ids: BTreeSet<&str> = made.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids.len(), made.len(), "an id twice");
    check_commands(&made);
}

fn check_commands(made: &[Made]) {
    let mut versions: BTreeMap<u64, u64> = BTreeMap::new();
    for (place, one) in (1..).zip(made) {
        assert_eq!(one.place, place);
        let commands: Vec<Map<String, Value>> = serde_json::from_slice(&one.payload).expect("commands in an array");
        assert!((1..=ARRAY_COMMANDS_MAX).contains(&commands.len()), "{}", commands.len());
        assert!(commands.len() == 1 || one.payload.len() <= ARRAY_BYTES_MAX, "{} bytes", one.payload.len());
        let names: Vec<&String> = commands.iter().flat_map(Map::keys).collect();
        assert_eq!(names.len(), commands.len(), "{names:?}");
        let is_beginning = BEGINNING.contains(&names[0].as_str());
        match one.version {
            None => assert_eq!(names[0], "CreatePerson"),
            Some(version) => assert_eq!(version, versions[&one.origin], "{names:?} of line {}", one.origin),
        }
        if is_beginning {
            let before = if one.version.is_none() { 0 } else { versions[&one.origin] };
            versions.insert(one.origin, before + u64::try_from(commands.len()).unwrap());
        }
        // The service takes it or says why not.
        let stamp = Stamp { at: Timestamp::from_micros(1_700_000_000_000_000), id: uuid::Uuid::from_u128(1) };
        let taken = decode(&Subjects::new("person"), &one.subject, &OnlyId(&one.id), &one.payload, stamp);
        if let Ok(request) = taken {
            assert_eq!(request.commands.len(), commands.len());
            assert_eq!(one.subject, format!("person.commands.{}", request.person));
        }
    }
}

fn persons(how: &str) -> Option<Persons> {
    let mut words = how.split('\t');
    match words.next()? {
        "export" => Some(Persons::Exported { source: "import".to_owned() }),
        "csv" => {
            let delimiter = *words.next()?.as_bytes().first()?;
            let key = words.next().filter(|key| !key.is_empty()).map(str::to_owned);
            let mappings: Vec<Mapping> = words.filter_map(|mapping| mapping.parse().ok()).collect();
            let is_allowed = delimiter.is_ascii() && !delimiter.is_ascii_alphanumeric();
            is_allowed.then(|| Persons::Rows(Table { mappings, key, source: "crm".to_owned(), delimiter }))
        }
        _ => None,
    }
}

/// What is made of the file, as long as somebody takes it, and how it ended.
fn read(persons: &Persons, file: &[u8], len_max: usize) -> (Vec<Made>, Result<(), String>) {
    let subjects = Subjects::new("person");
    let mut made = Vec::new();
    let end = persons.read(|| Ok(file), &mut |letter| {
        made.push(Made {
            place: letter.line,
            origin: letter.origin,
            input_bytes: letter.input_bytes,
            version: letter.expected_version,
            subject: letter.subject(&subjects),
            id: letter.id,
            payload: letter.payload,
        });
        made.len() < len_max
    });
    (made, end.map_err(|error| error.to_string()))
}

/// A command id and no other header.
struct OnlyId<'a>(&'a str);

impl Headers for OnlyId<'_> {
    fn get(&self, name: &str) -> Header<'_> {
        if name == "Nats-Msg-Id" { Header::One(self.0) } else { Header::Absent }
    }
}
