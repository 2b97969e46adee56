//! The hash that chains commits and tells commands apart: the first 16 bytes of BLAKE3, in hex as text.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The first 16 bytes of a BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct Digest(u128);

impl Digest {
    /// What stands where there is nothing before: 32 zeros.
    pub const ZERO: Self = Self(0);

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(blake3::hash(bytes))
    }

    /// The digest of these parts, one after the other.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        parts.iter().for_each(|part| {
            hasher.update(part);
        });
        Self::from_hash(hasher.finalize())
    }

    /// The 16 bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The digest with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// A part of it, to tell most others apart by.
    pub const fn mark(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// The digest of what `value` encodes to in the service's own binary encoding.
    pub fn of_encoded(value: &impl Encode) -> Self {
        let mut hasher = HashWriter(blake3::Hasher::new());
        match bincode::encode_into_writer(value, &mut hasher, bincode::config::standard()) {
            Ok(()) => Self::from_hash(hasher.0.finalize()),
            // The writer takes everything and our encoders refuse nothing; should that change, the digest of nothing
            // is one that no command has.
            Err(_) => Self::ZERO,
        }
    }

    fn from_hash(hash: blake3::Hash) -> Self {
        let mut first = [0; 16];
        first.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
        Self(u128::from_be_bytes(first))
    }
}

struct HashWriter(blake3::Hasher);

impl bincode::enc::write::Writer for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.update(bytes);
        Ok(())
    }
}

/// The text is not 32 hexadecimal digits in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let shaped = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !shaped {
            return Err(NotADigest);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| NotADigest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
