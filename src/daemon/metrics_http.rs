//! Figures and probes over HTTP, where an address is given: `/metrics`, `/healthz`, `/readyz`.
//!
//! One thread takes every connection at once, and gives each a thread of its own, which gives one answer and closes. Both
//! the time of a connection and their number are bounded, and where there are too many the oldest has to go: whoever
//! asks is answered within milliseconds, so that it is one that does not ask. So whoever asks too much, or too slowly, or
//! never, keeps no probe waiting.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::daemon::figures;
use crate::daemon::monitor::Monitor;
use crate::daemon::threads;
use crate::log_limit::RateLimited;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 32;
/// A request's head, in bytes; there is no body.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;
/// From the connection to the end of the answer.
const EXCHANGE_MAX: Duration = Duration::from_secs(2);
/// The pause after a connection that could not be taken: no file descriptor may be left.
const PAUSE: Duration = Duration::from_millis(100);

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

static NOT_TAKEN: RateLimited = RateLimited::new(Duration::from_secs(60));

/// Listens, and answers on threads that end with the process.
pub fn start(address: SocketAddr, monitor: &Arc<Monitor>) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    log::info!("metrics on http://{}/metrics, probes on /healthz and /readyz", listener.local_addr()?);
    let (poison, monitor) = (monitor.poison.clone(), Arc::clone(monitor));
    threads::start("metrics-http", &poison, move || serve(&listener, &monitor))?;
    Ok(())
}

fn serve(listener: &TcpListener, monitor: &Arc<Monitor>) {
    let mut visits = Visits::default();
    loop {
        let taken = listener.accept().and_then(|(connection, _)| visits.add(connection, monitor));
        if let Err(error) = taken {
            NOT_TAKEN.warn(format_args!("METRICS_ADDR: a connection could not be taken: {error}"));
            std::thread::sleep(PAUSE);
        }
    }
}

/// The connections that are open, oldest first.
#[derive(Default)]
struct Visits(VecDeque<Arc<Visit>>);

struct Visit {
    connection: TcpStream,
    is_over: AtomicBool,
}

impl Visits {
    /// Answers it on a thread of its own. Where there are too many, the oldest makes room.
    fn add(&mut self, connection: TcpStream, monitor: &Arc<Monitor>) -> io::Result<()> {
        self.0.retain(|visit| !visit.is_over.load(Ordering::Relaxed));
        while self.0.len() >= CONNECTIONS_MAX {
            // Its thread reads or writes no more, and ends.
            drop(self.0.pop_front().map(|oldest| oldest.connection.shutdown(Shutdown::Both)));
        }
        let visit = Arc::new(Visit { connection, is_over: AtomicBool::new(false) });
        let (visitor, monitor) = (Arc::clone(&visit), Arc::clone(monitor));
        let poison = monitor.poison.clone();
        threads::start("metrics-answer", &poison, move || {
            // Whoever asks and goes away, or never asks, gets no answer: that is for them to know.
            let _ = exchange(&visitor.connection, &monitor);
            visitor.is_over.store(true, Ordering::Relaxed);
            // Closed here where the list still has it: nobody waits for the next visitor to come.
            let _ = visitor.connection.shutdown(Shutdown::Both);
        })?;
        self.0.push_back(visit);
        Ok(())
    }
}

/// What is sent back.
struct Response {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

fn exchange(mut connection: &TcpStream, monitor: &Monitor) -> io::Result<()> {
    let deadline = Instant::now() + EXCHANGE_MAX;
    let request = read_request(connection, deadline)?;
    let wants_body = !matches!(&request, Ok(Request { method, .. }) if method == "HEAD");
    let Response { status, content_type, body } = request.map_or_else(|refused| refused, |one| respond(&one, monitor));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let text = if wants_body { head + &body } else { head };
    let mut left = text.as_bytes();
    while !left.is_empty() {
        connection.set_write_timeout(Some(time_left(deadline)?))?;
        let written = connection.write(left)?;
        left = left.get(written..).unwrap_or_default();
    }
    connection.shutdown(Shutdown::Write)
}

/// What is asked: the method, and the path without a query.
struct Request {
    method: String,
    path: String,
}

fn read_request(mut connection: &TcpStream, deadline: Instant) -> io::Result<Result<Request, Response>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        connection.set_read_timeout(Some(time_left(deadline)?))?;
        let count = connection.read(&mut buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if let Some(end) = parse(&head) {
            return Ok(end);
        }
    }
}

/// The request, once it is whole, or why it is none.
fn parse(head: &[u8]) -> Option<Result<Request, Response>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(status) if status.is_complete() => {
            let path = request.path.unwrap_or_default();
            let path = path.split_once('?').map_or(path, |(path, _)| path).to_owned();
            Some(Ok(Request { method: request.method.unwrap_or_default().to_owned(), path }))
        }
        Ok(_) if head.len() < HEAD_BYTES_MAX => None,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            Some(Err(plain("431 Request Header Fields Too Large", "the request is too large")))
        }
        Err(error) => Some(Err(plain("400 Bad Request", &error.to_string()))),
    }
}

fn respond(request: &Request, monitor: &Monitor) -> Response {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return plain("405 Method Not Allowed", "only GET and HEAD are allowed");
    }
    match request.path.as_str() {
        "/metrics" => Response { status: "200 OK", content_type: METRICS, body: figures::text(&monitor.read(), None) },
        "/healthz" => match monitor.is_alive() {
            Ok(()) => plain("200 OK", "alive"),
            Err(what) => plain("503 Service Unavailable", &what),
        },
        "/readyz" => match monitor.is_ready() {
            Ok(()) => plain("200 OK", "ready"),
            Err(why) => plain("503 Service Unavailable", &why),
        },
        _ => plain("404 Not Found", "there are /metrics, /healthz and /readyz"),
    }
}

fn plain(status: &'static str, line: &str) -> Response {
    Response { status, content_type: PLAIN, body: format!("{line}\n") }
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &[u8]) -> Option<String> {
        let monitor = Monitor::start();
        parse(request).map(|request| {
            let Response { status, body, .. } = request.map_or_else(|refused| refused, |one| respond(&one, &monitor));
            format!("{status}: {}", body.lines().next().unwrap_or_default())
        })
    }

    #[test]
    fn requests_are_answered_by_path_and_method() {
        let cases: [(&[u8], &str); 8] = [
            (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK: alive"),
            (b"GET /healthz?verbose=1 HTTP/1.0\r\n\r\n", "200 OK: alive"),
            (b"GET /readyz HTTP/1.1\r\n\r\n", "503 Service Unavailable: starting"),
            (b"HEAD /readyz HTTP/1.1\r\n\r\n", "503 Service Unavailable: starting"),
            (
                b"GET /metrics HTTP/1.1\r\n\r\n",
                "200 OK: # HELP person_service_commands_accepted_total Commands carried out, or with nothing to change.",
            ),
            (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found: there are /metrics, /healthz and /readyz"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed: only GET and HEAD are allowed"),
            (b"\x16\x03\x01\r\n\r\n", "400 Bad Request: invalid token"),
        ];
        for (request, expected) in cases {
            assert_eq!(answer(request).as_deref(), Some(expected), "{}", String::from_utf8_lossy(request));
        }
    }

    #[test]
    fn a_request_that_is_not_whole_is_waited_for_and_one_without_end_is_not() {
        assert_eq!(answer(b"GET /metrics HTTP/1.1\r\nHost: x\r\n"), None);
        let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; HEAD_BYTES_MAX]].concat();
        assert!(answer(&endless).is_some_and(|answer| answer.starts_with("431")));
        let many = [b"GET / HTTP/1.1\r\n".as_slice(), &b"X: y\r\n".repeat(HEADERS_MAX + 1), b"\r\n"].concat();
        assert!(answer(&many).is_some_and(|answer| answer.starts_with("431")));
    }
}
