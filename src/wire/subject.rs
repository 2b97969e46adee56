//! The subjects of the contract, all made from one prefix.

use std::str::FromStr;

use uuid::Uuid;

use crate::domain::PersonId;

/// The queue group in which the replicas share commands and queries, and the service's name in the NATS services
/// protocol.
pub const SERVICE_NAME: &str = "person-service";

/// The subjects under one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    prefix: String,
}

impl Subjects {
    /// The subjects under `prefix`, which has been checked: tokens without wildcards, joined by dots.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// What the replicas subscribe to for commands.
    pub fn all_commands(&self) -> String {
        format!("{}.commands.>", self.prefix)
    }

    /// What the replicas subscribe to for queries.
    pub fn all_queries(&self) -> String {
        format!("{}.queries.>", self.prefix)
    }

    /// What the stream captures.
    pub fn all_events(&self) -> String {
        format!("{}.events.>", self.prefix)
    }

    /// The one literal subject of a person's commits.
    pub fn events(&self, person: PersonId) -> String {
        let mut id = Uuid::encode_buffer();
        [self.prefix.as_str(), ".events.", person.uuid().hyphenated().encode_lower(&mut id)].concat()
    }

    /// The person whose commits lie on this subject, exactly as the service writes it; `None` for any other.
    pub fn person_of_events(&self, subject: &str) -> Option<PersonId> {
        let id = subject.strip_prefix(self.prefix.as_str())?.strip_prefix(".events.")?;
        let is_canonical = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        PersonId::from_str(id).ok().filter(|_| is_canonical && id.len() == 36)
    }

    /// The canonical subject of a person's commands.
    pub fn commands(&self, person: PersonId) -> String {
        format!("{}.commands.{person}", self.prefix)
    }

    /// The subject of a query by its name.
    pub fn query(&self, name: &str) -> String {
        format!("{}.queries.{name}", self.prefix)
    }

    /// What stands behind `<prefix>.queries.`, for a subject that begins so.
    pub fn query_name<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(self.prefix.as_str())?.strip_prefix(".queries.")
    }

    /// The person that a command's subject names: the token after `<prefix>.commands.`, where it is a UUID.
    pub fn person_named_by(&self, command_subject: &str) -> Option<PersonId> {
        let tail = command_subject.strip_prefix(self.prefix.as_str())?.strip_prefix(".commands.")?;
        PersonId::from_str(tail.split('.').next().unwrap_or(tail)).ok()
    }
}
