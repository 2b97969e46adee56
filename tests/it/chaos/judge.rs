//! What is said of a run: the history that was recorded and the stream as it was in the end, against the promises.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use cim_domain_person::domain::{Person, PersonId, PersonView, evolve};
use cim_domain_person::wire::commit;
use serde_json::{Value, json};

use super::diary::Diary;
use super::rig::{BUCKET, STREAM};
use super::workload::{Looked, Sent};
use crate::checkers::record::{Change, Delivery, LogChange, Record, Reply, WrittenSnapshot};
use crate::checkers::{self, Violation};
use crate::daemon::client::Client;

/// All that is known of a run.
pub struct History {
    pub diary: Diary,
    pub sent: Vec<Sent>,
    pub looked: Vec<Looked>,
    pub stored: Vec<Stored>,
    pub snapshots: Vec<WrittenSnapshot>,
    pub healed_at: Duration,
}

/// A commit as it lies in the stream.
pub struct Stored {
    pub sequence: u64,
    pub person: PersonId,
    pub payload: Vec<u8>,
}

/// The whole stream, in order.
pub fn stored(client: &mut Client) -> Vec<Stored> {
    let messages = client.stored(STREAM).into_iter();
    messages
        .map(|message| Stored {
            sequence: message.header("Nats-Sequence").unwrap().parse().unwrap(),
            person: person_of(message.header("Nats-Subject").unwrap()),
            payload: message.payload,
        })
        .collect()
}

/// Every snapshot that is there; none where the bucket is gone.
pub fn snapshots(client: &mut Client) -> Vec<WrittenSnapshot> {
    if !client.api(&format!("STREAM.INFO.{BUCKET}"), &Value::Null)["error"].is_null() {
        return Vec::new();
    }
    let messages = client.stored(BUCKET).into_iter().filter(|message| !message.payload.is_empty());
    messages
        .map(|message| WrittenSnapshot {
            person: person_of(message.header("Nats-Subject").unwrap()),
            bytes: message.payload,
        })
        .collect()
}

fn person_of(subject: &str) -> PersonId {
    person(subject.rsplit('.').next().unwrap())
}

fn person(id: &str) -> PersonId {
    PersonId::from_uuid(id.parse().expect("the id of a person"))
}

impl History {
    /// Every promise that was not kept.
    pub fn judge(&self) -> Vec<Violation> {
        let mut violations = checkers::judge(&self.record());
        violations.extend(self.judge_looks());
        violations
    }

    fn record(&self) -> Record {
        let deliveries = self.sent.iter().flat_map(|sent| sent.deliveries.iter().map(move |one| (sent, one)));
        let delivery = |(sent, delivery): (&Sent, &super::workload::Delivery)| Delivery {
            sent_at: time(delivery.sent),
            subject: format!("person.commands.{}", sent.person),
            headers: sent.headers.clone(),
            payload: sent.payload.clone(),
            stamped_at: self.diary.wall_clock(delivery.sent),
            taken_by: None,
            replies: delivery.replies.iter().map(|(at, payload)| Reply { at: time(*at), payload: payload.clone() }).collect(),
        };
        let mut deliveries: Vec<Delivery> = deliveries.map(delivery).collect();
        deliveries.sort_by_key(|delivery| delivery.sent_at);
        let change = |stored: &Stored| LogChange {
            at: None,
            what: Change::Stored {
                person: stored.person,
                sequence: stored.sequence,
                payload: stored.payload.clone().into(),
            },
        };
        Record {
            deliveries,
            log: self.stored.iter().map(change).collect(),
            snapshots: self.snapshots.clone(),
            healed_at: Some(time(self.healed_at)),
            ..Record::default()
        }
    }

    /// Queries show what was acknowledged before they were asked, and nothing that was not stored: exactly what a full
    /// fold of the person's commits gives at that version.
    fn judge_looks(&self) -> Vec<Violation> {
        let states = self.states();
        let acknowledged = self.acknowledged();
        let mut found = Vec::new();
        for look in &self.looked {
            let Some((_, reply)) = &look.reply else { continue };
            let person = person(&look.person);
            let known = acknowledged.get(&look.person).into_iter().flatten();
            let least = known.filter(|(at, _)| *at < look.sent).map(|(_, version)| *version).max().unwrap_or(0);
            let version = match reply["error"]["code"].as_str() {
                Some("person_not_found") => 0,
                Some(_) => continue,
                None => reply["version"].as_u64().unwrap_or(0),
            };
            let mut wrong = |what: String| found.push(Violation { checker: "queries", person: Some(person), what });
            if version < least {
                wrong(format!("a query sent at {:?} shows version {version}, {least} was acknowledged", look.sent));
            }
            if version > 0 && states.get(&(person, version)) != Some(&reply["person"]) {
                wrong(format!("a query sent at {:?} shows what the log does not say: {reply}", look.sent));
            }
        }
        found
    }

    /// Each person after each commit, as a query would show it.
    fn states(&self) -> BTreeMap<(PersonId, u64), Value> {
        let (mut now, mut states): (BTreeMap<PersonId, Option<Person>>, _) = (BTreeMap::new(), BTreeMap::new());
        for stored in &self.stored {
            let Ok(commit) = commit::decode(&stored.payload) else { continue };
            let state = now.entry(stored.person).or_default();
            commit.events.iter().for_each(|record| evolve(state, &record.event));
            if let Some(person) = state {
                let view = PersonView::new(person, commit.version, None);
                states.insert((stored.person, commit.version), serde_json::to_value(view).unwrap());
            }
        }
        states
    }

    /// By person: when which version was acknowledged.
    fn acknowledged(&self) -> BTreeMap<String, Vec<(Duration, u64)>> {
        let mut all: BTreeMap<String, Vec<(Duration, u64)>> = BTreeMap::new();
        for sent in &self.sent {
            for (at, reply) in sent.deliveries.iter().flat_map(|delivery| &delivery.replies) {
                let reply: Value = serde_json::from_slice(reply).unwrap_or_default();
                if let (Some("accepted"), Some(version)) = (reply["status"].as_str(), reply["version"].as_u64()) {
                    all.entry(sent.person.clone()).or_default().push((*at, version));
                }
            }
        }
        all
    }

    /// Everything about one person, in the order in which it happened, with what the nemesis did.
    pub fn story(&self, person: PersonId) -> String {
        let name = person.to_string();
        let mut lines: Vec<(Duration, String)> = self.diary.lines();
        for sent in self.sent.iter().filter(|sent| sent.person == name) {
            for (number, delivery) in sent.deliveries.iter().enumerate() {
                let payload = String::from_utf8_lossy(&sent.payload);
                lines.push((delivery.sent, format!("    -> {} #{number} {:?} {payload}", sent.id, &sent.headers[1..])));
                for (at, reply) in &delivery.replies {
                    let reply = String::from_utf8_lossy(reply);
                    lines.push((*at, format!("    <- {} #{number} {reply}", sent.id)));
                }
            }
        }
        for look in self.looked.iter().filter(|look| look.person == name) {
            lines.push((look.sent, "    ? get".to_owned()));
            lines.extend(look.reply.as_ref().map(|(at, reply)| (*at, format!("    ! {reply}"))));
        }
        lines.sort_by_key(|(at, _)| *at);
        let mut story = format!("The story of {name}\n");
        lines.iter().for_each(|(at, words)| writeln!(story, "{:9.3} s  {words}", at.as_secs_f64()).unwrap());
        story.push_str("In the stream:\n");
        for stored in self.stored.iter().filter(|stored| stored.person == person) {
            writeln!(story, "{:9}  {}", stored.sequence, String::from_utf8_lossy(&stored.payload)).unwrap();
        }
        story
    }

    /// Writes everything down.
    pub fn keep(&self, folder: &Path) {
        let mut deliveries = String::new();
        for sent in &self.sent {
            for delivery in &sent.deliveries {
                let replies = delivery.replies.iter().map(|(at, reply)| {
                    json!({"at": at.as_secs_f64(), "reply": String::from_utf8_lossy(reply)})
                });
                let line = json!({"sent": delivery.sent.as_secs_f64(), "person": sent.person, "headers": sent.headers,
                    "payload": String::from_utf8_lossy(&sent.payload), "replies": replies.collect::<Vec<_>>()});
                writeln!(deliveries, "{line}").unwrap();
            }
        }
        let mut stream = String::new();
        for stored in &self.stored {
            writeln!(stream, "{} {}", stored.sequence, String::from_utf8_lossy(&stored.payload)).unwrap();
        }
        std::fs::write(folder.join("deliveries.jsonl"), deliveries).unwrap();
        std::fs::write(folder.join("stream.txt"), stream).unwrap();
    }
}

fn time(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).expect("not that long")
}
