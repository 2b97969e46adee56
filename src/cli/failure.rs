//! Why a client ends without having done what it was asked for: an exit status and a sentence that says what to do.

use std::time::Duration;

use crate::cli::answer::Problem;
use crate::config::ConfigError;
use crate::exit::ExitStatus;
use crate::nats::{Cause, NotSent, OpenError};

/// The end of a client that did not get what it wanted.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For whoever started it.
    pub status: ExitStatus,
    /// For people. Names fields, options and subjects; never a person or what is known of one.
    pub message: String,
}

impl Failure {
    /// With a status and a sentence.
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The server says that nobody listens on this subject.
    pub fn nobody_listens(subject: &str) -> Self {
        Self::new(ExitStatus::Unavailable, no_responders(subject))
    }

    /// No answer came within this time.
    pub fn silence(subject: &str, waited: Duration) -> Self {
        Self::new(ExitStatus::Unavailable, no_reply(subject, waited))
    }

    /// The question did not leave.
    pub fn not_sent(not_sent: &NotSent) -> Self {
        let status = match not_sent {
            NotSent::Away | NotSent::Mute(_) | NotSent::NoRoom => ExitStatus::Unavailable,
            NotSent::TooLarge { .. } | NotSent::Malformed(_) => ExitStatus::Refused,
        };
        Self::new(status, format!("not sent: {not_sent}"))
    }

    /// The service answered, and it is no.
    pub fn problem(problem: &Problem) -> Self {
        let status = if problem.retryable { ExitStatus::Unavailable } else { ExitStatus::Refused };
        let advice = if problem.retryable { "; try again" } else { "" };
        Self::new(status, format!("{problem}{advice}"))
    }

    /// The answer is none of those that a person-service gives.
    pub fn unreadable(subject: &str) -> Self {
        let message = format!(
            "the answer on {subject} is none that this release can read: is something else listening there, or a \
             service of another release?"
        );
        Self::new(ExitStatus::Bug, message)
    }
}

/// What to say when nobody listens.
pub fn no_responders(subject: &str) -> String {
    format!(
        "no replica of the service listens on {}: start one, or see whether NATS_URL and SUBJECT_PREFIX are those of \
         the service",
        without_person(subject)
    )
}

/// What to say when no answer came.
pub fn no_reply(subject: &str, waited: Duration) -> String {
    format!(
        "no reply on {} within {:.1} s: the service may be busy or gone (look at its log), or this user may not send \
         there or be answered (look at the permissions, and at REPLY_SUBJECTS of the service)",
        without_person(subject),
        waited.as_secs_f64()
    )
}

/// A command's subject with `*` for the person, who has no place in error lines.
fn without_person(subject: &str) -> String {
    match subject.rsplit_once('.') {
        Some((begin, last)) if uuid::Uuid::try_parse(last).is_ok() => format!("{begin}.*"),
        _ => subject.to_owned(),
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(ExitStatus::BadConfiguration, format!("bad configuration: {error}"))
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let cause = error.cause();
        let message = match cause {
            Cause::Unreachable => format!("NATS is away: {error}; {}", cause.advice()),
            Cause::BadFile => error.to_string(),
            _ => format!("{error}; {}", cause.advice()),
        };
        Self::new(cause.status(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_lines_do_not_name_a_person() {
        let subject = "person.commands.0197c5a0-0000-7000-8000-000000000001";
        for line in [no_responders(subject), no_reply(subject, Duration::from_secs(6))] {
            assert!(line.contains("person.commands.*") && !line.contains("0197c5a0"), "{line}");
        }
        assert!(no_responders("person.queries.get").contains("person.queries.get"));
    }
}
