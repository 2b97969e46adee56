//! A NATS client without manners: it writes what it is told, also what no client should.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;

/// A connection.
pub struct Raw {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    /// The beginning of a line whose end had not come when the time for it was over.
    begun: Vec<u8>,
    asked: u64,
}

/// A message as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct RawMessage {
    pub subject: String,
    pub reply: Option<String>,
    pub headers: String,
    pub payload: Vec<u8>,
}

impl Raw {
    /// Connects without signing in.
    pub fn connect(port: u16) -> Self {
        Self::sign_in(port, "")
    }

    /// Connects with these members of the CONNECT object, each followed by a comma.
    pub fn sign_in(port: u16, members: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::with_capacity(1024 * 1024, stream.try_clone().unwrap());
        let mut raw = Self { stream, reader, begun: Vec::new(), asked: 0 };
        raw.line().expect("the server introduces itself");
        raw.send(
            format!("CONNECT {{{members}\"verbose\":false,\"headers\":true,\"no_responders\":true}}\r\n").as_bytes(),
        );
        raw.sync();
        raw
    }

    /// What the server says first.
    pub fn greeting(port: u16) -> Option<Value> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str(line.strip_prefix("INFO ")?).ok()
    }

    /// Writes these very bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        let line = format!("PUB {subject} {reply} {}\r\n", payload.len());
        self.send(&[line.as_bytes(), payload, b"\r\n"].concat());
    }

    /// `headers` is the whole block, from `NATS/1.0` to the empty line.
    pub fn publish_with_headers(&mut self, subject: &str, reply: &str, headers: &[u8], payload: &[u8]) {
        let (some, all) = (headers.len(), headers.len() + payload.len());
        let line = format!("HPUB {subject} {reply} {some} {all}\r\n");
        self.send(&[line.as_bytes(), headers, payload, b"\r\n"].concat());
    }

    pub fn subscribe(&mut self, subject: &str, number: u64) {
        self.send(format!("SUB {subject} {number}\r\n").as_bytes());
    }

    /// Returns when the server has taken in all that was written before. Messages that come meanwhile are dropped. What was
    /// published to a stream is stored later: see [`stored`](Self::stored).
    pub fn sync(&mut self) {
        self.send(b"PING\r\n");
        loop {
            let line = self.line().expect("the server answers");
            match line.split(' ').next() {
                Some("PONG") => return,
                Some("-ERR") => panic!("{line}"),
                Some("MSG" | "HMSG") => drop(self.message(&line)),
                _ => {}
            }
        }
    }

    /// The next message; `None` when none comes within this time.
    pub fn next(&mut self, within: Duration) -> Option<RawMessage> {
        self.stream.set_read_timeout(Some(within)).unwrap();
        let message = loop {
            let Some(line) = self.line() else { break None };
            match line.split(' ').next() {
                Some("MSG" | "HMSG") => break Some(self.message(&line)),
                Some("PING") => self.send(b"PONG\r\n"),
                _ => {}
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        message
    }

    /// Whether anybody listens there. The server answers in order: by the time it has answered a ping it has said that
    /// nobody does, where that is so, and no time needs to be guessed after which it would have.
    pub fn has_listener(&mut self, subject: &str) -> bool {
        self.subscribe("_INBOX.listener", 77);
        self.publish(subject, "_INBOX.listener", b"?");
        self.send(b"PING\r\n");
        let mut is_there = true;
        loop {
            let line = self.line().expect("the server answers");
            match line.split(' ').next() {
                Some("PONG") => break,
                Some("MSG" | "HMSG") => is_there &= !self.message(&line).headers.starts_with("NATS/1.0 503"),
                _ => {}
            }
        }
        self.send(b"UNSUB 77\r\n");
        is_there
    }

    /// Publishes to a stream, with these lines of headers, and returns its sequence once it is stored.
    #[track_caller]
    pub fn stored(&mut self, subject: &str, headers: &str, payload: &[u8]) -> u64 {
        let block = format!("NATS/1.0\r\n{headers}\r\n");
        self.subscribe("_INBOX.stored", 78);
        self.publish_with_headers(subject, "_INBOX.stored", block.as_bytes(), payload);
        let answer = self.next(PATIENCE).expect("the stream answers");
        self.send(b"UNSUB 78\r\n");
        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        answer["seq"].as_u64().unwrap_or_else(|| panic!("not stored: {answer}"))
    }

    /// A question with one answer.
    pub fn request(&mut self, subject: &str, payload: &[u8]) -> RawMessage {
        self.asked += 1;
        let number = 1_000_000 + self.asked;
        let inbox = format!("_INBOX.raw{:x}.{number}", std::ptr::from_ref(self) as usize);
        self.subscribe(&inbox, number);
        self.publish(subject, &inbox, payload);
        let answer = self.next(PATIENCE).expect("an answer");
        self.send(format!("UNSUB {number}\r\n").as_bytes());
        answer
    }

    /// A JetStream call.
    pub fn api(&mut self, call: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.request(&format!("$JS.API.{call}"), body.as_bytes());
        serde_json::from_slice(&answer.payload).unwrap_or_else(|_| panic!("{call}: {answer:?}"))
    }

    fn line(&mut self) -> Option<String> {
        let read = self.reader.read_until(b'\n', &mut self.begun);
        read.ok().filter(|length| *length > 0)?;
        Some(String::from_utf8_lossy(&std::mem::take(&mut self.begun)).trim_end().to_owned())
    }

    fn message(&mut self, line: &str) -> RawMessage {
        let words: Vec<&str> = line.split(' ').collect();
        let with_headers = words[0] == "HMSG";
        let sizes = if with_headers { 2 } else { 1 };
        let number = |word: &str| word.parse::<usize>().expect("a size");
        let total = number(words[words.len() - 1]);
        let headers = if with_headers { number(words[words.len() - 2]) } else { 0 };
        let mut bytes = vec![0; total + 2];
        // It has begun: the rest of it comes.
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.reader.read_exact(&mut bytes).expect("the message's bytes");
        bytes.truncate(total);
        let payload = bytes.split_off(headers);
        RawMessage {
            subject: words[1].to_owned(),
            reply: (words.len() == 4 + sizes).then(|| words[3].to_owned()),
            headers: String::from_utf8_lossy(&bytes).into_owned(),
            payload,
        }
    }
}
