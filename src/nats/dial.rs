//! Opening a session, at the start and ever after: files are read now, servers are looked at now, each wait has a limit and
//! each refusal its reason.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::bounded;

use super::connection::{OpenError, classify, in_view_of};
use super::session::Session;
use super::{probe, sign_in};
use crate::config;

/// What the client gets to connect and sign in, after a server was seen to be there.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Servers that others named and that are remembered; more are not.
const DISCOVERED_LEN_MAX: usize = 64;

/// Calls of the client that may hang in this process at the same time; then no more are made until one has ended.
const CALLS_MAX: usize = 32;

/// Calls to connect that have not ended.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// How often in a row the client got no answer. It tries servers in a random order and waits for each without end, so one
/// that greets and then says nothing would hide the others: then they are tried one at a time.
static UNANSWERED: AtomicUsize = AtomicUsize::new(0);

/// What it takes to open sessions of one connection.
pub(super) struct Dialer {
    config: config::Nats,
    name: String,
    /// Servers of the cluster, as those that we spoke to named them: a service that knows one of three comes back by the
    /// others when that one is gone.
    discovered: Mutex<Vec<String>>,
}

impl Dialer {
    pub(super) fn new(config: &config::Nats, name: &str) -> Self {
        Self { config: config.clone(), name: name.to_owned(), discovered: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Tries once.
    pub(super) fn open(&self) -> Result<Session, OpenError> {
        // A file that cannot be used is worth knowing also while no server is there.
        let options = sign_in::options(&self.config)?;
        let seen = probe::look_at_all(&self.targets())?;
        self.remember(&seen.others);
        let options = sign_in::with_authorities(options, &self.config, seen.with_tls)?;
        let options = options.with_name(&format!("person-service {}", self.name));
        let urls = choose(&seen, UNANSWERED.load(SeqCst));
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
        let call = Call::begin()?;
        let connect = move || {
            let _call = call;
            if let Err(crossbeam_channel::SendError(Ok(late))) = sender.send(options.connect(&urls)) {
                nats::Connection::close(late);
            }
        };
        let thread = std::thread::Builder::new().name("nats-connect".to_owned()).spawn(connect);
        thread.map_err(|error| OpenError::Away(error.to_string()))?;
        let Ok(connected) = connected.recv_timeout(CONNECT_WAIT) else {
            UNANSWERED.fetch_add(1, SeqCst);
            let why = format!("the sign-in got no answer within {} s", CONNECT_WAIT.as_secs());
            return Err(OpenError::Away(why));
        };
        UNANSWERED.store(0, SeqCst);
        connected.map_err(|error| classify(&error.to_string()))
    }
}

/// What the client is to try after so many silences in a row.
fn choose(seen: &probe::Seen, silences: usize) -> String {
    let turn = silences.checked_sub(1).zip(seen.greet.len().checked_sub(1));
    let alone = turn.and_then(|(turn, last)| seen.greet.get(turn % (last + 1)));
    alone.cloned().unwrap_or_else(|| seen.safe.join(","))
}

/// A call that has not ended.
struct Call;

impl Call {
    fn begin() -> Result<Self, OpenError> {
        let call = Self;
        match CALLS.fetch_add(1, SeqCst) {
            CALLS_MAX.. => Err(OpenError::Away(format!("{CALLS_MAX} earlier attempts to sign in still hang"))),
            _ => Ok(call),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        CALLS.fetch_sub(1, SeqCst);
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

    #[test]
    fn after_silence_servers_are_tried_one_at_a_time() {
        let [refuses, a, b] = ["refuses", "a", "b"].map(str::to_owned);
        let (safe, greet) = (vec![refuses, a.clone(), b.clone()], vec![a, b]);
        let seen = probe::Seen { safe, greet, with_tls: false, away: Vec::new(), others: Vec::new() };
        let chosen = [0, 1, 2, 3].map(|silences| choose(&seen, silences));
        assert_eq!(chosen, ["refuses,a,b", "a", "b", "a"]);
    }
}
