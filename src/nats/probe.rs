//! Looking at the servers before the client is let near them.
//!
//! The client's first connect has no time limit: a port that accepts and says nothing (a stopped server, a wrong port,
//! TLS from the first byte on) holds its thread for ever, and a host that swallows packets holds it for minutes. A
//! NATS server speaks first, so one short connection of our own tells whether it is there, or in which words it is not.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use serde_json::Value;

/// What one server gets to be resolved, to accept and to introduce itself.
const SERVER_WAIT: Duration = Duration::from_secs(2);

/// What all of them get together, name servers that do not answer included.
const TOTAL_WAIT: Duration = Duration::from_secs(3);

/// The first line of a server is shorter than this, however large its cluster.
const GREETING_BYTES_MAX: u64 = 256 * 1024;

enum Sight {
    Greets,
    Refuses(String),
    Hangs(String),
}

/// Looks at all servers at once and returns those that the client may try without hanging: those that answered, and
/// those that refused at once. When none answered: why, server by server.
pub(super) fn safe_urls(urls: &[String]) -> Result<Vec<String>, String> {
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

/// What each server says of itself, as it greets; or why it says nothing. All are looked at at once.
pub fn greetings(urls: &[String]) -> Vec<(String, Result<Value, String>)> {
    let (sender, seen) = unbounded();
    for (index, url) in urls.iter().enumerate() {
        let (url, sender) = (url.clone(), sender.clone());
        let greet = move || {
            // Nobody listens any more when it took too long.
            let _ = sender.send((index, introduction(&url)));
        };
        // Without a thread it counts as one that did not answer.
        let _ = std::thread::Builder::new().name("nats-probe".to_owned()).spawn(greet);
    }
    drop(sender);
    let silent = || Err("it was not resolved and reached in time".to_owned());
    let mut found: Vec<(String, Result<Value, String>)> = urls.iter().map(|url| (url.clone(), silent())).collect();
    let deadline = Instant::now() + TOTAL_WAIT;
    while let Ok((index, said)) = seen.recv_deadline(deadline) {
        if let Some((_, place)) = found.get_mut(index) {
            *place = said;
        }
    }
    found
}

fn introduction(url: &str) -> Result<Value, String> {
    let address = url.parse::<nats::ServerAddress>().map_err(|error| error.to_string())?;
    let addresses = (address.host(), address.port()).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        let said = TcpStream::connect_timeout(&address, SERVER_WAIT).and_then(greeting);
        match said.as_deref().map(|said| said.strip_prefix("INFO ").map(serde_json::from_str)) {
            Ok(Some(Ok(info))) => return Ok(info),
            Ok(_) => last = "what answers there is not a NATS server".to_owned(),
            Err(error) if is_timeout(error) => last = "it does not answer in time".to_owned(),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

fn sum_up(urls: &[String], seen: &[(String, Sight)]) -> Result<Vec<String>, String> {
    let (mut safe, mut away) = (Vec::new(), Vec::new());
    for url in urls {
        let why = match seen.iter().find(|(seen, _)| seen == url).map(|(_, sight)| sight) {
            Some(Sight::Hangs(why)) => why,
            None => "it was not resolved and reached in time",
            Some(Sight::Greets) => {
                safe.push(url.clone());
                continue;
            }
            Some(Sight::Refuses(why)) => {
                safe.push(url.clone());
                why
            }
        };
        away.push(format!("{url}: {why}"));
    }
    if away.len() < urls.len() { Ok(safe) } else { Err(away.join("; ")) }
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
            Sight::Greets => return Sight::Greets,
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
        Ok(greeting) if greeting.starts_with("INFO ") => Sight::Greets,
        Ok(_) => Sight::Refuses("what answers there is not a NATS server".to_owned()),
        Err(error) if is_timeout(&error) => Sight::Hangs("it accepts connections and says nothing".to_owned()),
        Err(error) => Sight::Refuses(error.to_string()),
    }
}

fn greeting(stream: TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(SERVER_WAIT))?;
    let mut line = String::new();
    BufReader::new(stream.take(GREETING_BYTES_MAX)).read_line(&mut line)?;
    Ok(line)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn url(listener: &TcpListener) -> String {
        format!("nats://{}", listener.local_addr().expect("an address"))
    }

    #[test]
    fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = url(&listener);
        drop(listener);
        let away = safe_urls(std::slice::from_ref(&url)).unwrap_err();
        assert!(away.starts_with(&url), "{away}");
    }

    #[test]
    fn a_mute_port_is_kept_from_the_client() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let away = safe_urls(&[url(&listener)]).unwrap_err();
        assert!(away.contains("says nothing"), "{away}");
    }

    #[test]
    fn what_refuses_may_be_tried_and_what_hangs_may_not() {
        let urls = ["a", "b", "c"].map(str::to_owned);
        let [a, b, c] = urls.clone();
        let seen =
            [(a.clone(), Sight::Greets), (b.clone(), Sight::Refuses(String::new())), (c, Sight::Hangs(String::new()))];
        assert_eq!(sum_up(&urls, &seen), Ok(vec![a, b]));
    }

    #[test]
    fn a_stranger_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = url(&listener);
        std::thread::spawn(move || {
            use std::io::Write;
            let _ = listener.accept().expect("a visitor").0.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
        });
        assert!(safe_urls(&[url]).unwrap_err().contains("not a NATS server"));
    }

    #[test]
    fn a_name_that_nobody_has() {
        let away = safe_urls(&["nats://nobody.invalid:4222".to_owned()]).unwrap_err();
        assert!(away.contains("nobody.invalid"), "{away}");
    }
}
