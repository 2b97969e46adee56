//! Names, attribute types and values in short, from their JSON: also those of a release later than this one, which are
//! then shown as they are.

use serde_json::Value;

use crate::cli::output::harmless;
use crate::domain::{DisplayNames, PersonName};

/// The member of this name, or of these, from the outside in, with dots between them; null where there is none.
pub fn at<'a>(json: &'a Value, path: &str) -> &'a Value {
    path.split('.').try_fold(json, |json, name| json.get(name)).unwrap_or(&Value::Null)
}

/// `{"Physical":"Height"}` as `Physical.Height`; a custom type as `organization/attribute_name`.
pub fn attribute_type(json: &Value) -> String {
    let Some((group, inner)) = single_member(json) else { return compact(json) };
    match inner {
        Value::String(name) => format!("{}.{}", harmless(group), harmless(name)),
        Value::Object(_) if group == "Custom" => {
            format!("{}/{}", text(at(inner, "organization")), text(at(inner, "attribute_name")))
        }
        _ => compact(json),
    }
}

/// `{"Length":1.7}` as `1.7 m`, and so on.
pub fn attribute_value(json: &Value) -> String {
    let Some((kind, inner)) = single_member(json) else { return compact(json) };
    match (kind, inner) {
        ("Length", number) => format!("{number} m"),
        ("Mass", number) => format!("{number} kg"),
        ("YearMonth", Value::Array(parts)) => match parts.as_slice() {
            [year, month] => format!("{:04}-{:02}", year.as_i64().unwrap_or(0), month.as_i64().unwrap_or(0)),
            _ => compact(inner),
        },
        ("ApproximateDate", _) => format!("{} ({})", text(at(inner, "date")), text(at(inner, "precision"))),
        ("TextList", Value::Array(items)) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        ("Json", _) => compact(inner),
        _ => text(inner),
    }
}

/// The period in which an attribute holds.
pub fn validity(temporal: &Value) -> String {
    match (at(temporal, "valid_from").as_str(), at(temporal, "valid_until").as_str()) {
        (None, None) => "always".to_owned(),
        (Some(from), None) => format!("from {}", harmless(from)),
        (None, Some(until)) => format!("before {}", harmless(until)),
        (Some(from), Some(until)) => format!("from {}, before {}", harmless(from), harmless(until)),
    }
}

/// Where a value comes from: `{"Imported":{"system":"crm"}}` as `Imported (crm)`.
pub fn source(json: &Value) -> String {
    match single_member(json) {
        Some((kind, inner)) => format!("{} ({})", harmless(kind), text(at(inner, "system"))),
        None => text(json),
    }
}

/// A name as in commands, written formally.
pub fn name(json: &Value) -> String {
    match serde_json::from_value::<PersonName>(json.clone()) {
        Ok(name) => harmless(&DisplayNames::of(&name).formal).into_owned(),
        Err(_) => compact(json),
    }
}

/// Text as it is, and anything else as JSON.
pub fn text(json: &Value) -> String {
    match json {
        Value::String(text) => harmless(text).into_owned(),
        Value::Null => String::new(),
        _ => compact(json),
    }
}

/// A time without the fractions of its second.
pub fn time(json: &Value) -> String {
    let text = text(json);
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

fn single_member(json: &Value) -> Option<(&str, &Value)> {
    let mut members = json.as_object()?.iter();
    let (name, inner) = members.next()?;
    members.next().is_none().then_some((name.as_str(), inner))
}

fn compact(json: &Value) -> String {
    harmless(&json.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_and_values_are_shown_in_short() {
        assert_eq!(attribute_type(&json!({"Physical": "Height"})), "Physical.Height");
        let custom = json!({"Custom": {"organization": "acme", "attribute_name": "badge", "category": "hr"}});
        assert_eq!(attribute_type(&custom), "acme/badge");
        for (value, shown) in [
            (json!({"Length": 1.7}), "1.7 m"),
            (json!({"Mass": 60.0}), "60.0 kg"),
            (json!({"Text": "a\nb"}), "a\\nb"),
            (json!({"Boolean": true}), "true"),
            (json!({"YearMonth": [815, 1]}), "0815-01"),
            (json!({"ApproximateDate": {"date": "1815-12-10", "precision": "Year"}}), "1815-12-10 (Year)"),
            (json!({"TextList": ["nuts", "milk"]}), "nuts, milk"),
            (json!({"Json": {"a": [1]}}), "{\"a\":[1]}"),
            (json!({"FromLater": {"x": 1}}), "{\"x\":1}"),
        ] {
            assert_eq!(attribute_value(&value), shown);
        }
    }

    #[test]
    fn periods_are_half_open() {
        for (temporal, shown) in [
            (json!(null), "always"),
            (json!({"recorded_at": "x"}), "always"),
            (json!({"valid_from": "2020-01-01"}), "from 2020-01-01"),
            (json!({"valid_until": "2021-01-01"}), "before 2021-01-01"),
            (json!({"valid_from": "2020-01-01", "valid_until": "2021-01-01"}), "from 2020-01-01, before 2021-01-01"),
        ] {
            assert_eq!(validity(&temporal), shown);
        }
    }
}
