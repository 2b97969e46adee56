//! What is said of a run: the history that was recorded and the stream as it was in the end, against the promises.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use cim_domain_person::domain::PersonId;
use serde_json::{Value, json};

use super::diary::Diary;
use super::rig::{BUCKET, STREAM};
use super::workload::{Looked, Sent};
use crate::checkers::record::{Change, Delivery, LogChange, Query, Record, Reply, WrittenSnapshot};
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

/// A command that was handed over, and whose home did not say in time that it took it, is carried out twice, as if it had
/// been sent twice: each place sends its reply. There are no more than two.
fn carried_out(mut delivery: Delivery) -> Vec<Delivery> {
    let mut second = delivery.clone();
    second.replies = delivery.replies.split_off(delivery.replies.len().min(1));
    if second.replies.is_empty() { vec![delivery] } else { vec![delivery, second] }
}

impl History {
    /// Every promise that was not kept.
    pub fn judge(&self) -> Vec<Violation> {
        checkers::judge(&self.record())
    }

    fn record(&self) -> Record {
        let deliveries = self.sent.iter().flat_map(|sent| sent.deliveries.iter().map(move |one| (sent, one)));
        let delivery = |(sent, delivery): (&Sent, &super::workload::Delivery)| Delivery {
            sent_at: time(delivery.sent),
            subject: format!("person.commands.{}", sent.person),
            headers: sent.headers.clone(),
            payload: sent.payload.clone(),
            stamped_at: self.diary.wall_clock(delivery.sent),
            arrived_at: self.diary.wall_clock(delivery.sent),
            taken_by: None,
            replies: replies(&delivery.replies),
        };
        let mut deliveries: Vec<Delivery> = deliveries.map(delivery).flat_map(carried_out).collect();
        deliveries.sort_by_key(|delivery| delivery.sent_at);
        let change = |stored: &Stored| LogChange {
            at: None,
            wall: None,
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
            queries: self.looked.iter().map(Looked::record).collect(),
            healed_at: Some(time(self.healed_at)),
            ..Record::default()
        }
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
            lines.extend(
                look.reply.as_ref().map(|(at, reply)| (*at, format!("    ! {}", String::from_utf8_lossy(reply)))),
            );
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
                let replies = delivery
                    .replies
                    .iter()
                    .map(|(at, reply)| json!({"at": at.as_secs_f64(), "reply": String::from_utf8_lossy(reply)}));
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

impl Looked {
    fn record(&self) -> Query {
        Query { person: person(&self.person), sent_at: time(self.sent), replies: replies(self.reply.as_slice()) }
    }
}

fn replies(replies: &[(Duration, Vec<u8>)]) -> Vec<Reply> {
    replies.iter().map(|(at, payload)| Reply { at: time(*at), payload: payload.clone() }).collect()
}

fn time(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).expect("not that long")
}
