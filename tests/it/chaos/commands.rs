//! What clients say: every command, in the proportions that bring persons into every state and replicas to each other.

use serde_json::{Value, json};

use crate::engine::chance::Chance;

/// One command, or several for the same person, decided together.
pub fn any_body(chance: &mut Chance, person: &str, other: &str) -> Value {
    if chance.draw(8) != 0 {
        return any_command(chance, person, other);
    }
    let length = 2 + chance.draw(4);
    Value::Array((0..length).map(|_| any_command(chance, person, other)).collect())
}

pub fn create(chance: &mut Chance, person: &str) -> Value {
    json!({"CreatePerson": {"person_id": person, "name": name(chance), "source": "registry"}})
}

fn any_command(chance: &mut Chance, person: &str, other: &str) -> Value {
    match chance.draw(100) {
        0..5 => create(chance, person),
        5..30 => json!({"UpdateName": {"person_id": person, "name": name(chance)}}),
        30..55 => {
            let (kind, value) = fact(chance);
            json!({"RecordAttribute": {"person_id": person, "attribute": attribute(&kind, &value)}})
        }
        55..65 => {
            let (kind, value) = fact(chance);
            json!({"UpdateAttribute":
                {"person_id": person, "attribute_type": kind, "new_attribute": attribute(&kind, &value)}})
        }
        65..71 => json!({"InvalidateAttribute": {"person_id": person, "attribute_type": fact(chance).0}}),
        71..77 => {
            let day = format!("1980-01-0{}", 1 + chance.draw(2));
            json!({"SetBirthDate": {"person_id": person, "birth_date": day}})
        }
        77..83 => json!({"DeactivatePerson": {"person_id": person, "reason": "moved"}}),
        83..94 => json!({"ReactivatePerson": {"person_id": person, "reason": "back"}}),
        94..97 if person != other => json!({"MergePersons": {"source_person_id": person, "target_person_id": other,
            "merge_reason": "DuplicateIdentity"}}),
        97 => json!({"RecordDeath": {"person_id": person, "date_of_death": "2020-02-02"}}),
        98 => json!({"ArchivePerson": {"person_id": person, "reason": "closed"}}),
        // No such command: nobody may choke on it.
        _ => json!({"RenamePerson": {"person_id": person}}),
    }
}

fn name(chance: &mut Chance) -> Value {
    let given = *chance.pick(&["Ada", "Bea", "Cleo", "Dora"]);
    let family = *chance.pick(&["Lovelace", "Byron"]);
    json!({"components": {"given_names": [given], "family_names": [family], "prefixes": [], "suffixes": []}})
}

fn fact(chance: &mut Chance) -> (Value, Value) {
    let number = chance.draw(5);
    match chance.draw(3) {
        0 => (json!({"Physical": "Height"}), json!({"Length": 1.5 + f64::from(u8::try_from(number).unwrap()) / 10.0})),
        1 => (json!({"Demographic": "SpokenLanguages"}), json!({"TextList": ["de", format!("x{number}")]})),
        _ => (
            json!({"Custom": {"organization": "chaos", "attribute_name": "note", "category": "any"}}),
            json!({"Text": format!("note {number}")}),
        ),
    }
}

fn attribute(kind: &Value, value: &Value) -> Value {
    let provenance = json!({"source": "SelfReported", "confidence": "Certain"});
    json!({"attribute_type": kind, "value": value, "provenance": provenance})
}
