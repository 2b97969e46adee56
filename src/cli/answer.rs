//! What the service answers, as a client reads it: leniently, for the service may be of a later release.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::output::harmless;

/// An answer to a command or a query.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The bytes as they came.
    pub json: Vec<u8>,
    /// The same, decoded.
    pub value: Value,
    /// What it says.
    pub status: Status,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// `ok` or `accepted`.
    Yes,
    /// `rejected` or `failed`.
    No(Problem),
}

/// Why it is no.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Problem {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether the same may be answered differently later.
    #[serde(default)]
    pub retryable: bool,
    /// In an array of commands, which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The person into whom the one asked for was merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
}

impl Answer {
    /// Reads an answer; `None` for what is none of this service's.
    pub fn read(json: Vec<u8>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            status: String,
            error: Option<Problem>,
        }
        let value: Value = serde_json::from_slice(&json).ok()?;
        let envelope = Envelope::deserialize(&value).ok()?;
        let status = match (envelope.status.as_str(), envelope.error) {
            ("ok" | "accepted", _) => Status::Yes,
            ("rejected" | "failed", Some(problem)) => Status::No(problem),
            _ => return None,
        };
        Some(Self { json, value, status })
    }

    /// A member that is text.
    pub fn text(&self, member: &str) -> &str {
        self.value.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    /// A member that is a number.
    pub fn number(&self, member: &str) -> Option<u64> {
        self.value.get(member).and_then(Value::as_u64)
    }
}

/// Code and message. Neither names a person: the service's messages tell fields and rules.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", harmless(&self.code), harmless(&self.message))?;
        if let Some(index) = self.index {
            write!(f, " (command {index} of the array, counted from 0)")?;
        }
        // The id itself has no place in an error line.
        f.write_str(if self.moved_to.is_some() { "; --json shows into whom" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_anything_else_is_none() {
        let status = |json: &str| Answer::read(json.as_bytes().to_vec()).map(|answer| answer.status);
        assert_eq!(status(r#"{"status":"ok","version":1,"later":[]}"#), Some(Status::Yes));
        assert_eq!(status(r#"{"status":"accepted"}"#), Some(Status::Yes));
        let Some(Status::No(problem)) = status(
            r#"{"status":"rejected","error":{"code":"invalid","message":"name: no","retryable":false,"index":2}}"#,
        ) else {
            panic!("a refusal")
        };
        assert_eq!(problem.to_string(), "invalid: name: no (command 2 of the array, counted from 0)");
        for other in ["", "7", "{}", r#"{"status":"failed"}"#, r#"{"status":"perhaps"}"#] {
            assert_eq!(status(other), None, "{other}");
        }
    }
}
