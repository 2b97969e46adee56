//! Watching over the running service: signals, membership in the queue group, the watchdogs, and what people are told.

mod drain;
mod findings;
mod telling;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::daemon::door::Doorkeepers;
use crate::daemon::logging;
use crate::daemon::monitor::Monitor;
use crate::daemon::notify::{self, Notifier};
use crate::daemon::reasons::{Reason, Reasons, in_words};
use crate::daemon::service::{NoEntry, Service};
use crate::daemon::signals::{Deaf, Signal, Signals};
use crate::domain::Timestamp;
use crate::exit::ExitStatus;
use crate::nats::{ClockOffset, Obstacle};
use crate::wire::beacon::Presence;

/// How often everything is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long the store connection may be away or mute before other replicas shall get the commands.
const AWAY_MAX: Duration = Duration::from_secs(1);
/// How long NATS may take to confirm that the queue groups are left.
const LEAVE_WAIT: Duration = Duration::from_secs(2);
/// How long a thread may be busy with one piece of work before others shall get the commands and the watchdog is no longer
/// fed.
const BUSY_MAX: Duration = Duration::from_secs(15);
/// How long before the process ends itself: a thread that hangs, in a write on a session that was given up for instance,
/// cannot be freed, its persons would get nothing, and launchd has no watchdog.
const HANG_MAX: Duration = Duration::from_secs(60);
/// How often the log says what was done, and `STATUS=` is renewed.
const REPORT_PERIOD: Duration = Duration::from_secs(60);
const STATUS_PERIOD: Duration = Duration::from_secs(5);

/// Whether commands come in.
enum Membership {
    In(Doorkeepers),
    Leaving(Doorkeepers),
    Out,
}

/// Why the watch ends.
enum End {
    /// A signal asked for it.
    Told,
    /// No signal could any more.
    Deaf,
    /// A thread panicked.
    Panic,
    /// NATS does not let this user receive commands, and never did.
    Denied,
    /// Something hangs, and nothing but a new process helps.
    Hang(String),
}

/// The watch over a service.
pub struct Supervisor<'a> {
    config: &'a Config,
    service: Service,
    signals: &'a Signals,
    notifier: &'a Notifier,
    monitor: Arc<Monitor>,
    membership: Membership,
    is_ready: bool,
    generation: u64,
    /// Since when a connection is away or mute.
    away_since: Option<Instant>,
    reasons: Reasons,
    /// Of which of the store connection's lives it is known that commands would be answered, or why not.
    checked: Option<u64>,
    check_ordered_at: Instant,
    /// Checkups in a row that brought no answer.
    unanswered: u32,
    renewed_at: Instant,
    /// Since when the stream looks like another one, or one that lost its newest part.
    stream_suspect_since: Option<Instant>,
    subscriptions_denied: u64,
    /// Our clock against the server's, as the last checkup found it.
    clock_offset: Option<ClockOffset>,
    /// The last look, by two clocks.
    looked_at: (Instant, Timestamp),
    watchdog_due: Option<(Duration, Instant)>,
    leaves_at_once: bool,
    reported_at: Instant,
    status_at: Instant,
    status_words: String,
}

impl<'a> Supervisor<'a> {
    /// Takes over a service whose threads run.
    pub fn new(
        config: &'a Config,
        service: Service,
        signals: &'a Signals,
        notifier: &'a Notifier,
        monitor: Arc<Monitor>,
    ) -> Self {
        let now = Instant::now();
        Self {
            config,
            signals,
            notifier,
            monitor,
            membership: Membership::Out,
            is_ready: false,
            generation: service.store.connection().health().generation,
            away_since: None,
            reasons: Reasons::default(),
            checked: None,
            check_ordered_at: now,
            unanswered: 0,
            renewed_at: now,
            stream_suspect_since: None,
            subscriptions_denied: 0,
            clock_offset: None,
            looked_at: (now, Timestamp::now()),
            watchdog_due: notify::watchdog_interval().map(|interval| (interval, now)),
            leaves_at_once: false,
            reported_at: now,
            status_at: now,
            status_words: String::new(),
            service,
        }
    }

    /// Watches until the end, then brings the service to its end.
    pub fn run(mut self) -> ExitStatus {
        match self.watch() {
            End::Told => self.drain(ExitStatus::Clean),
            End::Deaf => {
                log::error!("{Deaf}: it ends to be started anew, and answers what it has taken");
                self.drain(ExitStatus::Bug)
            }
            End::Panic => {
                log::error!(
                    "a thread panicked: no more commands are taken, those taken are answered as far as possible"
                );
                self.drain(ExitStatus::Bug)
            }
            End::Denied => {
                let said = self.service.intake.connection().denied().unwrap_or_default();
                log::error!("{}", Obstacle::no_right(&said).says);
                ExitStatus::SignInRefused
            }
            End::Hang(what) => {
                log::error!(error_code = "hang"; "the process ends to be started anew: {what}");
                ExitStatus::Bug
            }
        }
    }

    fn watch(&mut self) -> End {
        loop {
            if let Err(end) = self.tick() {
                return end;
            }
            match self.signals.next_within(TICK) {
                Ok(Some(Signal::Stop | Signal::StopNow)) => return End::Told,
                Ok(Some(Signal::Reload)) => logging::reload_level_in_time(&self.config.log_level_source),
                Ok(None) => {}
                Err(Deaf) => return End::Deaf,
            }
        }
    }

    /// Looks at everything once.
    fn tick(&mut self) -> Result<(), End> {
        self.service.store.mark_dirty();
        self.service.intake.mark_dirty();
        if self.service.poison.is_set() {
            return Err(End::Panic);
        }
        self.check_hangs()?;
        self.find_reasons();
        self.keep_membership()?;
        self.feed_watchdog();
        self.look();
        self.tell_status();
        self.report();
        Ok(())
    }

    /// A replica that does not serve leaves the commands to others, and comes back when it does.
    fn keep_membership(&mut self) -> Result<(), End> {
        // Joining is the way to find out whether commands are still denied.
        let may_join = self.reasons.is_empty_but_for(Reason::NO_RIGHT) && self.is_checked();
        let membership = std::mem::replace(&mut self.membership, Membership::Out);
        self.membership = match membership {
            Membership::In(keepers) if !self.reasons.is_empty() => {
                log::warn!("commands are left to other replicas: {}", in_words(&self.reasons.list()));
                self.service.sharer.stand(Presence::Leaving);
                keepers.leave(LEAVE_WAIT);
                Membership::Leaving(keepers)
            }
            // The session is over on which they joined: another one has taken its place.
            Membership::In(keepers) if keepers.are_over() => Membership::Leaving(keepers),
            Membership::Leaving(keepers) if !keepers.have_left() => Membership::Leaving(keepers),
            Membership::Leaving(_) | Membership::Out if may_join => match self.service.join() {
                Ok(keepers) => {
                    self.joined();
                    Membership::In(keepers)
                }
                Err(refused) if refused.why == NoEntry::Denied && !self.is_ready => return Err(End::Denied),
                // What NATS had sent them by then is answered before another try, and before an end.
                Err(refused) => Membership::Leaving(refused.leaving),
            },
            other => other,
        };
        Ok(())
    }

    fn joined(&mut self) {
        self.subscriptions_denied = self.service.intake.connection().subscriptions_denied();
        self.reasons.clear(Reason::NO_RIGHT);
        let group = self.config.subject_prefix.as_str();
        log::info!("serving {group}.commands.> and {group}.queries.> with {} workers", self.config.workers);
        if !self.is_ready {
            self.is_ready = true;
            self.notifier.ready();
        }
    }

    fn check_hangs(&self) -> Result<(), End> {
        match self.service.pulses.longest_busy() {
            Some((thread, busy_for)) if busy_for > HANG_MAX && !self.is_mute() => {
                Err(End::Hang(format!("thread {thread} has been busy with one piece of work for {busy_for:?}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether a thread may be waiting for a connection that is open and silent: that is NATS being away, not a hang.
    fn is_mute(&self) -> bool {
        let health = self.service.store.connection().health();
        !health.connected || health.silent_for > AWAY_MAX
    }

    /// The thread that hangs, if one does.
    fn hanging(&self) -> Option<String> {
        let stuck = self.service.pulses.longest_busy().filter(|(_, busy_for)| *busy_for > BUSY_MAX);
        stuck.filter(|_| !self.is_mute()).map(|(thread, _)| thread)
    }

    fn feed_watchdog(&mut self) {
        let Some((interval, due)) = self.watchdog_due else { return };
        if Instant::now() >= due && self.hanging().is_none() {
            self.notifier.watchdog();
            self.watchdog_due = Some((interval, Instant::now() + interval));
        }
    }
}
