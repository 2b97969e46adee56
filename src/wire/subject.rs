//! The subjects of the contract, all made from one prefix.

use std::str::FromStr;

use uuid::Uuid;

use crate::domain::PersonId;
use crate::wire::beacon::ReplicaId;
use crate::wire::service::ALL_SERVICES;

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

    /// What belongs to the replicas alone.
    pub fn all_intakes(&self) -> String {
        format!("{}.intake.>", self.prefix)
    }

    /// Where replicas say that they are there.
    pub fn beacon(&self) -> String {
        format!("{}.intake.beacon", self.prefix)
    }

    /// Where a replica takes what others hand over to it.
    pub fn intake_of(&self, replica: ReplicaId) -> String {
        format!("{}.intake.{replica}", self.prefix)
    }

    /// All commits, which the stream captures.
    pub fn all_events(&self) -> String {
        format!("{}.events.>", self.prefix)
    }

    /// Who holds which exclusive identifier, which the stream captures as well.
    pub fn all_identifiers(&self) -> String {
        format!("{}.identifiers.*", self.prefix)
    }

    /// Whether this subject is one of [`all_identifiers`](Self::all_identifiers).
    pub fn is_identifier(&self, subject: &str) -> bool {
        let token = subject.strip_prefix(self.prefix.as_str()).and_then(|tail| tail.strip_prefix(".identifiers."));
        token.is_some_and(|token| !token.is_empty() && !token.contains('.'))
    }

    /// All subjects under the prefix.
    pub fn all(&self) -> String {
        format!("{}.>", self.prefix)
    }

    /// Everything that the service answers, now or in a later release: a stream that took one of these in would answer,
    /// too.
    pub fn requests(&self) -> Vec<String> {
        let own = ["commands", "queries", "privacy", "search", "intake"];
        let own = own.iter().map(|kind| format!("{}.{kind}.>", self.prefix));
        own.chain([ALL_SERVICES.to_owned()]).collect()
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
