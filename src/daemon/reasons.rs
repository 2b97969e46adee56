//! Why the service does not serve, while it does not: one list, from which `STATUS=`, `/readyz`, the log, the figure
//! `not_serving` and the membership of the queue group follow.
//!
//! The supervisor keeps it. Whatever finds something that stands in the way of serving sets its reason, and clears it when
//! it finds that it is mended. While the list is not empty no commands are taken.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::nats::Cause;

/// The same reason in the same words is logged once in this time, however often it goes and comes back.
const LOG_INTERVAL: Duration = Duration::from_secs(30);
/// In other words, once in this time: another fault of the stream is news.
const LOG_INTERVAL_OF_NEWS: Duration = Duration::from_secs(5);

/// What stands in the way of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// What would keep the service from starting, too.
    Cause(Cause),
    /// The server denies the service a subscription for the answers that it waits for.
    NoInbox,
    /// The service's clock is too far from the server's.
    ClockOff,
    /// A thread of the service hangs.
    Hangs,
}

impl Reason {
    /// The server lets this user receive no commands.
    pub const NO_RIGHT: Self = Self::Cause(Cause::NoRight);

    /// Those for which a connection is not opened.
    pub const OF_CONNECTIONS: [Self; 7] = [
        Self::Cause(Cause::Unreachable),
        Self::Cause(Cause::Crowded),
        Self::Cause(Cause::TlsFirst),
        Self::Cause(Cause::NoTls),
        Self::Cause(Cause::Untrusted),
        Self::Cause(Cause::SignIn),
        Self::Cause(Cause::BadFile),
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Cause::ALL.into_iter().map(Self::Cause).chain([Self::NoInbox, Self::ClockOff, Self::Hangs])
    }

    /// Its name in figures and as `error_code` in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoInbox => "no_inbox",
            Self::ClockOff => "clock_off",
            Self::Hangs => "thread_hangs",
            Self::Cause(cause) => match cause {
                Cause::Unreachable => "nats_unreachable",
                Cause::Crowded => "nats_crowded",
                Cause::TlsFirst => "tls_first",
                Cause::NoTls => "no_tls",
                Cause::Untrusted => "certificate_untrusted",
                Cause::SignIn => "sign_in_refused",
                Cause::BadFile => "bad_file",
                Cause::ServerTooOld => "server_too_old",
                Cause::NoJetStream => "no_jetstream",
                Cause::Silent => "no_answer",
                Cause::Missing => "stream_missing",
                Cause::NotCreated => "stream_not_created",
                Cause::Unusable => "stream_unusable",
                Cause::NoRight => "no_right",
                Cause::Full => "store_full",
                Cause::Conflict => "stream_conflict",
            },
        }
    }

    /// Whether it is an outage, which passes by itself; all else has to be mended by somebody.
    const fn is_outage(self) -> bool {
        matches!(self, Self::Cause(Cause::Unreachable | Cause::Silent))
    }
}

/// A reason with its words.
pub type Told = (Reason, String);

/// The reasons in a sentence.
pub fn in_words(reasons: &[Told]) -> String {
    reasons.iter().map(|(_, words)| words.as_str()).collect::<Vec<_>>().join("; ")
}

/// All reasons of now.
#[derive(Debug, Default)]
pub struct Reasons {
    found: BTreeMap<Reason, String>,
    logged: BTreeMap<Reason, Logged>,
}

#[derive(Debug)]
struct Logged {
    at: Instant,
    words: String,
    /// Whether it was said that the reason is there, and not yet that it has gone.
    stands: bool,
}

impl Reasons {
    /// Sets the reason where there are words for it, else clears it.
    pub fn judge(&mut self, reason: Reason, words: Option<String>) {
        match words {
            Some(words) => self.set(reason, words),
            None => self.clear(reason),
        }
    }

    /// The service does not serve for this reason. The words are a sentence for people, without personal data.
    pub fn set(&mut self, reason: Reason, words: String) {
        self.found.insert(reason, words);
    }

    /// Not for this reason any more.
    pub fn clear(&mut self, reason: Reason) {
        self.found.remove(&reason);
    }

    /// Of these reasons, only this one, if any.
    pub fn judge_all(&mut self, reasons: &[Reason], found: Option<Told>) {
        reasons.iter().for_each(|reason| self.clear(*reason));
        self.found.extend(found);
    }

    /// Whether nothing stands in the way.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether nothing else than this one does, if that.
    pub fn is_empty_but_for(&self, reason: Reason) -> bool {
        self.found.keys().all(|found| *found == reason)
    }

    /// Whether this one does.
    pub fn has(&self, reason: Reason) -> bool {
        self.found.contains_key(&reason)
    }

    /// All of them.
    pub fn list(&self) -> Vec<Told> {
        self.found.iter().map(|(reason, words)| (*reason, words.clone())).collect()
    }

    /// Logs what is new since the last call: reasons that came, that have other words, that have gone.
    pub fn log_news(&mut self) {
        let now = Instant::now();
        for (reason, words) in &self.found {
            let is_news = self.logged.get(reason).is_none_or(|logged| {
                let age = now.duration_since(logged.at);
                if logged.words == *words { !logged.stands && age >= LOG_INTERVAL } else { age >= LOG_INTERVAL_OF_NEWS }
            });
            if is_news {
                let level = if reason.is_outage() { log::Level::Warn } else { log::Level::Error };
                log::log!(level, error_code = reason.name(); "not serving: {words}");
                self.logged.insert(*reason, Logged { at: now, words: words.clone(), stands: true });
            }
        }
        for (reason, logged) in &mut self.logged {
            if logged.stands && !self.found.contains_key(reason) {
                logged.stands = false;
                // The connection is away still where it is only for another reason.
                let of_connections = |reason: &Reason| Reason::OF_CONNECTIONS.contains(reason);
                if !of_connections(reason) || !self.found.keys().any(of_connections) {
                    log::info!("no longer: {}", logged.words);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const UNREACHABLE: Reason = Reason::Cause(Cause::Unreachable);
    const NO_JETSTREAM: Reason = Reason::Cause(Cause::NoJetStream);

    #[test]
    fn each_reason_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Reason::all().map(Reason::name).collect();
        assert_eq!(names.len(), Reason::all().count());
    }

    #[test]
    fn a_reason_stands_until_it_is_cleared_and_has_its_newest_words() {
        let mut reasons = Reasons::default();
        reasons.set(NO_JETSTREAM, "first".to_owned());
        reasons.judge(NO_JETSTREAM, Some("second".to_owned()));
        reasons.set(UNREACHABLE, "away".to_owned());
        assert_eq!(in_words(&reasons.list()), "away; second");
        reasons.judge_all(&Reason::OF_CONNECTIONS, Some((Reason::Cause(Cause::BadFile), "a file".to_owned())));
        assert_eq!(in_words(&reasons.list()), "a file; second");
        reasons.judge_all(&Reason::OF_CONNECTIONS, None);
        reasons.judge(NO_JETSTREAM, None);
        assert!(reasons.is_empty());
    }
}
