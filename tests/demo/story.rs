//! `cargo demo`: a nats-server, the service, and a short story told to them, with everything that is said on the way.
//!
//! Afterwards both keep running, with commands to try, until Ctrl-C; with `--leave` they end with the story. It fails when
//! a reply is not the expected one.

mod children;
mod json;
mod show;

use std::error::Error;
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

/// One request of the story.
struct Step {
    /// What happens, for the reader.
    title: &'static str,
    /// The command id; none for a query.
    command_id: Option<&'static str>,
    /// The tokens after the prefix.
    subject: String,
    payload: Value,
    /// A member of the reply, and what it has to be.
    expected: (&'static str, Value),
}

fn main() -> Result<()> {
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
    let commands = format!("commands.{person}");
    let command = |title, command_id, payload, expected| Step {
        title,
        command_id: Some(command_id),
        subject: commands.clone(),
        payload,
        expected,
    };
    let create = create(person);
    vec![
        command("A person is created", "story-1", create.clone(), ("version", json!(1))),
        command("She marries and changes her name", "story-2", rename(person), ("events", json!(["NameUpdated"]))),
        command("She is measured", "story-3", height(person), ("events", json!(["AttributeRecorded"]))),
        command("Somebody creates her again: refused", "story-4", create, ("status", json!("rejected"))),
        command(
            "The reply to the change of name got lost, so it is sent again: the same outcome, and nothing done twice",
            "story-2",
            rename(person),
            ("duplicate", json!(true)),
        ),
        command("Two facts in one array: both or neither", "story-5", two_facts(person), ("version", json!(5))),
        Step {
            title: "Who is she now?",
            command_id: None,
            subject: "queries.get".to_owned(),
            payload: json!({"person_id": person}),
            expected: ("version", json!(5)),
        },
    ]
}

fn create(person: uuid::Uuid) -> Value {
    let name = json!({"components": {"given_names": ["Augusta", "Ada"], "family_names": ["Byron"]}});
    json!({"CreatePerson": {"person_id": person, "name": name, "source": "story"}})
}

fn rename(person: uuid::Uuid) -> Value {
    let components =
        json!({"given_names": ["Augusta", "Ada"], "family_names": ["King"], "suffixes": ["Countess of Lovelace"]});
    let name = json!({"components": components, "preferred_form": "Ada Lovelace"});
    json!({"UpdateName": {"person_id": person, "name": name, "reason": "marriage"}})
}

fn height(person: uuid::Uuid) -> Value {
    let attribute = json!({
        "attribute_type": {"Physical": "Height"},
        "value": {"Length": 1.65},
        "temporal": {"valid_from": "1835-07-08"},
        "provenance": {"source": "Measured", "confidence": "Likely"},
    });
    json!({"RecordAttribute": {"person_id": person, "attribute": attribute}})
}

fn two_facts(person: uuid::Uuid) -> Value {
    let born = json!({"SetBirthDate": {"person_id": person, "birth_date": "1815-12-10"}});
    let died = json!({"RecordDeath": {"person_id": person, "date_of_death": "1852-11-27"}});
    json!([born, died])
}

/// Sends one request and shows it with its reply.
fn tell(nats: &Connection, show: &Show, step: &Step) -> Result<()> {
    let subject = format!("person.{}", step.subject);
    let headers: HeaderMap = step.command_id.map(|id| ("Nats-Msg-Id", id)).into_iter().collect();
    show.request(step.title, &subject, step.command_id, &step.payload.to_string());
    let payload = step.payload.to_string();
    let reply = nats.request_with_headers_or_timeout(&subject, Some(&headers), Some(REPLY_TIMEOUT), payload)?;
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
