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

/// What one server gets to accept.
const SERVER_WAIT: Duration = Duration::from_secs(2);

/// What all of them get together, name servers that do not answer included.
const TOTAL_WAIT: Duration = Duration::from_secs(3);

/// What the others get once one has introduced itself.
const COMPANY_WAIT: Duration = Duration::from_millis(250);

/// The first line of a server is shorter than this, however large its cluster.
const GREETING_BYTES_MAX: u64 = 256 * 1024;

/// What it gets to introduce itself before it is spoken to; a server that wants TLS first waits for two seconds.
const GREETING_WAIT: Duration = Duration::from_secs(1);

/// What it gets to answer to TLS, or to go on after its greeting.
const TLS_WAIT: Duration = Duration::from_secs(1);

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
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Those that the client may try without hanging.
    pub(super) safe: Vec<String>,
    /// Those of them that introduced themselves.
    pub(super) greet: Vec<String>,
    /// Whether TLS will be spoken with one of them.
    pub(super) with_tls: bool,
    /// Why some cannot be tried now, server by server. They may come back.
    pub(super) away: Vec<String>,
    /// The servers of their cluster, as they name them: host and port.
    pub(super) others: Vec<String>,
    /// The name of their cluster, of the first that has one.
    pub(super) cluster: String,
}

/// Looks at all servers at once and returns those that the client may try without hanging: those that answered, and
/// those that refused at once.
///
/// # Errors
/// None can be used. Why, server by server; while one of them is only away, all of it may pass.
pub(super) fn look_at_all(urls: &[String]) -> Result<Seen, OpenError> {
    let sights = sights(urls, COMPANY_WAIT);
    let mut seen = Seen::default();
    let mut unfit = Vec::new();
    for (url, sight) in urls.iter().zip(sights) {
        match sight {
            Sight::Greets(info) => {
                seen.greet.push(url.clone());
                seen.others.extend(others(&info));
                if let Some(cluster) = info.get("cluster").and_then(Value::as_str).filter(|_| seen.cluster.is_empty()) {
                    cluster.clone_into(&mut seen.cluster);
                }
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
        _ if !seen.greet.is_empty() => Ok(seen),
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
    urls.iter().cloned().zip(sights(urls, TOTAL_WAIT).into_iter().map(said)).collect()
}

/// What one of these servers complains of right after its greeting, before anything was sent to it. A server that takes
/// no more connections closes each at once, so that the client finds it broken and cannot say why.
pub(super) fn complaint(urls: &[String]) -> Option<String> {
    urls.iter().filter_map(|url| url.parse::<nats::ServerAddress>().ok()).find_map(|address| {
        let mut addresses = (address.host(), address.port()).to_socket_addrs().ok()?;
        let stream = addresses.find_map(|address| TcpStream::connect_timeout(&address, SERVER_WAIT).ok())?;
        stream.set_read_timeout(Some(TLS_WAIT)).ok()?;
        let mut lines = BufReader::new(stream.take(GREETING_BYTES_MAX)).lines().map_while(Result::ok);
        lines.nth(1)?.strip_prefix("-ERR ").map(str::to_owned)
    })
}

/// All of them, in this order. Once one greets, the others get no longer than `company` to show themselves.
fn sights(urls: &[String], company: Duration) -> Vec<Sight> {
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
    let mut deadline = Instant::now() + TOTAL_WAIT;
    while let Ok((index, sight)) = seen.recv_deadline(deadline) {
        if matches!(sight, Sight::Greets(_)) {
            deadline = deadline.min(Instant::now() + company);
        }
        if let Some(place) = sights.get_mut(index) {
            *place = sight;
        }
    }
    sights
}

/// The servers that a greeting names.
fn others(info: &Value) -> impl Iterator<Item = String> + '_ {
    let named = info.get("connect_urls").and_then(Value::as_array).into_iter().flatten();
    named.filter_map(Value::as_str).map(str::to_owned)
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
    let line = match greeting(&stream) {
        Ok(Greeting::Line(line)) => line,
        Ok(Greeting::Tls) => {
            let why = "it speaks TLS from the first byte on (handshake_first), which the client library cannot";
            return Sight::Unfit(Cause::TlsFirst, why.to_owned());
        }
        Err(error) if is_timeout(&error) => return Sight::Hangs("it accepts connections and says nothing".to_owned()),
        Err(error) => return Sight::Refuses(error.to_string()),
    };
    match line.strip_prefix("INFO ").and_then(|info| serde_json::from_str::<Value>(info).ok()) {
        Some(info) if with_tls && !is_on(&info, "tls_required") && !is_on(&info, "tls_available") => {
            Sight::Unfit(Cause::NoTls, "it offers no TLS, and NATS_URL demands it (tls://)".to_owned())
        }
        Some(info) => Sight::Greets(info),
        None if line.is_empty() => Sight::Refuses("it closes connections and says nothing".to_owned()),
        None => Sight::Refuses("what answers there is not a NATS server".to_owned()),
    }
}

/// How a server begins.
enum Greeting {
    /// With a line.
    Line(String),
    /// With TLS.
    Tls,
}

/// A NATS server speaks first. One that says nothing gets the beginning of a TLS handshake: it may wait for that.
fn greeting(stream: &TcpStream) -> std::io::Result<Greeting> {
    let mut reader = BufReader::new(stream.take(GREETING_BYTES_MAX));
    stream.set_read_timeout(Some(GREETING_WAIT))?;
    if let Err(error) = reader.fill_buf() {
        if !is_timeout(&error) {
            return Err(error);
        }
        begin_tls(stream)?;
        stream.set_read_timeout(Some(TLS_WAIT))?;
    }
    if reader.fill_buf()?.first().is_some_and(|byte| TLS_RECORDS.contains(byte)) {
        return Ok(Greeting::Tls);
    }
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    Ok(Greeting::Line(String::from_utf8_lossy(&line).into_owned()))
}

fn begin_tls(mut stream: &TcpStream) -> std::io::Result<()> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from("nats.invalid").map_err(std::io::Error::other)?;
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    session.write_tls(&mut stream).map(drop)
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

    /// The client found the connection broken, and the start waited for a server that was there.
    #[test]
    fn what_a_server_says_before_it_closes_is_heard() {
        let quiet = server(says("INFO {}\r\n"));
        let crowded = server(says("INFO {}\r\n-ERR 'maximum connections exceeded'\r\n"));
        assert_eq!(complaint(&[quiet.clone(), crowded]).as_deref(), Some("'maximum connections exceeded'"));
        assert_eq!(complaint(&[quiet]), None);
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
