//! The JSON forms of the contract, to the letter, and what is not one of them.

use cim_domain_person::domain::{Command, Event, EventKind, MergeReason, UnknownEventKind};
use serde_json::{Value, json};

use super::{ANN, BOB};

const AT: &str = "2026-03-10T12:00:00.000001Z";

fn full_name() -> Value {
    json!({
        "components": {
            "given_names": ["Ann", "Bea"], "family_names": ["Lee"], "patronymic": "P", "matronymic": "M",
            "prefixes": ["Dr."], "suffixes": ["Jr."],
        },
        "preferred_form": "Annie",
        "naming_convention": "EastAsian",
    })
}

fn short_name() -> Value {
    let components = json!({"given_names": [], "family_names": ["Lee"], "prefixes": [], "suffixes": []});
    json!({"components": components, "naming_convention": "Western"})
}

fn full_attribute() -> Value {
    json!({
        "attribute_type": {"Custom": {"organization": "Acme", "attribute_name": "badge", "category": "access"}},
        "value": {"ApproximateDate": {"date": "1950-01-01", "precision": "Decade"}},
        "temporal": {"recorded_at": AT, "valid_from": "2020-01-01", "valid_until": "2021-01-01"},
        "provenance": {
            "source": {"Imported": {"system": "old"}}, "confidence": "Likely", "recorded_by": "me",
            "trace": [{"transformation": "t", "applied_at": AT, "applied_by": "b"}],
        },
    })
}

fn short_attribute() -> Value {
    json!({
        "attribute_type": {"Physical": "Height"},
        "value": {"Length": 1.75},
        "provenance": {"source": "Measured", "confidence": "Certain"},
    })
}

fn commands() -> Vec<Value> {
    let kind = json!({"Healthcare": "BloodType"});
    vec![
        json!({"CreatePerson": {"person_id": ANN, "name": full_name(), "source": "s"}}),
        json!({"UpdateName": {"person_id": ANN, "name": short_name(), "reason": "r"}}),
        json!({"UpdateName": {"person_id": ANN, "name": short_name()}}),
        json!({"SetBirthDate": {"person_id": ANN, "birth_date": "1990-05-17"}}),
        json!({"RecordDeath": {"person_id": ANN, "date_of_death": "2020-05-17"}}),
        json!({"DeactivatePerson": {"person_id": ANN, "reason": "r"}}),
        json!({"ReactivatePerson": {"person_id": ANN, "reason": "r"}}),
        json!({"MergePersons": {"source_person_id": ANN, "target_person_id": BOB, "merge_reason": "DuplicateIdentity"}}),
        json!({"ArchivePerson": {"person_id": ANN, "reason": "r"}}),
        json!({"RecordAttribute": {"person_id": ANN, "attribute": full_attribute()}}),
        json!({"RecordAttribute": {"person_id": ANN, "attribute": short_attribute()}}),
        json!({"UpdateAttribute": {"person_id": ANN, "attribute_type": kind, "new_attribute": short_attribute()}}),
        json!({"InvalidateAttribute": {"person_id": ANN, "attribute_type": kind, "reason": "r"}}),
        json!({"InvalidateAttribute": {"person_id": ANN, "attribute_type": kind}}),
    ]
}

fn events() -> Vec<Value> {
    let kind = json!({"Healthcare": "BloodType"});
    vec![
        json!({"PersonCreated": {"person_id": ANN, "name": full_name(), "source": "s", "created_at": AT}}),
        json!({"NameUpdated": {"person_id": ANN, "old_name": full_name(), "new_name": short_name(), "reason": "r", "updated_at": AT}}),
        json!({"NameUpdated": {"person_id": ANN, "old_name": full_name(), "new_name": short_name(), "updated_at": AT}}),
        json!({"BirthDateSet": {"person_id": ANN, "birth_date": "1990-05-17", "set_at": AT}}),
        json!({"DeathRecorded": {"person_id": ANN, "date_of_death": "2020-05-17", "recorded_at": AT}}),
        json!({"PersonDeactivated": {"person_id": ANN, "reason": "r", "deactivated_at": AT}}),
        json!({"PersonReactivated": {"person_id": ANN, "reason": "r", "reactivated_at": AT}}),
        json!({"PersonMergedInto": {"source_person_id": ANN, "merged_into_id": BOB, "merge_reason": "UserRequested", "merged_at": AT}}),
        json!({"PersonArchived": {"person_id": ANN, "reason": "r", "archived_at": AT}}),
        json!({"AttributeRecorded": {"person_id": ANN, "attribute": full_attribute(), "recorded_at": AT}}),
        json!({"AttributeUpdated": {"person_id": ANN, "attribute_type": kind, "old_attribute": full_attribute(), "new_attribute": short_attribute(), "updated_at": AT}}),
        json!({"AttributeInvalidated": {"person_id": ANN, "attribute_type": kind, "reason": "r", "invalidated_at": AT}}),
        json!({"AttributeInvalidated": {"person_id": ANN, "attribute_type": kind, "invalidated_at": AT}}),
    ]
}

fn tag(json: &Value) -> &str {
    json.as_object().unwrap().keys().next().unwrap()
}

#[test]
fn commands_have_the_shapes_of_the_contract() {
    for json in commands() {
        let command: Command = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(command.kind(), tag(&json));
        assert_eq!(command.person_id().to_string(), ANN);
        assert_eq!(command.merge_target().is_some(), tag(&json) == "MergePersons");
        assert_eq!(serde_json::to_value(&command).unwrap(), json);
        assert_eq!(Command::from_json((&json).into()).unwrap(), command);
    }
}

#[test]
fn events_have_the_shapes_of_the_contract() {
    let mut kinds: Vec<_> = EventKind::ALL.to_vec();
    for json in events() {
        let event: Event = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(event.kind().as_str(), tag(&json));
        assert_eq!(event.kind().as_str().parse(), Ok(event.kind()));
        assert_eq!((event.person_id().to_string().as_str(), event.happened_at().to_string().as_str()), (ANN, AT));
        assert_eq!(serde_json::to_value(&event).unwrap(), json);
        kinds.retain(|kind| *kind != event.kind());
    }
    assert_eq!(kinds, [], "a kind without a sample");
    assert_eq!("PersonErased".parse::<EventKind>(), Err(UnknownEventKind));
}

#[test]
fn values_have_the_shapes_of_the_contract() {
    let values = [
        json!({"Text": "t"}),
        json!({"Number": 0.5}),
        json!({"Integer": -3}),
        json!({"Boolean": true}),
        json!({"DateTime": AT}),
        json!({"Date": "1950-03-01"}),
        json!({"YearMonth": [1950, 3]}),
        json!({"Year": 1950}),
        json!({"ApproximateDate": {"date": "1950-01-01", "precision": "Century"}}),
        json!({"Length": 1.5}),
        json!({"Mass": 71.5}),
        json!({"BloodType": "ABNegative"}),
        json!({"EyeColor": "Heterochromia"}),
        json!({"HairColor": "Dyed"}),
        json!({"BiologicalSex": "Intersex"}),
        json!({"Handedness": "Ambidextrous"}),
        json!({"LocationReference": "l"}),
        json!({"PersonReference": BOB}),
        json!({"TextList": ["a", "b"]}),
        json!({"Json": {"any": [1, null, {"x": "\n"}]}}),
        json!({"Json": null}),
    ];
    for value in values {
        let json = set(&commands()[10], "/RecordAttribute/attribute/value", value);
        let command: Command = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&command).unwrap(), json);
    }
}

#[test]
fn names_of_choices_are_the_contracts() {
    let reasons = MergeReason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>();
    assert_eq!(reasons, ["DuplicateIdentity", "DataQualityIssue", "UserRequested", "PolicyDetermined"]);
    for reason in reasons {
        let json = set(&commands()[7], "/MergePersons/merge_reason", json!(reason));
        assert_eq!(serde_json::to_value(serde_json::from_value::<Command>(json.clone()).unwrap()).unwrap(), json);
    }
}

fn set(json: &Value, pointer: &str, value: Value) -> Value {
    let mut json = json.clone();
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap()[member] = value;
    json
}

/// Where an optional member stands, and what is read without it.
const OPTIONAL: [(usize, &str); 13] = [
    (0, "/CreatePerson/name/preferred_form"),
    (0, "/CreatePerson/name/naming_convention"),
    (0, "/CreatePerson/name/components/given_names"),
    (0, "/CreatePerson/name/components/family_names"),
    (0, "/CreatePerson/name/components/patronymic"),
    (0, "/CreatePerson/name/components/matronymic"),
    (0, "/CreatePerson/name/components/prefixes"),
    (0, "/CreatePerson/name/components/suffixes"),
    (1, "/UpdateName/reason"),
    (9, "/RecordAttribute/attribute/temporal"),
    (9, "/RecordAttribute/attribute/temporal/valid_from"),
    (9, "/RecordAttribute/attribute/provenance/recorded_by"),
    (9, "/RecordAttribute/attribute/provenance/trace"),
];

#[test]
fn null_means_absent() {
    for (index, pointer) in OPTIONAL {
        let with_null = set(&commands()[index], pointer, Value::Null);
        let mut without = with_null.clone();
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(member);
        let read = |json: Value| serde_json::from_value::<Command>(json).unwrap();
        assert_eq!(read(with_null.clone()), read(without), "{pointer}");
        assert_ne!(read(with_null), read(commands()[index].clone()), "{pointer} is not read at all");
    }
}

#[test]
fn what_is_not_given_is_not_written() {
    let named = json!({"UpdateName": {"person_id": ANN, "name": {"components": {"family_names": ["Lee"]}}}});
    let command: Command = serde_json::from_value(named).unwrap();
    assert_eq!(serde_json::to_value(&command).unwrap(), commands()[2]);
}

/// Every object with named members in a command.
const OBJECTS: [(usize, &str); 11] = [
    (0, "/CreatePerson"),
    (0, "/CreatePerson/name"),
    (0, "/CreatePerson/name/components"),
    (3, "/SetBirthDate"),
    (9, "/RecordAttribute/attribute"),
    (9, "/RecordAttribute/attribute/attribute_type/Custom"),
    (9, "/RecordAttribute/attribute/value/ApproximateDate"),
    (9, "/RecordAttribute/attribute/temporal"),
    (9, "/RecordAttribute/attribute/provenance"),
    (9, "/RecordAttribute/attribute/provenance/source/Imported"),
    (9, "/RecordAttribute/attribute/provenance/trace/0"),
];

#[test]
fn a_member_stands_once() {
    let name = r#"{"components":{"given_names":["Ann"],"family_names":["Lee"],"prefixes":[],"suffixes":[]},"naming_convention":"Western"}"#;
    let twice = |members: &str| format!(r#"{{"UpdateName":{{"person_id":"{ANN}",{members}}}}}"#);
    assert!(serde_json::from_str::<Command>(&twice(&format!(r#""name":{name}"#))).is_ok());
    for (json, expected) in [
        (twice(&format!(r#""name":{name},"name":{name}"#)), "duplicate field `name`"),
        (twice(&format!(r#""person_id":"{ANN}","name":{name}"#)), "duplicate field `person_id`"),
        (r#"{"UpdateName":{},"UpdateName":{}}"#.to_owned(), "expected an object with a single member"),
    ] {
        let malformed = serde_json::from_str::<Command>(&json).unwrap_err().to_string();
        assert!(malformed.contains(expected), "{malformed}");
    }
}

#[test]
fn a_command_has_no_unknown_members_anywhere() {
    for (index, pointer) in OBJECTS {
        for value in [json!(1), json!(null), json!({"deep": []})] {
            let json = set(&commands()[index], &format!("{pointer}/surprise"), value);
            let malformed = Command::from_json((&json).into()).unwrap_err().to_string();
            assert!(malformed.ends_with("surprise: unknown field"), "{pointer}: {malformed}");
        }
    }
}

#[test]
fn an_event_may_have_unknown_members_anywhere() {
    let samples = [
        (0, "/PersonCreated"),
        (0, "/PersonCreated/name"),
        (0, "/PersonCreated/name/components"),
        (9, "/AttributeRecorded/attribute"),
        (9, "/AttributeRecorded/attribute/attribute_type/Custom"),
        (9, "/AttributeRecorded/attribute/value/ApproximateDate"),
        (9, "/AttributeRecorded/attribute/temporal"),
        (9, "/AttributeRecorded/attribute/provenance"),
        (9, "/AttributeRecorded/attribute/provenance/source/Imported"),
        (9, "/AttributeRecorded/attribute/provenance/trace/0"),
    ];
    for (index, pointer) in samples {
        let known = &events()[index];
        let json = set(known, &format!("{pointer}/from_the_future"), json!({"deep": []}));
        let read = |json: &Value| serde_json::from_str::<Event>(&json.to_string()).unwrap();
        assert_eq!(read(&json), read(known), "{pointer}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_has_not_the_shape_of_a_command_is_told_by_place_and_without_its_value() {
    // The value that must not be told back; in any case of letters, for ids.
    const SECRET: &str = "Sesame-4711";
    let at = |index: usize, pointer: &str, value: Value| set(&commands()[index], pointer, value);
    let cases = [
        (
            json!(SECRET),
            "expected one of CreatePerson, UpdateName, SetBirthDate, RecordDeath, DeactivatePerson, ReactivatePerson, MergePersons, ArchivePerson, RecordAttribute, UpdateAttribute, InvalidateAttribute",
        ),
        (json!([SECRET]), "expected an object"),
        (json!({}), "expected an object with a single member"),
        (json!({"CreatePerson": SECRET}), "expected an object"),
        (json!({"CreatePerson": [ANN, SECRET, SECRET]}), "expected an object"),
        (json!({"SetBirthDate": {"person_id": ANN}}), "birth_date: is missing"),
        (json!({"SetBirthDate": {"birth_date": "1990-05-17"}}), "person_id: is missing"),
        (at(3, "/SetBirthDate/person_id", json!(SECRET)), "person_id: expected a UUID in its hyphenated form"),
        (at(3, "/SetBirthDate/person_id", json!(4711)), "person_id: expected a string, not a number"),
        (at(3, "/SetBirthDate/birth_date", json!(SECRET)), "birth_date: expected a date in the form YYYY-MM-DD"),
        (at(3, "/SetBirthDate/birth_date", json!("1990-02-30")), "birth_date: expected a date in the form YYYY-MM-DD"),
        (at(3, "/SetBirthDate/birth_date", json!(null)), "birth_date: expected a string, not null"),
        (at(3, &format!("/SetBirthDate/{SECRET}"), json!(1)), "(another name): unknown field"),
        (at(5, "/DeactivatePerson/reason", json!([SECRET])), "reason: expected a string, not an array"),
        (at(0, "/CreatePerson/name", json!(SECRET)), "name: expected an object"),
        (at(0, "/CreatePerson/name", json!([SECRET])), "name: expected an object"),
        (
            at(0, "/CreatePerson/name/components/given_names", json!(SECRET)),
            "name.components.given_names: expected an array, not a string",
        ),
        (
            at(0, "/CreatePerson/name/components/given_names", json!(["a", 4711])),
            "name.components.given_names[1]: expected a string, not a number",
        ),
        (
            at(0, "/CreatePerson/name/naming_convention", json!(SECRET)),
            "name.naming_convention: expected one of Western, Spanish, EastAsian, Patronymic, Mononymic, Other",
        ),
        (
            at(7, "/MergePersons/merge_reason", json!(SECRET)),
            "merge_reason: expected one of DuplicateIdentity, DataQualityIssue, UserRequested, PolicyDetermined",
        ),
        (
            at(9, "/RecordAttribute/attribute/attribute_type", json!({"Secret": SECRET})),
            "attribute.attribute_type: expected one of Identifying, Physical, Healthcare, Demographic, Custom",
        ),
        (
            at(9, "/RecordAttribute/attribute/attribute_type", json!({"Physical": "Height", "Custom": SECRET})),
            "attribute.attribute_type: expected an object with a single member",
        ),
        (
            at(9, "/RecordAttribute/attribute/value", json!({"Integer": 4711.5})),
            "attribute.value: expected a whole number that fits 64 bits, not a number with a fraction",
        ),
        (
            at(9, "/RecordAttribute/attribute/value", json!({"Integer": u64::MAX})),
            "attribute.value: expected a whole number that fits 64 bits",
        ),
        (
            at(9, "/RecordAttribute/attribute/value", json!({"Boolean": SECRET})),
            "attribute.value: expected a boolean, not a string",
        ),
        (
            at(9, "/RecordAttribute/attribute/value", json!({"DateTime": SECRET})),
            "attribute.value: expected an RFC 3339 time such as 2026-01-31T12:00:00Z",
        ),
        (at(9, "/RecordAttribute/attribute/value", json!({"YearMonth": SECRET})), "attribute.value: expected an array"),
        (
            at(9, "/RecordAttribute/attribute/value", json!({"YearMonth": [1950]})),
            "attribute.value: expected tuple variant AttributeValue::YearMonth with 2 elements, not 1",
        ),
        (
            at(9, "/RecordAttribute/attribute/value", json!({"YearMonth": [1950, 1, 4711]})),
            "attribute.value: has too many elements",
        ),
        (
            at(9, "/RecordAttribute/attribute/value", json!({"Length": null})),
            "attribute.value: expected a number, not null",
        ),
        (
            at(9, "/RecordAttribute/attribute/provenance/confidence", json!({"Certain": SECRET})),
            "attribute.provenance.confidence: expected the name alone",
        ),
        (
            at(9, "/RecordAttribute/attribute/provenance/trace/0/applied_at", json!(SECRET)),
            "attribute.provenance.trace[0].applied_at: expected an RFC 3339 time such as 2026-01-31T12:00:00Z",
        ),
    ];
    for (json, expected) in cases {
        let malformed = Command::from_json((&json).into()).unwrap_err().to_string();
        assert_eq!(malformed, expected);
        let through_serde = serde_json::from_str::<Command>(&json.to_string()).unwrap_err().to_string();
        assert!(through_serde.contains(expected) && !through_serde.contains("4711"), "{through_serde}");
    }
}

#[test]
fn ids_are_read_in_any_case_and_written_in_lower_case() {
    let json = set(&commands()[3], "/SetBirthDate/person_id", json!(ANN.to_uppercase()));
    let command: Command = serde_json::from_value(json).unwrap();
    assert_eq!(serde_json::to_value(command).unwrap(), commands()[3]);
}
