//! The protocol by hand: one thread, one buffer in, one buffer out, written once for all that was read at once.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;

use super::Place;
use super::ledger::{CONTENT_TYPE, EVENT_TYPE, EXPECTED, PERSON_VERSION, ToStore};

/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// Where acknowledgements go.
pub const INBOX: &str = "_INBOX.peers";

/// A connection.
pub struct Socket {
    stream: TcpStream,
    input: Vec<u8>,
    /// What is to be written.
    pub output: Vec<u8>,
}

/// A message, as places in the input.
#[derive(Clone, Copy)]
pub struct Arrived<'a> {
    /// The number of the subscription.
    pub subscription: &'a [u8],
    /// The subject.
    pub subject: &'a [u8],
    /// The reply subject, where there is one.
    pub reply: Option<&'a [u8]>,
    /// The payload.
    pub payload: &'a [u8],
}

impl Socket {
    /// Connects, makes the stream, and subscribes to acknowledgements as number 1.
    pub fn open(place: &Place) -> Result<Self, Box<dyn Error>> {
        let stream = TcpStream::connect(&place.server)?;
        stream.set_nodelay(true)?;
        let mut socket = Self { stream, input: Vec::new(), output: Vec::new() };
        let json = place.stream_json();
        let connect = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1}"#;
        socket.output.extend_from_slice(
            format!(
                "{connect}\r\nSUB {INBOX}.* 1\r\nPUB {} {INBOX}.made {}\r\n{json}\r\n",
                place.create_subject(),
                json.len()
            )
            .as_bytes(),
        );
        let mut made = None;
        while made.is_none() {
            socket.turn(|arrived, _| made = Some(arrived.payload.to_vec()))?;
        }
        let made = made.unwrap_or_default();
        if made.windows(7).any(|part| part == b"\"error\"") {
            return Err(String::from_utf8_lossy(&made).into());
        }
        Ok(socket)
    }

    /// Writes what is to be written, reads what there is, and hands each message to `take` with the output.
    pub fn turn(&mut self, mut take: impl FnMut(Arrived<'_>, &mut Vec<u8>)) -> Result<(), Box<dyn Error>> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        let begin = self.input.len();
        self.input.resize(begin + READ_BYTES, 0);
        let read = self.stream.read(&mut self.input[begin..])?;
        self.input.truncate(begin + read);
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        let mut taken = 0;
        while let Some((parsed, length)) = parse(&self.input[taken..]) {
            taken += length;
            match parsed {
                Parsed::Message(arrived) => take(arrived, &mut self.output),
                Parsed::Ping => self.output.extend_from_slice(b"PONG\r\n"),
                Parsed::Error(said) => return Err(said.into()),
                Parsed::Other => {}
            }
        }
        self.input.drain(..taken);
        Ok(())
    }
}

/// What the server said.
enum Parsed<'a> {
    Message(Arrived<'a>),
    Ping,
    Error(String),
    Other,
}

/// The first thing in the input and its length; nothing where it is not complete yet.
fn parse(input: &[u8]) -> Option<(Parsed<'_>, usize)> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = (&input[..end], &input[end + 2..]);
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let parsed = match words.next()? {
        kind @ (b"MSG" | b"HMSG") => {
            let (subject, subscription) = (words.next()?, words.next()?);
            let mut sizes: Vec<&[u8]> = words.collect();
            let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<usize>().ok();
            let whole = number(sizes.pop()?)?;
            let head = if kind == b"HMSG" { number(sizes.pop()?)? } else { 0 };
            let body = rest.get(..whole + 2)?;
            let payload = &body[head..whole];
            let arrived = Arrived { subscription, subject, reply: sizes.pop(), payload };
            return Some((Parsed::Message(arrived), end + 2 + whole + 2));
        }
        b"PING" => Parsed::Ping,
        b"-ERR" => Parsed::Error(String::from_utf8_lossy(line).into_owned()),
        _ => Parsed::Other,
    };
    Some((parsed, end + 2))
}

/// Writes a message that is to be stored.
pub fn store(output: &mut Vec<u8>, prefix: &str, order: &ToStore, event: &[u8]) {
    message(output, prefix, order, event, "", true);
}

/// Writes a message of an atomic batch, which has the order's number. Only the last one is answered.
pub fn store_in_batch(output: &mut Vec<u8>, prefix: &str, order: &ToStore, event: &[u8], at: u64, last: bool) {
    let commit = if last { "Nats-Batch-Commit: 1\r\n" } else { "" };
    let headers = format!("Nats-Batch-Id: peers-{}\r\nNats-Batch-Sequence: {at}\r\n{commit}", order.number);
    message(output, prefix, order, event, &headers, last);
}

fn message(output: &mut Vec<u8>, prefix: &str, order: &ToStore, event: &[u8], more: &str, answered: bool) {
    let mut headers = format!("NATS/1.0\r\n{EXPECTED}: {}\r\n", order.expected);
    for (name, value) in [EVENT_TYPE, PERSON_VERSION, CONTENT_TYPE] {
        // Writing to a string cannot fail.
        let _ = write!(headers, "{name}: {value}\r\n");
    }
    headers.push_str(more);
    headers.push_str("\r\n");
    let (head, whole) = (headers.len(), headers.len() + event.len());
    let reply = if answered { format!("{INBOX}.{} ", order.number) } else { String::new() };
    let line = format!("HPUB {prefix}.events.{} {reply}{head} {whole}\r\n", order.id());
    for part in [line.as_bytes(), headers.as_bytes(), event, b"\r\n"] {
        output.extend_from_slice(part);
    }
}

/// Writes a message without headers.
pub fn publish(output: &mut Vec<u8>, subject: &[u8], payload: &[u8]) {
    let length = format!(" {}\r\n", payload.len());
    for part in [b"PUB ", subject, length.as_bytes(), payload, b"\r\n"] {
        output.extend_from_slice(part);
    }
}
