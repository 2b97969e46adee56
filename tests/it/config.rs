//! What the options mean: defaults, accepted values, where each may be given, and how bad usage ends.

use std::time::Duration;

use cim_domain_person::config::{Config, ConfigError, LevelSource, SignIn, Typed};
use cim_domain_person::{cli, exit::ExitStatus};
use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches, Parser};
use log::LevelFilter;

use crate::binary::{last_line, person_service, status};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    typed: Typed,
}

/// The configuration that these flags alone give, whatever the environment of the test run.
pub fn resolve(flags: &[&str]) -> Result<Config, ConfigError> {
    let command = Line::command().mut_args(|arg| arg.env(Resettable::Reset));
    let matches = command.try_get_matches_from([&["person-service"], flags].concat()).expect("flags that clap knows");
    let mut line = Line::from_arg_matches(&matches).expect("raw strings");
    line.typed.note_origins(&matches);
    Config::resolve(&line.typed)
}

fn accepted(flag: &str, value: &str) -> Config {
    resolve(&[flag, value]).unwrap_or_else(|error| panic!("{flag} {value}: {error}"))
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let config = resolve(&[]).expect("the defaults are allowed");
    assert_eq!(config.nats.urls, ["nats://localhost:4222"]);
    assert_eq!(config.nats.sign_in, SignIn::Nothing);
    assert_eq!((config.nats.ca, config.nats.client_certificate, config.nats.jetstream_domain), (None, None, None));
    assert_eq!(
        (config.store.stream.as_str(), config.store.bucket().as_str()),
        ("PERSON_EVENTS", "PERSON_EVENTS_SNAPSHOTS")
    );
    assert_eq!((config.store.replicas, config.store.create), (1, true));
    assert_eq!(config.subject_prefix, "person");
    assert_eq!(config.reply_subjects, ["_INBOX.>", "_R_.>"]);
    assert_eq!((config.snapshot_frequency, config.queue_len_max, config.cache_bytes), (100, 4096, 128 * 1024 * 1024));
    assert_eq!((config.log_level, config.log_level_source), (LevelFilter::Info, LevelSource::Environment));
    assert!((2..=8).contains(&config.workers), "{}", config.workers);
    assert_eq!((config.command_timeout, config.drain_timeout), (Duration::from_secs(5), Duration::from_secs(10)));
}

#[test]
fn addresses_are_taken_with_and_without_scheme_and_port() {
    let cases: &[(&str, &[&str])] = &[
        ("localhost", &["nats://localhost"]),
        ("10.0.0.41:4222", &["nats://10.0.0.41:4222"]),
        ("nats://a_b-c.example.com/", &["nats://a_b-c.example.com"]),
        ("tls://[::1]:4443", &["tls://[::1]:4443"]),
        ("nats://a, tls://b:1,c", &["nats://a", "tls://b:1", "nats://c"]),
    ];
    for (value, urls) in cases {
        let config = accepted("--nats-url", value);
        assert_eq!(
            (&config.nats.urls[..], config.nats.sign_in),
            (&urls.map_to_strings()[..], SignIn::Nothing),
            "{value}"
        );
    }
}

#[test]
fn whoever_signs_in_by_url_is_taken_out_of_it_and_decoded() {
    let ada = SignIn::UserPassword { user: "ada".into(), password: "p@s%#:".into() };
    let cases = [
        ("nats://ada:p%40s%25%23%3A@h", ada.clone()),
        ("ada:p%40s%25%23:@h:1", ada.clone()),
        ("nats://ada:p@s%25#:@h", ada.clone()),
        ("nats://ada:p@s%25#:@h,nats://ada:p%40s%25%23%3A@i,j", ada),
        ("tls://t0k%20en@h", SignIn::Token("t0k en".into())),
    ];
    for (value, sign_in) in cases {
        let config = accepted("--nats-url", value);
        assert!(config.nats.sign_in == sign_in, "{value}");
        assert!(!config.nats.urls.concat().contains('@'), "{value}: {:?}", config.nats.urls);
    }
}

#[test]
fn each_way_of_signing_in_is_taken() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "x").expect("it can be written");
    let path = file.path().to_str().expect("UTF-8");
    let user = SignIn::UserPassword { user: "u%40".into(), password: "p%40".into() };
    let cases: &[(&[&str], SignIn)] = &[
        (&["--nats-creds", path], SignIn::Credentials(path.into())),
        (&["--nats-nkey", path], SignIn::NKey(path.into())),
        (&["--nats-user", "u%40", "--nats-password", "p%40"], user),
        (&["--nats-token", "t"], SignIn::Token("t".into())),
    ];
    for (flags, sign_in) in cases {
        let tls = ["--nats-ca", path, "--nats-cert", path, "--nats-key", path];
        let config = resolve(&[flags, &tls[..]].concat()).expect("a certificate goes with any of them");
        assert!(config.nats.sign_in == *sign_in, "{flags:?}");
        assert_eq!(config.nats.ca, Some(path.into()));
        assert_eq!(config.nats.client_certificate, Some((path.into(), path.into())));
    }
}

#[test]
fn values_are_taken_at_their_limits_and_in_their_notations() {
    assert_eq!(accepted("--stream-name", &"S".repeat(200)).store.stream.len(), 200);
    assert_eq!(accepted("--jetstream-domain", "leaf-1_A").nats.jetstream_domain.as_deref(), Some("leaf-1_A"));
    assert_eq!([1, 3, 5].map(|n| accepted("--stream-replicas", &n.to_string()).store.replicas), [1, 3, 5]);
    assert_eq!(["true", "false"].map(|v| accepted("--stream-create", v).store.create), [true, false]);
    assert_eq!(accepted("--subject-prefix", "person.eu-1.x").subject_prefix, "person.eu-1.x");
    assert_eq!(accepted("--reply-subjects", "_INBOX_ada.*, replies.>").reply_subjects, ["_INBOX_ada.*", "replies.>"]);
    assert_eq!(["0", "1000000"].map(|v| accepted("--snapshot-freq", v).snapshot_frequency), [0, 1_000_000]);
    assert_eq!(["1", "256"].map(|v| accepted("--workers", v).workers), [1, 256]);
    // With batches, one worker unless it is said.
    assert_eq!(accepted("--stream-batch", "1000").workers, 1);
    assert_eq!(["1", "1048576"].map(|v| accepted("--queue-capacity", v).queue_len_max), [1, 1_048_576]);
    let sizes = ["1MiB", "64MiB", "64 mib", "2MB", "1048576", "1.5GiB", "1TiB"]
        .map(|v| accepted("--cache-bytes", v).cache_bytes);
    assert_eq!(sizes, [1 << 20, 1 << 26, 1 << 26, 2_000_000, 1 << 20, 3 << 29, 1 << 40]);
    let times =
        ["100ms", "500ms", "10s", "1m30s", "2m"].map(|v| accepted("--command-timeout", v).command_timeout.as_millis());
    assert_eq!(times, [100, 500, 10_000, 90_000, 120_000]);
    assert_eq!(accepted("--drain-timeout", "10m").drain_timeout, Duration::from_secs(600));
    assert_eq!(accepted("--log-level", "WARN").log_level, LevelFilter::Warn);
}

#[test]
fn the_level_is_read_again_from_the_file_unless_a_flag_fixed_it() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let path = directory.path().join("environment");
    let file = ["--environment-file", path.to_str().expect("UTF-8")];
    let source = resolve(&file).expect("a file that is not there yet is allowed").log_level_source;
    assert_eq!(source.read().expect("no file says nothing"), LevelFilter::Info);
    let read = |text: &str| {
        std::fs::write(&path, text).expect("it can be written");
        source.read().map_err(|kept| kept.to_string())
    };
    assert_eq!(read("NATS_URL=x\nLOG_LEVEL=debug\n"), Ok(LevelFilter::Debug));
    assert_eq!(read("NATS_URL=x\n"), Ok(LevelFilter::Info));
    assert_eq!(
        read("LOG_LEVEL=loud").expect_err("not a level"),
        r#"LOG_LEVEL (--log-level) is "loud"; allowed: trace, debug, info, warn or error"#
    );

    let fixed = resolve(&[&file[..], &["--log-level", "warn"]].concat()).expect("allowed").log_level_source;
    assert_eq!(fixed, LevelSource::Flag);
    let unmoved = resolve(&[]).expect("allowed").log_level_source;
    assert!(unmoved.read().expect_err("no file").to_string().contains("ENVIRONMENT_FILE"));
}

#[test]
fn help_and_version_are_answered_on_stdout() {
    let cases: [(&[&str], &str); 6] = [
        (&["--version"], concat!("person-service ", env!("CARGO_PKG_VERSION"))),
        (&["-V"], concat!("person-service ", env!("CARGO_PKG_VERSION"))),
        (&["-h"], "SNAPSHOT_FREQ"),
        (&["--help"], "Exit status:"),
        (&["help"], "Exit status:"),
        (&["run", "--help"], "--nats-url"),
    ];
    for (args, part) in cases {
        let output = person_service(args, &[]).output().expect("it runs");
        assert_eq!((status(&output), last_line(&output)), (0, String::new()), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(part), "{args:?}");
    }
}

#[test]
fn the_help_shows_no_value_of_the_environment() {
    let variables = [("NATS_TOKEN", "hunter2"), ("NATS_URL", "nats://u:hunter2@h")];
    for help in ["-h", "--help"] {
        let output = person_service(&[help], &variables).output().expect("it runs");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("hunter2"), "{help}");
    }
}

#[test]
fn bad_usage_ends_with_64_and_one_line_that_says_what_to_do() {
    let cases: [(&[&str], &str); 6] = [
        (&["--nats-ulr", "x"], "--nats-ulr"),
        (&["serve"], "serve"),
        (&["run", "twice"], "twice"),
        (&["--nats-url"], "--nats-url"),
        (&["--workers", "1", "--workers", "2"], "--workers"),
        (&["-x"], "-x"),
    ];
    for (args, named) in cases {
        let output = person_service(args, &[]).output().expect("it runs");
        let (status, line) = (status(&output), last_line(&output));
        assert_eq!(status, i32::from(ExitStatus::Usage.code()), "{args:?}: {line}");
        assert!(line.starts_with("person-service: bad usage: ") && line.contains(named), "{args:?}: {line}");
        assert!(line.ends_with("; allowed: what 'person-service --help' lists"), "{args:?}: {line}");
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{args:?}");
    }
}

#[test]
fn the_flag_and_the_variable_of_an_option_bear_one_name() {
    for arg in cli::command().get_arguments().filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version")) {
        let id = arg.get_id().as_str();
        assert_eq!(arg.get_long().map(str::to_owned), Some(id.replace('_', "-")));
        assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(id.to_uppercase().as_str()));
        assert!(arg.is_global_set() && arg.is_hide_env_values_set(), "{id}");
    }
}

trait MapToStrings {
    fn map_to_strings(&self) -> Vec<String>;
}

impl MapToStrings for &[&str] {
    fn map_to_strings(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}
