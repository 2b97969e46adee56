//! What stands in the way of serving: the connections, what the server denies, and what the checkups find.

use std::time::{Duration, Instant};

use super::{AWAY_MAX, Supervisor};
use crate::daemon::checkup::Finding;
use crate::daemon::reasons::{Reason, Told};
use crate::domain::Timestamp;
use crate::log_limit::RateLimited;
use crate::nats::{Cause, CheckError, ClockOffset, ClockVerdict, Connection, Fault, Health, Seen, StreamState};

/// A checkup is ordered again this long after one that found something.
const RECHECK_PERIOD: Duration = Duration::from_secs(1);
/// The time of day may go this much another way than time between two looks, in microseconds; else it is asked at once how
/// far off it is.
const CLOCK_STEP_MICROS: u64 = 500_000;
/// How often a session on which inboxes are denied is replaced: the server may have been told to allow them.
const RENEW_PERIOD: Duration = Duration::from_secs(10);
/// So many checkups in a row without an answer are no election that passes.
const UNANSWERED_MIN: u32 = 2;
/// How long a leader of the stream that was replaced may take to find out: nats-server's election timeouts are below it.
const DEPOSED_MAX: Duration = Duration::from_secs(12);

static CLOCK_OFF: RateLimited = RateLimited::new(Duration::from_secs(300));

impl Supervisor<'_> {
    /// Brings the list of reasons up to date.
    pub(super) fn find_reasons(&mut self) {
        for connection in [self.service.store.connection().as_ref(), self.service.intake.connection()] {
            connection.failures().for_each(|error| self.monitor.connect_failed(Reason::Cause(error.cause())));
        }
        let trouble = self.trouble();
        let generation = self.service.store.connection().health().generation;
        let is_new = std::mem::replace(&mut self.generation, generation) != generation;
        let is_back = trouble.is_none() && self.away_since.is_some();
        self.away_since = trouble.as_ref().map(|_| self.away_since.unwrap_or_else(Instant::now));
        let is_lasting = self.away_since.is_some_and(|since| since.elapsed() > AWAY_MAX);
        self.reasons.judge_all(&Reason::OF_CONNECTIONS, trouble.filter(|_| is_lasting));
        // Others get what would wait behind it.
        self.reasons.judge(Reason::Hangs, self.hanging().map(|thread| format!("thread {thread} hangs")));
        if is_new || is_back || self.is_clock_set() {
            self.order_checkup();
        }
        self.take_findings();
        // A denial comes before the answer that a checkup waited for, so it is looked at after that.
        self.judge_denials();
        self.renew_what_is_denied();
        self.reasons.log_news();
    }

    /// What was denied at the beginning of a session is asked for again by another one.
    fn renew_what_is_denied(&mut self) {
        if self.reasons.has(Reason::NoInbox) && self.renewed_at.elapsed() > RENEW_PERIOD {
            self.renewed_at = Instant::now();
            self.service.store.connection().renew();
        }
    }

    /// What is the matter with the connections, from the first moment on.
    pub(super) fn trouble(&self) -> Option<Told> {
        let store: &Connection = self.service.store.connection();
        [("store", store), ("intake", self.service.intake.connection())].into_iter().find_map(|(name, connection)| {
            let (reason, why) = trouble_of(connection)?;
            let urls = self.config.nats.urls.join(",");
            Some((reason, format!("NATS is away at {urls}: {name} connection: {why}")))
        })
    }

    /// Whether it is known that commands would be answered, on the connection that stands.
    pub(super) fn is_checked(&self) -> bool {
        self.checked == Some(self.service.store.connection().health().generation)
    }

    fn judge_denials(&mut self) {
        let no_inbox = self.service.store.connection().subscription_denied();
        let no_inbox = no_inbox.map(|said| format!("NATS denies the service an inbox for answers: {said}"));
        // A session on which nothing was asked yet has denied nothing yet.
        if no_inbox.is_some() || self.is_checked() {
            self.reasons.judge(Reason::NoInbox, no_inbox);
        }
        // What was denied to a connection stays so until it is asked for again, by joining.
        let intake = self.service.intake.connection();
        if intake.subscriptions_denied() != self.subscriptions_denied {
            let said = intake.subscription_denied().unwrap_or_else(|| "a subscription".to_owned());
            self.reasons.set(Reason::NO_RIGHT, format!("NATS denies commands to this user: {said}"));
        }
    }

    fn take_findings(&mut self) {
        let Some(checkups) = &self.service.checkups else { return };
        let findings: Vec<Finding> = checkups.findings().collect();
        for finding in findings {
            self.take_finding(finding);
        }
        let generation = self.service.store.connection().health().generation;
        let is_due = self.check_ordered_at.elapsed() > RECHECK_PERIOD;
        if is_due && (self.checked != Some(generation) || !self.reasons.is_empty()) {
            self.order_checkup();
        }
    }

    fn order_checkup(&mut self) {
        self.check_ordered_at = Instant::now();
        if let Some(checkups) = &self.service.checkups {
            checkups.order();
        }
    }

    fn take_finding(&mut self, finding: Finding) {
        let Finding { generation, life, acknowledged, seen } = finding;
        if generation != self.service.store.connection().health().generation {
            // It is of a connection that is gone.
            return self.order_checkup();
        }
        self.unanswered = if matches!(seen, Err(CheckError::NoAnswer(_))) { self.unanswered + 1 } else { 0 };
        let found = match &seen {
            Ok(Seen { faults, .. }) if faults.is_empty() => None,
            Ok(Seen { faults, .. }) => Some((Reason::Cause(Cause::Unusable), self.unusable(faults))),
            Err(CheckError::NotAsked(_)) => return,
            Err(CheckError::NoAnswer(_)) if self.unanswered < UNANSWERED_MIN => return self.order_checkup(),
            Err(error) => Some((reason_of(error), error.to_string())),
        };
        self.checked = Some(generation);
        self.reasons.judge_all(&OF_CHECKUPS, found);
        if let Ok(Seen { server, domain, stream, clock, .. }) = seen {
            self.judge_clock(clock);
            self.service.server_version = server.to_string();
            self.service.layout.found_in(&domain);
            // Of one that was replaced meanwhile everything was said.
            if life == self.service.statistics.stream_life() {
                self.compare_stream(stream, acknowledged);
            }
        }
    }

    fn unusable(&self, faults: &[Fault]) -> String {
        let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
        format!("stream {} cannot be used: {}", self.service.layout.stream(), faults.join("; "))
    }

    /// Events bear our time for ever, and what is promised to retries allows for so much: where it is more, no commands are
    /// taken. A server that does not tell its time changes nothing.
    fn judge_clock(&mut self, found: Option<ClockOffset>) {
        let Some(offset) = found else { return };
        self.clock_offset = Some(offset);
        let verdict = offset.verdict();
        if verdict == ClockVerdict::Notable {
            CLOCK_OFF.warn(format_args!("{offset}: set both by NTP"));
        }
        let is_too_far = verdict == ClockVerdict::TooFar;
        // Each check measures other digits of the same trouble: they are for the figure, and no news for the log.
        if !is_too_far || !self.reasons.has(Reason::ClockOff) {
            self.reasons.judge(Reason::ClockOff, is_too_far.then(|| offset.too_far()));
        }
    }

    /// Whether the time of day went another way than time did since the last look: somebody set the clock, or the machine
    /// stood still.
    pub(super) fn is_clock_set(&mut self) -> bool {
        let (then, time_of_day) = std::mem::replace(&mut self.looked_at, (Instant::now(), Timestamp::now()));
        let (passed, passed_by_it) =
            (then.elapsed(), Timestamp::now().as_micros().saturating_sub(time_of_day.as_micros()));
        let apart = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX).saturating_sub(passed_by_it);
        apart.unsigned_abs() > CLOCK_STEP_MICROS
    }

    /// Is it the stream that it was, with everything that was acknowledged?
    fn compare_stream(&mut self, found: StreamState, acknowledged: u64) {
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
                self.service.pool.forget_everything();
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
        self.service.pool.forget_everything();
        self.service.statistics.forget_sequences();
        self.service.stream = found;
    }
}

/// The reasons that checkups find.
const OF_CHECKUPS: [Reason; 5] = [
    Reason::Cause(Cause::ServerTooOld),
    Reason::Cause(Cause::NoJetStream),
    Reason::Cause(Cause::Silent),
    Reason::Cause(Cause::Missing),
    Reason::Cause(Cause::Unusable),
];

fn reason_of(error: &CheckError) -> Reason {
    Reason::Cause(match error {
        CheckError::ServerTooOld(_) => Cause::ServerTooOld,
        CheckError::NoJetStream(_) => Cause::NoJetStream,
        CheckError::StreamMissing(_) => Cause::Missing,
        CheckError::NotAsked(_) | CheckError::NoAnswer(_) => Cause::Silent,
    })
}

fn trouble_of(connection: &Connection) -> Option<(Reason, String)> {
    let Health { connected, silent_for, .. } = connection.health();
    if connected && silent_for < AWAY_MAX {
        return None;
    }
    Some(match connection.trouble() {
        Some(error) => (Reason::Cause(error.cause()), error.to_string()),
        None if connected => (Reason::Cause(Cause::Unreachable), "the server is mute".to_owned()),
        None => (Reason::Cause(Cause::Unreachable), "it was lost, and is opened again".to_owned()),
    })
}
