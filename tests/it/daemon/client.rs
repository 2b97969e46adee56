//! A client of the service, as anyone might write one: its own inbox, many commands in flight, retries by command id.
//!
//! It speaks the protocol itself, so that what arrives is seen as it came, headers and all.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{PATIENCE, eventually};

/// When a command is sent again that got no answer.
const AGAIN: Duration = Duration::from_secs(10);

/// A message that came to this client.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: String,
    pub reply: Option<String>,
    pub headers: Vec<(String, String)>,
    pub payload: Vec<u8>,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The payload as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }

    /// Whether the server says that nobody listens there.
    pub fn is_no_responders(&self) -> bool {
        self.payload.is_empty() && self.header("Status") == Some("503")
    }
}

/// A connection with an inbox of its own. Clones would share it; there are none.
pub struct Client {
    writer: Arc<Mutex<TcpStream>>,
    arrived: Receiver<Message>,
    /// What the server complained about.
    pub complaints: Arc<Mutex<Vec<String>>>,
    pub inbox: String,
    is_gone: Arc<AtomicBool>,
    asked: u64,
    subscribed: u64,
    pings: usize,
    pongs_seen: Arc<AtomicUsize>,
}

/// One command as it is sent.
#[derive(Debug, Clone)]
pub struct Command {
    pub id: String,
    pub person: String,
    pub headers: Vec<(String, String)>,
    pub payload: Vec<u8>,
}

impl Command {
    /// With a command id that nobody else has.
    pub fn new(person: &str, body: &Value) -> Self {
        Self::with_id(&uuid::Uuid::now_v7().to_string(), person, body)
    }

    pub fn with_id(id: &str, person: &str, body: &Value) -> Self {
        let headers = vec![("Nats-Msg-Id".to_owned(), id.to_owned())];
        Self { id: id.to_owned(), person: person.to_owned(), headers, payload: body.to_string().into_bytes() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn subject(&self) -> String {
        format!("person.commands.{}", self.person)
    }
}

impl Client {
    pub fn connect(port: u16) -> Self {
        Self::sign_in(port, "")
    }

    /// With these members of the CONNECT object, each followed by a comma.
    pub fn sign_in(port: u16, members: &str) -> Self {
        Self::try_sign_in(port, members, PATIENCE).expect("the server listens")
    }

    /// The same; `None` when the server is not there, or does not introduce itself within this time.
    pub fn try_sign_in(port: u16, members: &str, within: Duration) -> Option<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(within)).unwrap();
        let mut reader = BufReader::with_capacity(1024 * 1024, stream.try_clone().unwrap());
        let mut greeting = String::new();
        reader.read_line(&mut greeting).ok().filter(|length| *length > 0)?;
        stream.set_read_timeout(None).unwrap();
        let connect =
            format!("CONNECT {{{members}\"verbose\":false,\"headers\":true,\"no_responders\":true}}\r\nPING\r\n");
        stream.write_all(connect.as_bytes()).ok()?;
        let writer = Arc::new(Mutex::new(stream));
        let (sender, arrived) = channel();
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let (pong, noted) = (Arc::clone(&writer), Arc::clone(&complaints));
        let is_gone = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&is_gone);
        // The first one answers the sign-in.
        let pongs_seen = Arc::new(AtomicUsize::new(0));
        let pongs = Arc::clone(&pongs_seen);
        std::thread::spawn(move || {
            let _gone = SetWhenDropped(gone);
            while let Some(line) = line_of(&mut reader) {
                match line.split(' ').next() {
                    Some("MSG" | "HMSG") => {
                        let Some(message) = message_of(&mut reader, &line) else { return };
                        if sender.send(message).is_err() {
                            return;
                        }
                    }
                    Some("PONG") => drop(pongs.fetch_add(1, SeqCst)),
                    Some("PING") => drop(pong.lock().unwrap().write_all(b"PONG\r\n")),
                    Some("-ERR") => noted.lock().unwrap().push(line),
                    _ => {}
                }
            }
        });
        let inbox = format!("_INBOX.{}", uuid::Uuid::new_v4().simple());
        let mut client =
            Self { writer, arrived, complaints, inbox, is_gone, asked: 0, subscribed: 0, pings: 1, pongs_seen };
        client.subscribe(&format!("{}.>", client.inbox));
        Some(client)
    }

    /// Whether the server has ended the connection.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(SeqCst)
    }

    /// Writes these very bytes. A server that is gone does not take them, and then nothing is answered.
    pub fn send(&self, bytes: &[u8]) {
        let _ = self.writer.lock().unwrap().write_all(bytes);
    }

    pub fn subscribe(&mut self, subject: &str) {
        self.subscribed += 1;
        self.send(format!("SUB {subject} {}\r\n", self.subscribed).as_bytes());
    }

    /// Waits until the server has done all that it was told on this connection, subscriptions above all: what others send
    /// on other connections may come before them.
    pub fn settle(&mut self) {
        self.pings += 1;
        self.send(b"PING\r\n");
        eventually("the server has read it all", || self.pongs_seen.load(SeqCst) >= self.pings);
    }

    pub fn publish(&self, subject: &str, reply: &str, headers: &[(String, String)], payload: &[u8]) {
        self.send(&encode(subject, reply, headers, payload));
    }

    /// The next message, whatever it answers; `None` when none comes within this time.
    pub fn next(&self, within: Duration) -> Option<Message> {
        match self.arrived.recv_timeout(within) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(within);
                None
            }
        }
    }

    /// A message that has come already.
    pub fn waiting(&self) -> Option<Message> {
        self.arrived.try_recv().ok()
    }

    /// A reply subject of this client that was not used before.
    pub fn new_reply(&mut self) -> String {
        self.asked += 1;
        format!("{}.{}", self.inbox, self.asked)
    }

    /// Asks once; `None` when no answer comes in time.
    pub fn ask(
        &mut self,
        subject: &str,
        headers: &[(String, String)],
        payload: &[u8],
        within: Duration,
    ) -> Option<Message> {
        let reply = self.new_reply();
        self.publish(subject, &reply, headers, payload);
        self.answer_to(&reply, within)
    }

    /// The answer that comes to this reply subject; others that come before it are dropped.
    pub fn answer_to(&self, reply: &str, within: Duration) -> Option<Message> {
        let deadline = Instant::now() + within;
        loop {
            let message = self.next(deadline.saturating_duration_since(Instant::now()))?;
            if message.subject == reply {
                return Some(message);
            }
        }
    }

    /// Sends a command once, to its canonical subject.
    pub fn command(&mut self, command: &Command) -> Message {
        let answer = self.ask(&command.subject(), &command.headers, &command.payload, PATIENCE);
        answer.unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(&command.payload)))
    }

    /// Sends a command once and returns the reply's JSON.
    pub fn tell(&mut self, person: &str, body: &Value) -> Value {
        self.command(&Command::new(person, body)).json()
    }

    /// The same, and it must be accepted: sent as any client sends, again by its id after silence or what asks for it. A service
    /// that did not hear of its server for a second and a half, on a busy machine, can neither store nor reply.
    #[track_caller]
    pub fn accepted(&mut self, person: &str, body: &Value) -> Value {
        let command = Command::new(person, body);
        let mut reply = None;
        eventually("an answer that does not ask for another try", || {
            let answer = self.ask(&command.subject(), &command.headers, &command.payload, AGAIN);
            reply = answer.map(|answer| answer.json()).filter(|reply| reply["error"]["retryable"] != true);
            reply.is_some()
        });
        let reply = reply.expect("an answer");
        assert_eq!(reply["status"], "accepted", "{body}: {reply}");
        reply
    }

    /// A call of JetStream.
    pub fn api(&mut self, call: &str, body: &Value) -> Value {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.ask(&format!("$JS.API.{call}"), &[], &body, PATIENCE);
        answer.unwrap_or_else(|| panic!("{call} is not answered")).json()
    }

    /// Every message of the stream, in order.
    pub fn stored(&mut self, stream: &str) -> Vec<Message> {
        let state = self.api(&format!("STREAM.INFO.{stream}"), &Value::Null)["state"].clone();
        let (first, last) = (state["first_seq"].as_u64().unwrap(), state["last_seq"].as_u64().unwrap());
        let sequences: Vec<u64> = (first..=last).collect();
        let mut messages = Vec::new();
        for chunk in sequences.chunks(256) {
            let mut replies: HashMap<String, usize> = HashMap::new();
            let mut found: Vec<Option<Message>> = chunk.iter().map(|_| None).collect();
            for (at, sequence) in chunk.iter().enumerate() {
                let reply = self.new_reply();
                let body = json!({ "seq": sequence }).to_string();
                self.publish(&format!("$JS.API.DIRECT.GET.{stream}"), &reply, &[], body.as_bytes());
                replies.insert(reply, at);
            }
            while found.iter().any(Option::is_none) {
                let message = self.next(PATIENCE).expect("the stream is readable");
                if let Some(at) = replies.get(&message.subject) {
                    found[*at] = Some(message);
                }
            }
            messages.extend(found.into_iter().flatten());
        }
        messages.retain(|message| message.header("Status").is_none());
        messages
    }
}

struct SetWhenDropped(Arc<AtomicBool>);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.writer.lock().unwrap().shutdown(std::net::Shutdown::Both);
    }
}

/// The protocol's form of a message.
pub fn encode(subject: &str, reply: &str, headers: &[(String, String)], payload: &[u8]) -> Vec<u8> {
    if headers.is_empty() {
        let line = format!("PUB {subject} {reply} {}\r\n", payload.len());
        return [line.as_bytes(), payload, b"\r\n"].concat();
    }
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let block = format!("NATS/1.0\r\n{lines}\r\n");
    let line = format!("HPUB {subject} {reply} {} {}\r\n", block.len(), block.len() + payload.len());
    [line.as_bytes(), block.as_bytes(), payload, b"\r\n"].concat()
}

fn line_of(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    match reader.read_until(b'\n', &mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(String::from_utf8_lossy(&line).trim_end().to_owned()),
    }
}

fn message_of(reader: &mut impl Read, line: &str) -> Option<Message> {
    let words: Vec<&str> = line.split(' ').collect();
    let sizes = if words[0] == "HMSG" { 2 } else { 1 };
    let number = |word: &str| word.parse::<usize>().expect("a size");
    let total = number(words[words.len() - 1]);
    let headers = if sizes == 2 { number(words[words.len() - 2]) } else { 0 };
    let mut bytes = vec![0; total + 2];
    reader.read_exact(&mut bytes).ok()?;
    bytes.truncate(total);
    let payload = bytes.split_off(headers);
    Some(Message {
        subject: words[1].to_owned(),
        reply: (words.len() == 4 + sizes).then(|| words[3].to_owned()),
        headers: headers_of(&String::from_utf8_lossy(&bytes)),
        payload,
    })
}

fn headers_of(block: &str) -> Vec<(String, String)> {
    let mut lines = block.lines();
    let status = lines.next().and_then(|first| first.strip_prefix("NATS/1.0 ")).map(|rest| {
        let code = rest.split(' ').next().unwrap_or_default();
        ("Status".to_owned(), code.to_owned())
    });
    let pairs = lines.filter_map(|line| line.split_once(':'));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    status.into_iter().chain(pairs).collect()
}
