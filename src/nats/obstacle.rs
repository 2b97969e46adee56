//! What keeps the service from starting, or from its work: one list of judgements, for the start and for `doctor`.
//!
//! They were two lists once, and drifted: the start waited for ever where `doctor` saw nothing, and the other way round.
//! Here each cause stands once, with what the start does about it and what helps. Whoever finds a new cause adds it here,
//! and both know it.

use super::connection::OpenError;
use super::definitions::Definition;
use super::provision::ProvisionError;
use crate::exit::ExitStatus;

/// What the start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// It ends with this status, since waiting alone does not help.
    Ends(ExitStatus),
    /// It says so and tries again, for ever: this may pass by itself.
    Waits,
    /// It goes on, and says so as an error: some of the work can be done.
    GoesOn,
}

/// Why the service does not start, or does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// No server can be spoken to.
    Unreachable,
    /// The server, or the account, takes no more connections or subscriptions.
    Crowded,
    /// The server speaks TLS from the first byte on, which the client library cannot.
    TlsFirst,
    /// The configuration demands TLS and the server offers none.
    NoTls,
    /// The server's certificate is not accepted.
    Untrusted,
    /// The server does not know us, or does not want us.
    SignIn,
    /// A file of the configuration cannot be used.
    BadFile,
    /// The server is too old.
    ServerTooOld,
    /// There is no JetStream for us.
    NoJetStream,
    /// JetStream, or the stream, gives no answer: it has no leader, or too few copies are alive.
    Silent,
    /// The stream or the bucket is not there, and may not be created.
    Missing,
    /// The stream is not there, and the server does not let it be created.
    NotCreated,
    /// There is a stream that cannot hold commits.
    Unusable,
    /// The server denies a right that is needed.
    NoRight,
    /// Nothing more can be stored.
    Full,
    /// Another stream answers in place of the service.
    Conflict,
}

impl Cause {
    /// All of them, in the order in which the start meets them.
    pub const ALL: [Self; 16] = [
        Self::BadFile,
        Self::Unreachable,
        Self::TlsFirst,
        Self::NoTls,
        Self::Untrusted,
        Self::SignIn,
        Self::Crowded,
        Self::NoRight,
        Self::NoJetStream,
        Self::ServerTooOld,
        Self::Silent,
        Self::Missing,
        Self::NotCreated,
        Self::Unusable,
        Self::Full,
        Self::Conflict,
    ];

    /// What the start does about it. 69 is for what may be mended elsewhere, so that a supervisor tries again; 77 and 78
    /// are for what is to be mended here.
    pub fn consequence(self) -> Consequence {
        match self {
            Self::Unreachable | Self::Crowded | Self::Silent => Consequence::Waits,
            Self::TlsFirst
            | Self::NoTls
            | Self::Untrusted
            | Self::ServerTooOld
            | Self::NoJetStream
            | Self::Missing
            | Self::NotCreated
            | Self::Unusable => Consequence::Ends(ExitStatus::Unavailable),
            Self::SignIn | Self::NoRight => Consequence::Ends(ExitStatus::SignInRefused),
            Self::BadFile => Consequence::Ends(ExitStatus::BadConfiguration),
            Self::Full | Self::Conflict => Consequence::GoesOn,
        }
    }

    /// The status of whoever does not wait: of `doctor`, and of clients.
    pub fn status(self) -> ExitStatus {
        match self.consequence() {
            Consequence::Ends(status) => status,
            Consequence::Waits | Consequence::GoesOn => ExitStatus::Unavailable,
        }
    }

    /// What it is, for the documentation.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Unreachable => "no server can be spoken to: away, another port, a name that nobody has",
            Self::Crowded => {
                "the server or the account takes no more connections or subscriptions (`max_connections`, `max_subscriptions`)"
            }
            Self::TlsFirst => "every server speaks TLS from the first byte on (`handshake_first: true`)",
            Self::NoTls => "`NATS_URL` demands TLS (`tls://`), and every server offers none",
            Self::Untrusted => "the server's certificate is not accepted: its authority, its dates or its name",
            Self::SignIn => "NATS refuses the sign-in",
            Self::BadFile => "a file of the configuration cannot be used, or with TLS the system's authorities",
            Self::ServerTooOld => "nats-server is too old",
            Self::NoJetStream => "no JetStream: off, not for this account, or in another domain",
            Self::Silent => "JetStream or the stream gives no answer: no leader, or too few copies alive",
            Self::Missing => "stream or bucket is missing, and `STREAM_CREATE` is false",
            Self::NotCreated => "the server does not let the stream be created: limits of the account, subjects in use",
            Self::Unusable => "the stream cannot hold commits as it is configured",
            Self::NoRight => "this user lacks a right that is needed",
            Self::Full => "nothing more can be stored: the disk, the account or the stream is full",
            Self::Conflict => "another stream takes the service's subjects and acknowledges",
        }
    }

    /// What helps.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => "see whether nats-server runs, and NATS_URL",
            Self::Crowded => {
                "raise max_connections or max_subscriptions of the server or the account, or close others: each replica \
                 needs two connections at a time"
            }
            Self::TlsFirst => {
                "set handshake_first to auto in the server's tls block, or leave it out: the client library waits for the \
                 server's greeting"
            }
            Self::NoTls => "give the server a tls block, or write nats:// in NATS_URL",
            Self::Untrusted => {
                "see NATS_CA, the dates of the server's certificate, and whether it names the host of NATS_URL"
            }
            Self::SignIn => "see NATS_CREDS, NATS_NKEY, NATS_USER, NATS_TOKEN or NATS_CERT",
            Self::BadFile => "see the files that the options name",
            Self::ServerTooOld => "upgrade nats-server",
            Self::NoJetStream => {
                "turn it on in nats-server (jetstream {}) and for this account; or see JETSTREAM_DOMAIN"
            }
            Self::Silent => {
                "a cluster needs a majority of its servers, and a moment to find a leader: see which are away, look again"
            }
            Self::Missing => "create it, or set STREAM_CREATE to true",
            Self::NotCreated => {
                "create it by hand within the account's limits, or raise them; two streams cannot hold the same subjects: see \
                 STREAM_NAME and SUBJECT_PREFIX"
            }
            Self::Unusable => "mend its configuration, or see STREAM_NAME",
            Self::NoRight => "give this user the right; docs/operations.md has all that it needs",
            Self::Full => {
                "make room: a larger disk, higher limits; until then commands are refused, queries are answered"
            }
            Self::Conflict => "set no_ack on that stream, or leave these subjects out of it",
        }
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.cause {
            // It is named already, as it is where only the files are checked.
            Cause::BadFile => f.write_str(&self.says),
            cause => write!(f, "{}; {}", self.says, cause.advice()),
        }
    }
}

/// One of them, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Which.
    pub cause: Cause,
    /// What was found, for people.
    pub says: String,
    /// What somebody has to create by hand, or to change a stream to.
    pub definitions: Vec<Definition>,
}

impl Obstacle {
    /// Without anything to create.
    pub fn new(cause: Cause, says: impl Into<String>) -> Self {
        Self { cause, says: says.into(), definitions: Vec::new() }
    }

    /// The server takes no more subscriptions, as it said.
    pub fn too_many_subscriptions(said: &str) -> Self {
        Self::new(Cause::Crowded, format!("NATS takes no more subscriptions: {}", said.trim_matches('\'')))
    }

    /// For the operator of a service whose user lacks a right in NATS.
    pub fn no_right(said: &str) -> Self {
        Self::new(Cause::NoRight, format!("NATS denies the service a right that it needs: {said}"))
    }
}

impl From<OpenError> for Obstacle {
    fn from(error: OpenError) -> Self {
        Self::new(error.cause(), error.to_string())
    }
}

impl From<ProvisionError> for Obstacle {
    fn from(error: ProvisionError) -> Self {
        let says = error.to_string();
        let (cause, definitions) = match error {
            ProvisionError::Away(_) => (Cause::Silent, Vec::new()),
            ProvisionError::ServerTooOld { .. } => (Cause::ServerTooOld, Vec::new()),
            ProvisionError::NoJetStream(_) => (Cause::NoJetStream, Vec::new()),
            ProvisionError::Missing(definitions) => (Cause::Missing, definitions),
            ProvisionError::NotCreated { by_hand, .. } => (Cause::NotCreated, by_hand),
            ProvisionError::Unusable { mended, .. } => (Cause::Unusable, mended.into_iter().collect()),
        };
        Self { cause, says, definitions }
    }
}
