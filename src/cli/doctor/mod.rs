//! `person-service doctor`: connects as the service would and says what it finds, line by line, with a verdict each.
//!
//! It changes nothing: what it may do it finds out by trying what cannot succeed. Each part adds its lines to the report;
//! what a part cannot find out it says.

mod conflicts;
mod connection;
mod jetstream;
mod permissions;
mod replicas;
mod report;
mod streams;
mod timing;

use std::time::Duration;

use clap::Args;
use uuid::Uuid;

use crate::cli::doctor::report::Report;
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::config::Config;
use crate::domain::PersonId;
use crate::exit::ExitStatus;
use crate::nats::{Account, Examiner, Intake, Layout, Obstacle};
use crate::wire::subject::Subjects;

/// What one round of answers gets.
const WAIT: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  person-service doctor
          With the flags and the environment that it is given itself
  sh -c 'set -a; . /etc/cim-domain-person/environment; exec person-service doctor'
          With the environment file of the systemd unit
  person-service doctor --json | jq 'first(.findings[] | select(.about == \"stream\" and .repair)).repair.config' > stream.json
          What mends the stream, for 'nats stream edit PERSON_EVENTS --config stream.json'

Verdicts: ok; note (worth knowing); warning (the service works, somebody should look at it); wrong (the service does not \
start, waits for ever, or does not work).

Exit status: 0 when there is nothing worse than notes, 1 when there are warnings; when something is wrong the status with \
which the service would not start: 69, 77 where NATS refused the sign-in or denies a right, 78 for a bad configuration.";

/// What `doctor` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where it looks, and with what.
struct Place<'a> {
    config: &'a Config,
    layout: Layout,
    subjects: Subjects,
    examiner: Examiner,
    /// What JetStream says of our account, where it was asked.
    account: Option<Account>,
    /// Whether JetStream is known to run on one server that is of no cluster.
    alone: bool,
    /// A person whom nobody knows: what is tried, is tried on this one.
    nobody: PersonId,
}

impl Doctor {
    /// Looks at everything.
    pub fn run(&self, config: &Config) -> Result<ExitStatus, Failure> {
        let report = examine(config);
        let mut out = Out::new();
        if self.json {
            out.json(&report.json());
        } else {
            report.show(&mut out);
        }
        out.finish()?;
        Ok(report.status())
    }
}

fn examine(config: &Config) -> Report {
    let mut report = Report::new();
    let servers = connection::servers(config, &mut report);
    let examiner = match Examiner::open(&config.nats, WAIT) {
        Ok(examiner) => examiner,
        Err(error) => {
            report.obstacle("connection", &error.into());
            return report;
        }
    };
    // The service has two connections, and the second may be one too many.
    let second = Intake::open(&config.nats);
    if let Err(error) = &second {
        report.obstacle("connection", &Obstacle::new(error.cause(), error.to_string()));
    }
    let mut place = Place {
        config,
        layout: Layout::new(config),
        subjects: Subjects::new(&config.subject_prefix),
        examiner,
        account: None,
        alone: config.nats.jetstream_domain.is_none() && connection::is_one_alone(&servers),
        nobody: PersonId::from_uuid(Uuid::new_v4()),
    };
    connection::sign_in(&place, &servers, &mut report);
    if let Some(crowded) = place.examiner.crowded() {
        report.obstacle("connection", &crowded);
        return report;
    }
    if !place.examiner.may_hear_answers() {
        report
            .obstacle("permissions", &Obstacle::no_right("receive answers (subscribe to _INBOX.>)"))
            .advise("allow it to subscribe to _INBOX.>; what follows from answers could not be looked at");
        return report;
    }
    let has_jetstream = jetstream::account(&mut place, &mut report);
    connection::limits(&place, &mut report);
    let found = if has_jetstream { streams::look(&mut place, &mut report) } else { streams::Found::default() };
    if has_jetstream {
        conflicts::look(&mut place, &mut report);
    }
    permissions::try_all(&mut place, &found, &mut report);
    timing::measure(&mut place, &found, &mut report);
    replicas::ask(&mut place, &mut report);
    report
}
