//! What every loop keeps in mind: the newest sequence of each person, and who waits for whom.
//!
//! One commit a command, each expected behind the one before: a person's next command is stored once the last one was
//! acknowledged. A loop could not do it otherwise without either sharing commits, as the service does, or guessing.

use std::collections::{HashMap, VecDeque};

/// The length of the message that is stored, in bytes: what a change of a name takes in the service.
const EVENT_BYTES: usize = 856;

/// A UUID as text.
const ID_BYTES: usize = 36;

/// What each loop keeps in mind. `R` is where a reply goes.
pub struct Ledger<R> {
    persons: HashMap<[u8; ID_BYTES], Person<R>>,
    /// What is on its way, by the number in the acknowledgement's subject.
    pending: HashMap<u64, ([u8; ID_BYTES], R)>,
    next: u64,
    event: Vec<u8>,
}

struct Person<R> {
    sequence: u64,
    busy: bool,
    waiting: VecDeque<R>,
}

/// A message to be stored.
pub struct ToStore {
    /// The last token of the subject.
    pub id: [u8; ID_BYTES],
    /// The number for the acknowledgement.
    pub number: u64,
    /// The sequence that is expected.
    pub expected: u64,
}

impl ToStore {
    /// The id as text.
    pub fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or("invalid")
    }
}

/// What an acknowledgement leads to.
pub struct Settled<R> {
    /// Where the reply goes.
    pub reply: R,
    /// The reply.
    pub text: String,
    /// What waited for it.
    pub next: Option<ToStore>,
}

impl<R> Ledger<R> {
    /// Knows nobody.
    pub fn new() -> Self {
        Self { persons: HashMap::new(), pending: HashMap::new(), next: 0, event: event() }
    }

    /// What is stored, whatever was asked for.
    pub fn event(&self) -> &[u8] {
        &self.event
    }

    /// A command came for the person that the subject's last token names: what is to be stored now, if anything.
    pub fn command(&mut self, subject: &[u8], reply: R) -> Option<ToStore> {
        let id = subject.last_chunk::<ID_BYTES>()?;
        let person = self.persons.entry(*id).or_insert(Person { sequence: 0, busy: false, waiting: VecDeque::new() });
        if person.busy {
            person.waiting.push_back(reply);
            return None;
        }
        person.busy = true;
        let expected = person.sequence;
        Some(self.store(*id, expected, reply))
    }

    /// An acknowledgement came.
    pub fn acknowledged(&mut self, number: u64, acknowledgement: &[u8]) -> Option<Settled<R>> {
        let (id, reply) = self.pending.remove(&number)?;
        let person = self.persons.get_mut(&id)?;
        let text = match sequence(acknowledgement) {
            Some(sequence) => {
                person.sequence = sequence;
                accepted(&id, sequence)
            }
            None => failed(acknowledgement),
        };
        let next = person.waiting.pop_front();
        person.busy = next.is_some();
        let expected = person.sequence;
        let next = next.map(|next| self.store(id, expected, next));
        Some(Settled { reply, text, next })
    }

    fn store(&mut self, id: [u8; ID_BYTES], expected: u64, reply: R) -> ToStore {
        let number = self.next;
        self.next += 1;
        self.pending.insert(number, (id, reply));
        ToStore { id, number, expected }
    }
}

/// The headers of a commit, without those whose values change.
pub const EVENT_TYPE: (&str, &str) = ("Event-Type", "NameUpdated");
/// A version of four digits.
pub const PERSON_VERSION: (&str, &str) = ("Person-Version", "1234");
/// As the service sends it.
pub const CONTENT_TYPE: (&str, &str) = ("Content-Type", "application/json");
/// The header of optimistic concurrency.
pub const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// Text that compresses about as well as a commit does: JSON with ids that look random.
fn event() -> Vec<u8> {
    let mut text = String::with_capacity(EVENT_BYTES + 64);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while text.len() < EVENT_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str(&format!(r#"{{"member":"{state:016x}","name":{{"given_names":["Bench"]}}}},"#));
    }
    text.truncate(EVENT_BYTES);
    text.into_bytes()
}

/// The service's reply, of the same length.
fn accepted(id: &[u8], sequence: u64) -> String {
    let id = std::str::from_utf8(id).unwrap_or("invalid");
    format!(
        r#"{{"status":"accepted","command_id":"{id}","aggregate_id":"{id}","version":1234,"events_generated":1,"events":["NameUpdated"],"sequence":{sequence},"duplicate":false}}"#
    )
}

fn failed(acknowledgement: &[u8]) -> String {
    let why = String::from_utf8_lossy(acknowledgement).replace(['"', '\\'], "'");
    format!(r#"{{"status":"failed","error":{{"code":"not_stored","message":"{why}","retryable":false}}}}"#)
}

/// `{"stream":"BENCH","seq":12}` → 12; nothing where it is an error.
pub fn sequence(acknowledgement: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(acknowledgement).ok()?;
    let (_, rest) = text.split_once(r#""seq":"#)?;
    let digits = rest.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok().filter(|sequence| *sequence > 0)
}

/// The number behind the last dot.
pub fn number(subject: &[u8]) -> Option<u64> {
    std::str::from_utf8(subject).ok()?.rsplit_once('.')?.1.parse().ok()
}
