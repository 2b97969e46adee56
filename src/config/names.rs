//! Names that NATS knows things by: the stream, the domain, subjects and patterns of subjects.
//!
//! What NATS would let pass is not enough here: a stream's name becomes part of a bucket's name and of subjects, and the
//! client does not look at the subjects that it is given, so that a space or a line end would change the protocol line.

use std::ffi::OsStr;

use super::ConfigError;
use super::value::text;

/// The longest stream name, in characters: the server allows 255, and `KV_<name>_SNAPSHOTS` must fit.
const NAME_CHARS_MAX: usize = 200;
/// The longest subject prefix, in characters: the server's line of 4,096 bytes has a long reply subject to hold, too.
const PREFIX_CHARS_MAX: usize = 200;
/// The longest pattern for replies, in characters.
const PATTERN_CHARS_MAX: usize = 200;
/// Patterns for replies, all of which a request may be compared with.
const PATTERN_LEN_MAX: usize = 32;

const NAME_ALLOWED: &str = "1 to 200 letters, digits, _ and -";
const PREFIX_ALLOWED: &str = "tokens of visible ASCII separated by single dots, at most 200 characters, without wildcards, \
                              not beginning with $ or _";
const PATTERNS_ALLOWED: &str = "1 to 32 subject patterns separated by commas, such as _INBOX.>, none beginning with a \
                                wildcard or $, none covering the service's own subjects";

/// The name of a stream or a domain: what a bucket's name may have in it, and nothing that means something in a subject.
pub(super) fn name(option: &'static str, given: &OsStr) -> Result<String, ConfigError> {
    let name = text(option, given, NAME_ALLOWED)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.len() <= NAME_CHARS_MAX && name.bytes().all(allowed) {
        return Ok(name.to_owned());
    }
    Err(ConfigError::value(option, given, NAME_ALLOWED))
}

/// The first tokens of the service's subjects.
pub(super) fn prefix(option: &'static str, given: &OsStr) -> Result<String, ConfigError> {
    let prefix = text(option, given, PREFIX_ALLOWED)?;
    // `$` and `_` begin the subjects of the server and of inboxes: commands sent there would not be ours to take.
    let reserved = prefix.starts_with(['$', '_']);
    let sound = prefix.len() <= PREFIX_CHARS_MAX && prefix.split('.').all(literal);
    if sound && !reserved {
        return Ok(prefix.to_owned());
    }
    Err(ConfigError::value(option, given, PREFIX_ALLOWED))
}

/// Where replies may go. One that covered `$JS.API.>` or the service's own subjects would let a stranger write there with
/// the service's rights, by naming it as the reply subject.
pub(super) fn reply_patterns(option: &'static str, given: &OsStr, prefix: &str) -> Result<Vec<String>, ConfigError> {
    let refused = || ConfigError::value(option, given, PATTERNS_ALLOWED);
    let patterns: Vec<String> =
        text(option, given, PATTERNS_ALLOWED)?.split(',').map(|p| p.trim().to_owned()).collect();
    let own = format!("{prefix}.>");
    let harmless = |pattern: &String| sound_pattern(pattern) && !pattern.starts_with('$') && !overlap(pattern, &own);
    if patterns.len() <= PATTERN_LEN_MAX && patterns.iter().all(harmless) { Ok(patterns) } else { Err(refused()) }
}

/// A pattern by NATS's rules whose first token is literal.
fn sound_pattern(pattern: &str) -> bool {
    let (begin, last) = pattern.rsplit_once('.').unwrap_or((pattern, ""));
    let mut begin = begin.split('.');
    let first_literal = begin.next().is_some_and(literal);
    let last_sound = last == ">" || last == "*" || literal(last) || !pattern.contains('.');
    pattern.len() <= PATTERN_CHARS_MAX
        && first_literal
        && last_sound
        && begin.all(|token| token == "*" || literal(token))
}

/// A token that stands for itself.
fn literal(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>' | b'.'))
}

/// Whether one subject can match both patterns.
pub fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_where_one_subject_matches_both() {
        let cases = [
            ("a.>", "a.b", true),
            ("a.>", "a", false),
            ("a", "a", true),
            ("a.*", "a.b.c", false),
            ("a.*.c", "a.b.>", true),
            ("_INBOX.>", "person.>", false),
            ("person", "person.>", false),
            ("person.replies.*", "person.>", true),
            ("person.*", "person.eu.>", false),
        ];
        for (one, other, expected) in cases {
            assert_eq!(overlap(one, other), expected, "{one} and {other}");
            assert_eq!(overlap(other, one), expected, "{other} and {one}");
        }
    }
}
