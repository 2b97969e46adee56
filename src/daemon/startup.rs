//! From nothing to connected: as long as NATS is away it is tried again; what waiting cannot mend ends the start.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, after, bounded, select};

use crate::config::Config;
use crate::daemon::logging;
use crate::daemon::monitor::Monitor;
use crate::daemon::notify::Notifier;
use crate::daemon::reasons::Reason;
use crate::daemon::signals::{Deaf, Signal, Signals};
use crate::exit::ExitStatus;
use crate::log_limit::RateLimited;
use crate::nats::{Connection, Consequence, Intake, Obstacle, Prepared, ProvisionError, Store, prepare, stand};

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

static WAITING: RateLimited = RateLimited::new(Duration::from_secs(30));

/// Everything that is needed of NATS.
pub struct Connected {
    /// Appends, reads and replies.
    pub store: Store,
    /// What strangers send.
    pub intake: Intake,
    /// What was found of stream and bucket.
    pub prepared: Prepared,
    /// With what the service starts, and cannot do all of its work.
    pub hindrances: Vec<Obstacle>,
}

/// Why the service does not start.
pub enum NotStarted {
    /// A signal came first.
    ToldToStop,
    /// Waiting would not help.
    Refused {
        /// How the process ends.
        status: ExitStatus,
        /// For the operator.
        why: String,
        /// What is to be created or changed by hand, as JSON.
        by_hand: Vec<String>,
    },
}

/// Connects and prepares the store, however long NATS is away.
pub fn connect(
    config: &Config,
    signals: &Signals,
    notifier: &Notifier,
    monitor: &Monitor,
) -> Result<Connected, NotStarted> {
    let urls = config.nats.urls.join(",");
    loop {
        let attempted = wait_for(&attempt_aside(config)?, config, signals, notifier)?;
        match attempted.ok_or_else(|| bug("the attempt to start panicked"))? {
            Ok(connected) => return Ok(connected),
            Err(obstacle) => {
                let why = obstacle.to_string();
                if let Consequence::Ends(status) = obstacle.cause.consequence() {
                    let by_hand = obstacle.definitions.into_iter().map(|definition| definition.json).collect();
                    return Err(NotStarted::Refused { status, why, by_hand });
                }
                let words = format!("waiting for NATS at {urls}: {why}");
                WAITING.warn(format_args!("{words}"));
                notifier.status(&words);
                monitor.connect_failed(Reason::Cause(obstacle.cause));
                monitor.waits_for((Reason::Cause(obstacle.cause), words));
            }
        }
        wait_for(&after(PAUSE), config, signals, notifier)?;
    }
}

/// Waits for what comes, unless it is told to stop first; `None` when nothing can come any more.
fn wait_for<T>(
    coming: &Receiver<T>,
    config: &Config,
    signals: &Signals,
    notifier: &Notifier,
) -> Result<Option<T>, NotStarted> {
    loop {
        select! {
            recv(coming) -> came => return Ok(came.ok()),
            recv(signals.received()) -> signal => match signal {
                Ok(Signal::Stop | Signal::StopNow) => {
                    notifier.stopping();
                    log::info!("told to stop before it began to serve");
                    return Err(NotStarted::ToldToStop);
                }
                Ok(Signal::Reload) => logging::reload_level_in_time(&config.log_level_source),
                Err(_) => return Err(bug(&Deaf.to_string())),
            }
        }
    }
}

/// An attempt on a thread of its own: it may wait for half a minute for servers that say nothing, and who is told to stop
/// leaves it behind.
fn attempt_aside(config: &Config) -> Result<Receiver<Result<Connected, Obstacle>>, NotStarted> {
    let (sender, attempted) = bounded(1);
    let config = config.clone();
    let body = move || {
        // Nobody waits for it when the process is about to end.
        let _ = sender.send(attempt(&config));
    };
    let started = std::thread::Builder::new().name("nats-attempt".to_owned()).spawn(body);
    started.map_err(|error| bug(&format!("a thread cannot be started: {error}")))?;
    Ok(attempted)
}

fn bug(why: &str) -> NotStarted {
    NotStarted::Refused { status: ExitStatus::Bug, why: why.to_owned(), by_hand: Vec::new() }
}

fn attempt(config: &Config) -> Result<Connected, Obstacle> {
    let store = Store::new(Arc::new(Connection::open(&config.nats, "store")?));
    let intake = Intake::open(&config.nats)?;
    let mut prepared = prepare(&store, config).map_err(|error| unless_denied(error, store.connection()))?;
    let hindrances = stand(&store, config, &mut prepared)?;
    Ok(Connected { store, intake, prepared, hindrances })
}

/// Silence after the server has said no is no outage.
fn unless_denied(error: ProvisionError, connection: &Connection) -> Obstacle {
    match (&error, connection.denied(), connection.subscription_denied()) {
        (ProvisionError::Away(_), Some(said), _) => Obstacle::no_right(&said),
        (ProvisionError::Away(_), None, Some(said)) => Obstacle::too_many_subscriptions(&said),
        _ => error.into(),
    }
}
