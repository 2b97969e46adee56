//! Finding and making stream and bucket.

use std::sync::Barrier;

use cim_domain_person::config::Config;
use cim_domain_person::nats::{CheckError, Checkup, Layout, Prepared, ProvisionError, Store, prepare};
use serde_json::{Value, json};

use super::{log, open};
use crate::port_contract::store;
use crate::support::nats_server::{self, NatsServer};
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::streams;
use crate::support::{PATIENCE, config, nats_cli, somebody};

fn try_prepare(config: &Config) -> Result<Prepared, ProvisionError> {
    prepare(&open(config), config)
}

fn checkup(store: &Store, config: &Config, found: &Prepared) -> Checkup {
    Checkup::new(store, &Layout::new(config), &config.store, &found.stream, found.salt).unwrap()
}

fn stream_config(server: &NatsServer, name: &str) -> Value {
    let info = Raw::connect(server.port()).api(&format!("STREAM.INFO.{name}"), &json!(null));
    info["config"].clone()
}

fn create(server: &NatsServer, name: &str, config: &Value) {
    let mut config = config.clone();
    config["name"] = json!(name);
    let answer = Raw::connect(server.port()).api(&format!("STREAM.CREATE.{name}"), &config);
    assert!(answer.get("error").is_none(), "{answer}");
}

#[track_caller]
fn assert_members(config: &Value, expected: Value) {
    for (name, value) in expected.as_object().unwrap() {
        // What is off is left out in what the server shows.
        let shown = config.get(name).cloned().unwrap_or(json!(false));
        assert_eq!(&shown, value, "{name} in {config}");
    }
}

#[test]
fn stream_and_bucket_are_made_as_promised() {
    let server = NatsServer::start();
    let prepared = try_prepare(&config(&server.url())).unwrap();
    assert!((prepared.server.major, prepared.server.minor) >= (2, 12));
    assert_eq!((prepared.stream.last_sequence, prepared.snapshots), (0, true));
    assert_eq!(prepared.warnings, [""; 0]);
    assert_members(
        &stream_config(&server, "PERSON_EVENTS"),
        json!({
            "subjects": ["person.events.>", "person.identifiers.*"], "retention": "limits", "storage": "file",
            "discard": "new", "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msgs_per_subject": -1, "deny_delete": true,
            "deny_purge": false, "allow_rollup_hdrs": true, "allow_direct": true, "num_replicas": 1,
            "allow_atomic": true, "compression": "s2",
        }),
    );
    let metadata = stream_config(&server, "PERSON_EVENTS")["metadata"].clone();
    assert_eq!(metadata["person-service.identifier-salt"], prepared.salt.to_string());
    assert_members(
        &stream_config(&server, "KV_PERSON_EVENTS_SNAPSHOTS"),
        json!({
            "subjects": ["$KV.PERSON_EVENTS_SNAPSHOTS.>"], "max_msgs_per_subject": 1, "discard": "new",
            "allow_rollup_hdrs": true, "deny_delete": true, "allow_direct": true,
        }),
    );
}

#[test]
fn preparing_again_changes_nothing() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let first = try_prepare(&config).unwrap();
    let store_connection = open(&config);
    let sequence = store(&mut log(&store_connection, &config), somebody(), 0, b"x");
    let again = try_prepare(&config).unwrap();
    assert_eq!(again.stream.created, first.stream.created);
    assert_eq!(again.stream.last_sequence, sequence);
    let seen = checkup(&store_connection, &config, &again).run(PATIENCE).unwrap();
    assert_eq!((seen.stream, seen.server, seen.domain), (again.stream, again.server, again.domain));
}

#[test]
fn a_stream_made_anew_shows() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let first = try_prepare(&config).unwrap();
    Raw::connect(server.port()).api("STREAM.DELETE.PERSON_EVENTS", &json!(null));
    let missing = checkup(&open(&config), &config, &first).run(PATIENCE).unwrap_err();
    assert!(matches!(missing, CheckError::StreamMissing(_)), "{missing}");
    assert_ne!(try_prepare(&config).unwrap().stream.created, first.stream.created);
}

#[test]
fn replicas_that_start_together_all_succeed() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let barrier = Barrier::new(8);
    let prepared: Vec<Prepared> = std::thread::scope(|scope| {
        let start = || {
            let store = open(&config);
            barrier.wait();
            prepare(&store, &config).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(prepared.iter().all(|one| one.stream == prepared[0].stream && one.snapshots), "{prepared:?}");
    // Each made a salt of its own, and what is there afterwards counts.
    let metadata = stream_config(&server, "PERSON_EVENTS")["metadata"].clone();
    let salt = metadata["person-service.identifier-salt"].as_str().unwrap();
    assert!(prepared.iter().all(|one| one.salt.to_string() == salt), "{salt}: {prepared:?}");
}

#[test]
fn two_streams_have_different_salts() {
    let (one, other) = (NatsServer::start(), NatsServer::start());
    let salt = |server: &NatsServer| try_prepare(&config(&server.url())).unwrap().salt;
    let first = salt(&one);
    assert_ne!(first, salt(&other));
    assert_eq!(first, salt(&one), "a stream keeps its salt");
}

#[test]
fn nothing_is_made_that_may_not_be() {
    let server = NatsServer::start();
    let mut config = config(&server.url());
    config.store.create = false;
    let Err(ProvisionError::Missing(definitions)) = try_prepare(&config) else { panic!("expected both missing") };
    assert_eq!(definitions.len(), 2);
    for definition in &definitions {
        create(&server, &definition.name, &serde_json::from_str(&definition.json).unwrap());
    }
    assert_eq!(try_prepare(&config).unwrap().warnings, [""; 0], "what is made by hand from the JSON will do");
}

#[test]
fn without_snapshots_no_bucket_is_needed() {
    let server = NatsServer::start();
    let mut config = config(&server.url());
    config.snapshot_frequency = 0;
    assert!(!try_prepare(&config).unwrap().snapshots);
    let missing = Raw::connect(server.port()).api("STREAM.INFO.KV_PERSON_EVENTS_SNAPSHOTS", &json!(null));
    assert_eq!(missing["error"]["err_code"], 10059);
}

#[test]
fn a_stream_that_would_lose_commits_is_refused() {
    let server = NatsServer::start();
    create(&server, "PERSON_EVENTS", &json!({ "subjects": ["person.events.>"], "max_age": 3_600_000_000_000_u64 }));
    let Err(error) = try_prepare(&config(&server.url())) else { panic!() };
    let ProvisionError::Unusable { name, faults, .. } = &error else { panic!("{error}") };
    assert_eq!(name, "PERSON_EVENTS");
    for field in ["subjects", "max_age", "allow_direct", "allow_atomic", "allow_rollup_hdrs", "metadata"] {
        assert!(faults.iter().any(|fault| fault.field == field), "no {field} in {faults:?}");
    }
    assert!(error.to_string().contains("set max_age to 0"), "{error}");
}

/// A stream of an older release, or one that an operator made from memory, ended the start with words alone: what mends it
/// had to be put together by hand. What is printed is taken by the server as it is, keeps what is the operator's, and
/// mends everything.
#[test]
fn what_mends_a_stream_is_told_and_mends_it() {
    let operators = json!({ "subjects": ["person.events.>", "audit.of.persons"], "description": "ours",
        "max_bytes": 1_000_000_000, "metadata": { "team": "a" } });
    for changes in [
        json!({}),
        json!({ "subjects": ["person.>"] }),
        json!({ "subjects": ["person.commands.x", "person.events.*", "person.identifiers.*"] }),
        json!({ "allow_atomic": null }),
        json!({ "allow_rollup_hdrs": null }),
        json!({ "allow_direct": null }),
        json!({ "max_age": 3_600_000_000_000_u64 }),
        json!({ "max_msgs_per_subject": 10 }),
        json!({ "discard": "old" }),
        json!({ "retention": "interest" }),
        json!({ "no_ack": true }),
        json!({ "max_msg_size": 1000 }),
        json!({ "subject_transform": { "src": "person.events.*", "dest": "moved.{{wildcard(1)}}" } }),
        json!({ "metadata": { "person-service.identifier-salt": "salt" } }),
    ] {
        let server = NatsServer::start();
        let made = streams::commits(&streams::changed(operators.clone(), &changes));
        streams::create(server.port(), &made);
        let Err(ProvisionError::Unusable { mended: Some(mended), .. }) = try_prepare(&config(&server.url())) else {
            panic!("{changes}")
        };
        if !nats_cli::typed(&mended.command, &mended.json, &[("NATS_URL", &server.url())]) {
            streams::update(server.port(), &serde_json::from_str(&mended.json).unwrap());
        }
        let prepared = try_prepare(&config(&server.url())).unwrap_or_else(|error| panic!("{changes}: {error}"));
        let config = stream_config(&server, "PERSON_EVENTS");
        assert_members(&config, json!({ "description": "ours", "max_bytes": 1_000_000_000 }));
        assert_eq!(config["metadata"]["person-service.identifier-salt"], prepared.salt.to_string());
        let keeps_all = |member: &str| changes.get(member).is_none();
        assert!(!keeps_all("metadata") || config["metadata"]["team"] == "a", "{config}");
        assert!(!keeps_all("subjects") || config["subjects"][1] == "audit.of.persons", "{config}");
    }
}

/// These cannot be changed on a stream that is there, so no configuration is told that would not be taken.
#[test]
fn what_takes_a_new_stream_is_said() {
    for changes in [json!({ "retention": "workqueue" }), json!({ "deny_purge": true, "allow_rollup_hdrs": null })] {
        let server = NatsServer::start();
        streams::create(server.port(), &streams::commits(&changes));
        let error = try_prepare(&config(&server.url())).unwrap_err();
        assert!(matches!(error, ProvisionError::Unusable { mended: None, .. }), "{error}");
        assert!(error.to_string().contains("that takes a new stream"), "{error}");
    }
}

#[test]
fn an_unwise_stream_is_taken_with_warnings() {
    let server = NatsServer::start();
    let unwise = json!({ "storage": "memory", "deny_delete": null, "compression": null });
    streams::create(server.port(), &streams::commits(&unwise));
    let prepared = try_prepare(&config(&server.url())).unwrap();
    assert_eq!(prepared.warnings.len(), 2, "memory, deny_delete: {:?}", prepared.warnings);
}

#[test]
fn subjects_that_another_stream_has_cannot_be_taken() {
    let server = NatsServer::start();
    create(&server, "OTHER", &json!({ "subjects": ["person.>"] }));
    let error = try_prepare(&config(&server.url())).unwrap_err();
    let ProvisionError::NotCreated { name, why, .. } = &error else { panic!("{error}") };
    assert_eq!(name, "PERSON_EVENTS");
    assert!(why.contains("overlap"), "{why}");
}

#[test]
fn an_unusable_bucket_costs_the_snapshots_only() {
    let server = NatsServer::start();
    create(&server, "KV_PERSON_EVENTS_SNAPSHOTS", &json!({ "subjects": ["elsewhere"] }));
    let prepared = try_prepare(&config(&server.url())).unwrap();
    assert!(!prepared.snapshots);
    assert_eq!(prepared.warnings.len(), 1, "{:?}", prepared.warnings);
}

#[test]
fn without_jetstream_the_error_says_so() {
    let server = NatsServer::configured("");
    let error = try_prepare(&config(&server.url())).unwrap_err();
    assert!(matches!(error, ProvisionError::NoJetStream(_)), "{error}");
    assert!(error.to_string().starts_with("JetStream is not available"), "{error}");
}

#[test]
fn without_jetstream_for_the_account_the_error_says_so() {
    let accounts = "accounts { A { users: [{ user: a, password: a }] }, SYS {} }\nsystem_account: SYS\nno_auth_user: a";
    let server = NatsServer::with(accounts);
    let error = try_prepare(&config(&server.url())).unwrap_err();
    assert!(matches!(error, ProvisionError::NoJetStream(_)), "{error}");
}

#[test]
fn an_old_server_is_refused() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let version = Raw::greeting(server.port()).unwrap()["version"].as_str().unwrap().to_owned();
    // Of the same length as what is there: 2.11.9 for 2.15.1, 2.11.99 for 2.12.10.
    let old = format!("2.11.{}", "9".repeat(version.len() - 5));
    proxy.disguise(&version, &old);
    let error = try_prepare(&config(&proxy.url())).unwrap_err();
    assert_eq!(error.to_string(), format!("nats-server {old} is too old: 2.12.0 or newer is needed"));
}

/// The real thing.
#[test]
fn a_really_old_server_is_refused() {
    let Some(binary) = nats_server::too_old("a_really_old_server_is_refused") else { return };
    let server = NatsServer::of(&binary, "jetstream { store_dir: \"$DIR/store\" }");
    let error = try_prepare(&config(&server.url())).unwrap_err();
    assert!(matches!(error, ProvisionError::ServerTooOld { .. }), "{error}");
}

#[test]
fn a_server_that_is_away_is_no_verdict() {
    let mut server = NatsServer::start();
    let config = config(&server.url());
    let store = open(&config);
    server.kill();
    crate::support::eventually("the loss is noticed", || !store.connection().health().connected);
    assert!(matches!(prepare(&store, &config), Err(ProvisionError::Away(_))));
}
