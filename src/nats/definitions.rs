//! What the service's streams are like when it makes them.

use serde_json::{Value, json};

use super::layout::Layout;
use crate::config;
use crate::wire::salt::IdentifierSalt;

/// A stream that an operator has to create, or to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Its configuration in JSON.
    pub json: String,
    /// What an operator types, with that in a file FILE.
    pub command: String,
}

/// The stream of commits, as contract section 1 has it: complete for ever, with purging left open for erasure.
pub(super) fn stream(layout: &Layout, wanted: &config::Store, salt: IdentifierSalt) -> Value {
    json!({
        "name": layout.stream(),
        "subjects": [layout.event_subjects(), layout.identifier_subjects()],
        "retention": "limits",
        "storage": "file",
        "num_replicas": wanted.replicas,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "max_msgs_per_subject": -1,
        "discard": "new",
        "deny_delete": true,
        "deny_purge": false,
        "allow_rollup_hdrs": true,
        "allow_direct": true,
        "allow_atomic": true,
        "compression": "s2",
        "metadata": { IdentifierSalt::METADATA: salt.to_string() },
    })
}

/// A salt that no stream has had yet.
pub(super) fn new_salt() -> IdentifierSalt {
    IdentifierSalt::from_bytes(rand::random())
}

/// The snapshot bucket: a KV bucket as all clients know it, one value a key. It names no duplicate window, so that the
/// server gives it the usual one, or as much of that as a limit of its own allows.
pub(super) fn bucket(layout: &Layout, replicas: u8) -> Value {
    json!({
        "name": layout.bucket_stream(),
        "subjects": [layout.bucket_subjects()],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_rollup_hdrs": true,
        "deny_delete": true,
        "deny_purge": false,
        "allow_direct": true,
        "compression": "s2",
    })
}
