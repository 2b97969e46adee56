//! A TCP proxy between the service and its server, for the harm that a network does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A proxy in front of one loopback port.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    stalled: AtomicBool,
    deaf: AtomicBool,
    delay_millis: AtomicU64,
    disguise: Mutex<Option<(Vec<u8>, Vec<u8>)>>,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// In front of this port.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: SocketAddr::from(([127, 0, 0, 1], port)),
            stalled: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            delay_millis: AtomicU64::new(0),
            disguise: Mutex::new(None),
            streams: Mutex::new(Vec::new()),
        });
        let proxy = Self { address, shared: Arc::clone(&shared) };
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| accept(client, &shared)));
        proxy
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

    /// While true, nothing goes through in either direction, and nothing is lost.
    pub fn stall(&self, stalled: bool) {
        self.shared.stalled.store(stalled, SeqCst);
    }

    /// While true, what the server says is lost; what it is told goes through.
    pub fn lose_answers(&self, deaf: bool) {
        self.shared.deaf.store(deaf, SeqCst);
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
    for to_server in [true, false] {
        let (client, server) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
        let (from, to) = if to_server { (client, server) } else { (server, client) };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || pump(from, to, to_server, &shared));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, to_server: bool, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(shared.delay_millis.load(SeqCst)));
        while shared.stalled.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !to_server && shared.deaf.load(SeqCst) {
            continue;
        }
        let mut bytes = buffer[..count].to_vec();
        if let Some((as_is, to_be)) = shared.disguise.lock().unwrap().as_ref().filter(|_| !to_server) {
            replace(&mut bytes, as_is, to_be);
        }
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn replace(bytes: &mut [u8], as_is: &[u8], to_be: &[u8]) {
    let found: Vec<usize> =
        bytes.windows(as_is.len()).enumerate().filter(|(_, window)| *window == as_is).map(|(at, _)| at).collect();
    for at in found {
        bytes[at..at + to_be.len()].copy_from_slice(to_be);
    }
}
