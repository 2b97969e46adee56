//! What the tests stand on: real servers, a proxy that does harm, a client without manners.

pub mod nats_server;
pub mod proxy;
pub mod raw;

use std::time::{Duration, Instant};

use cim_domain_person::domain::PersonId;

/// Long enough for anything on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A person that no test has heard of.
pub fn somebody() -> PersonId {
    PersonId::from_uuid(uuid::Uuid::now_v7())
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
