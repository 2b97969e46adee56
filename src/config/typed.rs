//! What was typed: every option as clap sees it, as raw strings, none of them looked at yet.
//!
//! This is the one list of options. `--help` prints it, `docs/configuration.md` is checked against it by a test, and the
//! flag and the variable of each follow from the field's name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};

use super::environment_file::assigns;

/// The value of `WORKERS` that stands for "from the cores".
pub(super) const AUTO: &str = "auto";

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// An environment variable that is not empty.
    Environment,
    /// Nowhere: it is the default, or absent.
    Default,
}

/// The options, as raw strings. It has no `Debug`, since some of them are secrets.
#[derive(Args)]
pub struct Typed {
    /// NATS servers of one cluster, separated by commas
    ///
    /// nats:// or tls:// with a host and, if it is not 4222, a port; without a scheme nats:// is meant. A
    /// user:password@ or token@ in it is a way of signing in; %40 and the like are decoded.
    #[arg(long, env, value_name = "URLS", default_value = "nats://localhost:4222", help_heading = "Connection")]
    pub nats_url: OsString,

    /// Sign in with a credentials file (JWT and key)
    #[arg(long, env, value_name = "FILE", help_heading = "Connection")]
    pub nats_creds: Option<OsString>,

    /// Sign in with an nkey seed file
    #[arg(long, env, value_name = "FILE", help_heading = "Connection")]
    pub nats_nkey: Option<OsString>,

    /// Sign in with a user name and NATS_PASSWORD
    #[arg(long, env, value_name = "NAME", help_heading = "Connection")]
    pub nats_user: Option<OsString>,

    /// The password that goes with NATS_USER
    ///
    /// Everybody on the machine can read a process's command line: use the variable rather than the flag.
    #[arg(long, env, value_name = "SECRET", help_heading = "Connection")]
    pub nats_password: Option<OsString>,

    /// Sign in with a token
    ///
    /// Everybody on the machine can read a process's command line: use the variable rather than the flag.
    #[arg(long, env, value_name = "SECRET", help_heading = "Connection")]
    pub nats_token: Option<OsString>,

    /// Authorities to trust instead of the system's (PEM)
    #[arg(long, env, value_name = "FILE", help_heading = "Connection")]
    pub nats_ca: Option<OsString>,

    /// The service's own TLS certificate (PEM); needs NATS_KEY
    #[arg(long, env, value_name = "FILE", help_heading = "Connection")]
    pub nats_cert: Option<OsString>,

    /// The key of NATS_CERT (PEM)
    #[arg(long, env, value_name = "FILE", help_heading = "Connection")]
    pub nats_key: Option<OsString>,

    /// The JetStream domain, where the stream lies behind a leaf node
    #[arg(long, env, value_name = "NAME", help_heading = "Connection")]
    pub jetstream_domain: Option<OsString>,

    /// The JetStream stream that holds the events
    ///
    /// Letters, digits, _ and -, at most 200. The bucket of the snapshots is named after it, <STREAM_NAME>_SNAPSHOTS.
    #[arg(long, env, value_name = "NAME", default_value = "PERSON_EVENTS", help_heading = "Store")]
    pub stream_name: OsString,

    /// Copies of the stream, when the service creates it: 1, 3 or 5
    #[arg(long, env, value_name = "N", default_value = "1", help_heading = "Store")]
    pub stream_replicas: OsString,

    /// Whether to create stream and bucket if they are missing: true or false
    ///
    /// With false, a missing one ends the start with status 69, and the JSON to create it by hand is on stdout.
    #[arg(long, env, value_name = "BOOL", default_value = "true", help_heading = "Store")]
    pub stream_create: OsString,

    /// Commits to store together in an atomic batch, up to 1000; 0: each by itself
    ///
    /// For a stream on a single server that syncs each message to its disk (sync_interval: always): a batch takes a few
    /// syncs, however many commits are in it. Where each message is written later it is slower than without.
    #[arg(long, env, value_name = "N", default_value = "0", help_heading = "Store")]
    pub stream_batch: OsString,

    /// The first tokens of every subject, such as person or person.eu
    #[arg(long, env, value_name = "SUBJECT", default_value = "person", help_heading = "Subjects")]
    pub subject_prefix: OsString,

    /// Where replies may go: subject patterns, separated by commas
    ///
    /// A request whose reply subject matches none of them is dropped. None may begin with a wildcard or $, or cover the
    /// service's own subjects: whoever may send a request could write there with the service's rights.
    #[arg(long, env, value_name = "PATTERNS", default_value = "_INBOX.>,_R_.>", help_heading = "Subjects")]
    pub reply_subjects: OsString,

    /// Events of a person between snapshots, up to 1000000; 0 turns them off
    #[arg(long, env, value_name = "N", default_value = "100", help_heading = "Work")]
    pub snapshot_freq: OsString,

    /// Threads of the pool: auto (from the cores, 2 to 8; 1 with STREAM_BATCH), or 1 to 256
    #[arg(long, env, value_name = "N", default_value = AUTO, help_heading = "Work")]
    pub workers: OsString,

    /// Commands that may wait per worker, up to 1048576; beyond it they are refused as overloaded
    #[arg(long, env, value_name = "N", default_value = "4096", help_heading = "Work")]
    pub queue_capacity: OsString,

    /// Memory for persons, over all workers, from 1MiB to 1TiB
    #[arg(long, env, value_name = "SIZE", default_value = "128MiB", help_heading = "Work")]
    pub cache_bytes: OsString,

    /// A command's deadline, from its arrival to its reply, from 100ms to 2m
    ///
    /// Clients wait a second longer.
    #[arg(long, env, value_name = "DURATION", default_value = "5s", help_heading = "Work")]
    pub command_timeout: OsString,

    /// At SIGTERM or SIGINT: the time to answer every command taken, from 100ms to 10m
    ///
    /// A second signal leaves at once.
    #[arg(long, env, value_name = "DURATION", default_value = "10s", help_heading = "Work")]
    pub drain_timeout: OsString,

    /// The least severe level to log: trace, debug, info, warn or error
    #[arg(long, env, value_name = "LEVEL", default_value = "info", help_heading = "Log")]
    pub log_level: OsString,

    /// How a log line is written: auto, text or json
    ///
    /// auto is text, or the journal's own protocol where stderr is the journal: then COMMAND_ID, PERSON_ID and
    /// ERROR_CODE are fields to search by. json is one object a line.
    #[arg(long, env, value_name = "FORMAT", default_value = "auto", help_heading = "Log")]
    pub log_format: OsString,

    /// Where SIGHUP reads LOG_LEVEL again: the unit's EnvironmentFile
    ///
    /// The environment of a running process cannot change, so the level is read from the file that the environment was
    /// made from. Nothing else is read from it, and nothing at the start. It need not exist.
    #[arg(long, env, value_name = "FILE", help_heading = "Log")]
    pub environment_file: Option<OsString>,

    /// A file with figures for node_exporter's textfile collector, such as /var/lib/node_exporter/person-1.prom
    ///
    /// It is replaced as a whole every ten seconds and taken away at the end. Its name ends in .prom, and is the label
    /// replica of all figures in it: give each replica of a host a file of its own.
    #[arg(long, env, value_name = "FILE", help_heading = "Metrics")]
    pub metrics_file: Option<OsString>,

    /// Serve figures and probes over HTTP on this IP address and port, such as 127.0.0.1:9464
    ///
    /// /metrics is for Prometheus; /healthz says whether the process makes progress, /readyz whether a command sent now
    /// would be answered. Without it no port is open. Port 0 is any free one, which the log names.
    #[arg(long, env, value_name = "ADDRESS", help_heading = "Metrics")]
    pub metrics_addr: Option<OsString>,

    /// Each value as it was typed, and where it came from, by the name of the field.
    #[arg(skip)]
    given: BTreeMap<String, (Origin, Option<OsString>)>,
}

impl Typed {
    /// Where the value of an option came from; `option` is the field's name.
    pub fn origin(&self, option: &str) -> Origin {
        self.given.get(option).map_or(Origin::Default, |(origin, _)| *origin)
    }

    /// The value of an option as it was typed, which may be a secret; `None` where it has none.
    pub fn raw(&self, option: &str) -> Option<&OsStr> {
        self.given.get(option)?.1.as_deref()
    }

    /// Whether the file that `ENVIRONMENT_FILE` names gives the variable of this option the value that it has.
    pub fn is_of_the_file(&self, option: &str, variable: &str) -> bool {
        match (self.origin(option), &self.environment_file, self.raw(option)) {
            (Origin::Environment, Some(file), Some(value)) => assigns(Path::new(file), variable, value),
            _ => false,
        }
    }

    /// Takes down where each value came from, which the values themselves no longer tell.
    pub fn note_origins(&mut self, matches: &ArgMatches) {
        let origin = |id: &clap::Id| match matches.value_source(id.as_str()) {
            Some(ValueSource::CommandLine) => Origin::Flag,
            Some(ValueSource::EnvVariable) => Origin::Environment,
            _ => Origin::Default,
        };
        // A subcommand's own options that may stand behind its subcommands come up to here as well, unknown here.
        let known = matches.ids().filter(|id| matches.try_contains_id(id.as_str()).is_ok());
        let raw =
            |id: &clap::Id| matches.get_raw(id.as_str()).and_then(|mut values| values.next()).map(OsStr::to_owned);
        self.given = known.map(|id| (id.to_string(), (origin(id), raw(id)))).collect();
    }

    /// What all options have in common: they stand before or after a subcommand, and their values stay out of the help.
    pub(crate) fn shared(command: Command) -> Command {
        command.mut_args(|arg| if arg.get_env().is_some() { arg.global(true).hide_env_values(true) } else { arg })
    }

    /// An empty variable, which is how a unit or a container unsets one, is not shown to clap at all.
    pub(crate) fn without_empty(command: Command) -> Command {
        let is_empty = |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        let command = command.mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg });
        command.mut_subcommands(Self::without_empty)
    }
}
