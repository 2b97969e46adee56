//! A field of a stream's configuration that is not as it has to be, and what mends it.

use std::fmt;

use serde_json::Value;

use crate::wire::salt::IdentifierSalt;

/// How the names of the members begin that nats-server adds to a stream's metadata.
pub(super) const OF_THE_SERVER: &str = "_nats.";

/// A field of a stream's configuration with which commits would be lost, damaged or not found, or clients misled.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Its name in the configuration.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
    /// What it is to be set to, `null` to take it away; `None` where nats-server does not let anybody change it on a
    /// stream that is there.
    pub cure: Option<Value>,
}

impl Fault {
    pub(super) fn curable(field: &'static str, why: impl Into<String>, cure: Value) -> Self {
        Self { field, why: why.into(), cure: Some(cure) }
    }

    pub(super) fn for_good(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into(), cure: None }
    }

    /// What to do about it.
    pub fn advice(&self) -> String {
        let field = self.field;
        match &self.cure {
            Some(Value::Null) => format!("take {field} away"),
            Some(metadata @ Value::Object(_)) if field == "metadata" => {
                let name = IdentifierSalt::METADATA;
                format!("set {name} in {field} to {}", metadata.get(name).unwrap_or(&Value::Null))
            }
            Some(value) => format!("set {field} to {value}"),
            None => format!("nats-server does not change {field} on a stream that is there: that takes a new stream"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.why, self.advice())
    }
}

/// The configuration that is there, with every fault mended and all else as it is; `None` where that takes a new stream.
pub(super) fn mended(found: &Value, faults: &[Fault]) -> Option<Value> {
    let cures = faults.iter().map(|fault| Some((fault.field, fault.cure.as_ref()?)));
    changed(found, cures.collect::<Option<Vec<_>>>()?)
}

/// The configuration that is there, without what the server notes for itself in it, with these fields set, or taken away where
/// they are to be `null`; `None` where it is none.
pub(super) fn changed<'a>(found: &Value, fields: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Option<Value> {
    let mut members = found.as_object()?.clone();
    if let Some(metadata) = members.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| !name.starts_with(OF_THE_SERVER));
    }
    for (field, value) in fields {
        match value {
            Value::Null => drop(members.remove(field)),
            value => drop(members.insert(field.to_owned(), value.clone())),
        }
    }
    Some(Value::Object(members))
}
