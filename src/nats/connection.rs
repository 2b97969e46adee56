//! A connection to NATS: opening it, watching it, opening it again, closing it, none of which hangs.
//!
//! What is published while it is away is refused instead of being buffered: nothing is sent behind anybody's back. The
//! first connect is tried once; trying again is the caller's loop.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::dial::Dialer;
use super::health::Health;
use super::obstacle::Cause;
use super::session::{Session, join_until, with_jitter};
use super::{probe, sign_in};
use crate::config;

/// How long the client may try by itself, with what it was opened with.
const RECONNECT_WAIT: Duration = Duration::from_secs(2);

/// How long a connection may stand open and mute.
const MUTE_WAIT: Duration = Duration::from_secs(3);

/// The pause after an attempt to open another session; it doubles up to the longest.
const ATTEMPT_PAUSE_MIN: Duration = Duration::from_millis(500);
const ATTEMPT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// How often the thread looks whether there is something to do.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Failed attempts that wait to be counted; more are not.
const FAILURES_LEN_MAX: usize = 16;

/// Why a connection was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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

/// A connection, which is there as long as it is held: one session after the other.
///
/// The client of a session reconnects by itself for about two seconds. When that has not helped, or when a connection
/// stands open and nothing comes back, a thread opens another session by the same way as at the start, and again until it
/// succeeds. The new session takes the place of the old one, which is closed, and counts as another generation.
pub struct Connection {
    shared: Arc<Shared>,
    /// Wakes the thread, which ends with it.
    wake: Sender<()>,
    keeper: Mutex<Option<JoinHandle<()>>>,
    failures: Receiver<OpenError>,
}

/// What the thread that opens sessions shares with the connection.
struct Shared {
    dialer: Dialer,
    present: RwLock<Arc<Session>>,
    /// Why the latest attempt to open another session failed, while there is none.
    trouble: Mutex<Option<OpenError>>,
    to_renew: AtomicBool,
    closing: AtomicBool,
}

impl Connection {
    /// Tries once to connect and to sign in. `name` is what the server's operators see, and begins the threads' names.
    pub fn open(config: &config::Nats, name: &str) -> Result<Self, OpenError> {
        let dialer = Dialer::new(config, name);
        let present = RwLock::new(Arc::new(dialer.open()?));
        let (trouble, to_renew, closing) = (Mutex::new(None), AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { dialer, present, trouble, to_renew, closing });
        let ((wake, woken), (failed, failures)) = (bounded(1), bounded(FAILURES_LEN_MAX));
        let kept = Arc::clone(&shared);
        let keeper = std::thread::Builder::new().name(format!("{name}-keeper"));
        let keeper = keeper.spawn(move || keep(&kept, &woken, &failed));
        let keeper = Mutex::new(Some(keeper.map_err(|error| OpenError::Away(error.to_string()))?));
        Ok(Self { shared, wake, keeper, failures })
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        self.session().vitals().health()
    }

    /// Why there is no connection, as far as an attempt to open one has shown it.
    pub fn trouble(&self) -> Option<OpenError> {
        lock(&self.shared.trouble).clone()
    }

    /// Why attempts failed since this was last asked; no more than a few are kept.
    pub fn failures(&self) -> impl Iterator<Item = OpenError> + '_ {
        self.failures.try_iter()
    }

    /// Opens another session in place of the present one, though that may stand: as everything else that was asked of the
    /// server at its beginning, what was denied to it stays denied.
    pub fn renew(&self) {
        self.shared.to_renew.store(true, SeqCst);
        let _ = self.wake.try_send(());
    }

    /// What the server said when it last denied us a right on the present session; `None` when it never did.
    pub fn denied(&self) -> Option<String> {
        self.session().vitals().denied()
    }

    /// How many subscriptions the server denied so far. Each is known before a [`Connection::round_trip`] is over that
    /// began after it.
    pub fn subscriptions_denied(&self) -> u64 {
        self.session().vitals().subscriptions_denied()
    }

    /// What the server said when it denied a subscription on the connection that stands now, answers' included; `None` when
    /// it did not.
    pub fn subscription_denied(&self) -> Option<String> {
        self.session().vitals().subscription_denied()
    }

    /// The name of the cluster of the servers that were last looked at; empty where they are in none.
    pub fn cluster(&self) -> String {
        self.shared.dialer.cluster()
    }

    /// Something was written: one of the flushing threads is to send it off.
    pub fn mark_dirty(&self) {
        self.session().mark_dirty();
    }

    /// Waits until all that was written before has reached the server, and all that the server had sent by then has
    /// arrived here. False when that did not come about in time or when the connection was lost meanwhile.
    pub fn round_trip(&self, within: Duration) -> bool {
        self.session().round_trip(within)
    }

    /// Sends off what was written and closes the connection. The client's own way to do so may hang when the server is
    /// away or mute: then this returns false after the time given, and the threads are left to the end of the process.
    pub fn close(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        self.shared.closing.store(true, SeqCst);
        let _ = self.wake.try_send(());
        let is_closed = self.session().close(within);
        let keeper = lock(&self.keeper).take();
        keeper.is_none_or(|keeper| join_until(deadline, keeper)) && is_closed
    }

    pub(super) fn session(&self) -> Arc<Session> {
        self.shared.session()
    }

    pub(super) fn generation(&self) -> u64 {
        self.session().vitals().generation()
    }

    /// What the server complains about from now on, such as permissions that are lacking, on the present session.
    pub(super) fn complaints(&self) -> Receiver<String> {
        self.session().vitals().complaints()
    }
}

impl Drop for Connection {
    /// Without [`Connection::close`] it is closed all the same, and nothing is waited for.
    fn drop(&mut self) {
        self.shared.closing.store(true, SeqCst);
        self.session().give_up_unless_over();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl Shared {
    fn session(&self) -> Arc<Session> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    /// Whether the present session is no good and will not mend itself.
    fn is_to_be_replaced(&self) -> bool {
        let health = self.session().vitals().health();
        let waited = if health.connected { health.silent_for > MUTE_WAIT } else { health.away_for > RECONNECT_WAIT };
        waited || self.to_renew.load(SeqCst)
    }

    /// Opens another session and puts it in the place of the present one, unless that has come back meanwhile.
    fn replace(&self) -> Result<(), OpenError> {
        let fresh = self.dialer.open()?;
        if self.is_closing() || !self.is_to_be_replaced() {
            fresh.give_up();
            return Ok(());
        }
        self.to_renew.store(false, SeqCst);
        let old = {
            let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
            present.vitals().start_closing();
            fresh.vitals().follow(present.vitals());
            std::mem::replace(&mut *present, Arc::new(fresh))
        };
        old.give_up();
        log::info!("connected to NATS again, anew: {}", self.dialer.name());
        // It may have been closed between the look and the replacement.
        if self.is_closing() {
            self.session().give_up();
        }
        Ok(())
    }
}

/// Watches over the sessions until the connection is closed.
fn keep(shared: &Shared, woken: &Receiver<()>, failed: &Sender<OpenError>) {
    let mut pause = ATTEMPT_PAUSE_MIN;
    let mut generation = shared.session().vitals().generation();
    loop {
        if woken.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Disconnected) || shared.is_closing() {
            return;
        }
        let health = shared.session().vitals().health();
        if health.connected && health.generation != generation {
            generation = health.generation;
            // All was asked for again, by the client itself; and there may be other servers.
            shared.to_renew.store(false, SeqCst);
            shared.dialer.look_around();
        }
        if !shared.is_to_be_replaced() {
            if health.connected {
                *lock(&shared.trouble) = None;
                pause = ATTEMPT_PAUSE_MIN;
            }
            continue;
        }
        match shared.replace() {
            Ok(()) => {
                *lock(&shared.trouble) = None;
                generation = shared.session().vitals().generation();
            }
            Err(error) => {
                // Whoever counts them has enough.
                let _ = failed.try_send(error.clone());
                *lock(&shared.trouble) = Some(error);
                let _ = woken.recv_timeout(with_jitter(pause));
                pause = (pause * 2).min(ATTEMPT_PAUSE_MAX);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<sign_in::BadFile> for OpenError {
    fn from(bad: sign_in::BadFile) -> Self {
        Self::BadFile { path: bad.path, why: bad.why }
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
pub(super) fn in_view_of(error: OpenError, seen: &probe::Seen) -> OpenError {
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

pub(super) fn classify(error: &str) -> OpenError {
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

#[cfg(test)]
mod tests {
    use super::*;

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
