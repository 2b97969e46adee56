//! How the process ends: the statuses of `sysexits.h` that the contract promises, and no others.

use std::process::{ExitCode, Termination};

/// What the process tells whoever started it. A supervisor restarts on any of them but [`Clean`](Self::Clean); only
/// [`Bug`](Self::Bug) is certain to be worth a restart at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitStatus {
    /// Every command taken was answered, or there was nothing to run (`--help`).
    Clean = 0,
    /// A client (`show`, `history`, `send`, `bench`) got its answer, and it is no: a command was refused, or there is no such
    /// person; `verify` found damage, or `doctor` has warnings. The service itself never ends so.
    Refused = 1,
    /// An unknown flag or subcommand, a flag without its value (`EX_USAGE`).
    Usage = 64,
    /// Something needed is missing or too old: nats-server, JetStream, the stream (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// A bug or a hang in the service itself (`EX_SOFTWARE`).
    Bug = 70,
    /// NATS refused the sign-in at the start, or denied a right that the service needs to start (`EX_NOPERM`).
    SignInRefused = 77,
    /// A value that is not allowed, or a file that cannot be read (`EX_CONFIG`).
    BadConfiguration = 78,
}

impl ExitStatus {
    /// All of them, by number.
    pub const ALL: [Self; 7] = [
        Self::Clean,
        Self::Refused,
        Self::Usage,
        Self::Unavailable,
        Self::Bug,
        Self::SignInRefused,
        Self::BadConfiguration,
    ];

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// When it is given, in words for `--help` and the documentation.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Clean => "a clean end: every command taken was answered; of a client: all that it asked for was done",
            Self::Refused => {
                "of a client alone: a command was refused, the person does not exist, or damage was found; of doctor: there \
                 are warnings"
            }
            Self::Usage => "bad usage: an unknown flag or subcommand",
            Self::Unavailable => {
                "a needed service is missing or too old (nats-server below 2.12, JetStream off, no stream, a certificate that is not accepted); of a client: \
                 NATS is away, or no service answers; of doctor: something is wrong"
            }
            Self::Bug => "a bug or a hang in the service itself, or it left before everything was answered",
            Self::SignInRefused => "NATS refused the sign-in at the start, or a right that the service needs",
            Self::BadConfiguration => "bad configuration: the last line on stderr names the option",
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

impl Termination for ExitStatus {
    fn report(self) -> ExitCode {
        self.into()
    }
}
