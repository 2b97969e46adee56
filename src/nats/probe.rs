//! Looking at the servers before the client is let near them.
//!
//! The client's first connect has no time limit: a port that accepts and says nothing (a stopped server, a wrong port,
//! TLS from the first byte on) holds its thread for ever, and a host that swallows packets holds it for minutes. A
//! NATS server speaks first, so one short connection of our own tells whether it is there, or in which words it is not.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use nats::rustls::pki_types::ServerName;
use nats::rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::Value;

use super::connection::OpenError;
use super::obstacle::Cause;

/// What one server gets to be resolved, to accept and to introduce itself.
const SERVER_WAIT: Duration = Duration::from_secs(2);

/// What all of them get together, name servers that do not answer included.
const TOTAL_WAIT: Duration = Duration::from_secs(3);

/// The first line of a server is shorter than this, however large its cluster.
const GREETING_BYTES_MAX: u64 = 256 * 1024;

/// What a server that says nothing gets to answer to TLS.
const TLS_WAIT: Duration = Duration::from_millis(500);

/// The types of TLS records with which a server answers a client: a handshake, or an alert.
const TLS_RECORDS: [u8; 2] = [0x16, 0x15];

/// What a server looks like.
#[derive(Debug, Clone)]
enum Sight {
    /// A NATS server that introduces itself.
    Greets(Value),
    /// One that cannot be used as it and we are configured.
    Unfit(Cause, String),
    /// Nothing to talk to, and it shows at once.
    Refuses(String),
    /// Nothing to talk to, and the client would wait for it.
    Hangs(String),
}

/// What the servers look like from here.
#[derive(Debug)]
pub(super) struct Seen {
    /// Those that the client may try without hanging.
    pub(super) safe: Vec<String>,
    /// Whether TLS will be spoken with one of them.
    pub(super) with_tls: bool,
    /// Why some cannot be tried now, server by server. They may come back.
    pub(super) away: Vec<String>,
}

/// Looks at all servers at once and returns those that the client may try without hanging: those that answered, and
/// those that refused at once.
///
/// # Errors
/// None can be used. Why, server by server; while one of them is only away, all of it may pass.
pub(super) fn look_at_all(urls: &[String]) -> Result<Seen, OpenError> {
    let sights = sights(urls);
    let mut seen = Seen { safe: Vec::new(), with_tls: false, away: Vec::new() };
    let (mut greet, mut unfit) = (false, Vec::new());
    for (url, sight) in urls.iter().zip(sights) {
        match sight {
            Sight::Greets(info) => {
                greet = true;
                seen.with_tls |= demands_tls(url) || is_on(&info, "tls_required");
                seen.safe.push(url.clone());
            }
            Sight::Refuses(why) => {
                seen.away.push(format!("{url}: {why}"));
                seen.safe.push(url.clone());
            }
            Sight::Hangs(why) => seen.away.push(format!("{url}: {why}")),
            Sight::Unfit(cause, why) => unfit.push((cause, format!("{url}: {why}"))),
        }
    }
    match unfit.first() {
        _ if greet => Ok(seen),
        Some((cause, _)) if seen.away.is_empty() => {
            let why = unfit.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("; ");
            Err(OpenError::Unfit { cause: *cause, why })
        }
        _ => {
            seen.away.extend(unfit.into_iter().map(|(_, why)| why));
            Err(OpenError::Away(seen.away.join("; ")))
        }
    }
}

/// What each server says of itself, as it greets; or why it says nothing. All are looked at at once.
pub fn greetings(urls: &[String]) -> Vec<(String, Result<Value, String>)> {
    let said = |sight| match sight {
        Sight::Greets(info) => Ok(info),
        Sight::Unfit(_, why) | Sight::Refuses(why) | Sight::Hangs(why) => Err(why),
    };
    urls.iter().cloned().zip(sights(urls).into_iter().map(said)).collect()
}

/// All of them, in this order.
fn sights(urls: &[String]) -> Vec<Sight> {
    let (sender, seen) = unbounded();
    for (index, url) in urls.iter().enumerate() {
        let (url, sender) = (url.clone(), sender.clone());
        let look = move || {
            // Nobody listens any more when it took too long.
            let _ = sender.send((index, look(&url)));
        };
        // Without a thread it counts as one that did not answer.
        let _ = std::thread::Builder::new().name("nats-probe".to_owned()).spawn(look);
    }
    drop(sender);
    let late = || Sight::Hangs("it was not resolved and reached in time".to_owned());
    let mut sights: Vec<Sight> = urls.iter().map(|_| late()).collect();
    let deadline = Instant::now() + TOTAL_WAIT;
    while let Ok((index, sight)) = seen.recv_deadline(deadline) {
        if let Some(place) = sights.get_mut(index) {
            *place = sight;
        }
    }
    sights
}

fn demands_tls(url: &str) -> bool {
    url.starts_with("tls://")
}

fn is_on(info: &Value, flag: &str) -> bool {
    info.get(flag) == Some(&Value::Bool(true))
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
        match look_at(address, demands_tls(url)) {
            greets @ Sight::Greets(_) => return greets,
            hangs @ Sight::Hangs(_) => last = hangs,
            other if !matches!(last, Sight::Hangs(_)) => last = other,
            _ => {}
        }
    }
    last
}

fn look_at(address: SocketAddr, with_tls: bool) -> Sight {
    let stream = match TcpStream::connect_timeout(&address, SERVER_WAIT) {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Sight::Hangs(error.to_string()),
        Err(error) => return Sight::Refuses(error.to_string()),
    };
    let info = match greeting(&stream) {
        Ok(line) => line.strip_prefix("INFO ").and_then(|info| serde_json::from_str::<Value>(info).ok()),
        Err(error) if !is_timeout(&error) => return Sight::Refuses(error.to_string()),
        Err(_) if answers_tls(&stream) => {
            let why = "it speaks TLS from the first byte on (handshake_first), which the client library cannot";
            return Sight::Unfit(Cause::TlsFirst, why.to_owned());
        }
        Err(_) => return Sight::Hangs("it accepts connections and says nothing".to_owned()),
    };
    match info {
        Some(info) if with_tls && !is_on(&info, "tls_required") && !is_on(&info, "tls_available") => {
            Sight::Unfit(Cause::NoTls, "it offers no TLS, and NATS_URL demands it (tls://)".to_owned())
        }
        Some(info) => Sight::Greets(info),
        None => Sight::Refuses("what answers there is not a NATS server".to_owned()),
    }
}

fn greeting(stream: &TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(SERVER_WAIT))?;
    let mut line = String::new();
    BufReader::new(stream.take(GREETING_BYTES_MAX)).read_line(&mut line)?;
    Ok(line)
}

/// Whether a server that does not greet is one that waits for TLS. It gets the beginning of a handshake and no more.
fn answers_tls(mut stream: &TcpStream) -> bool {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let Ok(name) = ServerName::try_from("nats.invalid") else { return false };
    let Ok(mut session) = ClientConnection::new(Arc::new(config), name) else { return false };
    let mut first = [0];
    let answered = stream.set_read_timeout(Some(TLS_WAIT)).is_ok()
        && session.write_tls(&mut stream).is_ok()
        && stream.read_exact(&mut first).is_ok();
    answered && TLS_RECORDS.contains(&first[0])
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    fn url(listener: &TcpListener) -> String {
        format!("nats://{}", listener.local_addr().expect("an address"))
    }

    #[test]
    fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = url(&listener);
        drop(listener);
        let away = look_at_all(std::slice::from_ref(&url)).unwrap_err().to_string();
        assert!(away.starts_with(&url), "{away}");
    }

    #[test]
    fn a_mute_port_is_kept_from_the_client() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let away = look_at_all(&[url(&listener)]).unwrap_err().to_string();
        assert!(away.contains("says nothing"), "{away}");
    }

    /// A port that takes one visitor after the other and does this with each.
    fn server(greet: impl Fn(&mut TcpStream) + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = url(&listener);
        std::thread::spawn(move || {
            for visitor in listener.incoming() {
                greet(&mut visitor.expect("a visitor"));
            }
        });
        url
    }

    fn says(words: &'static str) -> impl Fn(&mut TcpStream) + Send + 'static {
        move |visitor| drop(visitor.write_all(words.as_bytes()))
    }

    #[test]
    fn what_refuses_may_be_tried_and_what_hangs_may_not() {
        let mute = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let urls = [server(says("INFO {}\r\n")), server(says("SSH-2.0\r\n")), url(&mute)];
        let seen = look_at_all(&urls).expect("one that greets");
        assert_eq!((&seen.safe[..], seen.with_tls, seen.away.len()), (&urls[..2], false, 2), "{seen:?}");
    }

    /// A `tls://` before a server without TLS, and a server that wants TLS first, were waited for without end, as if they
    /// were away.
    #[test]
    fn what_cannot_be_used_is_named_unless_another_is_only_away() {
        let plain = server(says("INFO {\"tls_required\":false}\r\n")).replace("nats:", "tls:");
        let handshake = server(|visitor| {
            let mut hello = [0; 64];
            let _ = visitor.read(&mut hello).map(|_| visitor.write_all(&[0x16, 3, 3, 0, 0]));
        });
        let cause = |urls: &[&String]| match look_at_all(&urls.iter().map(|url| (*url).clone()).collect::<Vec<_>>()) {
            Err(OpenError::Unfit { cause, .. }) => Some(cause),
            Err(OpenError::Away(_)) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(cause(&[&plain]), Some(Cause::NoTls));
        assert_eq!(cause(&[&handshake]), Some(Cause::TlsFirst));
        let nobody = url(&TcpListener::bind("127.0.0.1:0").expect("a free port"));
        assert_eq!(cause(&[&plain, &nobody, &handshake]), None);
    }

    #[test]
    fn a_stranger_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = url(&listener);
        std::thread::spawn(move || {
            let _ = listener.accept().expect("a visitor").0.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
        });
        assert!(look_at_all(&[url]).unwrap_err().to_string().contains("not a NATS server"));
    }

    #[test]
    fn a_name_that_nobody_has() {
        let away = look_at_all(&["nats://nobody.invalid:4222".to_owned()]).unwrap_err().to_string();
        assert!(away.contains("nobody.invalid"), "{away}");
    }
}
