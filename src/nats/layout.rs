//! Where everything lies: the names of stream, bucket and subjects, from the configuration.

use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::config::{Config, StoreClient, bucket_of};
use crate::domain::PersonId;
use crate::wire::service::ALL_SERVICES;
use crate::wire::subject::Subjects;

/// The names of the store's parts. The JetStream domain, where there is one, is in those that need it.
#[derive(Debug, Clone)]
pub struct Layout {
    subjects: Subjects,
    stream: String,
    bucket: String,
    /// `$JS.API`, or `$JS.<domain>.API`.
    api: String,
    domain: Option<String>,
    /// The domain that JetStream says it is, which may be empty; `None` before it was asked. All clones share it.
    found_domain: Arc<RwLock<Option<String>>>,
}

impl Layout {
    /// The names that follow from the service's configuration.
    pub fn new(config: &Config) -> Self {
        let domain = config.nats.jetstream_domain.as_deref();
        Self::of(&config.subject_prefix, &config.store.stream, domain)
    }

    /// The names that follow from a tool's configuration.
    pub fn of_client(config: &StoreClient) -> Self {
        let domain = config.client.nats.jetstream_domain.as_deref();
        Self::of(&config.client.subject_prefix, &config.stream, domain)
    }

    fn of(subject_prefix: &str, stream: &str, domain: Option<&str>) -> Self {
        Self {
            subjects: Subjects::new(subject_prefix),
            stream: stream.to_owned(),
            bucket: bucket_of(stream),
            api: domain.map_or("$JS.API".to_owned(), |domain| format!("$JS.{domain}.API")),
            domain: domain.map(str::to_owned),
            found_domain: Arc::default(),
        }
    }

    /// From now on, here and in all clones, the word of another domain's stream of the same name is known for what it is.
    pub fn found_in(&self, domain: &str) {
        let is_news = self.found_domain().as_deref() != Some(domain);
        if is_news {
            *self.found_domain.write().unwrap_or_else(PoisonError::into_inner) = Some(domain.to_owned());
        }
    }

    /// Whether an acknowledgement that names this domain (or none, when empty) can come from our own stream.
    pub(super) fn is_ours(&self, domain: &str) -> bool {
        self.found_domain().as_ref().is_none_or(|found| found == domain)
    }

    fn found_domain(&self) -> RwLockReadGuard<'_, Option<String>> {
        self.found_domain.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of commits.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The stream under the snapshot bucket.
    pub fn bucket_stream(&self) -> String {
        format!("KV_{}", self.bucket)
    }

    /// All subjects that commits lie on.
    pub fn event_subjects(&self) -> String {
        self.subjects.all_events()
    }

    /// All subjects that tell who holds an exclusive identifier.
    pub fn identifier_subjects(&self) -> String {
        self.subjects.all_identifiers()
    }

    /// Whether this subject tells who holds an exclusive identifier.
    pub fn is_identifier(&self, subject: &str) -> bool {
        self.subjects.is_identifier(subject)
    }

    /// All subjects under the prefix.
    pub fn all_subjects(&self) -> String {
        self.subjects.all()
    }

    /// All subjects on which services are asked who they are.
    pub fn services(&self) -> String {
        ALL_SERVICES.to_owned()
    }

    /// All subjects on which the service is asked: no stream may take them in and answer.
    pub fn requests(&self) -> Vec<String> {
        self.subjects.requests()
    }

    /// The subject of one person's commits.
    pub fn event_subject(&self, person: PersonId) -> String {
        self.subjects.events(person)
    }

    /// All subjects of the snapshot bucket.
    pub fn bucket_subjects(&self) -> String {
        format!("$KV.{}.>", self.bucket)
    }

    /// The person whose commits lie on this subject; `None` for another one.
    pub fn person_of_event(&self, subject: &str) -> Option<PersonId> {
        self.subjects.person_of_events(subject)
    }

    /// The person whose snapshot lies on this subject; `None` for another one.
    pub fn person_of_snapshot(&self, subject: &str) -> Option<PersonId> {
        let id = subject.strip_prefix("$KV.")?.strip_prefix(self.bucket.as_str())?.strip_prefix(".v1.")?;
        PersonId::from_str(id).ok().filter(|person| self.snapshot_subject(*person) == subject)
    }

    /// The subject on which one person's snapshot lies.
    pub fn snapshot_subject(&self, person: PersonId) -> String {
        format!("$KV.{}.v1.{person}", self.bucket)
    }

    /// The subject to which it is written. The server keeps plain `$KV` subjects inside a domain and takes those from
    /// outside behind the domain's API prefix.
    pub fn snapshot_target(&self, person: PersonId) -> String {
        let subject = self.snapshot_subject(person);
        if self.domain.is_some() { format!("{}.{subject}", self.api) } else { subject }
    }

    /// Where any copy of a stream is asked for its messages.
    pub(super) fn direct_get(&self, stream: &str) -> String {
        self.api(&format!("DIRECT.GET.{stream}"))
    }

    /// Where a stream's leader is asked for its messages.
    pub(super) fn leader_get(&self, stream: &str) -> String {
        self.api(&format!("STREAM.MSG.GET.{stream}"))
    }

    /// The subject of a JetStream API call: `STREAM.INFO.PERSON_EVENTS` and the like.
    pub fn api(&self, call: &str) -> String {
        format!("{}.{call}", self.api)
    }

    /// The operators' tool `nats`, as it finds our JetStream. Server and sign-in it takes from the variables that we do.
    pub fn tool(&self) -> String {
        self.domain.as_ref().map_or_else(|| "nats".to_owned(), |domain| format!("nats --js-domain {domain}"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::nats) fn layout(domain: Option<&str>) -> Layout {
        Layout::of("person", "PERSON_EVENTS", domain)
    }

    /// One copy.
    pub(in crate::nats) fn wanted() -> crate::config::Store {
        crate::config::Store { stream: "PERSON_EVENTS".to_owned(), replicas: 1, create: true, batch_len_max: 0 }
    }

    #[test]
    fn a_domain_is_in_the_api_and_in_front_of_the_bucket_only() {
        let person = "0197C5A0-0000-7000-8000-000000000001".parse().expect("a UUID");
        let (plain, hub) = (layout(None), layout(Some("hub")));
        assert_eq!(plain.event_subject(person), "person.events.0197c5a0-0000-7000-8000-000000000001");
        assert_eq!(hub.event_subject(person), plain.event_subject(person));
        assert_eq!(hub.snapshot_subject(person), plain.snapshot_subject(person));
        assert_eq!(plain.snapshot_target(person), plain.snapshot_subject(person));
        assert_eq!(plain.person_of_snapshot(&plain.snapshot_subject(person)), Some(person));
        assert_eq!(plain.person_of_event(&plain.event_subject(person)), Some(person));
        assert!(hub.snapshot_target(person).starts_with("$JS.hub.API.$KV.PERSON_EVENTS_SNAPSHOTS.v1."));
        assert_eq!(plain.api("INFO"), "$JS.API.INFO");
        assert_eq!(hub.api("INFO"), "$JS.hub.API.INFO");
    }
}
