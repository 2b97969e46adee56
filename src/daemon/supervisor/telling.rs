//! What people are told: probes, the service manager, the log.

use std::time::Instant;

use super::{Membership, REPORT_PERIOD, STATUS_PERIOD, Supervisor};
use crate::daemon::figures;
use crate::daemon::monitor::{Look, Phase};
use crate::daemon::reasons::{Told, in_words};

impl Supervisor<'_> {
    /// Leaves what was found to whoever asks.
    pub(super) fn look(&self) {
        let connections =
            vec![("store", self.service.store.connection().health()), ("intake", self.service.intake.health())];
        let reasons = self.reasons_of_now();
        let phase = match &self.membership {
            Membership::In(_) if reasons.is_empty() => Phase::Serving,
            _ => Phase::NotServing,
        };
        let server_version = self.service.server_version.clone();
        let (hangs, clock_offset) = (self.hanging(), self.clock_offset);
        self.monitor.look(Look { phase, connections, hangs, reasons, server_version, clock_offset });
    }

    /// Those for which commands are left to others, and one that may pass before they are.
    fn reasons_of_now(&self) -> Vec<Told> {
        let mut reasons = self.reasons.list();
        let passing = self.trouble().filter(|(reason, _)| !self.reasons.has(*reason));
        reasons.splice(..0, passing);
        reasons
    }

    /// `STATUS=`: at once when something changes, else now and then for the figures in it.
    pub(super) fn tell_status(&mut self) {
        let reasons = self.reasons_of_now();
        let words = match &self.membership {
            Membership::In(_) if reasons.is_empty() => "serving".to_owned(),
            _ if reasons.is_empty() => "joining the queue group".to_owned(),
            _ => in_words(&reasons),
        };
        if self.status_at.elapsed() < STATUS_PERIOD && words == self.status_words {
            return;
        }
        self.notifier.status(&format!("{words}: {}", figures::status(&self.monitor.read())));
        (self.status_at, self.status_words) = (Instant::now(), words);
    }

    pub(super) fn report(&mut self) {
        let period = self.reported_at.elapsed();
        if period >= REPORT_PERIOD {
            self.reported_at = Instant::now();
            log::info!("{}", figures::minute(&self.monitor.report()));
        }
    }
}
