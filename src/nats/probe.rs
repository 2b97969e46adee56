//! Looking at the servers before the client is let near them.
//!
//! The client's first connect has no time limit: a port that accepts and says nothing (a stopped server, a wrong port,
//! TLS from the first byte on) holds its thread for ever, and a host that swallows packets holds it for minutes. A
//! NATS server speaks first, so one short connection of our own tells all that: whether it is there, in which words it
//! is not, and whether it will want TLS.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use serde::Deserialize;

/// What one server gets to be resolved, to accept and to introduce itself.
const SERVER_WAIT: Duration = Duration::from_secs(2);

/// What all of them get together, name servers that do not answer included.
const TOTAL_WAIT: Duration = Duration::from_secs(3);

/// The first line of a server is shorter than this, however large its cluster.
const GREETING_BYTES_MAX: u64 = 256 * 1024;

/// What the looking brought to light.
pub(super) struct Probed {
    /// The servers that the client may try without hanging: those that answered or refused at once.
    pub(super) safe: Vec<String>,
    /// Whether one of those that answered demands TLS, whatever its URL says.
    pub(super) demands_tls: bool,
    /// Why nobody answered, server by server; empty when at least one did.
    pub(super) away: String,
}

enum Sight {
    Greets { demands_tls: bool },
    Refuses(String),
    Hangs(String),
}

/// Looks at all servers at once.
pub(super) fn probe(urls: &[String]) -> Probed {
    let (sender, sights) = unbounded();
    for url in urls {
        look_in_thread(url, &sender);
    }
    drop(sender);
    let deadline = Instant::now() + TOTAL_WAIT;
    let mut seen = Vec::new();
    while let Ok(sight) = sights.recv_deadline(deadline) {
        seen.push(sight);
    }
    sum_up(urls, &seen)
}

fn sum_up(urls: &[String], seen: &[(String, Sight)]) -> Probed {
    let (mut safe, mut away) = (Vec::new(), Vec::new());
    let (mut greeted, mut demands_tls) = (false, false);
    for url in urls {
        match seen.iter().find(|(seen, _)| seen == url).map(|(_, sight)| sight) {
            Some(Sight::Greets { demands_tls: tls }) => {
                greeted = true;
                demands_tls |= tls;
                safe.push(url.clone());
            }
            Some(Sight::Refuses(why)) => {
                away.push(format!("{url}: {why}"));
                safe.push(url.clone());
            }
            Some(Sight::Hangs(why)) => away.push(format!("{url}: {why}")),
            None => away.push(format!("{url}: the name was not resolved in time")),
        }
    }
    let away = if greeted { String::new() } else { away.join("; ") };
    Probed { safe, demands_tls, away }
}

fn look_in_thread(url: &str, sender: &Sender<(String, Sight)>) {
    let (owned_url, sights) = (url.to_owned(), sender.clone());
    let look = move || {
        let sight = look(&owned_url);
        // Nobody listens any more when it took too long.
        let _ = sights.send((owned_url, sight));
    };
    if let Err(error) = std::thread::Builder::new().name("nats-probe".to_owned()).spawn(look) {
        let _ = sender.send((url.to_owned(), Sight::Refuses(format!("no thread to look at it: {error}"))));
    }
}

/// A server's name may stand for several addresses; the first that greets speaks for it.
fn look(url: &str) -> Sight {
    let address = match url.parse::<nats::ServerAddress>() {
        Ok(address) => address,
        Err(error) => return Sight::Refuses(error.to_string()),
    };
    let addresses = match (address.host(), address.port()).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Sight::Refuses(error.to_string()),
    };
    let mut last = Sight::Refuses("the name has no address".to_owned());
    for address in addresses {
        match look_at(address) {
            greets @ Sight::Greets { .. } => return greets,
            hangs @ Sight::Hangs(_) => last = hangs,
            refuses if !matches!(last, Sight::Hangs(_)) => last = refuses,
            _ => {}
        }
    }
    last
}

fn look_at(address: std::net::SocketAddr) -> Sight {
    let stream = match TcpStream::connect_timeout(&address, SERVER_WAIT) {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Sight::Hangs(error.to_string()),
        Err(error) => return Sight::Refuses(error.to_string()),
    };
    match greeting(stream) {
        Ok(Some(greeting)) => Sight::Greets { demands_tls: greeting.tls_required },
        Ok(None) => Sight::Refuses("what answers there is not a NATS server".to_owned()),
        Err(error) if is_timeout(&error) => Sight::Hangs("it accepts connections and says nothing".to_owned()),
        Err(error) => Sight::Refuses(error.to_string()),
    }
}

#[derive(Deserialize)]
struct Greeting {
    #[serde(default)]
    tls_required: bool,
}

fn greeting(stream: TcpStream) -> std::io::Result<Option<Greeting>> {
    stream.set_read_timeout(Some(SERVER_WAIT))?;
    let mut line = String::new();
    BufReader::new(stream.take(GREETING_BYTES_MAX)).read_line(&mut line)?;
    Ok(line.strip_prefix("INFO ").and_then(|info| serde_json::from_str(info).ok()))
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn url(listener: &TcpListener) -> String {
        format!("nats://{}", listener.local_addr().unwrap())
    }

    #[test]
    fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = url(&listener);
        drop(listener);
        let probed = probe(std::slice::from_ref(&url));
        assert!(probed.away.starts_with(&url), "{}", probed.away);
        assert_eq!(probed.safe, [url], "a refusal is quick, the client may find out for itself");
    }

    #[test]
    fn a_mute_port_is_kept_from_the_client() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let probed = probe(&[url(&listener)]);
        assert!(probed.away.contains("says nothing"), "{}", probed.away);
        assert!(probed.safe.is_empty());
    }

    #[test]
    fn a_stranger_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = url(&listener);
        std::thread::spawn(move || {
            use std::io::Write;
            let _ = listener.accept().unwrap().0.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
        });
        assert!(probe(&[url]).away.contains("not a NATS server"));
    }

    #[test]
    fn a_name_that_nobody_has() {
        let probed = probe(&["nats://nobody.invalid:4222".to_owned()]);
        assert!(probed.away.contains("nobody.invalid"), "{}", probed.away);
    }
}
