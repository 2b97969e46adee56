//! The log of the real process, and the level that is read again.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use cim_domain_person::daemon::logging::reload_level;
use log::LevelFilter;

use crate::binary::person_service;
use crate::config::resolve;

/// What the process writes to stderr, which is a file here, until it has written a line. `journal` makes the value of
/// `JOURNAL_STREAM` from the file's device and inode.
fn stderr(args: &[&str], environment: &[(&str, &str)], journal: fn(u64, u64) -> String) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let metadata = file.as_file().metadata().expect("it has metadata");
    let mut child = person_service(args, environment)
        .env("JOURNAL_STREAM", journal(metadata.dev(), metadata.ino()))
        .stderr(file.reopen().expect("it can be opened again"))
        .spawn()
        .expect("it runs");
    let start = Instant::now();
    let text = loop {
        let text = std::fs::read_to_string(file.path()).expect("it can be read");
        if text.ends_with('\n') || start.elapsed() > Duration::from_secs(20) {
            break text;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // It may have ended by itself.
    let _ = child.kill();
    child.wait().expect("it can be waited for");
    text
}

fn names_stderr(device: u64, inode: u64) -> String {
    format!("{device}:{inode}")
}

fn names_another_file(device: u64, inode: u64) -> String {
    format!("{device}:{}", inode + 1)
}

/// A service whose NATS is away: it logs that, at least, and goes on trying.
const NATS_AWAY: &[(&str, &str)] = &[("NATS_URL", "nats://127.0.0.1:1")];

#[test]
fn under_the_journal_a_line_begins_with_its_priority() {
    let bad = [("WORKERS", "x")];
    assert!(stderr(&[], &bad, names_stderr).starts_with("<3>bad configuration: WORKERS"));
    let text = stderr(&[], NATS_AWAY, names_stderr);
    let prefixed = |line: &str| ["<3>", "<4>", "<6>"].iter().any(|prefix| line.starts_with(prefix));
    assert!(!text.is_empty() && text.lines().all(prefixed), "{text}");
}

#[test]
fn elsewhere_a_line_begins_with_the_time_and_the_level_and_has_no_colour_in_a_file() {
    let bad = [("WORKERS", "x")];
    assert!(stderr(&[], &bad, names_another_file).starts_with("person-service: bad configuration: WORKERS"));
    let text = stderr(&[], NATS_AWAY, names_another_file);
    let dated = |line: &str| {
        let mut words = line.split_whitespace();
        let time = words.next().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok());
        time && words.next().is_some_and(|level| level.parse::<log::Level>().is_ok())
    };
    assert!(!text.is_empty() && text.lines().all(dated), "{text}");
}

#[test]
fn a_reload_sets_the_level_of_the_process() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let config = resolve(&["--environment-file", file.path().to_str().expect("UTF-8")]).expect("allowed");
    log::set_max_level(config.log_level);
    for (text, expected) in [
        ("LOG_LEVEL=debug", LevelFilter::Debug),
        ("LOG_LEVEL=error", LevelFilter::Error),
        ("LOG_LEVEL=nonsense", LevelFilter::Error),
        ("", LevelFilter::Info),
    ] {
        std::fs::write(file.path(), text).expect("it can be written");
        reload_level(&config.log_level_source);
        assert_eq!(log::max_level(), expected, "{text:?}");
    }
}
