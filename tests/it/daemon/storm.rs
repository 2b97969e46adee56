//! Far more commands than are answered: sent by the clock, whatever comes back, and counted when it comes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::create;

/// What a storm brings about is counted by pieces of time this long.
pub const PIECE: Duration = Duration::from_millis(250);
/// So long it listens for second answers when everything has its first one.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How often the sender sends what is due by then.
const BEAT: Duration = Duration::from_millis(2);

/// How fast to send.
#[derive(Clone, Copy)]
pub enum Pace {
    /// The next when one is answered, so many at a time.
    InFlight(usize),
    /// So many a second.
    Rate(usize),
}

/// What came back.
#[derive(Default, Clone)]
pub struct Weather {
    pub sent: usize,
    /// Command ids of what was accepted.
    pub accepted: Vec<String>,
    /// By pieces of time.
    pub accepted_by_piece: Vec<usize>,
    pub overloaded: usize,
    /// How long the refusal of each of those took.
    pub overloaded_after: Vec<Duration>,
    pub accepted_after: Vec<Duration>,
    /// NATS said that nobody is there to take it.
    pub nobody: usize,
    pub other: Vec<String>,
    /// Which were answered more than once.
    pub answered_twice: usize,
}

impl Weather {
    pub fn answered(&self) -> usize {
        self.accepted.len() + self.overloaded + self.nobody + self.other.len()
    }

    /// Accepted in a second, over the pieces from `from` to `to`.
    pub fn throughput(&self, from: Duration, to: Duration) -> f64 {
        let piece = |at: Duration| usize::try_from(at.as_millis() / PIECE.as_millis()).unwrap();
        let pieces = self.accepted_by_piece.iter().skip(piece(from)).take(piece(to) - piece(from));
        let count = u32::try_from(pieces.sum::<usize>()).unwrap();
        f64::from(count) / (to - from).as_secs_f64()
    }
}

/// The time that this part of a hundred does not exceed.
pub fn percentile(times: &[Duration], part: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) * part / 100).copied().unwrap_or_default()
}

/// Creates persons at this pace for this time, and listens for as much longer as it takes until all is answered, but no
/// longer than `rest`. Each run names its commands anew.
pub fn storm(port: u16, pace: Pace, time: Duration, rest: Duration) -> Weather {
    let (mut writer, reader, inbox) = connect(port);
    let run = uuid::Uuid::new_v4();
    let capacity = match pace {
        Pace::Rate(rate) => rate * usize::try_from(time.as_secs()).unwrap() + rate,
        Pace::InFlight(_) => 40_000 * usize::try_from(time.as_secs()).unwrap(),
    };
    let sent_at: Arc<Vec<AtomicU32>> = Arc::new((0..capacity).map(|_| AtomicU32::new(0)).collect());
    let answered = Arc::new(AtomicUsize::new(0));
    // How many were sent, once that is known.
    let total = Arc::new(OnceLock::new());
    let begun = Instant::now();
    let receiver = {
        let (sent_at, answered, total) = (Arc::clone(&sent_at), Arc::clone(&answered), Arc::clone(&total));
        std::thread::spawn(move || receive(reader, begun, begun + time + rest, run, &sent_at, &answered, &total))
    };
    let mut sent = 0;
    while begun.elapsed() < time {
        let target = match pace {
            Pace::InFlight(count) => answered.load(Relaxed) + count,
            Pace::Rate(rate) => (begun.elapsed().as_secs_f64() * f64::from(u32::try_from(rate).unwrap())) as usize,
        };
        let to = target.min(capacity).min(sent + 2_000);
        let mut bytes = Vec::with_capacity((to.saturating_sub(sent)) * 512);
        for index in sent..to {
            sent_at[index].store(micros(begun.elapsed()), Relaxed);
            write_command(&mut bytes, &inbox, run, index);
        }
        writer.write_all(&bytes).expect("the server reads");
        let behind = sent.max(to) < target;
        sent = sent.max(to);
        if !behind {
            std::thread::sleep(if matches!(pace, Pace::Rate(_)) { BEAT } else { BEAT / 10 });
        }
    }
    total.set(sent).expect("it is set once");
    let mut weather = receiver.join().expect("the receiver's end");
    weather.sent = sent;
    weather
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).expect("not that long")
}

/// The id of a command; its person is the same with another first letter.
fn id_of(run: uuid::Uuid, index: usize) -> String {
    format!("{}{index:012x}", &run.to_string()[..24])
}

fn write_command(bytes: &mut Vec<u8>, inbox: &str, run: uuid::Uuid, index: usize) {
    let id = id_of(run, index);
    let payload = create(&id).to_string();
    let headers = format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n");
    let (some, all) = (headers.len(), headers.len() + payload.len());
    let line = format!("HPUB person.commands.{id} {inbox}.{index} {some} {all}\r\n");
    for part in [&line, &headers, &payload, "\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
}

fn connect(port: u16) -> (TcpStream, BufReader<TcpStream>, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    let mut reader = BufReader::with_capacity(1024 * 1024, stream.try_clone().unwrap());
    reader.read_line(&mut String::new()).expect("the server introduces itself");
    let inbox = format!("_INBOX.{}", uuid::Uuid::new_v4().simple());
    let hello = format!("CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true}}\r\nSUB {inbox}.* 1\r\n");
    stream.write_all(hello.as_bytes()).unwrap();
    (stream, reader, inbox)
}

fn receive(
    mut reader: BufReader<TcpStream>,
    begun: Instant,
    mut until: Instant,
    run: uuid::Uuid,
    sent_at: &[AtomicU32],
    answered: &AtomicUsize,
    total: &OnceLock<usize>,
) -> Weather {
    let mut weather = Weather::default();
    let mut seen = vec![false; sent_at.len()];
    let (mut firsts, mut is_complete) = (0, false);
    reader.get_ref().set_read_timeout(Some(PIECE)).unwrap();
    let mut line = Vec::new();
    while Instant::now() < until {
        if !is_complete && total.get() == Some(&firsts) {
            is_complete = true;
            until = until.min(Instant::now() + AFTERMATH);
        }
        // What is left of a line stays in `line` when the time is over in its midst.
        if reader.read_until(b'\n', &mut line).is_err() || line.last() != Some(&b'\n') {
            continue;
        }
        let text = String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned();
        let mut words = text.split_whitespace();
        if !matches!(words.next(), Some("MSG" | "HMSG")) {
            continue;
        }
        let index: usize = words.next().and_then(|subject| subject.rsplit('.').next()).unwrap().parse().unwrap();
        let size: usize = words.next_back().unwrap().parse().unwrap();
        let mut payload = vec![0; size + 2];
        reader.get_ref().set_read_timeout(None).unwrap();
        reader.read_exact(&mut payload).expect("the rest of a message");
        reader.get_ref().set_read_timeout(Some(PIECE)).unwrap();
        let (now, payload) = (begun.elapsed(), String::from_utf8_lossy(&payload));
        let is_first = !std::mem::replace(&mut seen[index], true);
        firsts += usize::from(is_first);
        weather.answered_twice += usize::from(!is_first);
        let after = now.saturating_sub(Duration::from_micros(sent_at[index].load(Relaxed).into()));
        if payload.contains(r#""status":"accepted""#) {
            weather.accepted.push(id_of(run, index));
            weather.accepted_after.push(after);
            let piece = usize::try_from(now.as_millis() / PIECE.as_millis()).unwrap();
            let pieces = weather.accepted_by_piece.len().max(piece + 1);
            weather.accepted_by_piece.resize(pieces, 0);
            weather.accepted_by_piece[piece] += 1;
        } else if payload.contains(r#""code":"overloaded""#) {
            weather.overloaded += 1;
            weather.overloaded_after.push(after);
        } else if payload.starts_with("NATS/1.0 503") {
            weather.nobody += 1;
        } else {
            weather.other.push(payload.into_owned());
        }
        answered.fetch_add(1, Relaxed);
    }
    weather
}
