//! The ports in memory keep the contract that the ports on NATS keep.

use cim_domain_person::memory::{MemoryLog, MemorySnapshots};

use crate::port_contract::{check_event_log, check_snapshot_store, snapshot_version};

#[test]
fn the_log_in_memory_keeps_the_contract() {
    check_event_log(&mut MemoryLog::new());
}

#[test]
fn the_snapshots_in_memory_keep_the_contract() {
    check_snapshot_store(&mut MemorySnapshots::with_versions(snapshot_version));
}
