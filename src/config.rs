//! What was typed, turned into what it means: flags and environment in, checked values out.
//!
//! [`Typed`] is what clap understood: raw strings, one for each option, with where each came from. [`Config::resolve`]
//! is the only way from there to a [`Config`], whose values need no second look. A value that is not allowed is a
//! [`ConfigError`], which names the option, the value and what is allowed, and never shows a secret.

mod environment_file;
mod error;
mod names;
mod resolve;
mod sign_in;
mod typed;
mod url;
mod value;

pub use names::overlap;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use environment_file::{LevelKept, LevelSource};
pub use error::ConfigError;
pub use typed::{Origin, Typed};

/// Everything that the service can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to reach NATS.
    pub nats: Nats,
    /// The shared store.
    pub store: Store,
    /// The first tokens of every subject; no leading or trailing dot, no wildcard.
    pub subject_prefix: String,
    /// Where replies may go: NATS subject patterns, none of which covers a subject of the server's or the service's own.
    pub reply_subjects: Vec<String>,
    /// Events of a person between two snapshots; 0 for no snapshots.
    pub snapshot_frequency: u64,
    /// The least severe level that is logged.
    pub log_level: log::LevelFilter,
    /// Where SIGHUP reads the level again.
    pub log_level_source: LevelSource,
    /// How a log line is written.
    pub log_format: LogFormat,
    /// Where figures can be read, beside NATS.
    pub metrics: Metrics,
    /// Threads of the pool, at least 1.
    pub workers: usize,
    /// Commands that may wait for one worker.
    pub queue_len_max: usize,
    /// Bytes of memory for persons, over all workers.
    pub cache_bytes: u64,
    /// From a command's arrival to its reply.
    pub command_timeout: Duration,
    /// From the signal to the end of the process.
    pub drain_timeout: Duration,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// As whoever reads stderr wants it: the journal its own protocol, everybody else text.
    #[default]
    Auto,
    /// Text, for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where figures can be read, beside NATS. Nowhere, unless it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metrics {
    /// The file for node_exporter's textfile collector; its name ends in `.prom`.
    pub file: Option<PathBuf>,
    /// The address to serve HTTP on.
    pub address: Option<SocketAddr>,
}

/// What a client of the service needs of it: the same options, and the rest is not even looked at.
#[derive(Debug, Clone)]
pub struct Client {
    /// How to reach NATS.
    pub nats: Nats,
    /// The first tokens of every subject; see [`Config::subject_prefix`].
    pub subject_prefix: String,
    /// The service's time for a command. Clients wait a second longer.
    pub command_timeout: Duration,
}

/// What a tool needs that reads the store itself.
#[derive(Debug, Clone)]
pub struct StoreClient {
    /// What any client needs.
    pub client: Client,
    /// The stream; see [`Store::stream`].
    pub stream: String,
}

/// How to reach NATS.
#[derive(Debug, Clone)]
pub struct Nats {
    /// One server or several of one cluster, at least one: `nats://` or `tls://`, without user, password or token.
    pub urls: Vec<String>,
    /// Who the service is.
    pub sign_in: SignIn,
    /// Certificates of the authorities to trust instead of the system's own (PEM).
    pub ca: Option<PathBuf>,
    /// The service's own certificate and key (PEM).
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The JetStream domain, where the store lies behind a leaf node.
    pub jetstream_domain: Option<String>,
}

/// A way of signing in. Secrets do not appear in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum SignIn {
    /// None, or the client certificate alone.
    Nothing,
    /// A `.creds` file with a JWT and its key.
    Credentials(PathBuf),
    /// A file with an nkey seed.
    NKey(PathBuf),
    /// Name and password.
    UserPassword {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Credentials(_) => "Credentials(..)",
            Self::NKey(_) => "NKey(..)",
            Self::UserPassword { .. } => "UserPassword(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

/// The shared store.
#[derive(Debug, Clone)]
pub struct Store {
    /// The stream; the snapshot bucket's name follows from it.
    pub stream: String,
    /// Copies of the stream, when the service creates it: 1, 3 or 5.
    pub replicas: u8,
    /// Whether the service may create what is missing.
    pub create: bool,
    /// Commits that are stored together in an atomic batch, at most; 0: each by itself.
    pub batch_len_max: usize,
}

impl Store {
    /// The name of the bucket with the snapshots.
    pub fn bucket(&self) -> String {
        bucket_of(&self.stream)
    }
}

/// The name of the bucket with the snapshots that belongs to a stream.
pub fn bucket_of(stream: &str) -> String {
    format!("{stream}_SNAPSHOTS")
}
