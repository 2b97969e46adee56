//! Which subjects may be written to: the spelling of any, and the rule for where replies go.
//!
//! The client writes a subject into the protocol as it is: a line break in one would inject protocol lines, and a white
//! space of any script would cut one in two on the reader's side. And NATS does not check a reply subject against the
//! rights of the one who asked for the reply, so a reply to anywhere would let a stranger write with the service's.

/// The longest subject that is written to, in bytes. The server takes 4,096 for a whole protocol line.
const SUBJECT_BYTES_MAX: usize = 1024;

/// Whether the text is a subject that one message can be sent to: tokens that are not empty, between dots, with
/// neither wildcard nor white space nor control character.
pub(super) fn is_literal_subject(text: &str) -> bool {
    if text.len() > SUBJECT_BYTES_MAX {
        return false;
    }
    if text.is_ascii() {
        // Nearly every subject; each message is checked twice, so it is worth a shorter way, which looks at many
        // characters at once.
        let harmless = |byte: u8| byte.is_ascii_graphic() & (byte != b'*') & (byte != b'>');
        let empty_token = text.is_empty() || text.starts_with('.') || text.ends_with('.') || text.contains("..");
        return !empty_token && text.bytes().fold(true, |so_far, byte| so_far & harmless(byte));
    }
    let harmless = |c: char| !c.is_whitespace() && !c.is_control() && c != '*' && c != '>';
    text.split('.').all(|token| !token.is_empty()) && text.chars().all(harmless)
}

/// Whether a literal subject is one of those that the pattern stands for; of another pattern, whether all that it stands
/// for are.
pub(super) fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", rest) => return rest.is_some(),
            ("*", Some(token)) if token != ">" => {}
            (literal, Some(token)) if literal == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Where replies may go.
#[derive(Debug, Clone)]
pub struct ReplyRule {
    patterns: Vec<String>,
}

impl ReplyRule {
    /// The rule that allows what one of these NATS subject patterns stands for.
    pub fn new(patterns: &[String]) -> Self {
        Self { patterns: patterns.to_vec() }
    }

    /// Whether a reply may go to this subject.
    pub fn allows(&self, reply: &str) -> bool {
        is_literal_subject(reply) && self.patterns.iter().any(|pattern| covers(pattern, reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inboxes_and_nothing_else() {
        let rule = ReplyRule::new(&["_INBOX.>".to_owned(), "_R_.>".to_owned()]);
        let long = format!("_INBOX.{}", "x".repeat(SUBJECT_BYTES_MAX));
        for (reply, allowed) in [
            ("_INBOX.abc", true),
            ("_INBOX.abc.1", true),
            ("_R_.abc.1.2", true),
            ("_INBOX", false),
            ("_INBOX.", false),
            ("_INBOX..a", false),
            ("_INBOX.a.", false),
            ("_INBOX.>", false),
            ("_INBOX.*.a", false),
            ("_INBOX.a b", false),
            ("_INBOX.a\u{a0}b", false),
            ("_INBOX.a\r\nPUB x 0", false),
            ("_INBOX.a\u{7f}", false),
            ("_inbox.a", false),
            ("person.events.x", false),
            ("$JS.API.STREAM.DELETE.PERSON_EVENTS", false),
            ("", false),
            (&long, false),
        ] {
            assert_eq!(rule.allows(reply), allowed, "{reply:?}");
        }
    }

    #[test]
    fn patterns_cover_as_in_nats() {
        for (pattern, subject, covered) in [
            (">", "a", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("*.b", "a.b", true),
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.b.c", "a.b", false),
            ("a.*", "a.>", false),
            ("a.>", "a.*", true),
            ("a.*", "a.*", true),
            ("a.b", "a.*", false),
            ("a", "a.b", false),
        ] {
            assert_eq!(covers(pattern, subject), covered, "{pattern} {subject}");
        }
    }
}
