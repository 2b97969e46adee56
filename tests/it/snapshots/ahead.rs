//! A snapshot ahead of the log proves that the log lost what it had: for that person alone.

use std::path::Path;
use std::process::Command;

use cim_domain_person::wire::digest::Digest;
use cim_domain_person::wire::snapshot;

use super::{OFTEN, check_shown, forge, get, given, rename, snapshot_of, somebody};
use crate::daemon::client::Client;
use crate::daemon::process::Service;
use crate::support::nats_server::NatsServer;

/// After a cold start the one is damaged, and said to be once, and the other is served.
#[track_caller]
fn check_damaged_alone(server: &NatsServer, damaged: &str, served: &str, version: u64) {
    let mut service = Service::start(&server.url(), &[OFTEN]);
    let mut client = Client::connect(server.port());
    for round in 0..3 {
        let shown = get(&mut client, damaged);
        assert_eq!((&shown["status"], &shown["error"]["code"]), (&"failed".into(), &"history_damaged".into()));
        let reply = client.tell(damaged, &rename(damaged, 99 + round));
        assert_eq!((&reply["status"], &reply["error"]["code"]), (&"failed".into(), &"history_damaged".into()));
        assert_eq!(reply["error"]["retryable"], false);
        check_shown(&get(&mut client, served), version + round, version + round);
        client.accepted(served, &rename(served, version + round + 1));
    }
    service.stop();
    let log = service.log();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{log}");
    assert!(errors[0].contains(damaged) && errors[0].contains("damaged"), "{log}");
}

#[test]
fn a_snapshot_that_was_forged_ahead_of_the_log() {
    let server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[OFTEN]);
    let mut client = Client::connect(server.port());
    let (damaged, served) = (somebody(), somebody());
    given(&mut client, &damaged, 12);
    given(&mut client, &served, 12);
    let mut ahead = snapshot_of(&mut client, &damaged, 12);
    ahead.version += 3;
    ahead.sequence += 100;
    ahead.chain = Digest::of(b"a commit that is lost");
    // Whoever has the person in memory does not need the snapshot.
    check_shown(&get(&mut client, &damaged), 12, 12);
    forge(&mut client, &damaged, &snapshot::encode(damaged.parse().unwrap(), &ahead).unwrap());
    check_shown(&get(&mut client, &damaged), 12, 12);
    service.stop();
    check_damaged_alone(&server, &damaged, &served, 12);
}

#[test]
fn a_log_that_lost_its_tail() {
    let mut server = NatsServer::start();
    let mut service = Service::start(&server.url(), &[OFTEN]);
    let mut client = Client::connect(server.port());
    let (damaged, served) = (somebody(), somebody());
    given(&mut client, &damaged, 12);
    given(&mut client, &served, 12);
    snapshot_of(&mut client, &served, 12);
    service.stop();
    server.kill();
    let stream = server.directory().join("store/jetstream/$G/streams/PERSON_EVENTS");
    let backup = server.directory().join("backup");
    copy(&stream, &backup);
    server.restart();

    let mut service = Service::start(&server.url(), &[OFTEN]);
    let mut client = Client::connect(server.port());
    for version in 13..=22 {
        client.accepted(&damaged, &rename(&damaged, version));
    }
    snapshot_of(&mut client, &damaged, 20);
    service.stop();
    server.kill();
    std::fs::remove_dir_all(&stream).unwrap();
    copy(&backup, &stream);
    server.restart();
    check_damaged_alone(&server, &damaged, &served, 12);
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}
