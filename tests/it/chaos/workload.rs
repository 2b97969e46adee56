//! Clients that mean it: each sends commands until each has a decisive answer, by the same command id, whatever is
//! lost on the way. Everything that was sent and everything that came back is written down.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::commands::{any_body, create};
use super::diary::Diary;
use super::rig::sign_in;
use crate::daemon::client::{Client, Message};
use crate::engine::chance::Chance;
use crate::support::PATIENCE;

/// Persons that commands are about at any time: few, so that replicas meet at them.
const PERSONS_MAX: usize = 24;
/// Commands that a client has no decisive answer to, at most.
const OPEN_MAX: usize = 6;
/// How long a client listens before it looks whether there is something to send.
const LISTEN: Duration = Duration::from_millis(5);

/// A command, and every time that it was sent.
#[derive(Debug)]
pub struct Sent {
    pub id: String,
    pub person: String,
    pub headers: Vec<(String, String)>,
    pub payload: Vec<u8>,
    pub deliveries: Vec<Delivery>,
}

/// One time that it was sent, and what came back to this very one.
#[derive(Debug)]
pub struct Delivery {
    pub sent: Duration,
    pub replies: Vec<(Duration, Vec<u8>)>,
}

/// A look at a person.
#[derive(Debug)]
pub struct Looked {
    pub person: String,
    pub sent: Duration,
    pub reply: Option<(Duration, Vec<u8>)>,
}

fn is_decisive(reply: &Value) -> bool {
    reply["status"].is_string() && reply["error"]["retryable"] != true
}

/// What the clients share.
#[derive(Clone)]
pub struct Shared {
    pub ports: Arc<Vec<u16>>,
    pub diary: Diary,
    pub command_timeout: Duration,
    /// The pause of a client between two new commands.
    pub pause: Duration,
    pub people: Arc<Mutex<People>>,
    pub phase: Arc<AtomicU8>,
}

/// Phases: new commands are sent; only those without a decisive answer are, again; what comes is written down; the end.
pub const BUSY: u8 = 0;
pub const FINISHING: u8 = 1;
pub const LISTENING: u8 = 2;
pub const OVER: u8 = 3;

/// The persons that exist, or are about to, and what their version was when somebody last heard of it.
#[derive(Default)]
pub struct People {
    now: Vec<(String, u64)>,
    pub all: Vec<String>,
}

impl People {
    fn add(&mut self, person: String) {
        self.all.push(person.clone());
        self.now.push((person, 0));
        if self.now.len() > PERSONS_MAX {
            self.now.remove(0);
        }
    }

    fn any(&self, chance: &mut Chance) -> Option<(String, u64)> {
        (!self.now.is_empty()).then(|| chance.pick(&self.now).clone())
    }

    fn heard(&mut self, person: &str, version: u64) {
        if let Some((_, known)) = self.now.iter_mut().find(|(known, _)| known == person) {
            *known = version.max(*known);
        }
    }
}

/// A client: a connection when there is one, and what it waits for.
struct Sender {
    shared: Shared,
    chance: Chance,
    number: usize,
    link: Option<Client>,
    commands: Vec<Sent>,
    /// Those without a decisive answer, and when to send them again.
    open: HashMap<usize, Duration>,
    /// By reply subject: which delivery of which command.
    expected: HashMap<String, (usize, usize)>,
    next_new: Duration,
}

/// Runs a client through all phases; `is_open` tells whether it still waits for something.
pub fn send(shared: Shared, seed: u64, number: usize, is_open: &AtomicU8) -> Vec<Sent> {
    let chance = Chance::new(seed.wrapping_add(number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut sender = Sender {
        shared,
        chance,
        number,
        link: None,
        commands: Vec::new(),
        open: HashMap::new(),
        expected: HashMap::new(),
        next_new: Duration::ZERO,
    };
    loop {
        let phase = sender.shared.phase.load(SeqCst);
        if phase == OVER {
            return sender.commands;
        }
        if !sender.connect() {
            std::thread::sleep(LISTEN * 4);
            continue;
        }
        let now = sender.shared.diary.now();
        if phase == BUSY && sender.open.len() < OPEN_MAX && now >= sender.next_new {
            sender.next_new = now + sender.shared.pause;
            sender.begin_another(now);
        }
        if phase <= FINISHING {
            sender.send_due(now);
        }
        is_open.store(u8::from(!sender.open.is_empty()), SeqCst);
        if let Some(message) = sender.link.as_ref().and_then(|link| link.next(LISTEN)) {
            sender.take(&message);
        }
    }
}

impl Sender {
    fn connect(&mut self) -> bool {
        if self.link.as_ref().is_none_or(Client::is_gone) {
            // What came before the end is still to be taken.
            while let Some(message) = self.link.as_ref().and_then(Client::waiting) {
                self.take(&message);
            }
            let port = *self.chance.pick(&self.shared.ports);
            self.link = sign_in(port);
        }
        self.link.is_some()
    }

    fn begin_another(&mut self, now: Duration) {
        let command = match self.chance.draw(100) {
            0..3 if !self.commands.is_empty() => self.again(),
            3..5 if !self.commands.is_empty() => self.same_id_for_another(),
            _ => self.new_command(),
        };
        let index = match command {
            Again(index) => index,
            Another(sent) => {
                self.commands.push(*sent);
                self.commands.len() - 1
            }
        };
        self.open.insert(index, now);
        // Twice on purpose: two replicas may well get one each.
        if self.chance.draw(20) == 0 {
            self.deliver(index, now);
        }
    }

    /// A command that was answered long ago: the answer has to be the same.
    fn again(&mut self) -> Next {
        let recent = self.commands.len().min(40) as u64;
        Again(self.commands.len() - 1 - usize::try_from(self.chance.draw(recent)).unwrap())
    }

    /// A mistake that clients make.
    fn same_id_for_another(&mut self) -> Next {
        let earlier = self.commands.last().expect("there is one");
        let (id, person) = (earlier.id.clone(), earlier.person.clone());
        let body = any_body(&mut self.chance, &person, &person);
        Another(Box::new(self.sent(id, person, &body, None)))
    }

    fn new_command(&mut self) -> Next {
        let id = format!("{}-{}-{}", uuid::Uuid::now_v7(), self.number, self.commands.len());
        // Some ids are plain UUIDs of version 7, which are remembered for longer.
        let id = if self.chance.draw(2) == 0 { id } else { uuid::Uuid::now_v7().to_string() };
        let known = {
            let mut people = self.shared.people.lock().unwrap();
            if people.now.len() < 6 || self.chance.draw(12) == 0 {
                people.add(uuid::Uuid::now_v7().to_string());
                people.now.last().cloned().map(|(person, _)| (person, None))
            } else {
                people.any(&mut self.chance).map(|(person, version)| (person, Some(version)))
            }
        };
        let (person, version) = known.expect("there are persons");
        let other = self.shared.people.lock().unwrap().any(&mut self.chance).expect("there are persons").0;
        let Some(version) = version else {
            let body = create(&mut self.chance, &person);
            return Another(Box::new(self.sent(id, person, &body, None)));
        };
        let body = any_body(&mut self.chance, &person, &other);
        let expected = (self.chance.draw(8) == 0).then(|| version + self.chance.draw(8) / 7);
        Another(Box::new(self.sent(id, person, &body, expected)))
    }

    fn sent(&self, id: String, person: String, body: &Value, expected: Option<u64>) -> Sent {
        let mut headers = vec![("Nats-Msg-Id".to_owned(), id.clone())];
        headers.extend(expected.map(|version| ("Expected-Version".to_owned(), version.to_string())));
        Sent { id, person, headers, payload: body.to_string().into_bytes(), deliveries: Vec::new() }
    }

    fn send_due(&mut self, now: Duration) {
        let mut due: Vec<usize> = self.open.iter().filter(|(_, due)| now >= **due).map(|(index, _)| *index).collect();
        due.sort_unstable();
        for index in due {
            self.deliver(index, now);
            // Mostly as long as a client is told to wait, sometimes impatiently.
            let patience = self.shared.command_timeout + Duration::from_secs(1);
            let patience = if self.chance.draw(4) == 0 { patience / 8 } else { patience };
            self.open.insert(index, now + patience);
        }
    }

    fn deliver(&mut self, index: usize, now: Duration) {
        let Some(link) = &mut self.link else { return };
        let reply = link.new_reply();
        let command = &mut self.commands[index];
        let subject = format!("person.commands.{}", command.person);
        // Written down before it leaves: whoever reads the history must not see an effect before its cause.
        self.expected.insert(reply.clone(), (index, command.deliveries.len()));
        command.deliveries.push(Delivery { sent: now, replies: Vec::new() });
        link.publish(&subject, &reply, &command.headers, &command.payload);
    }

    fn take(&mut self, message: &Message) {
        let now = self.shared.diary.now();
        let Some((index, delivery)) = self.expected.get(&message.subject).copied() else { return };
        if message.is_no_responders() {
            self.soon(index, now);
            return;
        }
        let reply = message.json();
        let command = &mut self.commands[index];
        if let Some(version) = reply["version"].as_u64() {
            self.shared.people.lock().unwrap().heard(&command.person, version);
        }
        let is_final = is_decisive(&reply);
        command.deliveries[delivery].replies.push((now, message.payload.clone()));
        if is_final {
            self.open.remove(&index);
        } else {
            self.soon(index, now);
        }
    }

    fn soon(&mut self, index: usize, now: Duration) {
        let pause = Duration::from_millis(20 + self.chance.draw(150));
        if let Some(due) = self.open.get_mut(&index) {
            *due = now + pause;
        }
    }
}

enum Next {
    Again(usize),
    Another(Box<Sent>),
}
use Next::{Again, Another};

/// Looks at persons all the time, one after the other.
pub fn look(shared: &Shared, seed: u64) -> Vec<Looked> {
    let mut chance = Chance::new(seed ^ 0x100C);
    let (mut looks, mut link): (Vec<Looked>, Option<Client>) = (Vec::new(), None);
    while shared.phase.load(SeqCst) < LISTENING {
        if link.as_ref().is_none_or(Client::is_gone) {
            link = sign_in(*chance.pick(&shared.ports));
        }
        let known = shared.people.lock().unwrap().any(&mut chance);
        let (Some(client), Some((person, _))) = (&mut link, known) else {
            std::thread::sleep(LISTEN);
            continue;
        };
        // When nothing goes wrong any more an answer has to come; how soon depends on the machine.
        let is_healed = shared.phase.load(SeqCst) != BUSY;
        let within = if is_healed { PATIENCE } else { shared.command_timeout };
        looks.push(look_once(client, &person, &shared.diary, within));
        std::thread::sleep(shared.pause);
    }
    looks
}

/// Looks at a person as it is now.
pub fn look_once(client: &mut Client, person: &str, diary: &Diary, within: Duration) -> Looked {
    let sent = diary.now();
    let body = json!({ "person_id": person }).to_string();
    let reply = client.ask("person.queries.get", &[], body.as_bytes(), within);
    let reply = reply.filter(|reply| !reply.is_no_responders()).map(|reply| (diary.now(), reply.payload));
    Looked { person: person.to_owned(), sent, reply }
}
