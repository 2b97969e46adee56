//! All threads of the service, put together and taken apart.

mod joining;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::config::Config;
use crate::daemon::admission::Bounds;
use crate::daemon::background::{self, Background, Inlets};
use crate::daemon::besides::{Besides, BucketWatch, ConflictWatch};
use crate::daemon::checkup::Checkups;
use crate::daemon::clock::{Clock, micros};
use crate::daemon::discovery::Discovery;
use crate::daemon::door::Door;
use crate::daemon::monitor::{Monitor, Sources};
use crate::daemon::notices::Notices;
use crate::daemon::pool::{self, Pool, Seat, Surroundings};
use crate::daemon::pulse::Pulses;
use crate::daemon::queries::{self, Lanes, QueryDoor, TimeLimit, TimedLog};
use crate::daemon::reasons::Reason;
use crate::daemon::replier::Replier;
use crate::daemon::sharing::{self, Sharer};
use crate::daemon::stages::{MeasuredLog, MeasuredSnapshots, StageClock};
use crate::daemon::startup::Connected;
use crate::daemon::statistics::Statistics;
use crate::daemon::threads::{self, Poison};
use crate::domain::Timestamp;
use crate::engine::history::Budget;
use crate::engine::inquiry::Inquiry;
use crate::engine::ports::SnapshotStore;
use crate::engine::turn::Limits;
use crate::engine::worker::Worker;
use crate::memory::MemorySnapshots;
use crate::nats::{
    BucketCheckup, BucketGate, Checkup, Inbox, Intake, Layout, NatsLog, NatsSnapshots, NotSent, Obstacle, ReplyRule,
    Store, StreamState,
};
use crate::wire::salt::IdentifierSalt;
use crate::wire::service::Instance;
use crate::wire::snapshot::claimed_version;
use crate::wire::subject::Subjects;

pub use joining::{NoEntry, NotJoined};

/// The longest and the shortest wait for an answer of the store.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);
const ANSWER_WAIT_MIN: Duration = Duration::from_millis(50);
/// Which part of a command's time one wait for the store may take.
const ANSWER_WAIT_DIVISOR: u32 = 5;
/// What each thread that answers queries may keep of persons in memory, in bytes.
const QUERY_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// What a step of a turn may read, in bytes: over all workers, and each worker at least.
const READ_BYTES_MAX: usize = 32 * 1024 * 1024;
const READ_BYTES_MIN: usize = 1024 * 1024;
/// What each thread that answers queries may read in a round, in bytes.
const QUERY_READ_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The running service.
pub struct Service {
    /// Appends, reads and replies.
    pub store: Store,
    /// What strangers send.
    pub intake: Arc<Intake>,
    /// The names of things in the store.
    pub layout: Layout,
    /// The stream as it was found.
    pub stream: StreamState,
    /// The way into the pool.
    pub pool: Arc<Pool>,
    /// What was done.
    pub statistics: Arc<Statistics>,
    /// Whether every thread makes progress.
    pub pulses: Pulses,
    /// Whether a thread panicked.
    pub poison: Poison,
    /// The threads that answer commands, which end after [`Pool::finish`], and queries, which end without a door.
    pub answering: Vec<JoinHandle<()>>,
    /// The threads for what is slow. They end after the workers.
    pub background: Vec<JoinHandle<()>>,
    /// Whether a command would be answered.
    pub checkups: Option<Checkups>,
    /// The end of the thread that looks at bucket and other streams, which ends without it.
    pub besides: Option<Sender<()>>,
    /// The version of the server that the store is connected to.
    pub server_version: String,
    /// The way to the threads that answer queries.
    pub query_door: Option<Arc<QueryDoor>>,
    /// The way to other replicas.
    pub sharer: Arc<Sharer>,
    /// The end of the thread that shares, which ends without it, and the thread.
    pub sharing: Option<(Sender<()>, JoinHandle<()>)>,
    door: Arc<Door>,
    discovery: Arc<Discovery>,
}

impl Service {
    /// Starts all threads but those that take commands in.
    pub fn start(config: &Config, connected: Connected, monitor: &Arc<Monitor>) -> io::Result<Self> {
        let Connected { store, intake, prepared, hindrances } = connected;
        log_found(&hindrances, &prepared.warnings);
        let clock = Clock::start();
        let (pool, seats) = Pool::new(config.workers, bounds(config));
        let statistics = Arc::new(Statistics::default());
        let replier = Replier::new(store.clone(), ReplyRule::new(&config.reply_subjects), Arc::clone(&statistics));
        let pool = Arc::new(pool);
        monitor.connect(Sources { statistics: Arc::clone(&statistics), pool: Arc::clone(&pool) });
        let (intake, subjects) = (Arc::new(intake), Subjects::new(&config.subject_prefix));
        let receipts = store.inbox().map_err(away)?;
        let sharer = Arc::new(Sharer::new(config.command_timeout, &subjects, &receipts, &intake, &statistics, clock));
        let door = Arc::new(Door {
            subjects,
            pool: Arc::clone(&pool),
            replier: replier.clone(),
            sharer: Arc::clone(&sharer),
            clock,
            command_timeout: config.command_timeout,
        });
        let (query_door, query_lanes) = QueryDoor::new(door.subjects.clone(), replier.clone(), config.command_timeout);
        let layout = Layout::new(config);
        layout.found_in(&prepared.domain);
        let mut service = Self {
            layout,
            checkups: None,
            besides: None,
            server_version: prepared.server.to_string(),
            stream: prepared.stream,
            pool,
            statistics: Arc::clone(&statistics),
            pulses: Pulses::new(clock),
            poison: monitor.poison.clone(),
            answering: Vec::new(),
            background: Vec::new(),
            discovery: Arc::new(Discovery {
                instance: Instance {
                    id: sharer.id().to_string(),
                    started: Timestamp::now(),
                    subjects: door.subjects.clone(),
                },
                replier: replier.clone(),
                sharer: Arc::clone(&sharer),
                monitor: Arc::clone(monitor),
            }),
            sharer,
            sharing: None,
            door,
            query_door: Some(Arc::new(query_door)),
            store,
            intake,
        };
        let (background, inlets) = Background::new();
        let around = Surroundings {
            clock,
            in_batches: config.store.batch_len_max > 0,
            replier,
            statistics: Arc::clone(&service.statistics),
            notices: Arc::new(Notices::default()),
            background,
        };
        let is_wanted = config.snapshot_frequency > 0 && !prepared.bucket_denied;
        let bucket = is_wanted.then(|| BucketGate::new(prepared.snapshots));
        let ports = Ports { config, bucket, wait_max: answer_wait(config) };
        service.start_background(&ports, inlets)?;
        service.start_queries(&ports, query_lanes, &around)?;
        service.start_workers(&ports, seats, &around)?;
        service.start_sharing(receipts)?;
        // The last one on this connection: what it hears is said after all other inboxes were asked for.
        service.start_checkups(&ports, prepared.salt)?;
        service.start_besides(&ports)?;
        Ok(service)
    }

    fn start_queries(&mut self, ports: &Ports, lanes: Lanes, around: &Surroundings) -> io::Result<()> {
        for (name, lane) in lanes.threads() {
            let (pulse, limit) = (self.pulses.add(name), TimeLimit::default());
            let log = TimedLog { log: ports.log(self)?, pulse: Arc::clone(&pulse), limit: limit.clone() };
            let snapshots = ports.snapshots(self)?;
            let answer_bytes_max = self.store.message_bytes_max();
            let inquiry =
                Inquiry::new(Box::new(log), snapshots, QUERY_CACHE_BYTES, answer_bytes_max, QUERY_READ_BYTES_MAX);
            let around = around.clone();
            let body = move || queries::answer(inquiry, &limit, &lane, &pulse, &around);
            self.answering.push(threads::start(name, &self.poison, body)?);
        }
        Ok(())
    }

    fn start_workers(&mut self, ports: &Ports, seats: Vec<Seat>, around: &Surroundings) -> io::Result<()> {
        for (number, seat) in seats.into_iter().enumerate() {
            let name = format!("worker-{number}");
            let stages = Arc::new(StageClock::default());
            let pulse = self.pulses.add(&name);
            let log = MeasuredLog { log: ports.log(self)?, clock: Arc::clone(&stages), pulse: Arc::clone(&pulse) };
            let snapshots = MeasuredSnapshots { snapshots: ports.snapshots(self)?, clock: Arc::clone(&stages) };
            let worker = Worker::new(Box::new(log), Box::new(snapshots), ports.limits());
            let around = around.clone();
            let body = move || pool::work(worker, &seat, &stages, &pulse, &around);
            self.answering.push(threads::start(&name, &self.poison, body)?);
        }
        Ok(())
    }

    fn start_sharing(&mut self, receipts: Inbox) -> io::Result<()> {
        let (sharer, door) = (Arc::clone(&self.sharer), Arc::clone(&self.door));
        let (end, over) = bounded(0);
        let pulse = self.pulses.add("sharing");
        let body = move || sharing::run(&sharer, &door, receipts, &over, &pulse);
        self.sharing = Some((end, threads::start("sharing", &self.poison, body)?));
        Ok(())
    }

    fn start_besides(&mut self, ports: &Ports) -> io::Result<()> {
        let conflicts = ConflictWatch::new(&self.store, &self.layout, &self.statistics)?;
        let bucket = match &ports.bucket {
            Some(gate) => {
                let checkup = BucketCheckup::new(&self.store, &self.layout, &ports.config.store).map_err(away)?;
                Some(BucketWatch::new(checkup, gate.clone()))
            }
            None => None,
        };
        let (end, over) = bounded(0);
        let pulse = self.pulses.add("besides");
        let body = move || Besides { bucket, conflicts }.watch(&over, &pulse);
        self.besides = Some(end);
        self.background.push(threads::start("besides", &self.poison, body)?);
        Ok(())
    }

    fn start_checkups(&mut self, ports: &Ports, salt: IdentifierSalt) -> io::Result<()> {
        let (store, layout, wanted) = (&self.store, &self.layout, &ports.config.store);
        let checkup = Checkup::new(store, layout, wanted, &self.stream, salt).map_err(away)?;
        let pulse = self.pulses.add("checkup");
        let (checkups, thread) = Checkups::start(store, checkup, &self.statistics, pulse, &self.poison)?;
        self.checkups = Some(checkups);
        self.background.push(thread);
        Ok(())
    }

    fn start_background(&mut self, ports: &Ports, inlets: Inlets) -> io::Result<()> {
        let Inlets { snapshots, errands } = inlets;
        let mut store = ports.snapshots(self)?;
        let statistics = Arc::clone(&self.statistics);
        let pulse = self.pulses.add("snapshots");
        let body = move || background::store_snapshots(store.as_mut(), &snapshots, &pulse, &statistics);
        self.background.push(threads::start("snapshots", &self.poison, body)?);

        let (mut log, mut snapshots) = (ports.log(self)?, ports.snapshots(self)?);
        let pool = Arc::clone(&self.pool);
        let pulse = self.pulses.add("histories");
        let body = move || background::read_histories(&mut log, snapshots.as_mut(), &errands, &pulse, &pool);
        self.background.push(threads::start("histories", &self.poison, body)?);
        Ok(())
    }
}

/// Says what was found at the start and does not keep from serving.
fn log_found(hindrances: &[Obstacle], warnings: &[String]) {
    for obstacle in hindrances {
        log::error!(error_code = Reason::Cause(obstacle.cause).name(); "{obstacle}");
    }
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
}

/// What each thread's own ports are made from.
struct Ports<'a> {
    config: &'a Config,
    /// `None` where no snapshots are wanted, or may be kept.
    bucket: Option<BucketGate>,
    wait_max: Duration,
}

impl Ports<'_> {
    fn log(&self, service: &Service) -> io::Result<NatsLog> {
        let log = NatsLog::new(&service.store, &service.layout, self.wait_max).map_err(away)?;
        Ok(log.in_batches(self.config.store.batch_len_max))
    }

    /// Where none are wanted every snapshot is forgotten at once.
    fn snapshots(&self, service: &Service) -> io::Result<Box<dyn SnapshotStore + Send>> {
        let Some(gate) = &self.bucket else { return Ok(Box::new(MemorySnapshots::new())) };
        let snapshots = NatsSnapshots::new(&service.store, &service.layout, self.wait_max, claimed_version);
        Ok(Box::new(snapshots.map_err(away)?.behind(gate.clone())))
    }

    fn limits(&self) -> Limits {
        let cache_bytes = usize::try_from(self.config.cache_bytes).unwrap_or(usize::MAX);
        Limits {
            cache_bytes: cache_bytes / self.config.workers.max(1),
            snapshot_frequency: if self.bucket.is_some() { self.config.snapshot_frequency } else { 0 },
            append_micros_max: micros(self.wait_max),
            reading: Budget::of_a_turn((READ_BYTES_MAX / self.config.workers.max(1)).max(READ_BYTES_MIN)),
        }
    }
}

fn away(error: NotSent) -> io::Error {
    io::Error::other(error)
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        queue_len_max: config.queue_len_max,
        command_timeout: config.command_timeout,
        answer_wait: answer_wait(config),
    }
}

fn answer_wait(config: &Config) -> Duration {
    (config.command_timeout / ANSWER_WAIT_DIVISOR).clamp(ANSWER_WAIT_MIN, ANSWER_WAIT_MAX)
}
