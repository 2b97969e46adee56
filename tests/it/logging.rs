//! The log of the real process, and the level that is read again.

use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use cim_domain_person::config::LogFormat;
use cim_domain_person::daemon::logging::{lines_dropped, lines_waiting, reload_level, start_with, write_out};
use cim_domain_person::daemon::notices::Notices;
use cim_domain_person::engine::turn::Notice;
use log::LevelFilter;

use crate::binary::person_service;
use crate::config::resolve;
use crate::support::full_pipe::{fill, pipe};
use crate::support::{PATIENCE, eventually};

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
        if text.ends_with('\n') || start.elapsed() > PATIENCE {
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

/// The real journal of the machine that the tests run on is left alone.
const TEXT: &[(&str, &str)] = &[("NATS_URL", "nats://127.0.0.1:1"), ("LOG_FORMAT", "text")];

/// A service whose NATS is away: it logs that, at least, and goes on trying.
const NATS_AWAY: &[(&str, &str)] = &[("NATS_URL", "nats://127.0.0.1:1")];

#[test]
fn under_the_journal_a_line_begins_with_its_priority() {
    let bad = [("WORKERS", "x")];
    assert!(stderr(&[], &bad, names_stderr).starts_with("<3>bad configuration: WORKERS"));
    let text = stderr(&[], TEXT, names_stderr);
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
fn as_json_a_line_is_an_object_under_the_journal_after_its_priority() {
    let json = [("NATS_URL", "nats://127.0.0.1:1"), ("LOG_FORMAT", "json")];
    for (journal, prefix) in [(names_another_file as fn(u64, u64) -> String, ""), (names_stderr, "<")] {
        let text = stderr(&[], &json, journal);
        assert!(!text.is_empty());
        for line in text.lines() {
            assert!(line.starts_with(prefix), "{line}");
            let object = line.split_once('{').map(|(_, rest)| format!("{{{rest}")).expect("an object");
            let object: serde_json::Value =
                serde_json::from_str(&object).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(object["time"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()), "{line}");
            assert!(object["level"].as_str().is_some_and(|level| level.parse::<log::Level>().is_ok()), "{line}");
            assert!(object["message"].is_string() && object["fields"].is_object(), "{line}");
        }
    }
}

const CHILD: &str = "PERSON_SERVICE_TEST_LOGS";

/// An end waits a second for its lines; whoever is to read them may be slower on a busy machine.
fn written_out() {
    eventually("every line is written", || lines_waiting() == 0);
    write_out();
}

/// Where the journal listens is no option: the test starts itself again, alone, as the process that logs.
#[test]
fn the_journal_gets_fields_to_search_by_and_the_right_priorities() {
    if let Some(socket) = std::env::var_os(CHILD) {
        start_with(LevelFilter::Info, LogFormat::Auto, socket.to_str().expect("UTF-8")).expect("a thread");
        let person = crate::support::somebody();
        Notices::default()
            .log(vec![Notice::Damaged(person, "a gap\nafter 3".to_owned()), Notice::ReplayLoop(person, 8)]);
        log::info!(target: "cim_domain_person::daemon", "ready");
        log::debug!(target: "cim_domain_person::daemon", "not this");
        return write_out();
    }
    let directory = tempfile::tempdir().expect("a temporary folder");
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let stderr = tempfile::NamedTempFile::new().expect("a temporary file");
    let metadata = stderr.as_file().metadata().expect("it has metadata");
    let status = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "logging::the_journal_gets_fields_to_search_by_and_the_right_priorities", "--nocapture"])
        .env(CHILD, &path)
        .env("JOURNAL_STREAM", names_stderr(metadata.dev(), metadata.ino()))
        .stderr(stderr.reopen().expect("it can be opened again"))
        .status();
    assert!(status.expect("it runs").success());
    let mut entries = Vec::new();
    for _ in 0..3 {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("an entry");
        entries.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    let has = |entry: &str, line: &str| entry.lines().any(|found| found == line);
    let field = |entry: &str, name: &str| {
        entry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    for (entry, code, priority) in [(&entries[0], "history_damaged", 3), (&entries[1], "replay_loop", 4)] {
        assert!(has(entry, &format!("ERROR_CODE={code}")) && has(entry, &format!("PRIORITY={priority}")), "{entry}");
        assert!(field(entry, "PERSON_ID").is_some_and(|id| uuid::Uuid::try_parse(&id).is_ok()), "{entry}");
        assert!(has(entry, "SYSLOG_IDENTIFIER=person-service"), "{entry}");
    }
    assert!(field(&entries[0], "MESSAGE").is_some_and(|message| message.contains("a gap\\nafter 3")), "{}", entries[0]);
    assert!(has(&entries[2], "MESSAGE=ready") && has(&entries[2], "PRIORITY=6"), "{}", entries[2]);
    assert_eq!(std::fs::read_to_string(stderr.path()).expect("it can be read"), "", "nothing is said twice");
}

/// A service that logs into a full pipe waited for its reader, with every lock that it held. Here a process logs more than
/// can wait, and only then somebody reads: what is missing is said where it is missing, and adds up.
#[test]
fn what_a_full_pipe_does_not_take_is_counted_and_said_when_it_flows_again() {
    const LINES: usize = 10_000;
    if std::env::var_os(CHILD).is_some() {
        start_with(LevelFilter::Info, LogFormat::Text, "/nowhere").expect("a thread");
        (0..LINES).for_each(|number| log::info!(target: "cim_domain_person", "line {number}"));
        println!("\nlogged, {} dropped", lines_dropped());
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("somebody reads again");
        written_out();
        log::info!(target: "cim_domain_person", "line {LINES}");
        return written_out();
    }
    let (reader, writer) = pipe();
    let unread = fill(reader, writer.try_clone().expect("a descriptor"));
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "logging::what_a_full_pipe_does_not_take_is_counted_and_said_when_it_flows_again"])
        .arg("--nocapture")
        .env(CHILD, "1")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(writer)
        .spawn()
        .expect("it runs");
    let mut told = std::io::BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let dropped = told.find_map(|line| line.strip_prefix("logged, ")?.strip_suffix(" dropped")?.parse::<usize>().ok());
    let dropped = dropped.expect("it waited for nobody");
    assert!(dropped > LINES / 2, "{dropped}");
    child.stdin.take().expect("a pipe").write_all(b"read\n").expect("it listens");
    let lines: Vec<String> = unread.read().collect();
    assert!(child.wait().expect("it ends").success(), "{lines:#?}");
    let message = |line: &String| line.splitn(3, ' ').nth(2).unwrap_or_default().trim().to_owned();
    let mut expected: Vec<String> = (0..LINES - dropped).map(|number| format!("line {number}")).collect();
    let (gap, last) = (message(&lines[expected.len()]), format!("line {LINES}"));
    assert!(gap.starts_with(&format!("{dropped} lines of the log were dropped, the first at 2")), "{gap}");
    expected.extend([gap, last]);
    assert_eq!(lines.iter().map(message).collect::<Vec<_>>(), expected);
}

/// A journal that hangs takes no more than a few datagrams, and whoever logged waited for it.
#[test]
fn a_journal_that_hangs_holds_nobody_up() {
    const LINES: usize = 3_000;
    if let Some(socket) = std::env::var_os(CHILD) {
        start_with(LevelFilter::Info, LogFormat::Auto, socket.to_str().expect("UTF-8")).expect("a thread");
        (0..LINES).for_each(|number| log::info!(target: "cim_domain_person", "line {number}"));
        println!("\nlogged");
        return written_out();
    }
    let directory = tempfile::tempdir().expect("a temporary folder");
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let stderr = tempfile::NamedTempFile::new().expect("a temporary file");
    let metadata = stderr.as_file().metadata().expect("it has metadata");
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "logging::a_journal_that_hangs_holds_nobody_up", "--nocapture"])
        .env(CHILD, &path)
        .env("JOURNAL_STREAM", names_stderr(metadata.dev(), metadata.ino()))
        .stdout(std::process::Stdio::piped())
        .stderr(stderr.reopen().expect("it can be opened again"))
        .spawn()
        .expect("it runs");
    let mut told = std::io::BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(told.any(|line| line == "logged"), "it waited for nobody");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for number in 0..LINES {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("an entry");
        let entry = String::from_utf8_lossy(&buffer[..length]);
        assert!(entry.contains(&format!("MESSAGE=line {number}\n")), "{entry}");
    }
    assert!(child.wait().expect("it ends").success());
}

/// Whoever panics may take the process with it: its line is written before anything else happens.
#[test]
fn the_line_of_a_panic_is_written_before_the_process_can_end() {
    if std::env::var_os(CHILD).is_some() {
        start_with(LevelFilter::Info, LogFormat::Text, "/nowhere").expect("a thread");
        let panicking = std::thread::Builder::new().name("unlucky".to_owned()).spawn(|| panic!("as it was told"));
        assert!(panicking.expect("a thread").join().is_err());
        std::process::abort();
    }
    let output = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "logging::the_line_of_a_panic_is_written_before_the_process_can_end", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("a bug: thread unlucky panicked at ") && said.contains(": as it was told"), "{said}");
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
