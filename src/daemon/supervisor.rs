//! Watching over the running service: signals, membership in the queue group, the watchdogs, and what people are told.

mod drain;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::daemon::door::Doorkeepers;
use crate::daemon::figures;
use crate::daemon::logging;
use crate::daemon::monitor::{Look, Monitor, Phase};
use crate::daemon::notify::{self, Notifier};
use crate::daemon::service::{NoEntry, Service};
use crate::daemon::signals::{Deaf, Signal, Signals};
use crate::exit::ExitStatus;
use crate::log_limit::RateLimited;
use crate::nats::{Obstacle, stream_state};

/// How often everything is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long the store connection may be away or mute before other replicas shall get the commands.
const AWAY_MAX: Duration = Duration::from_secs(1);
/// How long NATS may take to confirm that the queue groups are left.
const LEAVE_WAIT: Duration = Duration::from_secs(2);
/// How long a thread may be busy with one piece of work before the watchdog is no longer fed.
const BUSY_MAX: Duration = Duration::from_secs(15);
/// How long before the process ends itself: launchd has no watchdog.
const HANG_MAX: Duration = Duration::from_secs(60);
/// How long a connection may stand open and mute. The client library does not let go of one by itself when writes to it
/// block, so that only a new process gets a new connection.
const MUTE_FATAL: Duration = Duration::from_secs(120);
/// How long one attempt to connect again may take, for the same reason. The system gives up after two minutes an address.
const ATTEMPT_MAX: Duration = Duration::from_secs(600);
/// How often the log says what was done, and `STATUS=` is renewed.
const REPORT_PERIOD: Duration = Duration::from_secs(60);
const STATUS_PERIOD: Duration = Duration::from_secs(5);

/// How long the stream's leader may take to tell how the stream is; the next tick asks again. Less than what makes a
/// connection count as mute, since meanwhile nothing keeps it lively.
const STREAM_WAIT: Duration = Duration::from_millis(500);
/// How often it is asked. A stream that is replaced by a restored one takes no connection with it, so nothing else tells.
const STREAM_PERIOD: Duration = Duration::from_secs(5);
/// How long a leader of the stream that was replaced may take to find out: nats-server's election timeouts are below it.
const DEPOSED_MAX: Duration = Duration::from_secs(12);

static STREAM_AWAY: RateLimited = RateLimited::new(Duration::from_secs(30));

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
    store_good_at: Instant,
    generation: u64,
    stream_to_check: bool,
    stream_checked_at: Instant,
    /// Since when the stream looks like another one, or one that lost its newest part.
    stream_suspect_since: Option<Instant>,
    subscriptions_denied: u64,
    watchdog_due: Option<(Duration, Instant)>,
    leaves_at_once: bool,
    reported_at: Instant,
    status_at: Instant,
    status_is_good: bool,
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
            store_good_at: now,
            generation: service.store.connection().health().generation,
            stream_to_check: false,
            stream_checked_at: now,
            stream_suspect_since: None,
            subscriptions_denied: 0,
            watchdog_due: notify::watchdog_interval().map(|interval| (interval, now)),
            leaves_at_once: false,
            reported_at: now,
            status_at: now,
            status_is_good: true,
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
                Ok(Some(Signal::Reload)) => logging::reload_level(&self.config.log_level_source),
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
        let is_good = self.is_store_good();
        self.keep_membership(is_good)?;
        if is_good && (self.stream_to_check || self.stream_checked_at.elapsed() > STREAM_PERIOD) {
            self.check_stream();
        }
        self.feed_watchdog();
        self.look(is_good);
        self.tell_status(is_good);
        self.report();
        Ok(())
    }

    fn is_store_good(&mut self) -> bool {
        let health = self.service.store.connection().health();
        if health.generation != self.generation {
            self.generation = health.generation;
            self.stream_to_check = true;
        }
        let is_good = health.connected && health.silent_for < AWAY_MAX;
        if is_good {
            self.store_good_at = Instant::now();
        }
        is_good
    }

    /// A replica that cannot store leaves the commands to others, and comes back when it can.
    fn keep_membership(&mut self, is_good: bool) -> Result<(), End> {
        let is_denied = self.is_denied();
        let membership = std::mem::replace(&mut self.membership, Membership::Out);
        self.membership = match membership {
            Membership::In(keepers) if self.store_good_at.elapsed() > AWAY_MAX => {
                log::warn!(
                    error_code = "store_away";
                    "the store has been away for {} s: commands are left to other replicas",
                    AWAY_MAX.as_secs()
                );
                keepers.leave(LEAVE_WAIT);
                Membership::Leaving(keepers)
            }
            // What was denied to a connection stays so until it is asked for again.
            Membership::In(keepers) if is_denied => {
                log::warn!("NATS no longer lets this user receive commands: they are left to other replicas");
                keepers.leave(LEAVE_WAIT);
                Membership::Leaving(keepers)
            }
            Membership::Leaving(keepers) if !keepers.have_left() => Membership::Leaving(keepers),
            Membership::Leaving(_) | Membership::Out if is_good => match self.service.join() {
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

    /// Whether the server denied us a subscription since we last joined.
    fn is_denied(&self) -> bool {
        self.service.intake.connection().subscriptions_denied() != self.subscriptions_denied
    }

    fn joined(&mut self) {
        self.subscriptions_denied = self.service.intake.connection().subscriptions_denied();
        let group = self.config.subject_prefix.as_str();
        log::info!("serving {group}.commands.> and {group}.queries.> with {} workers", self.config.workers);
        self.notifier.status("serving");
        if !self.is_ready {
            self.is_ready = true;
            self.notifier.ready();
        }
    }

    /// After every reconnect, and now and then: is it the stream that it was, with everything that was acknowledged?
    fn check_stream(&mut self) {
        self.stream_checked_at = Instant::now();
        self.stream_to_check = false;
        // Taken before the question: while the answer is on its way, more is acknowledged, and heard of.
        let acknowledged = self.service.statistics.highest_sequence();
        let found = match stream_state(&self.service.store, &self.service.layout, STREAM_WAIT) {
            Ok(found) => found,
            Err(why) => return STREAM_AWAY.warn(format_args!("the stream cannot be looked at: {why}")),
        };
        let is_other = found.created != self.service.stream.created;
        let is_shorter = !is_other && found.last_sequence < acknowledged;
        if !is_other && !is_shorter {
            self.stream_suspect_since = None;
            return;
        }
        if is_shorter && found.has_copies {
            // A leader that was replaced without knowing is behind, and says so until it finds out. Until then it is a
            // suspicion, upon which to forget what is cached costs a few reads.
            let suspect_since = *self.stream_suspect_since.get_or_insert_with(|| {
                log::warn!("the stream seems to have lost its newest part; if so, it is confirmed within seconds");
                self.service.forget_everything();
                Instant::now()
            });
            if suspect_since.elapsed() < DEPOSED_MAX {
                return;
            }
        }
        self.stream_suspect_since = None;
        log::error!(
            error_code = "stream_replaced";
            "the stream is not the one that it was: created {} with {} messages, before {} with {acknowledged} \
             acknowledged; it was restored or lost its newest part, and all that was cached is forgotten",
            found.created,
            found.last_sequence,
            self.service.stream.created,
        );
        self.service.forget_everything();
        self.service.statistics.forget_sequences();
        self.service.stream = found;
    }

    fn check_hangs(&self) -> Result<(), End> {
        let connections =
            [("store", self.service.store.connection().health()), ("intake", self.service.intake.health())];
        for (name, health) in connections {
            if health.connected && health.silent_for > MUTE_FATAL {
                return Err(End::Hang(format!("the {name} connection has been mute for {:?}", health.silent_for)));
            }
            if !health.connected && health.attempt_age > ATTEMPT_MAX {
                return Err(End::Hang(format!(
                    "the {name} connection's last attempt began {:?} ago",
                    health.attempt_age
                )));
            }
        }
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

    /// Leaves what was found to whoever asks.
    fn look(&self, is_store_good: bool) {
        let connections =
            vec![("store", self.service.store.connection().health()), ("intake", self.service.intake.health())];
        let is_good = is_store_good && connections.iter().all(|(_, health)| health.connected);
        let phase = match &self.membership {
            Membership::In(_) if is_good => Phase::Serving,
            _ => Phase::Away,
        };
        self.monitor.look(Look { phase, connections, hangs: self.hanging() });
    }

    fn tell_status(&mut self, is_store_good: bool) {
        let is_good = is_store_good && self.service.intake.health().connected;
        if self.status_at.elapsed() < STATUS_PERIOD && is_good == self.status_is_good {
            return;
        }
        (self.status_at, self.status_is_good) = (Instant::now(), is_good);
        let figures = figures::status(&self.monitor.read());
        let words = match &self.membership {
            Membership::In(_) if is_good => format!("serving: {figures}"),
            _ if is_good && self.is_denied() => format!("NATS denies commands to this user: {figures}"),
            _ => format!("NATS is away at {}: {figures}", self.config.nats.urls.join(",")),
        };
        self.notifier.status(&words);
    }

    fn report(&mut self) {
        let period = self.reported_at.elapsed();
        if period >= REPORT_PERIOD {
            self.reported_at = Instant::now();
            log::info!("{}", figures::minute(&self.monitor.report()));
        }
    }
}
