//! What a client sent, decoded and checked: from here on a [`Request`] is one that could be carried out.

use serde_json_borrow::Value;
use uuid::Uuid;

use crate::domain::{Command, PersonId, Timestamp};
use crate::wire::digest::Digest;
use crate::wire::reply::{Code, Problem};
use crate::wire::subject::Subjects;

/// The largest payload, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// The most commands in one array.
pub const COMMANDS_MAX: usize = 100;
/// The longest command id, in characters.
pub const COMMAND_ID_CHARS_MAX: usize = 128;
/// The longest `Correlation-Id`, `Actor` and `traceparent`, in characters.
pub const HEADER_CHARS_MAX: usize = 256;

/// So far into a payload its person is looked for without decoding it, in bytes.
const HINT_BYTES_MAX: usize = 1024;

/// The headers of a message, as far as the service looks at them.
pub trait Headers {
    /// The value of a header, by its name in any case: clients and what stands between write them as they please.
    fn get(&self, name: &str) -> Header<'_>;
}

/// One header's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header<'a> {
    /// It was not sent.
    Absent,
    /// It was sent once, or with the same value each time.
    One(&'a str),
    /// It was sent with several values.
    Several,
}

/// What the edge of the service adds to a request, so that nothing below it needs a clock or randomness.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// When it arrived, by the wall clock.
    pub at: Timestamp,
    /// A UUIDv7 of that time: the command id, if the client gave none. The ids of the request's events are derived from it.
    pub id: Uuid,
}

/// Commands for one person that are decided and stored all-or-nothing, with what came in the headers.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose aggregate decides.
    pub person: PersonId,
    /// 1 to [`COMMANDS_MAX`], valid and normalised.
    pub commands: Vec<Command>,
    /// Whether they came as an array, so that a refusal names the position.
    pub is_array: bool,
    /// The client's name for this request, or one that the service made.
    pub command_id: CommandId,
    /// Tells these commands from others.
    pub digest: Digest,
    /// What was sent to tie the request to what it belongs to; see [`Request::correlation_id`].
    pub correlation_id: Option<String>,
    /// Who claims to act.
    pub actor: Option<String>,
    /// Decide only at exactly this version.
    pub expected_version: Option<u64>,
    /// The W3C trace context, as it came, of whichever version.
    pub traceparent: Option<String>,
    /// When it arrived, and its randomness.
    pub stamp: Stamp,
}

impl Request {
    /// Ties the request to what it belongs to; the command id where nothing else was sent.
    pub fn correlation_id(&self) -> &str {
        self.correlation_id.as_deref().unwrap_or(&self.command_id.text)
    }
}

/// A command id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandId {
    /// As it stands in replies and commits.
    pub text: String,
    /// Whether the service made it, and nobody else knows it: then it is not remembered, since no retry can bear it.
    pub generated: bool,
    /// The digest of the text, by which it is remembered.
    pub digest: Digest,
}

impl CommandId {
    /// The command id with this text.
    pub fn new(text: String, generated: bool) -> Self {
        Self { digest: Digest::of(text.as_bytes()), text, generated }
    }

    /// When it was made, by its own word; see [`made_at`].
    pub fn made_at(&self) -> Option<Timestamp> {
        made_at(&self.text)
    }
}

/// When a command id was made that is a UUIDv7, by the clock of whoever made it and as late as our calendar goes; `None` for
/// any other id.
pub fn made_at(command_id: &str) -> Option<Timestamp> {
    let uuid = Uuid::try_parse(command_id).ok().filter(|uuid| uuid.get_version_num() == 7)?;
    // The first 48 bits are milliseconds: in microseconds they fit.
    let millis = i64::try_from(uuid.as_u128() >> 80).ok()?;
    Some(Timestamp::from_micros(millis * 1000))
}

/// A message that is no request, with as much of a reply's address as could be read.
#[derive(Debug, Clone)]
pub struct NotARequest {
    /// The command id, unless its header was bad.
    pub command_id: Option<String>,
    /// The person, where the payload told it.
    pub person: Option<PersonId>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// The person that a message is for, as far as its bytes show it without being decoded: a hint. Where the subject names
/// nobody it is the first `person_id` of the payload.
pub fn person_hinted(subjects: &Subjects, subject: &str, payload: &[u8]) -> Option<PersonId> {
    const NAME: &[u8] = br#""person_id""#;
    subjects.person_named_by(subject).or_else(|| {
        let head = payload.get(..HINT_BYTES_MAX).unwrap_or(payload);
        let behind = head.windows(NAME.len()).position(|bytes| bytes == NAME)? + NAME.len();
        let value =
            head.get(behind..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
        let id = value.split(|byte| *byte == b'"').next()?;
        str::from_utf8(id).ok()?.parse().ok()
    })
}

/// Decodes, checks and normalises one message.
pub fn decode(
    subjects: &Subjects,
    subject: &str,
    headers: &impl Headers,
    payload: &[u8],
    stamp: Stamp,
) -> Result<Request, NotARequest> {
    let command_id =
        command_id(headers, stamp).map_err(|problem| NotARequest { command_id: None, person: None, problem })?;
    let id = &command_id.text;
    let refused = |person| move |problem| NotARequest { command_id: Some(id.clone()), person, problem };
    let (commands, is_array) = read_commands(payload).map_err(refused(None))?;
    let person = addressed_person(subjects, subject, &commands, is_array)
        .map_err(|(person, problem)| refused(person)(problem))?;
    let commands = validated(commands, is_array).map_err(refused(Some(person)))?;
    let context = HeaderContext::read(headers).map_err(refused(Some(person)))?;
    Ok(Request {
        person,
        digest: Digest::of_encoded(&commands),
        commands,
        is_array,
        correlation_id: context.correlation_id,
        command_id,
        actor: context.actor,
        expected_version: context.expected_version,
        traceparent: context.traceparent,
        stamp,
    })
}

/// A message that is refused unread, with as much of a reply's address as stands outside of its payload.
pub fn unread(
    subjects: &Subjects,
    subject: &str,
    headers: &impl Headers,
    stamp: Stamp,
    problem: Problem,
) -> NotARequest {
    let command_id = command_id(headers, stamp).ok().map(|id| id.text);
    NotARequest { command_id, person: subjects.person_named_by(subject), problem }
}

/// The payload's commands, valid and normalised, and whether they came as an array.
pub fn decode_commands(payload: &[u8]) -> Result<(Vec<Command>, bool), Problem> {
    let (commands, is_array) = read_commands(payload)?;
    Ok((validated(commands, is_array)?, is_array))
}

fn read_commands(payload: &[u8]) -> Result<(Vec<Command>, bool), Problem> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        let message = format!("the payload has {} bytes, {PAYLOAD_BYTES_MAX} are allowed", payload.len());
        return Err(Problem::new(Code::TooLarge, message));
    }
    // One look at the whole payload is cheaper than one at each text in it.
    let read = match str::from_utf8(payload) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(payload),
    };
    match read {
        Ok(Value::Array(sent)) => Ok((read_array(sent)?, true)),
        Ok(sent) => Ok((vec![read_command(sent, None)?], false)),
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            Err(Problem::new(Code::Malformed, format!("the payload is not JSON, from {place} on")))
        }
    }
}

fn read_array(sent: Vec<Value<'_>>) -> Result<Vec<Command>, Problem> {
    match sent.len() {
        0 => Err(Problem::new(Code::Malformed, "an array of commands needs at least one")),
        1..=COMMANDS_MAX => sent.into_iter().enumerate().map(|(index, sent)| read_command(sent, Some(index))).collect(),
        len => {
            let message = format!("the array has {len} commands, {COMMANDS_MAX} are allowed");
            Err(Problem::new(Code::Invalid, message))
        }
    }
}

fn read_command(sent: Value<'_>, index: Option<usize>) -> Result<Command, Problem> {
    Command::from_json(sent).map_err(|malformed| Problem::new(Code::Malformed, malformed.to_string()).at(index))
}

fn validated(commands: Vec<Command>, is_array: bool) -> Result<Vec<Command>, Problem> {
    let each = commands.into_iter().enumerate().map(|(index, command)| {
        let problem = |what: String| Problem::new(Code::Invalid, what).at(is_array.then_some(index));
        command.validated().map_err(|invalid| problem(invalid.to_string()))
    });
    each.collect()
}

/// The one person that subject and commands agree on.
fn addressed_person(
    subjects: &Subjects,
    subject: &str,
    commands: &[Command],
    is_array: bool,
) -> Result<PersonId, (Option<PersonId>, Problem)> {
    let mismatch = |message: &str| Problem::new(Code::PersonIdMismatch, message);
    let Some(first) = commands.first().map(Command::person_id) else {
        return Err((None, Problem::new(Code::Malformed, "no command")));
    };
    if let Some(index) = commands.iter().position(|command| command.person_id() != first) {
        let problem = mismatch("the commands of an array must be for one person").at(is_array.then_some(index));
        return Err((None, problem));
    }
    match subjects.person_named_by(subject) {
        Some(named) if named != first => {
            Err((Some(first), mismatch("the subject names another person than the payload")))
        }
        _ => Ok(first),
    }
}

fn command_id(headers: &impl Headers, stamp: Stamp) -> Result<CommandId, Problem> {
    let text = match single(headers, "Nats-Msg-Id")? {
        None => return Ok(CommandId::new(stamp.id.to_string(), true)),
        Some(text) => text,
    };
    let fits = (1..=COMMAND_ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        let rule = format!("Nats-Msg-Id: 1 to {COMMAND_ID_CHARS_MAX} visible ASCII characters are allowed");
        return Err(Problem::new(Code::Invalid, rule));
    }
    Ok(CommandId::new(text.to_owned(), false))
}

/// The headers that do not name the command.
struct HeaderContext {
    correlation_id: Option<String>,
    actor: Option<String>,
    expected_version: Option<u64>,
    traceparent: Option<String>,
}

impl HeaderContext {
    fn read(headers: &impl Headers) -> Result<Self, Problem> {
        Ok(Self {
            correlation_id: text(headers, "Correlation-Id")?,
            actor: text(headers, "Actor")?,
            expected_version: expected_version(headers)?,
            traceparent: traceparent(headers),
        })
    }
}

fn single<'a>(headers: &'a impl Headers, name: &str) -> Result<Option<&'a str>, Problem> {
    match headers.get(name) {
        Header::Absent => Ok(None),
        Header::One(value) => Ok(Some(value)),
        Header::Several => Err(Problem::new(Code::Invalid, format!("{name}: sent more than once"))),
    }
}

fn text(headers: &impl Headers, name: &str) -> Result<Option<String>, Problem> {
    let Some(value) = single(headers, name)? else { return Ok(None) };
    let fits = (1..=HEADER_CHARS_MAX).contains(&value.chars().count()) && !value.contains(char::is_control);
    if !fits {
        let rule = format!("{name}: 1 to {HEADER_CHARS_MAX} characters without control characters are allowed");
        return Err(Problem::new(Code::Invalid, rule));
    }
    Ok(Some(value.to_owned()))
}

fn expected_version(headers: &impl Headers) -> Result<Option<u64>, Problem> {
    let Some(value) = single(headers, "Expected-Version")? else { return Ok(None) };
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(version) if digits => Ok(Some(version)),
        _ => Err(Problem::new(Code::Invalid, "Expected-Version: a whole number from 0 is allowed")),
    }
}

/// The trace context, as W3C Trace Context, section 3.2, has it read: one that is none, or given several times, is as if it
/// had not been sent. It is there for those who look on, and no reason to refuse what is to be done.
fn traceparent(headers: &impl Headers) -> Option<String> {
    match headers.get("traceparent") {
        Header::One(value) if is_trace_context(value) => Some(value.to_owned()),
        Header::One(_) | Header::Several | Header::Absent => None,
    }
}

/// Whether it is `version-traceid-parentid-flags` in lower-case hexadecimal, neither id all zeros. Versions after 00 may
/// have more behind it; ff is none.
fn is_trace_context(value: &str) -> bool {
    let hexadecimal = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let id = |part: &str, len| hexadecimal(part, len) && part.bytes().any(|byte| byte != b'0');
    let mut parts = value.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let (version, trace, parent, flags) = (next(), next(), next(), next());
    let has_more = parts.next().is_some();
    value.len() <= HEADER_CHARS_MAX
        && value.bytes().all(|byte| byte.is_ascii_graphic())
        && hexadecimal(version, 2)
        && version != "ff"
        && id(trace, 32)
        && id(parent, 16)
        && hexadecimal(flags, 2)
        && (!has_more || version != "00")
}
