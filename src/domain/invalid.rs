//! What is wrong with a command that decodes but breaks a rule: the place, the rule, never the value.
//!
//! A check knows nothing of where its value stands; each level that the error passes on its way out puts its own name
//! in front ([`Within`]).

use std::fmt;

use super::limits::STRING_CHARS_MAX;

/// A value that breaks a rule or a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The path of the value inside its command, such as `name.components.given_names[0]`.
    pub field: String,
    /// The rule, and the limit with its unit. Never the value, which may be personal.
    pub problem: String,
}

impl Invalid {
    /// A problem with the value at hand itself.
    pub(super) fn here(problem: impl Into<String>) -> Self {
        Self { field: String::new(), problem: problem.into() }
    }

    /// A problem with one member of the value at hand.
    pub(super) fn at(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.to_owned(), problem: problem.into() }
    }
}

/// Says where a problem stands, seen from one level further out.
pub(super) trait Within {
    /// Puts a member's name, or an index such as `[3]`, in front of the path.
    fn within(self, parent: impl fmt::Display) -> Self;
}

impl<T> Within for Result<T, Invalid> {
    fn within(self, parent: impl fmt::Display) -> Self {
        self.map_err(|invalid| Invalid { field: joined(&parent, &invalid.field), ..invalid })
    }
}

/// A path one level longer.
pub(super) fn joined(parent: &impl fmt::Display, child: &str) -> String {
    let dot = if child.is_empty() || child.starts_with('[') { "" } else { "." };
    format!("{parent}{dot}{child}")
}

/// A string without a limit of its own.
pub(super) fn check_text(text: &str) -> Result<(), Invalid> {
    check_characters(text, STRING_CHARS_MAX)
}

/// A string that must say something.
pub(super) fn check_not_blank(text: &str, chars_max: usize) -> Result<(), Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::here("must not be blank"));
    }
    check_characters(text, chars_max)
}

/// A list that must not be longer than `max` of what `unit` names.
pub(super) fn check_length<T>(list: &[T], max: usize, unit: &str) -> Result<(), Invalid> {
    if list.len() > max {
        return Err(Invalid::here(format!("must have at most {max} {unit}")));
    }
    Ok(())
}

fn check_characters(text: &str, chars_max: usize) -> Result<(), Invalid> {
    if text.chars().nth(chars_max).is_some() {
        return Err(Invalid::here(format!("must have at most {chars_max} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::here("must not contain control characters"));
    }
    Ok(())
}
