//! What the tests stand on: real servers, a proxy that does harm, a client without manners.

pub mod cluster;
pub mod full_pipe;
pub mod histories;
pub mod nats_cli;
pub mod nats_server;
pub mod ports;
pub mod proxy;
pub mod raw;
pub mod streams;

use std::io::Write as _;
use std::time::{Duration, Instant};

use cim_domain_person::config::{Config, LevelSource, LogFormat, Metrics, Nats, SignIn, Store};
use cim_domain_person::domain::PersonId;

/// Long enough for anything on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration for the server behind this URL, all else as a service has it by default.
pub fn config(url: &str) -> Config {
    Config {
        nats: Nats {
            urls: vec![url.to_owned()],
            sign_in: SignIn::Nothing,
            ca: None,
            client_certificate: None,
            jetstream_domain: None,
        },
        store: Store { stream: "PERSON_EVENTS".to_owned(), replicas: 1, create: true, batch_len_max: 0 },
        subject_prefix: "person".to_owned(),
        reply_subjects: vec!["_INBOX.>".to_owned(), "_R_.>".to_owned()],
        snapshot_frequency: 100,
        log_level: log::LevelFilter::Info,
        log_level_source: LevelSource::Environment,
        log_format: LogFormat::Auto,
        metrics: Metrics::default(),
        workers: 1,
        queue_len_max: 4096,
        cache_bytes: 128 * 1024 * 1024,
        command_timeout: Duration::from_secs(5),
        drain_timeout: Duration::from_secs(10),
    }
}

/// A person that no test has heard of.
pub fn somebody() -> PersonId {
    PersonId::from_uuid(uuid::Uuid::now_v7())
}

/// Says that something was not tested, and why, so that nobody takes it for passed.
pub fn skip(what: &str, why: &str) {
    past_the_capture(&format!("SKIPPED: {what}: {why}"));
}

/// Says something even where the test passes: the harness captures what is printed, and shows it when the test fails.
pub fn past_the_capture(words: &str) {
    // In one piece, so that it is not torn by another test's.
    let _ = std::io::stderr().write_all(format!("{words}\n").as_bytes());
}

/// Waits until it holds; panics with `what` when it does not come about.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "did not come about: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
