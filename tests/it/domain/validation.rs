//! What decodes but breaks a rule or a limit, and the normal form of what does not.

use cim_domain_person::domain::{AttributeValue, Command, Invalid};
use serde_json::{Value, json};

use super::{ANN, BOB, NATIONAL_ID, attribute, command, id, national_id};

fn create() -> Value {
    json!({"CreatePerson": {
        "person_id": ANN,
        "name": {"components": {"given_names": ["Ann"], "family_names": ["Lee"]}},
        "source": "import",
    }})
}

fn record() -> Value {
    json!({"RecordAttribute": {
        "person_id": ANN,
        "attribute": {
            "attribute_type": {"Custom": {"organization": "Acme", "attribute_name": "badge", "category": "access"}},
            "value": {"Text": "7"},
            "provenance": {"source": "Measured", "confidence": "Certain"},
        },
    }})
}

fn with_reason(kind: &str) -> Value {
    json!({kind: {"person_id": ANN, "reason": "moved"}})
}

/// The command with one member set; `path` leads there from inside the command, and what lacks on the way is made.
fn with(mut command: Value, path: &str, value: Value) -> Value {
    let mut place = command.as_object_mut().unwrap().values_mut().next().unwrap();
    for step in path.split('.') {
        place = &mut place[step];
    }
    *place = value;
    command
}

fn accepted(json: Value) -> Command {
    let said = json.to_string();
    command(json).validated().unwrap_or_else(|invalid| panic!("{invalid} in {said}"))
}

fn refused(json: Value) -> Invalid {
    command(json).validated().unwrap_err()
}

fn x(count: usize) -> String {
    "é".repeat(count)
}

/// A value of one part of a command that is just allowed, one that is not, and what is said of it.
fn check(sent: Value, path: &str, allowed: Value, forbidden: Value, field: &str, problem: &str) {
    accepted(with(sent.clone(), path, allowed));
    let expected = Invalid { field: field.to_owned(), problem: problem.to_owned() };
    assert_eq!(refused(with(sent, path, forbidden)), expected);
}

#[test]
fn a_name_has_a_given_or_a_family_name_none_of_them_blank() {
    let path = "name.components";
    let need = "must have at least one given or family name";
    check(create(), path, json!({"given_names": ["A"]}), json!({"prefixes": ["Dr."]}), path, need);
    check(create(), path, json!({"family_names": ["A"]}), json!({"patronymic": "A"}), path, need);
    for list in ["given_names", "family_names", "prefixes", "suffixes"] {
        let field = format!("{path}.{list}[1]");
        let path = format!("{path}.{list}");
        check(create(), &path, json!(["A", "B"]), json!(["A", " \u{3000}"]), &field, "must not be blank");
        check(create(), &path, json!(["A", x(256)]), json!(["A", x(257)]), &field, "must have at most 256 characters");
        let many = |count| json!(vec!["A"; count]);
        check(create(), &path, many(32), many(33), &path, "must have at most 32 components");
    }
    for part in ["patronymic", "matronymic"] {
        let path = format!("{path}.{part}");
        check(create(), &path, json!("A"), json!(""), &path, "must not be blank");
        check(create(), &path, json!(x(256)), json!(x(257)), &path, "must have at most 256 characters");
    }
    let preferred = "name.preferred_form";
    check(create(), preferred, json!("A"), json!(" "), preferred, "must not be blank");
    check(create(), preferred, json!(x(4096)), json!(x(4097)), preferred, "must have at most 4096 characters");
}

#[test]
fn a_name_may_be_in_any_script_and_is_brought_into_normal_form_c() {
    let cases = [
        ("Zoe\u{308}", "Zoë"),
        ("Å\u{301}ngstro\u{308}m", "Ǻngström"),
        ("\u{1100}\u{1161}\u{11a8}", "각"),
        ("\u{304b}\u{3099}", "が"),
        ("Nguye\u{302}\u{303}n", "Nguyễn"),
        ("\u{212b}", "Å"),
        ("محمد", "محمد"),
        ("राम", "राम"),
        ("山田", "山田"),
        ("O’Neil-O'Brien", "O’Neil-O'Brien"),
        ("ﬁ", "ﬁ"),
    ];
    for (sent, stored) in cases {
        let mut json = with(create(), "name.components.patronymic", json!(sent));
        json = with(json, "name.preferred_form", json!(sent));
        json = with(json, "name.components.given_names", json!([sent, sent]));
        let Command::CreatePerson { name, .. } = accepted(json) else { panic!("another command") };
        assert_eq!(name.components.given_names, [stored.into(), stored.into()].into());
        assert_eq!(name.components.patronymic.as_deref(), Some(stored));
        assert_eq!(name.preferred_form.as_deref(), Some(stored));
    }
}

#[test]
fn the_limit_of_a_name_holds_for_its_normal_form() {
    let given_names = "name.components.given_names";
    accepted(with(create(), given_names, json!(["e\u{301}".repeat(256)])));
    // One character that becomes two: its composed form is excluded from normal form C.
    let grows = refused(with(create(), given_names, json!(["\u{958}".repeat(129)])));
    assert_eq!(grows.problem, "must have at most 256 characters");
}

#[test]
fn source_and_reason_say_something_in_256_characters() {
    let rules = |sent: Value, field: &str| {
        check(sent.clone(), field, json!("a"), json!("\t "), field, "must not be blank");
        check(sent.clone(), field, json!("a"), json!(""), field, "must not be blank");
        check(sent.clone(), field, json!(x(256)), json!(x(257)), field, "must have at most 256 characters");
        check(sent, field, json!("a b"), json!("a\nb"), field, "must not contain control characters");
    };
    rules(create(), "source");
    rules(with_reason("DeactivatePerson"), "reason");
    rules(with_reason("ReactivatePerson"), "reason");
    rules(with_reason("ArchivePerson"), "reason");
    let name = json!({"components": {"given_names": ["Ann"]}});
    rules(json!({"UpdateName": {"person_id": ANN, "name": name}}), "reason");
    let national_id = json!({"Identifying": "NationalId"});
    rules(json!({"InvalidateAttribute": {"person_id": ANN, "attribute_type": national_id}}), "reason");
}

#[test]
fn every_other_string_has_4096_characters_and_no_control_characters() {
    let paths = [
        "attribute.value.Text",
        "attribute.attribute_type.Custom.organization",
        "attribute.attribute_type.Custom.attribute_name",
        "attribute.attribute_type.Custom.category",
        "attribute.provenance.recorded_by",
    ];
    for path in paths {
        let field = path.replace(".Text", "").replace(".Custom", "");
        check(record(), path, json!(x(4096)), json!(x(4097)), &field, "must have at most 4096 characters");
        for control in ["\u{0}", "a\u{1f}", "\u{7f}b", "\u{85}"] {
            check(record(), path, json!(""), json!(control), &field, "must not contain control characters");
        }
    }
    let limited = |path: &str, value: &dyn Fn(String) -> Value, field: &str| {
        check(record(), path, value(x(4096)), value(x(4097)), field, "must have at most 4096 characters");
        check(record(), path, value(x(1)), value("\r".to_owned()), field, "must not contain control characters");
    };
    limited("attribute.value", &|text| json!({"LocationReference": text}), "attribute.value");
    limited("attribute.value", &|text| json!({"TextList": ["a", text]}), "attribute.value[1]");
    let source = "attribute.provenance.source";
    limited(source, &|text| json!({"Imported": {"system": text}}), "attribute.provenance.source.system");
    let entry = |what: &str, text: String| {
        let mut entry = json!({"transformation": "t", "applied_at": "2020-01-01T00:00:00Z", "applied_by": "b"});
        entry[what] = json!(text);
        json!([entry])
    };
    for what in ["transformation", "applied_by"] {
        let field = format!("attribute.provenance.trace[0].{what}");
        limited("attribute.provenance.trace", &|text| entry(what, text), &field);
    }
    let custom = json!({"Custom": {"organization": "\n", "attribute_name": "", "category": ""}});
    let of_custom = refused(json!({"InvalidateAttribute": {"person_id": ANN, "attribute_type": custom}}));
    assert_eq!(of_custom.field, "attribute_type.organization");
}

#[test]
fn lists_are_bounded() {
    let items = |count| json!({"TextList": vec![""; count]});
    check(record(), "attribute.value", items(256), items(257), "attribute.value", "must have at most 256 items");
    let entry = json!({"transformation": "t", "applied_at": "2020-01-01T00:00:00Z", "applied_by": "b"});
    let trace = |count| json!(vec![entry.clone(); count]);
    let path = "attribute.provenance.trace";
    check(record(), path, trace(32), trace(33), path, "must have at most 32 entries");
}

#[test]
fn numbers_keep_to_their_rules() {
    let numbers = |allowed: &[Value], forbidden: &[Value], problem: &str| {
        for (allowed, forbidden) in allowed.iter().cycle().zip(forbidden) {
            check(record(), "attribute.value", allowed.clone(), forbidden.clone(), "attribute.value", problem);
        }
        allowed.iter().for_each(|value| drop(accepted(with(record(), "attribute.value", value.clone()))));
    };
    let years =
        [json!({"Year": 1}), json!({"Year": 9999}), json!({"YearMonth": [1, 1]}), json!({"YearMonth": [9999, 12]})];
    let no_years = [
        json!({"Year": 0}),
        json!({"Year": 10_000}),
        json!({"Year": -1}),
        json!({"Year": i64::MAX}),
        json!({"YearMonth": [0, 1]}),
    ];
    numbers(&years, &no_years, "the year must be 1 to 9999");
    let no_months =
        [json!({"YearMonth": [2000, 0]}), json!({"YearMonth": [2000, 13]}), json!({"YearMonth": [2000, -1]})];
    numbers(&years, &no_months, "the month must be 1 to 12");
    let measures = [json!({"Length": 0.001}), json!({"Mass": 700}), json!({"Length": 1e300})];
    let no_measures = [json!({"Length": 0}), json!({"Mass": -0.0}), json!({"Mass": -1})];
    numbers(&measures, &no_measures, "must be above zero");
    numbers(&[json!({"Number": -1e300}), json!({"Integer": i64::MIN})], &[], "");
}

#[test]
fn numbers_are_finite() {
    let custom = attribute(
        serde_json::from_value(json!({"Custom": {"organization": "", "attribute_name": "", "category": ""}})).unwrap(),
        AttributeValue::Boolean(true),
    );
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for value in [AttributeValue::Number(number), AttributeValue::Length(number), AttributeValue::Mass(number)] {
            let attribute = cim_domain_person::domain::Attribute { value, ..custom.clone() };
            let invalid = Command::RecordAttribute { person_id: id(ANN), attribute }.validated().unwrap_err();
            assert_eq!(invalid.problem, "must be a finite number");
        }
    }
}

#[test]
fn zero_has_one_form() {
    let command = accepted(with(record(), "attribute.value", json!({"Number": -0.0})));
    assert!(serde_json::to_string(&command).unwrap().contains(r#"{"Number":0.0}"#));
}

#[test]
fn json_is_bounded_as_a_whole_and_in_depth_alone() {
    let of = |value: Value| json!({"Json": value});
    let path = "attribute.value";
    let bytes = "must have at most 16384 bytes as compact JSON";
    // Two quotes belong to the text.
    check(record(), path, of(json!("x".repeat(16_382))), of(json!("x".repeat(16_383))), path, bytes);
    let nested = |levels: usize| (1..levels).fold(json!([]), |inner, _| json!([inner]));
    check(record(), path, of(nested(100)), of(nested(101)), path, "must not be nested more than 100 levels deep");
    let members = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({"a": 1, "b": inner}));
    check(record(), path, of(members(100)), of(members(101)), path, "must not be nested more than 100 levels deep");
    accepted(with(record(), path, of(json!({"\n": "\u{0}", "many": vec![0; 1000], "": null}))));
}

#[test]
fn a_value_is_of_a_kind_that_its_type_takes() {
    let of = |attribute_type: Value| with(record(), "attribute.attribute_type", attribute_type);
    let height = of(json!({"Physical": "Height"}));
    let problem = "Physical.Height takes Length, not Integer";
    check(height, "attribute.value", json!({"Length": 1.8}), json!({"Integer": 2}), "attribute.value", problem);
    let born = of(json!({"Identifying": "ApproximateBirthDate"}));
    let problem = "Identifying.ApproximateBirthDate takes ApproximateDate or YearMonth or Year, not Text";
    check(born, "attribute.value", json!({"Year": 1950}), json!({"Text": "1950"}), "attribute.value", problem);
}

#[test]
fn a_period_ends_no_earlier_than_it_begins() {
    let period = |from: &str, until: &str| json!({"valid_from": from, "valid_until": until});
    let (empty, negative) = (period("2020-01-01", "2020-01-01"), period("2020-01-02", "2020-01-01"));
    let field = "attribute.temporal.valid_until";
    check(record(), "attribute.temporal", empty, negative, field, "must not be before valid_from");
}

#[test]
fn a_time_of_recording_that_is_sent_is_ignored() {
    let sent = with(record(), "attribute.temporal.recorded_at", json!("1999-01-01T00:00:00Z"));
    assert_eq!(accepted(sent), accepted(record()));
}

#[test]
fn a_merge_has_two_sides() {
    let sent =
        json!({"MergePersons": {"source_person_id": ANN, "target_person_id": BOB, "merge_reason": "UserRequested"}});
    let problem = "must not be the same as source_person_id";
    check(sent, "target_person_id", json!(BOB), json!(ANN.to_uppercase()), "target_person_id", problem);
}

#[test]
fn an_update_keeps_the_type() {
    let new_attribute = national_id("1", "", "");
    let attribute_type = serde_json::from_value(json!({"Identifying": "BirthPlace"})).unwrap();
    let invalid = Command::UpdateAttribute { person_id: id(ANN), attribute_type, new_attribute: new_attribute.clone() }
        .validated()
        .unwrap_err();
    assert_eq!(invalid.to_string(), "new_attribute.attribute_type: must be the same as attribute_type");
    let update = Command::UpdateAttribute { person_id: id(ANN), attribute_type: NATIONAL_ID, new_attribute };
    assert_eq!(update.clone().validated(), Ok(update));
}
