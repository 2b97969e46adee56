//! `cargo demo`: a nats-server, the service, and a short story told to them, with everything that is said on the way.
//!
//! Afterwards both keep running, with commands to try, until Ctrl-C; with `--leave` they end with the story. It fails when
//! a reply is not the expected one.

#![expect(deprecated, reason = "docs/decisions/003-the-nats-crate.md")]

mod children;
mod json;
mod show;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nats::{Connection, HeaderMap};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use children::{Children, Place};
use show::Show;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a reply may take, a second longer than the service gives itself.
const REPLY_TIMEOUT: Duration = Duration::from_secs(6);

/// One command of the story.
struct Step {
    /// What happens, for the reader.
    title: &'static str,
    /// Queries have none.
    command_id: Option<&'static str>,
    subject: String,
    payload: String,
    /// A member of the reply, and what it has to be.
    expected: (&'static str, Value),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("\nthe story ended badly: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let leave = std::env::args().any(|arg| arg == "--leave");
    let show = Show;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let place = Place::prepare(&show)?;
    let mut children = Children::start(&place, &show)?;
    let nats = nats::connect(&place.url)?;

    let person = uuid::Uuid::now_v7();
    for step in story(person) {
        tell(&nats, &show, &step)?;
    }
    stored(&nats, &show, person)?;
    if !leave {
        show.what_to_try(&place, person);
        signals.forever().next();
    }
    children.end(&show)
}

fn story(person: uuid::Uuid) -> Vec<Step> {
    let command = |title, command_id, payload: &str, expected| Step {
        title,
        command_id: Some(command_id),
        subject: format!("person.commands.{person}"),
        payload: payload.replace("PERSON", &person.to_string()),
        expected,
    };
    let query = |title, payload: &str| Step {
        title,
        command_id: None,
        subject: "person.queries.get".to_owned(),
        payload: payload.replace("PERSON", &person.to_string()),
        expected: ("status", json!("ok")),
    };
    let retry =
        "The reply to the change of name got lost, so it is sent again: the same outcome, and nothing done twice";
    vec![
        command("A person is created", "story-1", CREATE, ("version", json!(1))),
        command("She marries and changes her name", "story-2", RENAME, ("events", json!(["NameUpdated"]))),
        command("She is measured", "story-3", HEIGHT, ("events", json!(["AttributeRecorded"]))),
        command("Somebody creates her again: refused", "story-4", CREATE, ("status", json!("rejected"))),
        command(retry, "story-2", RENAME, ("duplicate", json!(true))),
        command("Two facts in one array: both or neither", "story-5", TWO_FACTS, ("version", json!(5))),
        query("Who is she now?", r#"{"person_id":"PERSON"}"#),
        query("And who was she at the beginning?", r#"{"person_id":"PERSON","at_version":1}"#),
    ]
}

const CREATE: &str = r#"{"CreatePerson":{"person_id":"PERSON",
    "name":{"components":{"given_names":["Augusta","Ada"],"family_names":["Byron"]}},"source":"story"}}"#;

const RENAME: &str = r#"{"UpdateName":{"person_id":"PERSON","name":{"components":{"given_names":["Augusta","Ada"],
    "family_names":["King"],"suffixes":["Countess of Lovelace"]},"preferred_form":"Ada Lovelace"},"reason":"marriage"}}"#;

const HEIGHT: &str = r#"{"RecordAttribute":{"person_id":"PERSON","attribute":{"attribute_type":{"Physical":"Height"},
    "value":{"Length":1.65},"temporal":{"valid_from":"1835-07-08"},
    "provenance":{"source":"Measured","confidence":"Likely"}}}}"#;

const TWO_FACTS: &str = r#"[{"SetBirthDate":{"person_id":"PERSON","birth_date":"1815-12-10"}},
    {"RecordDeath":{"person_id":"PERSON","date_of_death":"1852-11-27"}}]"#;

/// Sends one command and shows it with its reply.
fn tell(nats: &Connection, show: &Show, step: &Step) -> Result<()> {
    let headers: HeaderMap = step.command_id.map(|id| ("Nats-Msg-Id", id)).into_iter().collect();
    show.request(step.title, &step.subject, step.command_id, &step.payload);
    let reply =
        nats.request_with_headers_or_timeout(&step.subject, Some(&headers), Some(REPLY_TIMEOUT), &step.payload)?;
    let text = String::from_utf8(reply.data)?;
    show.reply(&text);
    let reply: Value = serde_json::from_str(&text)?;
    let (member, expected) = &step.expected;
    match reply.get(member) {
        Some(found) if found == expected => Ok(()),
        found => Err(format!("expected {member} to be {expected}, found {found:?}").into()),
    }
}

/// Shows what the stream holds of the person, as the stream itself has it.
fn stored(nats: &Connection, show: &Show, person: uuid::Uuid) -> Result<()> {
    show.heading("What the stream PERSON_EVENTS holds: one commit for each command or array that changed something");
    let subject = format!("person.events.{person}");
    let mut next = 1;
    loop {
        let request = json!({"seq": next, "next_by_subj": subject}).to_string();
        let answer = nats.request_timeout("$JS.API.STREAM.MSG.GET.PERSON_EVENTS", request, REPLY_TIMEOUT)?;
        let answer: Value = serde_json::from_slice(&answer.data)?;
        let Some(message) = answer.get("message") else { return Ok(()) };
        let data = message.get("data").and_then(Value::as_str).unwrap_or_default();
        let sequence = message.get("seq").and_then(Value::as_u64).ok_or("a message without sequence")?;
        show.stored(sequence, &subject, &String::from_utf8(BASE64_STANDARD.decode(data)?)?);
        next = sequence + 1;
    }
}
