//! The bare loop on the asynchronous client and tokio's threads.

use std::error::Error;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use futures::StreamExt;

use super::Place;
use super::ledger::{CONTENT_TYPE, EVENT_TYPE, EXPECTED, Ledger, PERSON_VERSION, ToStore, number};

/// Answers until it is killed.
pub fn run(place: &Place) -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(answer(place))
}

async fn answer(place: &Place) -> Result<(), Box<dyn Error>> {
    let client = async_nats::connect(&place.server).await?;
    let created = client.request(place.create_subject(), place.stream_json().into()).await?;
    if created.payload.windows(7).any(|part| part == b"\"error\"") {
        return Err(String::from_utf8_lossy(&created.payload).into());
    }
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(format!("{inbox}.*")).await?;
    let group = "person-service".to_owned();
    let mut commands = client.queue_subscribe(format!("{}.commands.>", place.prefix), group).await?;
    client.flush().await?;
    println!("ready");
    let mut ledger: Ledger<Subject> = Ledger::new();
    let event = Bytes::copy_from_slice(ledger.event());
    loop {
        tokio::select! {
            Some(command) = commands.next() => {
                if let Some(reply) = command.reply
                    && let Some(order) = ledger.command(command.subject.as_bytes(), reply)
                {
                    publish(&client, place, &inbox, &order, event.clone()).await?;
                }
            }
            Some(answer) = answers.next() => {
                let at = number(answer.subject.as_bytes());
                if let Some(settled) = at.and_then(|at| ledger.acknowledged(at, &answer.payload)) {
                    client.publish(settled.reply, settled.text.into()).await?;
                    if let Some(order) = settled.next {
                        publish(&client, place, &inbox, &order, event.clone()).await?;
                    }
                }
            }
            else => return Ok(()),
        }
    }
}

async fn publish(
    client: &async_nats::Client,
    place: &Place,
    inbox: &str,
    order: &ToStore,
    event: Bytes,
) -> Result<(), Box<dyn Error>> {
    let mut headers = HeaderMap::new();
    headers.insert(EXPECTED, order.expected.to_string());
    for (name, value) in [EVENT_TYPE, PERSON_VERSION, CONTENT_TYPE] {
        headers.insert(name, value);
    }
    let subject = format!("{}.events.{}", place.prefix, order.id());
    let reply = format!("{inbox}.{}", order.number);
    Ok(client.publish_with_reply_and_headers(subject, reply, headers, event).await?)
}
