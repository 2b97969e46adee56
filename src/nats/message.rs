//! A message that arrived, without the client's types around it.

use std::collections::HashSet;

use semver::Version;

use crate::wire::request::{Header, Headers};

/// A message that arrived. Its payload is moved, never copied.
pub struct Incoming(nats::Message);

impl Headers for Incoming {
    fn get(&self, name: &str) -> Header<'_> {
        let all = self.0.headers.iter().flat_map(|headers| headers.iter());
        let mut values = all.filter(|(found, _)| found.eq_ignore_ascii_case(name)).flat_map(|(_, values)| values);
        match values.next() {
            None => Header::Absent,
            // The same value given twice counts as one, as it does where the name is written the same.
            Some(value) if values.all(|other| other == value) => Header::One(value),
            Some(_) => Header::Several,
        }
    }
}

impl Incoming {
    pub(super) fn new(message: nats::Message) -> Self {
        Self(message)
    }

    /// The message that these parts make: its header block as the server delivers it, `NATS/1.0` and a line for each
    /// header, if it has one.
    ///
    /// # Errors
    /// The client refuses the block. It drops the connection on which such a message arrives.
    pub fn parse(subject: &str, reply: Option<&str>, headers: Option<&[u8]>, payload: &[u8]) -> std::io::Result<Self> {
        let headers = headers.map(nats::HeaderMap::try_from).transpose()?;
        Ok(Self(nats::Message::new(subject, reply, payload, headers)))
    }

    /// The subject that it was sent to.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Where its sender wants the reply.
    pub fn reply(&self) -> Option<&str> {
        self.0.reply.as_deref()
    }

    /// The header of exactly this name; upper and lower case differ. The same value given twice counts as one: the
    /// client does not tell.
    pub fn header(&self, name: &str) -> Header<'_> {
        let mut values = self.0.headers.iter().filter_map(|headers| values_of(headers, name)).flatten();
        match (values.next(), values.next()) {
            (None, _) => Header::Absent,
            (Some(value), None) => Header::One(value),
            (Some(_), Some(_)) => Header::Several,
        }
    }

    /// All headers, one entry for each value.
    pub fn all_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.headers.iter().flat_map(|headers| headers.iter());
        all.flat_map(|(name, values)| values.iter().map(move |value| (name.as_str(), value.as_str())))
    }

    /// The bytes.
    pub fn payload(&self) -> &[u8] {
        &self.0.data
    }

    /// The bytes, for keeps.
    pub fn into_payload(self) -> Vec<u8> {
        self.0.data
    }

    /// The status by which a server answers without a message of anybody's: 404, 503 and the like.
    pub(super) fn status(&self) -> Option<u16> {
        match self.header("Status") {
            Header::One(status) => status.parse().ok(),
            Header::Absent | Header::Several => None,
        }
    }

    /// The status with its description, for people.
    pub(super) fn status_text(&self) -> String {
        let word = |name| match self.header(name) {
            Header::One(value) => value.to_owned(),
            Header::Absent | Header::Several => String::new(),
        };
        format!("{} {}", word("Status"), word("Description")).trim().to_owned()
    }

    /// Whether the server says that nobody listens on the subject.
    pub fn is_no_responders(&self) -> bool {
        self.0.data.is_empty() && self.status() == Some(503)
    }

    /// The name of the server that we are connected to.
    pub(super) fn server_name(&self) -> Option<String> {
        Some(self.0.client.as_ref()?.server_info().server_name)
    }

    /// The version of the server that we are connected to. The client shows it nowhere else than behind a message.
    pub(super) fn server_version(&self) -> Option<Version> {
        let info = self.0.client.as_ref()?.server_info();
        Version::parse(info.version.trim_start_matches('v')).ok()
    }
}

impl std::fmt::Debug for Incoming {
    /// Without payload and headers: they may hold personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("payload_bytes", &self.0.data.len()).finish_non_exhaustive()
    }
}

fn values_of<'a>(headers: &'a nats::HeaderMap, name: &str) -> Option<&'a HashSet<String>> {
    /// So few are compared faster than the name is hashed.
    const FEW: usize = 8;
    if headers.len() > FEW {
        return headers.get_key_value(name).map(|(_, values)| values);
    }
    headers.iter().find(|(found, _)| *found == name).map(|(_, values)| values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nats::HeaderMap;

    fn with(headers: &[(&str, &str)]) -> Incoming {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        Incoming::new(nats::Message::new("s", None, b"", Some(map)))
    }

    #[test]
    fn headers_are_absent_single_or_several() {
        let message = with(&[("A", "1"), ("B", "1"), ("B", "2"), ("C", "")]);
        assert_eq!(message.header("A"), Header::One("1"));
        assert_eq!(message.header("a"), Header::Absent);
        assert_eq!(message.header("B"), Header::Several);
        assert_eq!(message.header("C"), Header::One(""));
    }

    /// Go's HTTP writes `Traceparent`, others write everything in lower case: their headers were not seen at all, so that
    /// an `expected-version` guarded nothing and a `nats-msg-id` made no retry known.
    #[test]
    fn what_clients_send_is_found_in_any_case() {
        let message =
            with(&[("Traceparent", "t"), ("nats-msg-id", "1"), ("NATS-MSG-ID", "1"), ("ACTOR", "a"), ("actor", "b")]);
        assert_eq!(message.get("traceparent"), Header::One("t"));
        assert_eq!(message.get("Nats-Msg-Id"), Header::One("1"));
        assert_eq!(message.get("Actor"), Header::Several);
        assert_eq!(message.get("Expected-Version"), Header::Absent);
        assert_eq!(with(&[]).get("Actor"), Header::Absent);
    }

    #[test]
    fn a_status_is_a_number_with_words() {
        let message = with(&[("Status", "404"), ("Description", "Message Not Found")]);
        assert_eq!(message.status(), Some(404));
        assert_eq!(message.status_text(), "404 Message Not Found");
        assert!(with(&[("Status", "503")]).is_no_responders());
        assert!(!with(&[]).is_no_responders());
    }
}
