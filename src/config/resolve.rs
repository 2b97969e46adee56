//! From what was typed to what it means: every option, its limits, and how they go together.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use bytesize::ByteSize;

use super::environment_file::LevelSource;
use super::names::{name, prefix, reply_patterns};
use super::sign_in::{client_certificate, sign_in};
use super::typed::{AUTO, Typed};
use super::url::servers;
use super::value::{address, boolean, count, duration, file, format, level, number, size};
use super::{Client, Config, ConfigError, Metrics, Nats, Store, StoreClient};

/// Threads of the pool.
const WORKERS: RangeInclusive<u64> = 1..=256;
/// Threads of the pool by default. At least two, so that one decides while the other waits for the store; no more than
/// eight, since nats-server is what limits the service, and a turn shared by more commands costs it less.
const WORKERS_AUTO: RangeInclusive<usize> = 2..=8;
/// The same where commits go in batches: the server stores one batch after the other, and what waits is to share one.
const WORKERS_IN_BATCHES: usize = 1;
/// Commits in one atomic batch. nats-server takes no more by default.
const STREAM_BATCH: RangeInclusive<u64> = 0..=1000;
/// Events of a person between two snapshots.
const SNAPSHOT_FREQ: RangeInclusive<u64> = 0..=1_000_000;
/// Commands waiting for one worker.
const QUEUE_CAPACITY: RangeInclusive<u64> = 1..=1_048_576;
/// Memory for persons. Below a mebibyte not even one large person would stay.
const CACHE_BYTES: RangeInclusive<ByteSize> = ByteSize::mib(1)..=ByteSize::tib(1);
/// A command's time. Less than the low end is not enough for a flush to disk, more than the high end nobody waits for.
const COMMAND_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(120);
/// The time to leave in.
const DRAIN_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);

impl Config {
    /// What was typed, checked. The first thing found wrong is the error.
    pub fn resolve(typed: &Typed) -> Result<Self, ConfigError> {
        let subject_prefix = prefix("SUBJECT_PREFIX", &typed.subject_prefix)?;
        let log_level = level("LOG_LEVEL", &typed.log_level)?;
        let (nats, store) = (nats(typed)?, store(typed)?);
        let batch_len_max = store.batch_len_max;
        Ok(Self {
            nats,
            store,
            reply_subjects: reply_patterns("REPLY_SUBJECTS", &typed.reply_subjects, &subject_prefix)?,
            subject_prefix,
            snapshot_frequency: number("SNAPSHOT_FREQ", &typed.snapshot_freq, SNAPSHOT_FREQ)?,
            log_level,
            log_level_source: LevelSource::new(typed, log_level),
            log_format: format("LOG_FORMAT", &typed.log_format)?,
            metrics: metrics(typed)?,
            workers: workers("WORKERS", &typed.workers, batch_len_max)?,
            queue_len_max: count("QUEUE_CAPACITY", &typed.queue_capacity, QUEUE_CAPACITY)?,
            cache_bytes: size("CACHE_BYTES", &typed.cache_bytes, CACHE_BYTES)?,
            command_timeout: duration("COMMAND_TIMEOUT", &typed.command_timeout, COMMAND_TIMEOUT)?,
            drain_timeout: duration("DRAIN_TIMEOUT", &typed.drain_timeout, DRAIN_TIMEOUT)?,
        })
    }
}

impl Client {
    /// What was typed, checked, as far as a client needs it. A bad value of what only the service has a use for does not
    /// keep anybody from asking it.
    pub fn resolve(typed: &Typed) -> Result<Self, ConfigError> {
        Ok(Self {
            nats: nats(typed)?,
            subject_prefix: prefix("SUBJECT_PREFIX", &typed.subject_prefix)?,
            command_timeout: duration("COMMAND_TIMEOUT", &typed.command_timeout, COMMAND_TIMEOUT)?,
        })
    }
}

impl StoreClient {
    /// What was typed, checked, as far as a tool needs it that reads the store itself.
    pub fn resolve(typed: &Typed) -> Result<Self, ConfigError> {
        Ok(Self { client: Client::resolve(typed)?, stream: name("STREAM_NAME", &typed.stream_name)? })
    }
}

fn nats(typed: &Typed) -> Result<Nats, ConfigError> {
    let (urls, in_url) = servers("NATS_URL", &typed.nats_url)?;
    Ok(Nats {
        urls,
        sign_in: sign_in(typed, in_url)?,
        ca: typed.nats_ca.as_deref().map(|path| file("NATS_CA", path)).transpose()?,
        client_certificate: client_certificate(typed)?,
        jetstream_domain: typed.jetstream_domain.as_deref().map(|given| name("JETSTREAM_DOMAIN", given)).transpose()?,
    })
}

fn metrics(typed: &Typed) -> Result<Metrics, ConfigError> {
    Ok(Metrics {
        file: typed.metrics_file.as_deref().map(|given| metrics_file("METRICS_FILE", given)).transpose()?,
        address: typed.metrics_addr.as_deref().map(|given| address("METRICS_ADDR", given)).transpose()?,
    })
}

/// node_exporter looks at files of this ending alone, and a file elsewhere would be waited for in vain. Whether it can be
/// written turns out when it is.
fn metrics_file(option: &'static str, given: &OsStr) -> Result<PathBuf, ConfigError> {
    let path = PathBuf::from(given);
    if path.extension() != Some(OsStr::new("prom")) || path.file_stem().is_none_or(|stem| stem.to_str().is_none()) {
        return Err(ConfigError::value(option, given, "a file whose name ends in .prom"));
    }
    Ok(path)
}

fn store(typed: &Typed) -> Result<Store, ConfigError> {
    Ok(Store {
        stream: name("STREAM_NAME", &typed.stream_name)?,
        replicas: replicas("STREAM_REPLICAS", &typed.stream_replicas)?,
        create: boolean("STREAM_CREATE", &typed.stream_create)?,
        batch_len_max: count("STREAM_BATCH", &typed.stream_batch, STREAM_BATCH)?,
    })
}

/// JetStream takes even numbers too, but they bear no more failures than the odd number below.
fn replicas(option: &'static str, given: &OsStr) -> Result<u8, ConfigError> {
    match given.to_str() {
        Some("1") => Ok(1),
        Some("3") => Ok(3),
        Some("5") => Ok(5),
        _ => Err(ConfigError::value(option, given, "1, 3 or 5")),
    }
}

fn workers(option: &'static str, given: &OsStr, batch_len_max: usize) -> Result<usize, ConfigError> {
    if given == AUTO && batch_len_max > 0 {
        return Ok(WORKERS_IN_BATCHES);
    }
    if given == AUTO {
        let cores = available_parallelism().map_or(*WORKERS_AUTO.start(), usize::from);
        return Ok(cores.clamp(*WORKERS_AUTO.start(), *WORKERS_AUTO.end()));
    }
    let (least, most) = (WORKERS.start(), WORKERS.end());
    count(option, given, WORKERS)
        .map_err(|_| ConfigError::value(option, given, format!("{AUTO}, or a whole number from {least} to {most}")))
}
