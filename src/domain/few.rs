//! Lists and texts that are mostly short, kept in place: a person's name then takes one piece of memory instead of five,
//! and all of it is near when it is looked at.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use smol_str::SmolStr;

/// A list of which the first `N` elements need no memory of their own. Written as any other list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Few<T, const N: usize>(SmallVec<[T; N]>);

impl<T, const N: usize> Few<T, N> {
    /// Adds one at the end.
    pub fn push(&mut self, one: T) {
        self.0.push(one);
    }

    /// Forgets those from this place on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

impl<T, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<T, const N: usize> Deref for Few<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const N: usize> DerefMut for Few<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<'a, T, const N: usize> IntoIterator for &'a Few<T, N> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T, const N: usize> FromIterator<T> for Few<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl<T, const N: usize, const LEN: usize> From<[T; LEN]> for Few<T, N> {
    fn from(all: [T; LEN]) -> Self {
        all.into_iter().collect()
    }
}

impl<T: Encode + 'static, const N: usize> Encode for Few<T, N> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.as_slice().encode(encoder)
    }
}

impl<Context, T: Decode<Context>, const N: usize> Decode<Context> for Few<T, N> {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let len = usize::decode(decoder)?;
        // A list that claims more than the decoder may read is refused before it is begun.
        decoder.claim_container_read::<T>(len)?;
        let all = (0..len).map(|_| {
            decoder.unclaim_bytes_read(size_of::<T>());
            T::decode(decoder)
        });
        all.collect::<Result<_, _>>().map(Self)
    }
}

impl<'de, Context, T: Decode<Context>, const N: usize> bincode::BorrowDecode<'de, Context> for Few<T, N> {
    fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// A text that needs no memory of its own while it has at most 23 bytes. Written as any other text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(SmolStr);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<T: Into<SmolStr>> From<T> for Text {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl FromIterator<char> for Text {
    fn from_iter<I: IntoIterator<Item = char>>(chars: I) -> Self {
        Self(chars.into_iter().collect())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Encode for Text {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.as_str().encode(encoder)
    }
}

impl<Context> Decode<Context> for Text {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        String::decode(decoder).map(Self::from)
    }
}
bincode::impl_borrow_decode!(Text);
