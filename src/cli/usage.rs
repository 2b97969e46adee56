//! What was typed and not understood, in one line that says what would be right.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// clap's explanation and its tip, without the usage below them, which would be the last thing to be read. What was typed
/// for a client is left out: it may be somebody's name or birthday on its way into a log.
pub fn in_one_line(error: &clap::Error, client: Option<&str>) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    let said = said.join("; ").replace(":; ", ": ");
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    match client {
        None => format!("{said}; allowed: what 'person-service --help' lists"),
        Some(client) => {
            let command = command_of(&text).unwrap_or_else(|| format!("person-service {client}"));
            format!("{}; allowed: what '{command} --help' lists", without_values(said, error))
        }
    }
}

/// The command whose usage is shown, such as `person-service send create`.
fn command_of(text: &str) -> Option<String> {
    let usage = text.lines().find_map(|line| line.trim().strip_prefix("Usage:"))?;
    let is_name = |word: &&str| word.starts_with(char::is_lowercase);
    let words: Vec<&str> = usage.split_whitespace().take_while(is_name).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn without_values(said: &str, error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let value = match error.kind() {
        ErrorKind::UnknownArgument => text(ContextKind::InvalidArg).filter(|argument| !argument.starts_with('-')),
        _ => text(ContextKind::InvalidValue),
    };
    match value.filter(|value| !value.is_empty()) {
        Some(value) => said.replace(&format!("'{value}'"), "(not shown)"),
        None => said.to_owned(),
    }
}
