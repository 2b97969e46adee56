//! What JetStream says of our account: its limits, how much of them is used, and whether a stream could be created.
//!
//! nats-server has no way to try that without doing it. What can be foreseen from the account's limits is said in the
//! server's own words, so that `doctor` beforehand and the start afterwards say the same.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::api::ApiError;

/// A stream has to say how large it may become.
pub(super) const MAX_BYTES_REQUIRED: u16 = 10113;

/// How large a stream and a bucket are proposed to be where the account has no limit of its own, in bytes.
const COMMITS_BYTES_PROPOSED: u64 = 10 << 30;
const SNAPSHOTS_BYTES_PROPOSED: u64 = 1 << 30;

/// Which part of what is left of the account each gets, where it has a limit: three quarters and an eighth.
const COMMITS_EIGHTHS: u64 = 6;
const SNAPSHOTS_EIGHTHS: u64 = 1;

/// An account has limits of its own for each number of copies, or one for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Account {
    #[serde(flatten)]
    whole: Tier,
    tiers: BTreeMap<String, Tier>,
}

/// Limits, and what is used of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Tier {
    /// Bytes stored in files.
    pub storage: u64,
    /// Bytes that streams with `max_bytes` have set aside in files.
    pub reserved_storage: u64,
    /// Streams.
    pub streams: u64,
    limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Limits {
    max_storage: i64,
    max_streams: i64,
    storage_max_stream_bytes: i64,
    max_bytes_required: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_storage: -1, max_streams: -1, storage_max_stream_bytes: -1, max_bytes_required: false }
    }
}

impl Tier {
    /// The most that may be stored in files, in bytes; `None` for no limit.
    pub fn storage_max(&self) -> Option<u64> {
        u64::try_from(self.limits.max_storage).ok()
    }

    /// The most streams; `None` for no limit. nats-server takes 0 for none, too.
    fn streams_max(&self) -> Option<u64> {
        u64::try_from(self.limits.max_streams).ok().filter(|max| *max > 0)
    }

    /// The largest `max_bytes` of one stream; `None` for no limit.
    fn stream_bytes_max(&self) -> Option<u64> {
        u64::try_from(self.limits.storage_max_stream_bytes).ok().filter(|max| *max > 0)
    }
}

impl Account {
    /// What JetStream's answer says; `None` when it makes no sense.
    pub fn read(info: &Value) -> Option<Self> {
        serde_json::from_value(info.clone()).ok()
    }

    /// The limits for streams with so many copies.
    pub fn tier(&self, copies: u64) -> Option<&Tier> {
        if self.tiers.is_empty() { Some(&self.whole) } else { self.tiers.get(&format!("R{copies}")) }
    }

    /// Why the server would not create this stream, in its words, as far as that can be foreseen. `alone`: it is known to
    /// be of no cluster.
    pub fn refuses(&self, definition: &Value, alone: bool) -> Option<String> {
        let copies = copies_of(definition);
        if alone && copies > 1 {
            return Some(words(500, 10074, "replicas > 1 not supported in non-clustered mode"));
        }
        let max_bytes = definition.get("max_bytes").and_then(Value::as_u64).unwrap_or(0);
        let Some(tier) = self.tier(copies) else {
            return Some(words(400, 10120, "no JetStream default or applicable tiered limit present"));
        };
        let (code, err_code, description) = if tier.limits.max_bytes_required && max_bytes == 0 {
            (400, MAX_BYTES_REQUIRED, "account requires a stream config to have max bytes set")
        } else if tier.stream_bytes_max().is_some_and(|max| max_bytes > max) {
            (400, 10122, "stream max bytes exceeds account limit max stream bytes")
        } else if tier.streams_max().is_some_and(|max| tier.streams >= max) {
            (400, 10027, "maximum number of streams reached")
        } else if tier.storage_max().is_some_and(|max| tier.reserved_storage.saturating_add(max_bytes.max(1)) > max) {
            (500, 10047, "insufficient storage resources available")
        } else {
            return None;
        };
        Some(words(code, err_code, description))
    }

    /// The definition of a stream with a `max_bytes`, where the account demands one; nothing else of it changes.
    pub fn as_demanded(&self, mut definition: Value, kept: Share) -> Value {
        let tier = self.tier(copies_of(&definition)).cloned().unwrap_or_default();
        if !tier.limits.max_bytes_required {
            return definition;
        }
        let (proposed, eighths) = match kept {
            Share::Commits => (COMMITS_BYTES_PROPOSED, COMMITS_EIGHTHS),
            Share::Snapshots => (SNAPSHOTS_BYTES_PROPOSED, SNAPSHOTS_EIGHTHS),
        };
        let left = tier.storage_max().map(|max| max.saturating_sub(tier.reserved_storage) / 8 * eighths);
        let bytes = left.unwrap_or(proposed).min(tier.stream_bytes_max().unwrap_or(u64::MAX)).max(1);
        if let Some(members) = definition.as_object_mut() {
            members.insert("max_bytes".to_owned(), json!(bytes));
        }
        definition
    }
}

/// What is to share the account's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The stream of commits.
    Commits,
    /// The bucket of snapshots.
    Snapshots,
}

fn copies_of(definition: &Value) -> u64 {
    definition.get("num_replicas").and_then(Value::as_u64).unwrap_or(1)
}

fn words(code: u16, err_code: u16, description: &str) -> String {
    ApiError { code, err_code, description: description.to_owned() }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(limits: Value) -> Account {
        let info = json!({"storage": 500, "reserved_storage": 200, "streams": 2, "limits": limits});
        Account::read(&info).expect("an account")
    }

    #[test]
    fn what_the_account_does_not_let_be_created_is_foreseen() {
        let stream = json!({"num_replicas": 1, "max_bytes": -1});
        let refuses = |limits: Value| account(limits).refuses(&stream, true).unwrap_or_default();
        assert_eq!(refuses(json!({})), "");
        assert_eq!(refuses(json!({"max_streams": 0, "max_storage": -1, "storage_max_stream_bytes": 5})), "");
        assert!(refuses(json!({"max_bytes_required": true})).contains("to have max bytes set (400, 10113)"));
        assert!(refuses(json!({"max_streams": 2})).contains("(400, 10027)"));
        assert!(refuses(json!({"max_storage": 200})).contains("(500, 10047)"));
        assert_eq!(refuses(json!({"max_storage": 201})), "");
        let tiered = json!({"tiers": {"R3": {"streams": 1, "limits": {"max_streams": 5}}}});
        let tiered = Account::read(&tiered).expect("an account");
        assert_eq!(tiered.refuses(&json!({"num_replicas": 3}), false), None);
        assert!(tiered.refuses(&json!({"num_replicas": 3}), true).expect("no cluster").contains("10074"));
        assert!(tiered.refuses(&stream, true).expect("no tier").contains("10120"));
    }

    #[test]
    fn what_is_proposed_is_within_the_limits() {
        let undemanding = account(json!({"max_storage": 1000}));
        assert_eq!(undemanding.as_demanded(json!({"max_bytes": -1}), Share::Commits), json!({"max_bytes": -1}));
        let proposed = |limits: Value, share| {
            let account = account(limits);
            let mended = account.as_demanded(json!({"num_replicas": 1, "max_bytes": -1, "name": "X"}), share);
            assert_eq!(account.refuses(&mended, true), None, "{mended}");
            mended["max_bytes"].as_u64().expect("a number")
        };
        let demanding = json!({"max_bytes_required": true});
        assert_eq!(proposed(demanding.clone(), Share::Commits), COMMITS_BYTES_PROPOSED);
        assert_eq!(proposed(demanding, Share::Snapshots), SNAPSHOTS_BYTES_PROPOSED);
        let limited = json!({"max_bytes_required": true, "max_storage": 8200});
        assert_eq!((proposed(limited.clone(), Share::Commits), proposed(limited, Share::Snapshots)), (6000, 1000));
        assert_eq!(proposed(json!({"max_bytes_required": true, "storage_max_stream_bytes": 77}), Share::Commits), 77);
    }
}
