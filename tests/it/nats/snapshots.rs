//! The snapshot bucket on a single server.

use std::sync::Barrier;

use cim_domain_person::engine::ports::SnapshotStore;
use serde_json::json;

use super::{open, prepared, snapshots};
use crate::port_contract::{check_snapshot_store, snapshot_version};
use crate::support::nats_server::NatsServer;
use crate::support::raw::Raw;
use crate::support::{config, somebody};

#[test]
fn keep_to_the_contract() {
    let server = NatsServer::start();
    let config = config(&server.url());
    check_snapshot_store(&mut snapshots(&prepared(&config), &config));
}

#[test]
fn keep_to_the_contract_in_a_domain() {
    let server = NatsServer::with_jetstream("domain: hub", "");
    let mut config = config(&server.url());
    config.nats.jetstream_domain = Some("hub".to_owned());
    check_snapshot_store(&mut snapshots(&prepared(&config), &config));
}

#[test]
fn a_deleted_key_has_no_snapshot_and_takes_a_new_one() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let mut snapshots = snapshots(&prepared(&config), &config);
    let person = somebody();
    let snapshot = |version: u64| version.to_be_bytes().to_vec();
    snapshots.store(person, 7, &snapshot(7)).unwrap();
    let mut raw = Raw::connect(server.port());
    let subject = format!("$KV.PERSON_EVENTS_SNAPSHOTS.v1.{person}");
    raw.stored(&subject, "KV-Operation: DEL\r\n", b"");
    assert_eq!(snapshots.load(&[person]), [None]);
    snapshots.store(person, 3, &snapshot(3)).unwrap();
    assert_eq!(snapshots.load(&[person]), [Some(snapshot(3))]);
}

#[test]
fn without_a_bucket_there_is_none_and_none_is_stored() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let store = prepared(&config);
    Raw::connect(server.port()).api("STREAM.DELETE.KV_PERSON_EVENTS_SNAPSHOTS", &json!(null));
    let mut snapshots = snapshots(&store, &config);
    assert_eq!(snapshots.load(&[somebody()]), [None]);
    assert!(snapshots.store(somebody(), 1, b"x").is_err());
}

/// Many replicas write one person's snapshot at once: what remains is the newest of those that were written, and none
/// was replaced by an older one.
#[test]
fn the_newest_of_many_rivals_remains() {
    let server = NatsServer::start();
    let config = config(&server.url());
    prepared(&config);
    let (person, barrier) = (somebody(), Barrier::new(6));
    std::thread::scope(|scope| {
        for version in 1..=6_u64 {
            let (config, barrier) = (&config, &barrier);
            scope.spawn(move || {
                let mut snapshots = snapshots(&open(config), config);
                barrier.wait();
                // A rival may be so quick so often that this one gives up; a cache may do without.
                while snapshots.store(person, version, &version.to_be_bytes()).is_err() {}
            });
        }
    });
    let loaded = snapshots(&open(&config), &config).load(&[person]).remove(0).unwrap();
    assert_eq!(snapshot_version(&loaded), Some(6));
}
