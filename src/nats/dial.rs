//! Opening a session, at the start and ever after: files are read now, servers are looked at now, each wait has a limit and
//! each refusal its reason.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::connection::{OpenError, classify, in_view_of};
use super::session::Session;
use super::{probe, sign_in};
use crate::config;
use crate::log_limit::RateLimited;

/// What the client gets to connect and sign in, after a server was seen to be there.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Servers that others named and that are remembered; more are not.
const DISCOVERED_LEN_MAX: usize = 64;

/// Calls of the client that may hang in this process at the same time; then one more is made in [`BEYOND_PERIOD`].
const CALLS_MAX: usize = 32;

/// Those that hang may do so for ever, each with a thread; without another try the process would stay away for ever, too.
const BEYOND_PERIOD: Duration = Duration::from_secs(60);

/// Calls to connect that have not ended.
static CALLS: Calls = Calls { under_way: AtomicUsize::new(0), beyond: RateLimited::new(BEYOND_PERIOD) };

/// So long a silence is remembered.
const SILENCE_PERIOD: Duration = Duration::from_secs(60);

/// Attempts of this process that got no answer, whichever connection made them. The client tries servers in a random order
/// and waits for each without end, so one that greets and then says nothing would hide the others: then they are tried one
/// at a time. One that answers does not end this: the next attempt would be left to chance again.
static SILENCES: Silences = Silences(Mutex::new(None));

/// What it takes to open sessions of one connection.
pub(super) struct Dialer {
    config: config::Nats,
    name: String,
    /// Servers of the cluster, as those that we spoke to named them: a service that knows one of three comes back by the
    /// others when that one is gone.
    discovered: Mutex<Vec<String>>,
    /// The name of their cluster.
    cluster: Mutex<String>,
}

impl Dialer {
    pub(super) fn new(config: &config::Nats, name: &str) -> Self {
        Self { config: config.clone(), name: name.to_owned(), discovered: Mutex::default(), cluster: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// See [`Connection::cluster`](super::Connection::cluster).
    pub(super) fn cluster(&self) -> String {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tries once.
    pub(super) fn open(&self) -> Result<Session, OpenError> {
        // A file that cannot be used is worth knowing also while no server is there.
        let options = sign_in::options(&self.config)?;
        let seen = probe::look_at_all(&self.targets())?;
        self.remember(&seen.others);
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&seen.cluster);
        let options = sign_in::with_authorities(options, &self.config, seen.with_tls)?;
        let options = options.with_name(&format!("person-service {}", self.name));
        let urls = choose(&seen, SILENCES.recent(Instant::now()));
        let opened = Session::open(options, &self.name, |options| Self::connect(options, urls));
        opened.map_err(|error| in_view_of(error, &seen))
    }

    /// Learns which servers there are now. After the client reconnected by itself they may be others.
    pub(super) fn look_around(&self) {
        if let Ok(seen) = probe::look_at_all(&self.targets()) {
            self.remember(&seen.others);
        }
    }

    fn targets(&self) -> Vec<String> {
        let mut targets = self.config.urls.clone();
        let scheme = if targets.iter().any(|url| url.starts_with("tls://")) { "tls" } else { "nats" };
        let discovered = self.discovered.lock().unwrap_or_else(PoisonError::into_inner);
        for server in discovered.iter().map(|server| format!("{scheme}://{server}")) {
            if !targets.contains(&server) {
                targets.push(server);
            }
        }
        targets
    }

    fn remember(&self, others: &[String]) {
        if !others.is_empty() {
            let kept = others.iter().take(DISCOVERED_LEN_MAX).cloned().collect();
            *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        }
    }

    /// The client's connect, with the time limit that it lacks. When the time is over its thread is left behind; that is
    /// rare, because only servers that were seen to speak are tried.
    fn connect(options: nats::Options, urls: String) -> Result<nats::Connection, OpenError> {
        let (sender, connected) = bounded(1);
        let call = CALLS.begin(Instant::now())?;
        let connect = move || {
            let _call = call;
            if let Err(crossbeam_channel::SendError(Ok(late))) = sender.send(options.connect(&urls)) {
                nats::Connection::close(late);
            }
        };
        let thread = std::thread::Builder::new().name("nats-connect".to_owned()).spawn(connect);
        thread.map_err(|error| OpenError::Away(error.to_string()))?;
        let Ok(connected) = connected.recv_timeout(CONNECT_WAIT) else {
            SILENCES.add(Instant::now());
            let why = format!("the sign-in got no answer within {} s", CONNECT_WAIT.as_secs());
            return Err(OpenError::Away(why));
        };
        connected.map_err(|error| classify(&error.to_string()))
    }
}

/// What the client is to try after so many silences in a row.
fn choose(seen: &probe::Seen, silences: usize) -> String {
    let turn = silences.checked_sub(1).zip(seen.greet.len().checked_sub(1));
    let alone = turn.and_then(|(turn, last)| seen.greet.get(turn % (last + 1)));
    alone.cloned().unwrap_or_else(|| seen.safe.join(","))
}

/// How many attempts got no answer, until none did for a while; and when the last of them was.
struct Silences(Mutex<Option<(usize, Instant)>>);

impl Silences {
    fn add(&self, now: Instant) {
        let count = self.recent(now) + 1;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((count, now));
    }

    fn recent(&self, now: Instant) -> usize {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(_, at)| now.saturating_duration_since(*at) < SILENCE_PERIOD).map_or(0, |(count, _)| count)
    }
}

/// Calls that have not ended.
struct Calls {
    under_way: AtomicUsize,
    beyond: RateLimited,
}

/// One of them.
struct Call<'a>(&'a Calls);

impl Calls {
    fn begin(&self, now: Instant) -> Result<Call<'_>, OpenError> {
        let before = self.under_way.fetch_add(1, SeqCst);
        let call = Call(self);
        if before >= CALLS_MAX && self.beyond.pass(now).is_none() {
            return Err(OpenError::Away(format!("{before} earlier attempts to sign in still hang")));
        }
        Ok(call)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SignIn;

    fn dialer(urls: &[&str]) -> Dialer {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        let config =
            config::Nats { urls, sign_in: SignIn::Nothing, ca: None, client_certificate: None, jetstream_domain: None };
        Dialer::new(&config, "test")
    }

    #[test]
    fn servers_of_the_cluster_are_tried_too_and_in_the_same_way() {
        let dialer = dialer(&["tls://a:4222", "tls://b:4222"]);
        dialer.remember(&["b:4222".to_owned(), "c:4222".to_owned()]);
        assert_eq!(dialer.targets(), ["tls://a:4222", "tls://b:4222", "tls://c:4222"]);
        dialer.remember(&[]);
        assert_eq!(dialer.targets().len(), 3, "a server that knows of no others says nothing about them");
    }

    /// A server that greets and swallows the rest leaves a call that never returns. After 32 of them no further one was made
    /// for ever, so the process never came back when the server did.
    #[test]
    fn when_many_hang_another_one_is_tried_now_and_then() {
        let calls = Calls { under_way: AtomicUsize::new(0), beyond: RateLimited::new(BEYOND_PERIOD) };
        let start = Instant::now();
        let mut hanging: Vec<Call<'_>> = (0..CALLS_MAX).map(|_| calls.begin(start).expect("room")).collect();
        hanging.push(calls.begin(start).expect("one beyond them"));
        let refused = calls.begin(start + BEYOND_PERIOD / 2).err().map(|error| error.to_string());
        assert_eq!(refused.as_deref(), Some("33 earlier attempts to sign in still hang"));
        hanging.push(calls.begin(start + BEYOND_PERIOD).expect("one more a period later"));
        hanging.truncate(CALLS_MAX - 1);
        assert!(calls.begin(start + BEYOND_PERIOD).is_ok(), "those that ended make room");
    }

    /// Any attempt of the process that got an answer made the others forget which server was silent. A connection then met it
    /// by chance again, five seconds each time.
    #[test]
    fn silence_is_remembered_for_a_while() {
        let silences = Silences(Mutex::default());
        let start = Instant::now();
        assert_eq!(silences.recent(start), 0);
        silences.add(start);
        silences.add(start + SILENCE_PERIOD / 2);
        assert_eq!(silences.recent(start + SILENCE_PERIOD), 2, "the last one counts");
        assert_eq!(silences.recent(start + SILENCE_PERIOD * 3 / 2), 0);
        silences.add(start + SILENCE_PERIOD * 2);
        assert_eq!(silences.recent(start + SILENCE_PERIOD * 2), 1);
    }

    #[test]
    fn after_silence_servers_are_tried_one_at_a_time() {
        let [refuses, a, b] = ["refuses", "a", "b"].map(str::to_owned);
        let (safe, greet) = (vec![refuses, a.clone(), b.clone()], vec![a, b]);
        let seen =
            probe::Seen { safe, greet, with_tls: false, away: Vec::new(), others: Vec::new(), cluster: String::new() };
        let chosen = [0, 1, 2, 3].map(|silences| choose(&seen, silences));
        assert_eq!(chosen, ["refuses,a,b", "a", "b", "a"]);
    }
}
