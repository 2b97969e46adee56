//! Watching over the running service: signals, membership in the queue group, the watchdogs, and what people are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use crate::config::Config;
use crate::daemon::figures;
use crate::daemon::intake::Doorkeepers;
use crate::daemon::logging;
use crate::daemon::monitor::{Look, Monitor, Phase};
use crate::daemon::notify::{self, Notifier};
use crate::daemon::service::Service;
use crate::daemon::signals::{Signal, Signals};
use crate::daemon::threads::join_until;
use crate::exit::ExitStatus;
use crate::nats::stream_state;

/// How often everything is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long the store connection may be away or mute before other replicas shall get the commands.
const AWAY_MAX: Duration = Duration::from_secs(1);
/// How long NATS may take to confirm that the queue groups are left.
const LEAVE_WAIT: Duration = Duration::from_secs(2);
/// Which part of the time to drain that may take at most.
const LEAVE_DIVISOR: u32 = 4;
/// How long a thread may be busy with one piece of work before the watchdog is no longer fed.
const BUSY_MAX: Duration = Duration::from_secs(15);
/// How long before the process ends itself: launchd has no watchdog.
const HANG_MAX: Duration = Duration::from_secs(60);
/// How long a connection may stand open and mute. The client library does not let go of one by itself when writes to it
/// block, so that only a new process gets a new connection.
const MUTE_MAX: Duration = Duration::from_secs(120);
/// How long one attempt to connect again may take, for the same reason. The system gives up after two minutes an address.
const ATTEMPT_MAX: Duration = Duration::from_secs(600);
/// How often the log says what was done, and `STATUS=` is renewed.
const REPORT_PERIOD: Duration = Duration::from_secs(60);
const STATUS_PERIOD: Duration = Duration::from_secs(5);
/// What the last steps of leaving may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long the stream's leader may take to tell how the stream is; the next tick asks again. Less than what makes a
/// connection count as mute, since meanwhile nothing keeps it lively.
const STREAM_WAIT: Duration = Duration::from_millis(500);

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
    /// A thread panicked.
    Panic,
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
            End::Panic => {
                log::error!(
                    "a thread panicked: no more commands are taken, those taken are answered as far as possible"
                );
                self.drain(ExitStatus::Bug)
            }
            End::Hang(what) => {
                log::error!("the process ends to be started anew: {what}");
                ExitStatus::Bug
            }
        }
    }

    fn watch(&mut self) -> End {
        loop {
            if let Err(end) = self.tick() {
                return end;
            }
            match self.signals.received().recv_timeout(TICK) {
                Ok(Signal::Stop | Signal::StopNow) => return End::Told,
                Ok(Signal::Reload) => logging::reload_level(&self.config.log_level_source),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
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
        self.keep_membership(is_good);
        if is_good && self.stream_to_check {
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
    fn keep_membership(&mut self, is_good: bool) {
        let membership = std::mem::replace(&mut self.membership, Membership::Out);
        self.membership = match membership {
            Membership::In(keepers) if self.store_good_at.elapsed() > AWAY_MAX => {
                log::warn!("the store has been away for {} s: commands are left to other replicas", AWAY_MAX.as_secs());
                keepers.leave(LEAVE_WAIT);
                Membership::Leaving(keepers)
            }
            Membership::Leaving(keepers) if !keepers.have_left() => Membership::Leaving(keepers),
            Membership::Leaving(_) | Membership::Out if is_good => match self.service.join() {
                Some(keepers) => {
                    self.joined();
                    Membership::In(keepers)
                }
                None => Membership::Out,
            },
            other => other,
        };
    }

    fn joined(&mut self) {
        let group = self.config.subject_prefix.as_str();
        log::info!("serving {group}.commands.> and {group}.queries.> with {} workers", self.config.workers);
        self.notifier.status("serving");
        if !self.is_ready {
            self.is_ready = true;
            self.notifier.ready();
        }
    }

    /// After every reconnect: is it the stream that it was, with everything that was acknowledged?
    fn check_stream(&mut self) {
        let Ok(found) = stream_state(&self.service.store, &self.service.layout, STREAM_WAIT) else { return };
        self.stream_to_check = false;
        let acknowledged = self.service.statistics.highest_sequence();
        if found.created != self.service.stream.created || found.last_sequence < acknowledged {
            log::error!(
                "the stream is not the one that it was: created {} with {} messages, before {} with {acknowledged} \
                 acknowledged; it was restored or lost its newest part, and all that was cached is forgotten",
                found.created,
                found.last_sequence,
                self.service.stream.created,
            );
            self.service.pool.forget_everything();
            self.service.statistics.forget_sequences();
            self.service.stream = found;
        }
    }

    fn check_hangs(&self) -> Result<(), End> {
        let connections =
            [("store", self.service.store.connection().health()), ("intake", self.service.intake.health())];
        for (name, health) in connections {
            if health.connected && health.silent_for > MUTE_MAX {
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
            self.watchdog_due = Some((interval, Instant::now() + interval / 2));
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

    /// Takes no more commands, answers those that were taken, and leaves.
    fn drain(mut self, clean: ExitStatus) -> ExitStatus {
        self.notifier.stopping();
        self.monitor.beat(Phase::Draining);
        self.notifier.status("draining");
        log::info!("draining: no more commands are taken, {} wait", self.service.pool.waiting());
        let deadline = Instant::now() + self.config.drain_timeout;
        let drained = self.leave_group(deadline) && self.finish_workers(deadline);
        if self.leaves_at_once {
            log::warn!("told to leave at once: what is in flight has an unknown outcome");
            return ExitStatus::Bug;
        }
        let replies_sent = self.service.store.connection().round_trip(FAREWELL);
        log::info!("{}", figures::minute(&self.monitor.report()));
        match (drained, replies_sent) {
            (true, true) => log::info!("drained: every command that was taken is answered"),
            (true, false) => log::warn!("drained while NATS is away: the last replies may be lost"),
            (false, _) => log::error!("not drained: what is in flight has an unknown outcome"),
        }
        self.service.intake.close(FAREWELL);
        self.service.store.connection().close(FAREWELL);
        if drained { clean } else { ExitStatus::Bug }
    }

    fn leave_group(&mut self, deadline: Instant) -> bool {
        let (Membership::In(keepers) | Membership::Leaving(keepers)) =
            std::mem::replace(&mut self.membership, Membership::Out)
        else {
            return true;
        };
        keepers.leave(LEAVE_WAIT.min(self.config.drain_timeout / LEAVE_DIVISOR));
        self.wait_until(deadline, |_| keepers.have_left())
    }

    fn finish_workers(&mut self, deadline: Instant) -> bool {
        self.service.pool.finish();
        self.service.query_door = None;
        let workers_ended = self.wait_until(deadline, |service| {
            service.answering.retain(|thread| !thread.is_finished());
            service.answering.is_empty()
        });
        // Their snapshots are worth a moment, not more: they are a cache.
        let background = std::mem::take(&mut self.service.background);
        join_until(deadline.min(Instant::now() + FAREWELL), background);
        workers_ended
    }

    /// Waits for something, as long as there is time and nobody asks to leave at once.
    fn wait_until(&mut self, deadline: Instant, is_done: impl Fn(&mut Service) -> bool) -> bool {
        const POLL: Duration = Duration::from_millis(2);
        while !is_done(&mut self.service) {
            if Instant::now() >= deadline {
                log::error!("the drain took longer than DRAIN_TIMEOUT");
                return false;
            }
            if self.signals.received().try_recv() == Ok(Signal::StopNow) {
                self.leaves_at_once = true;
                return false;
            }
            self.service.store.mark_dirty();
            self.feed_watchdog();
            self.monitor.beat(Phase::Draining);
            std::thread::sleep(POLL);
        }
        true
    }
}
