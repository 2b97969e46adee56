//! The hash that chains commits and tells commands apart: the first 16 bytes of BLAKE3, in hex as text.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::domain::from_text;

/// The first 16 bytes of a BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest([u8; 16]);

impl Digest {
    /// What stands where there is nothing before: 32 zeros.
    pub const ZERO: Self = Self([0; 16]);

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
        self.0
    }

    /// The digest with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A part of it, to tell most others apart by.
    pub const fn mark(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// The digest of what `value` encodes to in the service's own binary encoding.
    pub fn of_encoded(value: &impl Encode) -> Self {
        // To hash it piece by piece, as it is encoded, would take longer. More than most commands have:
        const COMMAND_BYTES: usize = 256;
        let mut bytes = Vec::with_capacity(COMMAND_BYTES);
        match bincode::encode_into_std_write(value, &mut bytes, bincode::config::standard()) {
            Ok(_) => Self::of(&bytes),
            // Our encoders refuse nothing; should that change, the digest of nothing is one that no command has.
            Err(_) => Self::ZERO,
        }
    }

    fn from_hash(hash: blake3::Hash) -> Self {
        let mut first = [0; 16];
        first.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
        Self(first)
    }

    /// The same 16 bytes as a UUID has: that is who reads and writes hexadecimal digits here.
    const fn digits(self) -> uuid::fmt::Simple {
        Uuid::from_bytes(self.0).simple()
    }
}

/// As the number that the bytes are, the first of them the highest.
impl Encode for Digest {
    fn encode<E: bincode::enc::Encoder>(&self, encoder: &mut E) -> Result<(), bincode::error::EncodeError> {
        u128::from_be_bytes(self.0).encode(encoder)
    }
}

impl<Context> Decode<Context> for Digest {
    fn decode<D: bincode::de::Decoder<Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        u128::decode(decoder).map(|number| Self(number.to_be_bytes()))
    }
}
bincode::impl_borrow_decode!(Digest);

/// The text is not 32 hexadecimal digits in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        // Of 32 characters it takes hexadecimal digits alone, but also those in upper case.
        let shaped = text.len() == uuid::fmt::Simple::LENGTH && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let digits = shaped.then(|| Uuid::try_parse(text).ok()).flatten().ok_or(NotADigest)?;
        Ok(Self(digits.into_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digits().fmt(f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.digits().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}
