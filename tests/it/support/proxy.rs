//! A TCP proxy between the service and its server, for the harm that a network does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of acknowledgements: they go through, are lost, or are held back.
const PASS: u8 = 0;
const LOSE: u8 = 1;
const HOLD: u8 = 2;

/// More connections than a system lets wait for somebody who never takes them.
const WAITING_MAX: usize = 16 * 1024;

/// A proxy in front of one loopback port.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    off: AtomicBool,
    /// The port's own, and what fills its queue once it is powered off.
    listener: TcpListener,
    waiting: Mutex<Vec<TcpStream>>,
    target: SocketAddr,
    stalled: AtomicBool,
    deaf: AtomicBool,
    delay_millis: AtomicU64,
    disguise: Mutex<Option<(Vec<u8>, Vec<u8>)>>,
    mute_after: Mutex<Option<Vec<u8>>>,
    /// Of a connection on which a client has said more bytes than this no more are taken.
    choke_bytes: AtomicU64,
    acknowledgements: AtomicU8,
    streams: Mutex<Vec<TcpStream>>,
    /// Those of them that lead to the server.
    uplinks: Mutex<Vec<TcpStream>>,
    /// Those of them that lead to a client, with what it said first.
    greeted: Mutex<Vec<(Vec<u8>, TcpStream)>>,
    /// Connections that were made before this many are abandoned.
    made: AtomicU64,
    abandoned: AtomicU64,
}

impl Proxy {
    /// In front of this port.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            off: AtomicBool::new(false),
            listener,
            waiting: Mutex::new(Vec::new()),
            target: SocketAddr::from(([127, 0, 0, 1], port)),
            stalled: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            delay_millis: AtomicU64::new(0),
            disguise: Mutex::new(None),
            mute_after: Mutex::new(None),
            choke_bytes: AtomicU64::new(u64::MAX),
            acknowledgements: AtomicU8::new(PASS),
            streams: Mutex::new(Vec::new()),
            uplinks: Mutex::new(Vec::new()),
            greeted: Mutex::new(Vec::new()),
            made: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
        });
        let proxy = Self { address, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for client in shared.listener.incoming().flatten() {
                if shared.off.load(SeqCst) {
                    return;
                }
                accept(client, &shared);
            }
        });
        proxy
    }

    /// What a machine does that is powered off: it swallows packets, those of connections that stand and those that are to
    /// begin one, for good; what is behind it sees its connections end. False where the system has no room for so many connections that wait.
    pub fn power_off(&self) -> bool {
        self.shared.off.store(true, SeqCst);
        self.abandon();
        for uplink in self.shared.uplinks.lock().unwrap().drain(..) {
            let _ = uplink.shutdown(Shutdown::Both);
        }
        // The system drops what is to begin a connection while too many wait to be taken. The first one ends the taking.
        let mut waiting = self.shared.waiting.lock().unwrap();
        loop {
            match TcpStream::connect_timeout(&self.address, Duration::from_millis(300)) {
                Ok(stream) if waiting.len() < WAITING_MAX => waiting.push(stream),
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return true,
                Ok(_) | Err(_) => return false,
            }
        }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Cuts all connections; new ones are taken.
    pub fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Cuts the connections of clients that said these words first, and says how many those were; new ones are taken.
    pub fn cut_who_said(&self, words: &str) -> usize {
        let is_meant = |said: &[u8]| said.windows(words.len()).any(|part| part == words.as_bytes());
        let mut greeted = self.shared.greeted.lock().unwrap();
        let cut = greeted
            .extract_if(.., |(said, _)| is_meant(said))
            .filter(|(_, stream)| stream.shutdown(Shutdown::Both).is_ok());
        cut.count()
    }

    /// From now on nothing goes through on the connections that there are, in either direction, and none of them ends; new
    /// ones are sound. So it is where a firewall has forgotten them.
    pub fn abandon(&self) {
        self.shared.abandoned.store(self.shared.made.load(SeqCst), SeqCst);
    }

    /// While true, nothing goes through in either direction, and nothing is lost.
    pub fn stall(&self, stalled: bool) {
        self.shared.stalled.store(stalled, SeqCst);
    }

    /// While true, what the server says is lost; what it is told goes through.
    pub fn lose_answers(&self, deaf: bool) {
        self.shared.deaf.store(deaf, SeqCst);
    }

    /// While true, JetStream's acknowledgements are lost, and they alone: to all else the connection is sound.
    pub fn lose_acknowledgements(&self, lost: bool) {
        self.shared.acknowledgements.store(if lost { LOSE } else { PASS }, SeqCst);
    }

    /// While true, JetStream's acknowledgements are held back; afterwards they come, late, with what comes next.
    pub fn hold_acknowledgements(&self, held: bool) {
        self.shared.acknowledgements.store(if held { HOLD } else { PASS }, SeqCst);
    }

    /// From when a client says these words on, what the server says to that one is held back; with `None`, all comes.
    pub fn mute_after(&self, words: Option<&str>) {
        *self.shared.mute_after.lock().unwrap() = words.map(Into::into);
    }

    /// Where a client has said so many bytes, since it connected, what it says more is not taken, so that it gets stuck in
    /// writing; what it is told goes through. With `None`, all is taken.
    pub fn choke_after(&self, bytes: Option<u64>) {
        self.shared.choke_bytes.store(bytes.unwrap_or(u64::MAX), SeqCst);
    }

    /// Holds each piece in both directions for this long.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay_millis.store(u64::try_from(delay.as_millis()).unwrap(), SeqCst);
    }

    /// Writes one text in place of another, of the same length, in what the server says.
    pub fn disguise(&self, as_is: &str, to_be: &str) {
        assert_eq!(as_is.len(), to_be.len());
        *self.shared.disguise.lock().unwrap() = Some((as_is.into(), to_be.into()));
    }
}

fn accept(client: TcpStream, shared: &Arc<Shared>) {
    let Ok(server) = TcpStream::connect(shared.target) else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
        shared.streams.lock().unwrap().push(stream.try_clone().expect("a handle"));
    }
    shared.uplinks.lock().unwrap().push(server.try_clone().expect("a handle"));
    let is_muted = Arc::new(AtomicBool::new(false));
    let number = shared.made.fetch_add(1, SeqCst);
    for to_server in [true, false] {
        let (client, server) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
        let (from, to) = if to_server { (client, server) } else { (server, client) };
        let (shared, is_muted) = (Arc::clone(shared), Arc::clone(&is_muted));
        std::thread::spawn(move || pump(from, to, (number, to_server), &shared, &is_muted));
    }
}

fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    (number, to_server): (u64, bool),
    shared: &Shared,
    is_muted: &AtomicBool,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut sieve = Sieve::default();
    let mut said = 0;
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(shared.delay_millis.load(SeqCst)));
        if to_server && said == 0 {
            shared.greeted.lock().unwrap().push((buffer[..count].to_vec(), from.try_clone().expect("a handle")));
        }
        said += count as u64;
        while shared.stalled.load(SeqCst) || to_server && said > shared.choke_bytes.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if number < shared.abandoned.load(SeqCst) || !to_server && shared.deaf.load(SeqCst) {
            continue;
        }
        if let Some(words) = shared.mute_after.lock().unwrap().as_ref().filter(|_| to_server)
            && buffer[..count].windows(words.len()).any(|said| said == words)
        {
            is_muted.store(true, SeqCst);
        }
        while !to_server && is_muted.load(SeqCst) && shared.mute_after.lock().unwrap().is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut bytes = buffer[..count].to_vec();
        if let Some((as_is, to_be)) = shared.disguise.lock().unwrap().as_ref().filter(|_| !to_server) {
            replace(&mut bytes, as_is, to_be);
        }
        if !to_server {
            bytes = sieve.take(bytes, shared.acknowledgements.load(SeqCst));
        }
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    // Whoever is abandoned does not learn that the other side is gone.
    if number >= shared.abandoned.load(SeqCst) {
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// Tells acknowledgements from all else that a server says. It looks into the bytes only from when it is first told to,
/// and so can begin in the middle of a connection: a message that has begun by then goes through.
#[derive(Default)]
struct Sieve {
    /// The beginning of a message whose end has not come yet.
    begun: Vec<u8>,
    held: Vec<u8>,
    /// Set once it looks: from then on it knows where messages begin.
    looks: bool,
}

impl Sieve {
    fn take(&mut self, bytes: Vec<u8>, what: u8) -> Vec<u8> {
        if !self.looks && what == PASS {
            // Nearly always a piece ends where a message does; if not, it looks from the next piece on that does.
            return bytes;
        }
        if !self.looks {
            self.looks = begins_a_message(&bytes);
            if !self.looks {
                return bytes;
            }
        }
        self.begun.extend(bytes);
        let mut through = if what == PASS { std::mem::take(&mut self.held) } else { Vec::new() };
        while let Some(length) = message_length(&self.begun) {
            let message: Vec<u8> = self.begun.drain(..length).collect();
            match what {
                LOSE if is_acknowledgement(&message) => {}
                HOLD if is_acknowledgement(&message) => self.held.extend(message),
                _ => through.extend(message),
            }
        }
        through
    }
}

fn begins_a_message(bytes: &[u8]) -> bool {
    ["MSG ", "HMSG ", "PING", "PONG", "INFO ", "-ERR", "+OK"].iter().any(|word| bytes.starts_with(word.as_bytes()))
}

/// The length of the first message, once all of it is there.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let text = String::from_utf8_lossy(&bytes[..line]);
    let has_payload = text.starts_with("MSG ") || text.starts_with("HMSG ");
    let payload = if has_payload { text.trim_end().rsplit(' ').next()?.parse::<usize>().ok()? + 2 } else { 0 };
    (bytes.len() >= line + payload).then_some(line + payload)
}

fn is_acknowledgement(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    let payload = text.split_once("\r\n").map_or("", |(_, payload)| payload);
    text.starts_with("MSG ") && payload.starts_with("{\"stream\":\"") && payload.contains("\"seq\":")
}

fn replace(bytes: &mut [u8], as_is: &[u8], to_be: &[u8]) {
    let found: Vec<usize> =
        bytes.windows(as_is.len()).enumerate().filter(|(_, window)| *window == as_is).map(|(at, _)| at).collect();
    for at in found {
        bytes[at..at + to_be.len()].copy_from_slice(to_be);
    }
}
