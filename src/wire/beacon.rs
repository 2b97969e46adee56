//! What replicas say to each other on `P.intake.beacon`: that they are there.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::wire::parcel::PROTOCOL;

/// The largest beacon, in bytes.
pub const BEACON_BYTES_MAX: usize = 1024;

/// A replica, by the id that it makes at its start: 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "&str", into = "String")]
pub struct ReplicaId(Uuid);

impl ReplicaId {
    /// The replica with these bits.
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// Its bits.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<ReplicaId> for String {
    fn from(id: ReplicaId) -> Self {
        id.to_string()
    }
}

impl TryFrom<&str> for ReplicaId {
    type Error = &'static str;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let is_canonical = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match Uuid::try_parse(text) {
            Ok(id) if is_canonical => Ok(Self(id)),
            _ => Err("32 hexadecimal digits in lower case"),
        }
    }
}

/// Whether commands are to be handed to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// They are.
    Serving,
    /// Not any more, or not now.
    Leaving,
}

/// That a replica is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// Who says it.
    pub replica: ReplicaId,
    /// Its release, for people.
    pub version: String,
    /// The form in which it hands over and takes; see [`PROTOCOL`].
    pub protocol: u8,
    /// The name of the NATS cluster that it is connected to; empty for a server that is in none.
    pub cluster: String,
    /// Whether it takes commands.
    pub state: Presence,
    /// Its beacons, counted from 1.
    pub beat: u64,
}

impl Beacon {
    /// Reads what arrived; `None` for anything else than a beacon. What later releases add is passed over.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        if payload.len() > BEACON_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(payload).ok()
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Text and numbers: there is nothing in it that JSON cannot say.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether commands can be handed over between the one who says it and a replica in this cluster.
    pub fn is_of(&self, cluster: &str) -> bool {
        self.protocol == PROTOCOL && self.cluster == cluster
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beacon() -> Beacon {
        Beacon {
            replica: ReplicaId::from_u128(0xf3),
            version: "0.1.0".to_owned(),
            protocol: PROTOCOL,
            cluster: "C1".to_owned(),
            state: Presence::Leaving,
            beat: 7,
        }
    }

    #[test]
    fn it_is_read_as_it_was_written_and_more_is_passed_over() {
        let json = String::from_utf8(beacon().encode()).expect("text");
        let expected = r#"{"replica":"000000000000000000000000000000f3","version":"0.1.0","protocol":1,"cluster":"C1","state":"leaving","beat":7}"#;
        assert_eq!(json, expected);
        assert_eq!(Beacon::decode(json.as_bytes()), Some(beacon()));
        assert_eq!(Beacon::decode(json.replace('}', r#","more":[1]}"#).as_bytes()), Some(beacon()));
    }

    #[test]
    fn anything_else_is_none() {
        let json = String::from_utf8(beacon().encode()).expect("text");
        for (part, other) in [
            ("000000f3", "000000F3"),
            ("000000f3", "00000f3"),
            ("leaving", "asleep"),
            (r#""beat":7"#, r#""beat":-1"#),
            (r#""protocol":1"#, r#""protocol":256"#),
            (r#","beat":7"#, ""),
            ("C1", &"c".repeat(BEACON_BYTES_MAX)),
        ] {
            assert_eq!(Beacon::decode(json.replace(part, other).as_bytes()), None, "{other}");
        }
        assert_eq!(Beacon::decode(b""), None);
    }
}
