//! The rows of a CSV file as commands, by a mapping from what is known of a person to columns.
//!
//! Values are not judged here: what is no number or no date is sent as it stands, and the service says what is wrong.

use std::io::{self, Read};
use std::str::FromStr;

use csv::StringRecord;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::cli::import::Sink;
use crate::domain::{AttributeType, ValueKind};

/// Under which the names of sources become namespaces of their own for the ids of persons.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_1d5e_4a7b_5b7e_9d61_0d6b_5f0a_27c4);

/// What a column is for.
#[derive(Debug, Clone, PartialEq)]
enum Field {
    PersonId,
    Source,
    BirthDate,
    /// A list of the name's components, and a member that is one text.
    NameList(&'static str),
    NamePart(&'static str),
    PreferredForm,
    NamingConvention,
    Attribute(AttributeType, ValueKind),
}

/// Which column is for what, such as `given_names=first_name`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    field: Field,
    column: String,
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (field, column) = text.split_once('=').ok_or("FIELD=COLUMN is expected")?;
        Ok(Self { field: Field::of(field)?, column: column.to_owned() })
    }
}

impl Field {
    fn of(name: &str) -> Result<Self, String> {
        Ok(match name {
            "person_id" => Self::PersonId,
            "source" => Self::Source,
            "birth_date" => Self::BirthDate,
            "given_names" => Self::NameList("given_names"),
            "family_names" => Self::NameList("family_names"),
            "prefixes" => Self::NameList("prefixes"),
            "suffixes" => Self::NameList("suffixes"),
            "patronymic" => Self::NamePart("patronymic"),
            "matronymic" => Self::NamePart("matronymic"),
            "preferred_form" => Self::PreferredForm,
            "naming_convention" => Self::NamingConvention,
            _ => {
                let unknown = || {
                    "fields are person_id, source, birth_date, given_names, family_names, prefixes, suffixes, patronymic, \
                     matronymic, preferred_form, naming_convention, and attributes such as Physical.Height"
                        .to_owned()
                };
                let (group, one) = name.split_once('.').ok_or_else(unknown)?;
                let kind: AttributeType = serde_json::from_value(json!({ group: one })).map_err(|_| unknown())?;
                let value = kind.value_kinds().first().copied().ok_or_else(unknown)?;
                Self::Attribute(kind, value)
            }
        })
    }
}

/// How a table is read.
#[derive(Debug)]
pub struct Table {
    /// Which columns are for what.
    pub mappings: Vec<Mapping>,
    /// The column with the key from which ids are made.
    pub key: Option<String>,
    /// Where the records come from.
    pub source: String,
    /// What parts columns.
    pub delimiter: u8,
}

impl Table {
    /// Reads the rows and gives what it makes of them to the sink.
    pub(super) fn read(&self, file: impl Read, sink: &mut Sink) -> io::Result<()> {
        let mut reader = csv::ReaderBuilder::new().delimiter(self.delimiter).from_reader(file);
        let headers = reader.headers()?.clone();
        let column = |name: &str| {
            headers
                .iter()
                .position(|header| header.trim() == name)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("there is no column {name:?}")))
        };
        let columns: Vec<(usize, &Field)> = self
            .mappings
            .iter()
            .map(|mapping| Ok((column(&mapping.column)?, &mapping.field)))
            .collect::<io::Result<_>>()?;
        let key = self.key.as_deref().map(column).transpose()?;
        let mut before = reader.position().byte();
        let mut row = StringRecord::new();
        while reader.read_record(&mut row)? {
            let (line, after) = (row.position().map_or(0, csv::Position::line), reader.position().byte());
            if !sink.person(line, after - before, self.commands(&row, &columns, key)) {
                return Ok(());
            }
            before = after;
        }
        Ok(())
    }

    fn commands(&self, row: &StringRecord, columns: &[(usize, &Field)], key: Option<usize>) -> Vec<Value> {
        let mut id = key.and_then(|key| row.get(key)).map(str::trim).filter(|key| !key.is_empty()).map(|key| {
            let namespace = Uuid::new_v5(&NAMESPACE, self.source.as_bytes());
            Uuid::new_v5(&namespace, key.as_bytes()).to_string()
        });
        let mut source = self.source.clone();
        let (mut name, mut components) = (Map::new(), Map::new());
        let (mut birth_date, mut attributes) = (None, Vec::new());
        for (column, field) in columns {
            let Some(text) = row.get(*column).map(str::trim).filter(|text| !text.is_empty()) else { continue };
            match field {
                Field::PersonId => id = Some(text.to_owned()),
                Field::Source => source = text.to_owned(),
                Field::BirthDate => birth_date = Some(text),
                Field::NamePart(part) => drop(components.insert((*part).to_owned(), json!(text))),
                Field::NameList(list) => {
                    let items = components.entry(*list).or_insert_with(|| json!([]));
                    if let Some(items) = items.as_array_mut() {
                        items.push(json!(text));
                    }
                }
                Field::PreferredForm => drop(name.insert("preferred_form".to_owned(), json!(text))),
                Field::NamingConvention => drop(name.insert("naming_convention".to_owned(), json!(text))),
                Field::Attribute(kind, value) => attributes.push(json!({
                    "attribute_type": kind,
                    "value": { value.as_str(): value_of(*value, text) },
                    "provenance": { "source": { "Imported": { "system": self.source } }, "confidence": "Likely" },
                })),
            }
        }
        name.insert("components".to_owned(), Value::Object(components));
        let id = id.unwrap_or_default();
        let mut commands = vec![json!({ "CreatePerson": { "person_id": id, "name": name, "source": source } })];
        commands.extend(birth_date.map(|date| json!({ "SetBirthDate": { "person_id": id, "birth_date": date } })));
        let record = |attribute| json!({ "RecordAttribute": { "person_id": id, "attribute": attribute } });
        commands.extend(attributes.into_iter().map(record));
        commands
    }
}

/// A text as JSON of this kind; what is none stays text.
fn value_of(kind: ValueKind, text: &str) -> Value {
    let number = || text.parse::<f64>().map_or(json!(text), |number| json!(number));
    match kind {
        ValueKind::Number | ValueKind::Length | ValueKind::Mass => number(),
        ValueKind::Integer | ValueKind::Year => text.parse::<i64>().map_or(json!(text), |number| json!(number)),
        ValueKind::Boolean => text.parse::<bool>().map_or(json!(text), |truth| json!(truth)),
        ValueKind::TextList => json!([text]),
        _ => json!(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_source_and_key_and_never_change() {
        let table = |source: &str| Table { mappings: vec![], key: None, source: source.to_owned(), delimiter: b',' };
        let id = |source: &str, key: &str| {
            let row = StringRecord::from(vec![key]);
            let commands = table(source).commands(&row, &[], Some(0));
            commands[0]["CreatePerson"]["person_id"].as_str().expect("an id").to_owned()
        };
        // These very ids are in people's streams: a change would import the same persons once more.
        assert_eq!(id("crm", "4711"), id("crm", " 4711 "));
        assert_ne!(id("crm", "4711"), id("erp", "4711"));
        assert_eq!(id("crm", ""), "");
        assert_eq!(Uuid::parse_str(&id("crm", "4711")).expect("a UUID").get_version_num(), 5);
    }

    #[test]
    fn mappings_name_fields_and_attributes() {
        for text in ["given_names=first", "Physical.Height=h", "birth_date=born on"] {
            assert!(text.parse::<Mapping>().is_ok(), "{text}");
        }
        for text in ["first", "surname=x", "Physical.Size=x", "Custom.x=y"] {
            assert!(text.parse::<Mapping>().is_err(), "{text}");
        }
    }
}
