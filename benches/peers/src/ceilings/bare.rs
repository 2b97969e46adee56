//! The bare loop: the service's client crate, fed and flushed as the service does it, and nothing else.
#![expect(deprecated, reason = "the client that the service is built on")]

use std::error::Error;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::Place;
use super::ledger::{CONTENT_TYPE, EVENT_TYPE, EXPECTED, Ledger, PERSON_VERSION, ToStore, number};

/// Flushing threads of one connection, as many as the service has.
const FLUSHERS: usize = 2;

/// A connection that is flushed by threads of its own as soon as something was written.
struct Flushed {
    client: nats::Connection,
    mark: Sender<()>,
}

impl Flushed {
    fn open(server: &str) -> std::io::Result<Self> {
        let client = nats::Options::new().reconnect_delay_callback(|_| Duration::ZERO).connect(server)?;
        let (mark, marks) = bounded::<()>(1);
        for _ in 0..FLUSHERS {
            let (marks, client) = (marks.clone(), client.clone());
            thread::spawn(move || {
                while marks.recv().is_ok() {
                    // One that fails is repeated at the next mark.
                    let _ = client.flush();
                }
            });
        }
        Ok(Self { client, mark })
    }

    fn mark(&self) {
        let _ = self.mark.try_send(());
    }
}

/// Commands that may wait between the thread that takes them and the one that stores, where those are two.
const QUEUE_LEN_MAX: usize = 4096;

/// Answers until it is killed. Commands come on a connection of their own; behind a queue, as the service's do, if
/// `queued`.
pub fn run(place: &Place, queued: bool) -> Result<(), Box<dyn Error>> {
    let store = Flushed::open(&place.server)?;
    let intake = Flushed::open(&place.server)?.client;
    let created = store.client.request(&place.create_subject(), place.stream_json())?;
    if created.data.windows(7).any(|part| part == b"\"error\"") {
        return Err(String::from_utf8_lossy(&created.data).into());
    }
    let inbox = store.client.new_inbox();
    let answers = store.client.subscribe(&format!("{inbox}.*"))?;
    let commands = intake.queue_subscribe(&format!("{}.commands.>", place.prefix), "person-service")?;
    intake.flush()?;
    println!("ready");
    let mut ledger: Ledger<String> = Ledger::new();
    let (commands, answers) = (commands.receiver().clone(), answers.receiver());
    let commands = if queued { behind_a_queue(commands) } else { commands };
    loop {
        select! {
            recv(commands) -> command => {
                let command = command?;
                if let Some(reply) = command.reply
                    && let Some(order) = ledger.command(command.subject.as_bytes(), reply)
                {
                    publish(&store.client, place, &inbox, &order, ledger.event())?;
                    store.mark();
                }
            }
            recv(answers) -> answer => {
                let answer = answer?;
                let settled = number(answer.subject.as_bytes()).and_then(|at| ledger.acknowledged(at, &answer.data));
                if let Some(settled) = settled {
                    store.client.publish(&settled.reply, settled.text)?;
                    if let Some(order) = settled.next {
                        publish(&store.client, place, &inbox, &order, ledger.event())?;
                    }
                    store.mark();
                }
            }
        }
    }
}

/// What comes on the one channel, by way of another thread, on the other.
fn behind_a_queue(from: Receiver<nats::Message>) -> Receiver<nats::Message> {
    let (sender, receiver) = bounded(QUEUE_LEN_MAX);
    thread::spawn(move || from.into_iter().try_for_each(|message| sender.send(message)));
    receiver
}

fn publish(
    client: &nats::Connection,
    place: &Place,
    inbox: &str,
    order: &ToStore,
    event: &[u8],
) -> std::io::Result<()> {
    let expected = order.expected.to_string();
    let headers: nats::HeaderMap =
        [(EXPECTED, expected.as_str()), EVENT_TYPE, PERSON_VERSION, CONTENT_TYPE].into_iter().collect();
    let subject = format!("{}.events.{}", place.prefix, order.id());
    let reply = format!("{inbox}.{}", order.number);
    client.publish_with_reply_or_headers(&subject, Some(reply.as_str()), Some(&headers), event)
}
