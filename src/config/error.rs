//! A configuration that cannot be used, in one line for the person who has to mend it.

use std::ffi::OsStr;

/// Characters of a bad value that are shown; more would only push the explanation out of sight.
const SHOWN_CHARS_MAX: usize = 200;

/// A value that is not allowed, a file that cannot be read, or options that exclude each other.
///
/// Nobody chooses by its kind, so it has none: it says which option, what was given, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; allowed: {allowed}")]
pub struct ConfigError {
    what: String,
    allowed: String,
}

impl ConfigError {
    /// A bad value that may be shown.
    pub(crate) fn value(option: &'static str, given: &OsStr, allowed: impl Into<String>) -> Self {
        Self::new(format!("{} is {}", named(option), shown(given)), allowed)
    }

    /// A bad value that is, or may hold, a secret: what is wrong is said in words.
    pub(crate) fn secret(option: &'static str, wrong: &str, allowed: impl Into<String>) -> Self {
        Self::new(format!("{} {wrong}", named(option)), allowed)
    }

    /// A file that cannot be used.
    pub(crate) fn file(option: &'static str, path: &OsStr, wrong: &str) -> Self {
        Self::new(format!("{} is {}, {wrong}", named(option), shown(path)), "a file that this user can read")
    }

    /// A file that cannot be written.
    pub(crate) fn unwritable(option: &'static str, path: &OsStr, error: &std::io::Error) -> Self {
        let what = format!("{} is {}, which cannot be written ({error})", named(option), shown(path));
        Self::new(what, "a file in a folder in which this user can write")
    }

    /// An address that cannot be listened on.
    pub(crate) fn address(option: &'static str, address: std::net::SocketAddr, error: &std::io::Error) -> Self {
        let what = format!("{} is \"{address}\", which cannot be listened on ({error})", named(option));
        Self::new(what, "an address of this machine and a port that this user can listen on, such as 127.0.0.1:9464")
    }

    /// An option that needs another.
    pub(crate) fn alone(option: &'static str, other: &'static str) -> Self {
        Self::new(format!("{} is given without {}", named(option), named(other)), "both or neither")
    }

    /// Options that exclude each other.
    pub(crate) fn together(options: &[&'static str], allowed: impl Into<String>) -> Self {
        let names: Vec<String> = options.iter().map(|option| named(option)).collect();
        Self::new(format!("{} are given together", names.join(" and ")), allowed)
    }

    fn new(what: String, allowed: impl Into<String>) -> Self {
        Self { what, allowed: allowed.into() }
    }
}

/// An option under both its names, for whoever typed either.
fn named(option: &str) -> String {
    format!("{option} (--{})", option.to_ascii_lowercase().replace('_', "-"))
}

/// The value in quotes, control characters escaped.
fn shown(given: &OsStr) -> String {
    let text = given.to_string_lossy();
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{start:?}...")
}
