//! A connection to NATS: opening it, watching it, closing it, none of which hangs.
//!
//! Once open, the client reconnects for ever, and what is published meanwhile is refused instead of being buffered:
//! nothing is sent behind anybody's back. The first connect is tried once; trying again is the caller's loop.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::flusher::Flusher;
use super::health::{Health, Vitals};
use super::obstacle::Cause;
use super::{probe, sign_in};
use crate::config;

/// What the client gets to connect and sign in, after the server was seen to be there.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// The pause before the first attempt to reconnect; it doubles from attempt to attempt.
const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(10);

/// The longest pause between two attempts to reconnect, jitter apart.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);

/// Up to this part of a pause is added to it, so that replicas do not come back in step.
const JITTER_DIVISOR: u32 = 4;

/// How often a wait looks whether what it waits for has come.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Why a connection was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No server could be spoken to. It may be there later.
    #[error("{0}")]
    Away(String),
    /// The server is there, and cannot be used as it and we are configured; or it takes no more connections.
    #[error("{why}")]
    Unfit {
        /// What is the matter.
        cause: Cause,
        /// In words.
        why: String,
    },
    /// The server does not know us, or does not want us.
    #[error("the server refused the sign-in: {0}")]
    SignInRefused(String),
    /// A file of the configuration cannot be used.
    #[error("cannot use {}: {why}", path.display())]
    BadFile {
        /// Which one.
        path: PathBuf,
        /// What is the matter with it.
        why: String,
    },
}

impl OpenError {
    /// What it is on the list of judgements.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Away(_) => Cause::Unreachable,
            Self::Unfit { cause, .. } => *cause,
            Self::SignInRefused(_) => Cause::SignIn,
            Self::BadFile { .. } => Cause::BadFile,
        }
    }
}

/// Reads the files of the configuration as [`Connection::open`] does, without connecting.
pub fn check_files(config: &config::Nats) -> Result<(), OpenError> {
    let with_tls = config.urls.iter().all(|url| url.starts_with("tls://"));
    let options = sign_in::options(config)?;
    Ok(sign_in::with_authorities(options, config, with_tls).map(drop)?)
}

/// An open connection, with its flushing threads. The client reconnects it for ever.
pub struct Connection {
    client: nats::Connection,
    vitals: Arc<Vitals>,
    mark: Sender<()>,
    flushers: Mutex<Vec<JoinHandle<()>>>,
}

impl Connection {
    /// Tries once to connect and to sign in. `name` is what the server's operators see, and begins the threads' names.
    pub fn open(config: &config::Nats, name: &str) -> Result<Self, OpenError> {
        // A file that cannot be used is worth knowing also while no server is there.
        let options = sign_in::options(config)?;
        let seen = probe::look_at_all(&config.urls)?;
        let options = sign_in::with_authorities(options, config, seen.with_tls)?;
        let vitals = Arc::new(Vitals::new());
        let options = watched(options, &vitals)
            .with_name(&format!("person-service {name}"))
            .max_reconnects(None)
            .reconnect_buffer_size(0);
        let connected = connect_within(CONNECT_WAIT, options, &seen.safe.join(","));
        let client = connected.map_err(|error| in_view_of(error, &seen))?;
        vitals.on_connected();
        let flusher = Flusher::start(name, &client, &vitals).map_err(|error| OpenError::Away(error.to_string()))?;
        let mark = flusher.mark();
        Ok(Self { client, vitals, mark, flushers: Mutex::new(flusher.into_threads()) })
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        self.vitals.health()
    }

    /// What the server said when it last denied us a right; `None` when it never did.
    pub fn denied(&self) -> Option<String> {
        self.vitals.denied()
    }

    /// How many subscriptions the server denied so far. Each is known before a [`Connection::round_trip`] is over that
    /// began after it.
    pub fn subscriptions_denied(&self) -> u64 {
        self.vitals.subscriptions_denied()
    }

    /// What the server said when it denied a subscription on the connection that stands now, answers' included; `None` when
    /// it did not.
    pub fn subscription_denied(&self) -> Option<String> {
        self.vitals.subscription_denied()
    }

    /// Something was written: one of the flushing threads is to send it off.
    pub fn mark_dirty(&self) {
        // A mark that is there already says the same.
        let _ = self.mark.try_send(());
    }

    /// Waits until all that was written before has reached the server, and all that the server had sent by then has
    /// arrived here. False when that did not come about in time or when the connection was lost meanwhile.
    pub fn round_trip(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let generation = self.vitals.generation();
        let proof = self.vitals.next_proof();
        while !self.vitals.has_flushed(proof) {
            if Instant::now() >= deadline || self.vitals.generation() != generation {
                return false;
            }
            self.mark_dirty();
            std::thread::sleep(POLL_INTERVAL);
        }
        self.vitals.generation() == generation
    }

    /// Sends off what was written and closes the connection. The client's own way to do so may hang when the server is
    /// away or mute: then this returns false after the time given, and the threads are left to the end of the process.
    pub fn close(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        self.vitals.start_closing();
        let (done, closed) = bounded(1);
        let client = self.client.clone();
        let close = move || {
            client.close();
            let _ = done.send(());
        };
        let thread = std::thread::Builder::new().name("nats-close".to_owned()).spawn(close);
        let closed = thread.is_ok() && closed.recv_deadline(deadline).is_ok();
        self.mark_dirty();
        let flushers = std::mem::take(&mut *self.flushers.lock().unwrap_or_else(PoisonError::into_inner));
        closed && flushers.into_iter().all(|flusher| join_until(deadline, flusher))
    }

    pub(super) fn client(&self) -> &nats::Connection {
        &self.client
    }

    pub(super) fn generation(&self) -> u64 {
        self.vitals.generation()
    }

    /// What the server complains about from now on, such as permissions that are lacking.
    pub(super) fn complaints(&self) -> Receiver<String> {
        self.vitals.complaints()
    }
}

impl Drop for Connection {
    /// Without [`Connection::close`] the threads are told to end and are not waited for.
    fn drop(&mut self) {
        self.vitals.start_closing();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl From<sign_in::BadFile> for OpenError {
    fn from(bad: sign_in::BadFile) -> Self {
        Self::BadFile { path: bad.path, why: bad.why }
    }
}

/// The options with all callbacks set. None of them panics or calls the client: a callback that panics kills the
/// client's reader thread, one that calls back may lock it up.
fn watched(options: nats::Options, vitals: &Arc<Vitals>) -> nats::Options {
    let [lost, found, failed, attempts] = [(); 4].map(|()| Arc::clone(vitals));
    options
        .disconnect_callback(move || lost.on_lost())
        .reconnect_callback(move || found.on_connected())
        .error_callback(move |error| failed.on_error(&error))
        .lame_duck_callback(|| log::info!("the NATS server is about to stop and asks its clients to leave"))
        .reconnect_delay_callback(move |attempt| {
            attempts.on_attempt();
            if attempts.generation() == 0 { Duration::ZERO } else { reconnect_delay(attempt) }
        })
}

fn reconnect_delay(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt).unwrap_or(u32::MAX);
    let delay = RECONNECT_DELAY_MIN.saturating_mul(2_u32.saturating_pow(doublings)).min(RECONNECT_DELAY_MAX);
    delay + jitter(delay / JITTER_DIVISOR)
}

/// Some time below `max`. The clock's last digits are random enough to part replicas.
fn jitter(max: Duration) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    max.mul_f64(f64::from(now.subsec_nanos() % 1000) / 1000.0)
}

/// The client's connect, with the time limit that it lacks. When the time is over its thread is left behind; that is
/// rare, because only servers that were seen to speak are tried.
fn connect_within(wait: Duration, options: nats::Options, urls: &str) -> Result<nats::Connection, OpenError> {
    let (sender, connected) = bounded(1);
    let urls = urls.to_owned();
    let connect = move || {
        if let Err(crossbeam_channel::SendError(Ok(late))) = sender.send(options.connect(&urls)) {
            nats::Connection::close(late);
        }
    };
    let thread = std::thread::Builder::new().name("nats-connect".to_owned()).spawn(connect);
    thread.map_err(|error| OpenError::Away(error.to_string()))?;
    match connected.recv_timeout(wait) {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(classify(&error.to_string())),
        Err(_) => Err(OpenError::Away(format!("the sign-in got no answer within {} s", wait.as_secs()))),
    }
}

/// Complaints that say that the server knows our sign-in and refuses it; the last ones are TLS alerts about our
/// certificate. Everything else may pass by itself.
const REFUSALS: [&str; 10] = [
    "authorization violation",
    "authentication expired",
    "authentication revoked",
    "fatal alert: badcertificate",
    "fatal alert: certificaterequired",
    "fatal alert: certificateexpired",
    "fatal alert: certificaterevoked",
    "fatal alert: certificateunknown",
    "fatal alert: unknownca",
    "fatal alert: accessdenied",
];

/// Complaints about the server's own certificate, as the client's TLS words them, and what they mean.
const BAD_CERTIFICATE: &str = "invalid peer certificate: ";
const CERTIFICATES: [(&str, &str); 4] = [
    ("UnknownIssuer", "no authority that is trusted has signed it"),
    ("Expired", "it has expired"),
    ("NotValidYet", "it is not valid yet, by this machine's clock"),
    ("NotValidForName", "it is not made out to the host of NATS_URL"),
];

/// What one server of the list cannot mend, another one that is only away may. And one that greets is not away.
fn in_view_of(error: OpenError, seen: &probe::Seen) -> OpenError {
    match error {
        OpenError::Away(why) if seen.away.is_empty() => {
            probe::complaint(&seen.safe).map_or(OpenError::Away(why), |said| classify(&said))
        }
        OpenError::Unfit { why, .. } if !seen.away.is_empty() => {
            OpenError::Away(format!("{why}; {}", seen.away.join("; ")))
        }
        other => other,
    }
}

fn classify(error: &str) -> OpenError {
    // The client shows the server's complaint as `unexpected line while connecting: Err("…")`.
    let said = error.split_once("Err(").map_or(error, |(_, said)| said.trim_matches([')', '"', '\'']));
    let lower = said.to_lowercase();
    if REFUSALS.iter().any(|refusal| lower.contains(refusal)) {
        OpenError::SignInRefused(said.to_owned())
    } else if lower.contains("connections exceeded") {
        let why = format!("NATS takes no more connections: {}", said.trim_matches('\''));
        OpenError::Unfit { cause: Cause::Crowded, why }
    } else if let Some((_, kind)) = said.split_once(BAD_CERTIFICATE) {
        let meaning = CERTIFICATES.iter().find(|(known, _)| kind.starts_with(known)).map(|(_, meaning)| *meaning);
        let why = meaning.map_or(kind.to_owned(), |meaning| format!("{meaning} ({kind})"));
        OpenError::Unfit { cause: Cause::Untrusted, why: format!("the server's certificate is not accepted: {why}") }
    } else {
        OpenError::Away(said.to_owned())
    }
}

fn join_until(deadline: Instant, thread: JoinHandle<()>) -> bool {
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    thread.join().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second() {
        let between = |attempt, min, max| {
            let delay = reconnect_delay(attempt).as_millis();
            assert!((min..=max).contains(&delay), "attempt {attempt}: {delay} ms");
        };
        between(0, 10, 12);
        between(3, 80, 100);
        between(7, 1000, 1250);
        between(usize::MAX, 1000, 1250);
    }

    #[test]
    fn complaints_are_told_apart() {
        let refused = |text| matches!(classify(text), OpenError::SignInRefused(_));
        assert!(refused(r#"unexpected line while connecting: Err("Authorization Violation")"#));
        assert!(refused("TLS error: received fatal alert: CertificateRequired"));
        assert!(!refused(r#"unexpected line while connecting: Err("maximum connections exceeded")"#));
        assert!(!refused("TLS error: invalid peer certificate: UnknownIssuer"));
        assert_eq!(classify("TLS error: invalid peer certificate: Expired").cause(), Cause::Untrusted);
        for crowded in ["maximum connections exceeded", "maximum account active connections exceeded"] {
            let error = classify(&format!("unexpected line while connecting: Err(\"{crowded}\")"));
            assert_eq!(error.cause(), Cause::Crowded);
            assert_eq!(error.to_string(), format!("NATS takes no more connections: {crowded}"));
        }
        let said = classify(r#"unexpected line while connecting: Err("'Authorization Violation'")"#).to_string();
        assert_eq!(said, "the server refused the sign-in: Authorization Violation");
    }
}
