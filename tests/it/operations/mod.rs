//! What docs/operations.md tells operators to do, done: rights, regions, backup and restore, on real servers with the
//! configuration files that the documentation shows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper of a test may fail it, as the test may")]

mod backup;
mod permissions;
mod regions;

use serde_json::{Value, json};

use crate::daemon::client::{Client, Message};
use crate::support::PATIENCE;

/// A configuration file of the documentation, with a password for each of its users.
pub fn documented(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/nats").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let users = ["SERVICE", "CLIENT", "READER", "OPERATOR"];
    users.iter().fold(text, |text, user| text.replace(&format!("${user}_PASSWORD"), "secret"))
}

/// How that user signs in.
fn as_user(user: &str) -> String {
    format!(r#""user":"{user}","pass":"secret","#)
}

/// How the service signs in.
pub const AS_SERVICE: [(&str, &str); 2] = [("NATS_USER", "service"), ("NATS_PASSWORD", "secret")];

fn ask(client: &mut Client, query: &str, body: &Value) -> Value {
    let answer = client.ask(&format!("person.queries.{query}"), &[], body.to_string().as_bytes(), PATIENCE);
    answer.unwrap_or_else(|| panic!("no answer to {query} {body}")).json()
}

/// What a pull of the durable consumer `reader` brings, acknowledged.
fn pulled(client: &mut Client, batch: usize) -> Vec<Message> {
    let reply = client.new_reply();
    let body = json!({ "batch": batch, "expires": 2_000_000_000_u64 }).to_string();
    client.publish("$JS.API.CONSUMER.MSG.NEXT.PERSON_EVENTS.reader", &reply, &[], body.as_bytes());
    let mut messages = Vec::new();
    while messages.len() < batch {
        let message = client.next(PATIENCE).expect("a pull is answered");
        assert_eq!(message.header("Status"), None, "{message:?}");
        client.publish(message.reply.as_deref().expect("it wants an acknowledgement"), "", &[], b"+ACK");
        messages.push(message);
    }
    messages
}
