//! The NATS side, against real servers.

pub mod cluster;
mod event_log;
mod faults;
mod intake;
mod provision;
pub mod sign_in;
mod snapshots;

use std::sync::Arc;
use std::time::Duration;

use cim_domain_person::config::Config;
use cim_domain_person::nats::{Connection, Layout, NatsLog, NatsSnapshots, Store, prepare};

use crate::port_contract::snapshot_version;
use crate::support::{PATIENCE, eventually};

/// An open store connection for this configuration.
fn open(config: &Config) -> Store {
    Store::new(Arc::new(Connection::open(&config.nats, "store").unwrap()))
}

/// The same, with stream and bucket made.
fn prepared(config: &Config) -> Store {
    let store = open(config);
    prepare(&store, config).unwrap();
    store
}

fn log(store: &Store, config: &Config) -> NatsLog {
    impatient_log(store, config, PATIENCE)
}

fn impatient_log(store: &Store, config: &Config, wait_max: Duration) -> NatsLog {
    NatsLog::new(store, &Layout::new(config), wait_max).unwrap()
}

fn snapshots(store: &Store, config: &Config) -> NatsSnapshots {
    NatsSnapshots::new(store, &Layout::new(config), PATIENCE, snapshot_version).unwrap()
}

/// Waits until the connection is there and answers.
#[track_caller]
fn settled(store: &Store) {
    eventually("the store is connected", || store.connection().round_trip(Duration::from_secs(1)));
}
