//! A message as a stranger sends it: subject, header block and payload.
//!
//! The input: the subject and a line break, the header block as it comes over the wire, an empty line, the payload.

use cim_domain_person::domain::{Command, Timestamp};
use cim_domain_person::nats::Incoming;
use cim_domain_person::wire::digest::Digest;
use cim_domain_person::wire::reply::{self, Code, Outcome};
use cim_domain_person::wire::request::{
    COMMAND_ID_CHARS_MAX, COMMANDS_MAX, HEADER_CHARS_MAX, Header, Headers, NotARequest, PAYLOAD_BYTES_MAX, Request,
    Stamp, decode, decode_commands,
};
use cim_domain_person::wire::subject::Subjects;

use super::marker::{MARKER, assert_quotes_nothing, assert_short, marked};
use super::{choice, first_line};

/// What holds of every message.
pub fn hold(input: &[u8]) {
    let (subject, rest) = first_line(input);
    let end = rest.windows(2).position(|pair| pair == b"\n\n").unwrap_or(0);
    let (block, payload) = (&rest[..end], rest.get(end + 2..).unwrap_or_default());
    // Without headers a message comes without a block.
    let block = (!block.is_empty()).then_some(block);
    let Ok(message) = Incoming::parse(subject, None, block, payload) else { return };
    match received(&message, &message) {
        Ok(request) => {
            assert_sound(&request);
            assert_same_again(&request);
        }
        Err(refused) => assert_refused(&refused),
    }
    let is_taken = |outcome: Result<Request, NotARequest>| outcome.is_ok();
    assert_eq!(
        is_taken(received(&message, &message)),
        is_taken(received(&message, &Untraced(&message))),
        "a trace context is no reason to refuse"
    );
    if let Err(refused) = received(&message, &Marked(&message)) {
        assert_quotes_nothing(&refused.problem);
    }
    if let Some(payload) = marked(payload, choice(input))
        && let Err(problem) = decode_commands(&payload)
    {
        assert_quotes_nothing(&problem);
    }
}

/// The same headers without a trace context.
struct Untraced<'a>(&'a Incoming);

impl Headers for Untraced<'_> {
    fn get(&self, name: &str) -> Header<'_> {
        if name.eq_ignore_ascii_case("traceparent") { Header::Absent } else { self.0.get(name) }
    }
}

/// The same headers with the marker in every value.
struct Marked<'a>(&'a Incoming);

impl Headers for Marked<'_> {
    fn get(&self, name: &str) -> Header<'_> {
        match self.0.get(name) {
            Header::One(_) => Header::One(MARKER_WITH_BELL),
            other => other,
        }
    }
}

const MARKER_WITH_BELL: &str = "Zxq7marker\u{7}";
const _: () = assert!(MARKER.len() + 1 == MARKER_WITH_BELL.len());

fn received(message: &Incoming, headers: &impl Headers) -> Result<Request, NotARequest> {
    let stamp = Stamp { at: Timestamp::from_micros(1_770_000_000_000_000), id: uuid::Uuid::from_u128(7) };
    decode(&Subjects::new("person"), message.subject(), headers, message.payload(), stamp)
}

pub fn assert_sound(request: &Request) {
    let Request { person, commands, is_array, command_id, digest, correlation_id, actor, traceparent, .. } = request;
    assert!((1..=COMMANDS_MAX).contains(&commands.len()) && (*is_array || commands.len() == 1));
    assert!(commands.iter().all(|command| command.person_id() == *person));
    assert!((1..=COMMAND_ID_CHARS_MAX).contains(&command_id.text.len()));
    assert!(command_id.text.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!(command_id.digest, Digest::of(command_id.text.as_bytes()));
    assert_eq!(*digest, Digest::of_encoded(commands));
    let _ = command_id.made_at();
    for text in [correlation_id, actor].into_iter().flatten() {
        assert!((1..=HEADER_CHARS_MAX).contains(&text.chars().count()) && !text.contains(char::is_control));
    }
    let fits = |trace: &String| {
        (55..=HEADER_CHARS_MAX).contains(&trace.len()) && trace.bytes().all(|byte| byte.is_ascii_graphic())
    };
    assert!(traceparent.as_ref().is_none_or(fits));
}

/// What was taken is in its normal form: written and read again it is the same, with the same digest.
fn assert_same_again(request: &Request) {
    let written = serde_json::to_vec(&request.commands).unwrap();
    // Normal form C and the members that may be left out make a text longer than what was sent.
    if written.len() > PAYLOAD_BYTES_MAX {
        return;
    }
    let (again, is_array): (Vec<Command>, bool) =
        decode_commands(&written).expect("what was taken once is taken again");
    assert!(is_array);
    assert_eq!(again, request.commands);
    assert_eq!(Digest::of_encoded(&again), request.digest);
}

pub fn assert_refused(refused: &NotARequest) {
    let NotARequest { command_id, person, problem } = refused;
    let codes = [Code::Malformed, Code::Invalid, Code::PersonIdMismatch, Code::TooLarge];
    assert!(codes.contains(&problem.code), "{problem:?}");
    assert!(problem.index.is_none_or(|index| index < COMMANDS_MAX));
    assert_short(problem);
    let reply = reply::encode(command_id.as_deref(), *person, &Outcome::Problem(problem.clone()));
    let reply: serde_json::Value = serde_json::from_slice(&reply).expect("a reply is JSON");
    assert_eq!(reply["status"], "rejected");
}
