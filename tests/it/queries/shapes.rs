//! The answers as they are written, member by member.

use serde_json::{Value, json};

use super::{ANSWER_BYTES_MAX, Truth, bytes, get, inquiry};
use crate::engine::{ANN, SECOND, World, ask as asked, birth};

/// A person with everything, and another one with as little as there can be.
fn world() -> World {
    let world = World::new();
    let attribute = json!({
        "attribute_type": { "Physical": "Height" },
        "value": { "Length": 1.75 },
        "temporal": { "valid_from": "2001-02-03", "valid_until": "2031-02-03" },
        "provenance": {
            "source": { "Imported": { "system": "clinic" } },
            "confidence": "Likely",
            "recorded_by": "nurse",
            "trace": [{ "transformation": "rounded", "applied_at": "2026-01-02T03:04:05Z", "applied_by": "import" }],
        },
    });
    let name = json!({
        "components": {
            "given_names": ["Ann", "Mary"], "family_names": ["van Dyke"], "patronymic": "Jans",
            "matronymic": "Evas", "prefixes": ["Dr."], "suffixes": ["Jr.", "PhD"],
        },
        "preferred_form": "Annie",
        "naming_convention": "Western",
    });
    world.given([
        asked("c1", json!({ "CreatePerson": { "person_id": ANN, "name": name, "source": "registry" } }))
            .with("Actor", "clerk"),
        asked("c2", birth(ANN, "2000-01-02")).with("Correlation-Id", "story"),
    ]);
    world.pass(SECOND);
    world.given([
        asked("c3", json!({ "RecordAttribute": { "person_id": ANN, "attribute": attribute } })),
        asked("c4", json!({ "RecordDeath": { "person_id": ANN, "date_of_death": "2026-03-01" } })),
    ]);
    world
}

fn golden_get() -> Value {
    json!({
        "status": "ok",
        "version": 4,
        "sequence": 4,
        "person": {
            "id": ANN,
            "name": {
                "components": {
                    "given_names": ["Ann", "Mary"], "family_names": ["van Dyke"], "patronymic": "Jans",
                    "matronymic": "Evas", "prefixes": ["Dr."], "suffixes": ["Jr.", "PhD"],
                },
                "preferred_form": "Annie",
                "naming_convention": "Western",
            },
            "display": {
                "formal": "Dr. Ann Mary Jans Evas van Dyke, Jr., PhD",
                "informal": "Annie",
                "legal": "Ann Mary Jans Evas van Dyke, Jr.",
                "alphabetical": "Dyke, Ann Mary Jans Evas van, Jr.",
                "cultural": "Ann Mary Jans Evas van Dyke",
            },
            "birth_date": "2000-01-02",
            "death_date": "2026-03-01",
            "lifecycle": { "state": "Deceased", "date_of_death": "2026-03-01" },
            "attributes": [{
                "attribute_type": { "Physical": "Height" },
                "value": { "Length": 1.75 },
                "temporal": {
                    "recorded_at": "2026-03-10T12:01:01Z", "valid_from": "2001-02-03", "valid_until": "2031-02-03",
                },
                "provenance": {
                    "source": { "Imported": { "system": "clinic" } },
                    "confidence": "Likely",
                    "recorded_by": "nurse",
                    "trace": [{
                        "transformation": "rounded", "applied_at": "2026-01-02T03:04:05Z", "applied_by": "import",
                    }],
                },
            }],
            "created_at": "2026-03-10T12:01:00Z",
            "updated_at": "2026-03-10T12:01:01Z",
            "version": 4,
        },
    })
}

/// Times are written with as many digits as they need or with six, so they are compared as times.
fn normal(value: &Value) -> Value {
    match value {
        Value::String(text) if text.ends_with('Z') && text.contains('T') => {
            let time: Result<cim_domain_person::domain::Timestamp, _> = text.parse();
            time.map_or_else(|_| value.clone(), |time| json!(time))
        }
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), normal(value))).collect())
        }
        Value::Null => panic!("what is not given is absent, never null"),
        other => other.clone(),
    }
}

#[test]
fn a_whole_person() {
    assert_eq!(normal(&get(&mut inquiry(&world(), ANSWER_BYTES_MAX), ANN)), normal(&golden_get()));
}

#[test]
fn a_person_of_whom_little_is_known() {
    let answer =
        super::ask(&mut inquiry(&world(), ANSWER_BYTES_MAX), "get", &json!({"person_id": ANN, "at_version": 1}));
    let mut golden = golden_get();
    let person = golden["person"].as_object_mut().unwrap();
    person.remove("birth_date");
    person.remove("death_date");
    person.insert("lifecycle".to_owned(), json!({ "state": "Active" }));
    person.insert("attributes".to_owned(), json!([]));
    person.insert("updated_at".to_owned(), json!("2026-03-10T12:01:00Z"));
    person.insert("version".to_owned(), json!(1));
    assert_eq!(normal(&answer), normal(&golden));
}

#[test]
fn a_page_of_history() {
    let world = world();
    let mut inquiry = inquiry(&world, ANSWER_BYTES_MAX);
    let page = bytes(&mut inquiry, "history", &json!({ "person_id": ANN, "limit": 2 })).unwrap();
    let mut page: Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(page["events"], json!(Truth::of(&world, ANN).json[..2]));
    for event in page["events"].as_array_mut().unwrap() {
        let event_id = event.as_object_mut().unwrap().remove("event_id").unwrap();
        assert_eq!(event_id.as_str().unwrap().parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
    }
    let golden = json!({
        "status": "ok",
        "version": 4,
        "events": [
            {
                "sequence": 1,
                "event": { "PersonCreated": {
                    "person_id": ANN,
                    "name": golden_get()["person"]["name"],
                    "source": "registry",
                    "created_at": "2026-03-10T12:01:00Z",
                } },
                "timestamp": "2026-03-10T12:01:00Z",
                "correlation_id": "c1",
                "causation_id": "c1",
                "actor": "clerk",
            },
            {
                "sequence": 2,
                "event": { "BirthDateSet": {
                    "person_id": ANN, "birth_date": "2000-01-02", "set_at": "2026-03-10T12:01:00Z",
                } },
                "timestamp": "2026-03-10T12:01:00Z",
                "correlation_id": "story",
                "causation_id": "c2",
            },
        ],
        "next_version": 3,
    });
    assert_eq!(normal(&page), normal(&golden));
}
