//! What the options refuse, and where they look: every option, by the real binary, with the line that it leaves.

use std::collections::BTreeSet;

use cim_domain_person::cli;
use cim_domain_person::exit::ExitStatus;

use crate::binary::{last_line, person_service, status};
use crate::config::resolve;

/// Every option: a value that is allowed, one that is not, and a part of what is then said to be allowed.
const OPTIONS: &[(&str, &str, &str, &str)] = &[
    ("NATS_URL", "nats://localhost:1", "http://localhost", "nats://host:4222"),
    ("NATS_CREDS", "Cargo.toml", "no/such/file", "a file that this user can read"),
    ("NATS_NKEY", "Cargo.toml", "src", "a file that this user can read"),
    ("NATS_USER", "ada", "a\nb", "one line of UTF-8 text"),
    ("NATS_PASSWORD", "hunter2", "a\nhunter2", "one line of UTF-8 text"),
    ("NATS_TOKEN", "hunter2", "a\nhunter2", "one line of UTF-8 text"),
    ("NATS_CA", "Cargo.toml", "no/such/file", "a file that this user can read"),
    ("NATS_CERT", "Cargo.toml", "no/such/file", "a file that this user can read"),
    ("NATS_KEY", "Cargo.toml", "no/such/file", "a file that this user can read"),
    ("JETSTREAM_DOMAIN", "leaf", "leaf.1", "letters, digits, _ and -"),
    ("STREAM_NAME", "S", "a.b", "letters, digits, _ and -"),
    ("STREAM_REPLICAS", "3", "2", "1, 3 or 5"),
    ("STREAM_CREATE", "false", "yes", "true or false"),
    ("STREAM_BATCH", "200", "1001", "a whole number from 0 to 1000"),
    ("SUBJECT_PREFIX", "person.eu", "person.*", "without wildcards"),
    ("REPLY_SUBJECTS", "_INBOX.>", ">", "subject patterns separated by commas"),
    ("SNAPSHOT_FREQ", "0", "-1", "a whole number from 0 to 1000000"),
    ("WORKERS", "auto", "0", "auto, or a whole number from 1 to 256"),
    ("QUEUE_CAPACITY", "1", "0", "a whole number from 1 to 1048576"),
    ("CACHE_BYTES", "64MiB", "64 potatoes", "a size from 1.0 MiB to 1.0 TiB, such as 64MiB"),
    ("COMMAND_TIMEOUT", "500ms", "10", "a duration with its unit from 100ms to 2m"),
    ("LOG_LEVEL", "debug", "off", "trace, debug, info, warn or error"),
    ("LOG_FORMAT", "json", "xml", "auto, text or json"),
    ("METRICS_FILE", "/run/person.prom", "/run/person.txt", "a file whose name ends in .prom"),
    ("METRICS_ADDR", "[::1]:9464", ":9464", "an IP address and a port, such as 127.0.0.1:9464 or [::1]:9464"),
    (LAST, "2m", "1h", "a duration with its unit from 100ms to 10m"),
];

/// The option that is looked at last. An error of it tells that all others passed, without starting the service.
const LAST: &str = "DRAIN_TIMEOUT";

/// Any path will do: it need not exist. So it cannot be refused.
const NEVER_REFUSED: &str = "ENVIRONMENT_FILE";

/// What an option cannot be without, for the checks of the option itself.
fn companion(option: &str) -> Option<(&'static str, &'static str)> {
    Some(match option {
        "NATS_USER" => ("NATS_PASSWORD", "secret"),
        "NATS_PASSWORD" => ("NATS_USER", "ada"),
        "NATS_CERT" => ("NATS_KEY", "Cargo.toml"),
        "NATS_KEY" => ("NATS_CERT", "Cargo.toml"),
        _ => return None,
    })
}

fn flag(option: &str) -> String {
    format!("--{}", option.to_ascii_lowercase().replace('_', "-"))
}

/// Runs it with a bad configuration and gives its last line.
fn refused(args: &[&str], environment: &[(&str, &str)]) -> String {
    let output = person_service(args, environment).output().expect("it runs");
    let line = last_line(&output);
    assert_eq!(status(&output), i32::from(ExitStatus::BadConfiguration.code()), "{args:?} {environment:?}: {line}");
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{args:?} {environment:?}");
    assert!(!line.contains("hunter2"), "a secret is shown: {line}");
    line
}

#[test]
fn the_table_has_every_option() {
    let table: BTreeSet<String> = OPTIONS.iter().map(|(option, ..)| (*option).to_owned()).collect();
    let command = cli::command();
    let variables = command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned()));
    let mut defined: BTreeSet<String> = variables.collect();
    assert!(defined.remove(NEVER_REFUSED));
    assert_eq!(table, defined);
}

#[test]
fn a_bad_value_is_named_with_its_option_and_what_is_allowed_wherever_it_was_given() {
    for (option, _, bad, allowed) in OPTIONS {
        let named = format!("person-service: bad configuration: {option} ({})", flag(option));
        let mut environment = Vec::from_iter(companion(option));
        let by_flag = refused(&[&format!("{}={bad}", flag(option))], &environment);
        environment.push((option, bad));
        for line in [by_flag, refused(&[], &environment), refused(&["run"], &environment)] {
            assert!(line.starts_with(&named), "{line}");
            assert!(line.contains("; allowed: ") && line.contains(allowed), "{line}");
            let secret = matches!(*option, "NATS_USER" | "NATS_PASSWORD" | "NATS_TOKEN");
            assert!(secret || line.contains(&format!("{bad:?}")), "{line}");
        }
    }
}

#[test]
fn a_flag_goes_before_a_variable_and_an_empty_variable_is_none() {
    let last = (LAST, "never");
    let others = OPTIONS.iter().filter(|(option, ..)| *option != LAST);
    for (option, good, bad, _) in others {
        let companion = Vec::from_iter(companion(option));
        let given = format!("{}={good}", flag(option));
        for args in [&[given.as_str()][..], &[given.as_str(), "run"], &["run", given.as_str()]] {
            let line = refused(args, &[&companion[..], &[(option, bad), last]].concat());
            assert!(line.contains(LAST), "{args:?} goes before {bad:?}: {line}");
        }
        let line = refused(&[], &[(option, ""), last]);
        assert!(line.contains(LAST), "{option} is empty: {line}");
        let line = refused(&[&format!("{}=", flag(option))], &[&companion[..], &[last]].concat());
        assert!(line.contains(option), "an empty flag is a value: {line}");
    }
}

#[test]
fn a_variable_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let output =
        person_service(&[], &[]).env("STREAM_NAME", std::ffi::OsStr::from_bytes(b"a\xff")).output().expect("it runs");
    assert_eq!((status(&output), last_line(&output).contains("STREAM_NAME")), (78, true));
}

#[test]
fn one_way_of_signing_in_is_allowed() {
    let ways: [&[(&str, &str)]; 5] = [
        &[("NATS_URL", "nats://ada:hunter2@localhost")],
        &[("NATS_CREDS", "Cargo.toml")],
        &[("NATS_NKEY", "Cargo.toml")],
        &[("NATS_USER", "ada"), ("NATS_PASSWORD", "hunter2")],
        &[("NATS_TOKEN", "hunter2")],
    ];
    for (position, one) in ways.iter().enumerate() {
        for other in &ways[position + 1..] {
            let line = refused(&[], &[*one, *other].concat());
            let named = one.iter().chain(*other).filter(|(option, _)| line.contains(&format!("{option} (--"))).count();
            assert!(named == 2 && line.contains("given together; allowed: one way of signing in"), "{line}");
        }
    }
}

#[test]
fn what_belongs_together_is_given_together() {
    for (one, value, other) in [
        ("NATS_CERT", "Cargo.toml", "NATS_KEY"),
        ("NATS_KEY", "Cargo.toml", "NATS_CERT"),
        ("NATS_USER", "ada", "NATS_PASSWORD"),
        ("NATS_PASSWORD", "hunter2", "NATS_USER"),
    ] {
        let line = refused(&[], &[(one, value)]);
        let expected =
            format!("{one} ({}) is given without {other} ({}); allowed: both or neither", flag(one), flag(other));
        assert!(line.ends_with(&expected), "{line}");
    }
}

#[test]
fn values_just_beyond_what_is_allowed_are_refused() {
    let long = "p".repeat(201);
    let many = ["h"; 33].join(",");
    let cases: &[(&str, &[&str])] = &[
        (
            "--nats-url",
            &["", ",", "nats://", "h:", "h:0", "h:65536", "h:+1", "h:1:2", "h/path", "h?q", "[::g]", "[::1", "ws://h"],
        ),
        (
            "--nats-url",
            &["a b", "nats://:p@h", "nats://u:@h", "nats://@h", "u:p@h,v:p@h", "u%ff:p@h", "u%0a:p@h", &many],
        ),
        ("--stream-name", &["", "a b", "a.b", "a*", "a>", "a/b", "a\\b", "é", &long]),
        ("--stream-replicas", &["0", "2", "4", "7", "03"]),
        ("--stream-create", &["TRUE", "1", "no"]),
        ("--subject-prefix", &["", ".", "a.", ".a", "a..b", "a b", "*", "a.>", "$SYS", "_INBOX.x", "é", "a\tb", &long]),
        (
            "--reply-subjects",
            &["", ",", "_INBOX.>,", ">", "*.x", "*", "$JS.>", "a..b", "a.>.b", "a.b*", "a b", "person.>"],
        ),
        ("--reply-subjects", &["person.events.x", "person.*", &long, &["a"; 33].join(",")]),
        ("--snapshot-freq", &["", "+1", "1.0", "1_000", "1000001", "18446744073709551616"]),
        ("--workers", &["257", "Auto"]),
        ("--queue-capacity", &["1048577"]),
        ("--cache-bytes", &["", "1", "1023KiB", "2TiB", "-1MiB", "1 MiB 2"]),
        ("--command-timeout", &["", "99ms", "2m1s", "5", "-5s", "5 apples"]),
        ("--drain-timeout", &["99ms", "10m1s", "0s"]),
        ("--log-level", &["", "off", "verbose", "5"]),
    ];
    for (flag, values) in cases {
        for value in *values {
            let given = format!("{flag}={value}");
            let error = resolve(&[&given]).map(drop).expect_err(&given).to_string();
            assert!(error.contains(flag) && error.contains("; allowed: "), "{error}");
        }
    }
}

#[test]
fn no_secret_is_shown_by_an_error_or_by_debug() {
    for url in ["nats://ada:hunter2@h:x", "hunter2@", "nats://h,http://hunter2@h", "u:hunter2@h,u:other@h"] {
        let error = resolve(&["--nats-url", url]).map(drop).expect_err(url).to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
    for flags in [&["--nats-url", "ada:hunter2@h"][..], &["--nats-token", "hunter2"]] {
        let config = resolve(flags).expect("allowed");
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }
}
