//! Leaving: no more commands are taken, those that were taken are answered, and the process ends.

use std::time::{Duration, Instant};

use super::{LEAVE_WAIT, Membership, Supervisor};
use crate::daemon::door::Doorkeeper;
use crate::daemon::figures;
use crate::daemon::monitor::Phase;
use crate::daemon::service::Service;
use crate::daemon::signals::Signal;
use crate::daemon::threads::join_until;
use crate::exit::ExitStatus;
use crate::wire::beacon::Presence;

/// Which part of the time to drain that may take at most.
const LEAVE_DIVISOR: u32 = 4;
/// What the last steps of leaving may take.
const FAREWELL: Duration = Duration::from_millis(500);

impl Supervisor<'_> {
    /// Takes no more commands, answers those that were taken, and leaves.
    pub(super) fn drain(mut self, clean: ExitStatus) -> ExitStatus {
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
            (false, _) => {
                log::error!(error_code = "not_drained"; "not drained: what is in flight has an unknown outcome")
            }
        }
        self.service.intake.close(FAREWELL);
        self.service.store.connection().close(FAREWELL);
        if drained { clean } else { ExitStatus::Bug }
    }

    fn leave_group(&mut self, deadline: Instant) -> bool {
        let (Membership::In(keepers) | Membership::Leaving(keepers)) =
            std::mem::replace(&mut self.membership, Membership::Out)
        else {
            return self.end_sharing(deadline);
        };
        let within = LEAVE_WAIT.min(self.config.drain_timeout / LEAVE_DIVISOR);
        // First the others hear of it. What they hand over until then is taken.
        self.service.sharer.stand(Presence::Leaving);
        keepers.of_clients.iter().for_each(|keeper| keeper.leave(within));
        let no_more_clients = self.wait_until(deadline, |_| keepers.of_clients.iter().all(Doorkeeper::has_left));
        keepers.leave(within);
        no_more_clients && self.wait_until(deadline, |_| keepers.have_left()) && self.end_sharing(deadline)
    }

    /// Each parcel is taken, or taken back; what is taken back is with the workers before they are told to finish.
    fn end_sharing(&mut self, deadline: Instant) -> bool {
        let Some((end, thread)) = self.service.sharing.take() else { return true };
        // A thread that is dead takes nothing back, and the rest is to be answered all the same.
        let is_at_rest = self.wait_until(deadline, |service| service.sharer.is_at_rest() || thread.is_finished());
        drop(end);
        is_at_rest && self.wait_until(deadline, |_| thread.is_finished())
    }

    fn finish_workers(&mut self, deadline: Instant) -> bool {
        self.service.pool.finish();
        self.service.query_door = None;
        self.service.checkups = None;
        self.service.besides = None;
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
            if self.signals.waiting() == Ok(Some(Signal::StopNow)) {
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
