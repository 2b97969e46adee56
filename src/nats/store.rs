//! The store's side: publishing what is known to be sendable.
//!
//! The client says `Ok` to a payload that is too large, and the server then cuts the connection with all that is under
//! way on it. It says `Ok` on a connection whose server has fallen silent, until the socket is full and it hangs. It
//! writes line breaks in headers and subjects into the protocol as they are. All that is checked before, here.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::connection::Connection;
use super::health::Health;
use super::in_flight::InFlight;
use super::inbox::Inbox;
use super::replies::is_literal_subject;

/// On a connection that has been mute for longer, nothing is sent.
const MUTE_MAX: Duration = Duration::from_millis(1500);

/// The line that begins a block of headers, and the line break that ends it.
const HEADER_FRAME_BYTES: usize = "NATS/1.0\r\n\r\n".len();

/// The colon and the line break of each header.
const HEADER_EXTRA_BYTES: usize = ":\r\n".len();

/// Set aside for the headers of a stored message, in bytes: 256 event types with their commas, and the rest.
const STORED_HEADER_BYTES_MAX: usize = 8 * 1024;

/// Set aside for the JSON around a message that a stream's leader shows.
const SHOWN_FRAME_BYTES_MAX: usize = 4 * 1024;

/// Why a message was not sent. Not a byte of it that the server would act on has left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// There is no connection at the moment.
    #[error("NATS is away")]
    Away,
    /// There is one, and nothing comes back on it.
    #[error("NATS has been mute for {} ms", .0.as_millis())]
    Mute(Duration),
    /// The server takes no message as large as this.
    #[error("a message of {bytes} bytes is larger than the server's max_payload of {bytes_max}")]
    TooLarge {
        /// Payload and headers.
        bytes: usize,
        /// What the server takes.
        bytes_max: usize,
    },
    /// The subject, the reply subject or a header has a form that would break the protocol.
    #[error("the {0} is malformed")]
    Malformed(&'static str),
    /// The answer may be large, and there is no room for it beside what is on its way already.
    #[error("too much is being read at once")]
    NoRoom,
}

/// The store connection, shared by all that append, read or reply.
#[derive(Debug, Clone)]
pub struct Store {
    connection: Arc<Connection>,
    in_flight: Arc<InFlight>,
    /// How many inboxes there are.
    inboxes: Arc<AtomicUsize>,
}

impl Store {
    /// Over this connection.
    pub fn new(connection: Arc<Connection>) -> Self {
        Self { connection, in_flight: Arc::default(), inboxes: Arc::default() }
    }

    /// The room for large answers, of all who ask over this connection.
    pub(super) fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// How many inboxes ask over this connection; each counts itself.
    pub(super) fn inboxes(&self) -> &Arc<AtomicUsize> {
        &self.inboxes
    }

    /// The connection itself, for its health and its end.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The largest payload with headers that the server takes, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        self.connection.session().client().max_payload()
    }

    /// The largest payload that can be stored, in bytes.
    ///
    /// A stream's leader shows a message in base64, four bytes for three, and that answer has to fit too: a link to a
    /// leaf node breaks under a larger one, again at each attempt.
    pub fn payload_bytes_max(&self) -> usize {
        let shown = self.message_bytes_max().saturating_sub(SHOWN_FRAME_BYTES_MAX);
        (shown / 4 * 3).saturating_sub(STORED_HEADER_BYTES_MAX)
    }

    /// Hands a message to the connection. `Ok` means that it may arrive, an error that it will not.
    /// Somebody has to call [`Store::mark_dirty`] afterwards, once for all that was published in a row.
    pub fn publish(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) -> Result<(), NotSent> {
        check_form(subject, reply, headers)?;
        // One session for all of it: another may take its place at any moment.
        let session = self.connection.session();
        check_size(headers, payload, session.client().max_payload())?;
        check_health(session.vitals().health())?;
        let headers = in_one_entry(headers);
        session
            .client()
            .publish_with_reply_or_headers(subject, reply, headers.as_ref(), payload)
            .map_err(|_| NotSent::Away)
    }

    /// Sends off what was published.
    pub fn mark_dirty(&self) {
        self.connection.mark_dirty();
    }

    /// An inbox of the caller's own.
    pub fn inbox(&self) -> Result<Inbox, NotSent> {
        Inbox::open(self.clone())
    }
}

/// Whether something may be published on a connection: on one that is mute it may hang.
pub(super) fn is_alive(health: Health) -> bool {
    check_health(health).is_ok()
}

fn check_health(health: Health) -> Result<(), NotSent> {
    match health {
        _ if !health.connected => Err(NotSent::Away),
        _ if health.silent_for > MUTE_MAX => Err(NotSent::Mute(health.silent_for)),
        _ => Ok(()),
    }
}

fn check_form(subject: &str, reply: Option<&str>, headers: &[(&str, &str)]) -> Result<(), NotSent> {
    if !is_literal_subject(subject) {
        return Err(NotSent::Malformed("subject"));
    }
    if !reply.is_none_or(is_literal_subject) {
        return Err(NotSent::Malformed("reply subject"));
    }
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    let is_plain = |value: &str| value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let is_value = |value: &str| is_plain(value) || !value.chars().any(char::is_control);
    match headers.iter().all(|(name, value)| is_name(name) && is_value(value)) {
        true => Ok(()),
        false => Err(NotSent::Malformed("header")),
    }
}

/// Well-formed headers as the client's map. An entry of the map is a set with a hash of its own, four allocations for each
/// header; but the client writes a name as it is, so that the last header's can bring the lines before it along.
fn in_one_entry(headers: &[(&str, &str)]) -> Option<nats::HeaderMap> {
    let ((name, value), before) = headers.split_last()?;
    let mut lines = String::with_capacity(before.iter().map(line_bytes).sum::<usize>() + name.len());
    for (name, value) in before {
        lines.extend([name, ":", value, "\r\n"]);
    }
    lines.push_str(name);
    Some(std::iter::once((lines, (*value).to_owned())).collect())
}

/// What a header takes in a message.
fn line_bytes((name, value): &(&str, &str)) -> usize {
    name.len() + value.len() + HEADER_EXTRA_BYTES
}

fn check_size(headers: &[(&str, &str)], payload: &[u8], bytes_max: usize) -> Result<(), NotSent> {
    let header_bytes: usize = headers.iter().map(line_bytes).sum();
    let frame = if headers.is_empty() { 0 } else { HEADER_FRAME_BYTES };
    let bytes = payload.len() + header_bytes + frame;
    if bytes > bytes_max { Err(NotSent::TooLarge { bytes, bytes_max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_the_protocol_is_malformed() {
        for (subject, reply, name, value, wrong) in [
            ("a.b", Some("_INBOX.x"), "Name", "any text, also ümläute", None),
            ("a b", None, "N", "v", Some("subject")),
            ("a.>", None, "N", "v", Some("subject")),
            ("a\r\nPUB b 0", None, "N", "v", Some("subject")),
            ("a", Some("r\r\n"), "N", "v", Some("reply subject")),
            ("a", None, "N:", "v", Some("header")),
            ("a", None, "", "v", Some("header")),
            ("a", None, "N", "v\r\nInjected: yes", Some("header")),
            ("a", None, "N\n", "v", Some("header")),
        ] {
            let wrong = wrong.map(NotSent::Malformed);
            assert_eq!(check_form(subject, reply, &[(name, value)]).err(), wrong, "{subject:?} {reply:?} {name:?}");
        }
    }

    #[test]
    fn headers_count() {
        // NATS/1.0, two line breaks, and `A:b` with its own.
        let exactly = 10 + 2 + 5 + 3;
        assert_eq!(check_size(&[("A", "b")], b"xyz", exactly), Ok(()));
        let too_large = NotSent::TooLarge { bytes: exactly, bytes_max: exactly - 1 };
        assert_eq!(check_size(&[("A", "b")], b"xyz", exactly - 1), Err(too_large));
        assert_eq!(check_size(&[], b"xyz", 3), Ok(()));
    }
}
