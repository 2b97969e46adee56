//! The types of a command's events.

use std::ops::Deref;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use smallvec::SmallVec;

use super::event::EventKind;

/// The types of the events of one command or several, in order. Nearly every command makes one, and each that is
/// remembered has such a list: up to 16 take no memory of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventKinds(SmallVec<[EventKind; 16]>);

impl EventKinds {
    /// Adds one at the end.
    pub fn push(&mut self, kind: EventKind) {
        self.0.push(kind);
    }

    /// Forgets those from this place on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

impl Deref for EventKinds {
    type Target = [EventKind];

    fn deref(&self) -> &[EventKind] {
        &self.0
    }
}

impl FromIterator<EventKind> for EventKinds {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().collect())
    }
}

impl<const N: usize> From<[EventKind; N]> for EventKinds {
    fn from(kinds: [EventKind; N]) -> Self {
        kinds.into_iter().collect()
    }
}

/// In the binary form as any other list.
impl Encode for EventKinds {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.as_slice().encode(encoder)
    }
}

impl<Context> Decode<Context> for EventKinds {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let len = usize::decode(decoder)?;
        // A list that claims more than the decoder may read is refused before it is begun.
        decoder.claim_container_read::<EventKind>(len)?;
        let kinds = (0..len).map(|_| {
            decoder.unclaim_bytes_read(size_of::<EventKind>());
            EventKind::decode(decoder)
        });
        kinds.collect::<Result<_, _>>().map(Self)
    }
}
bincode::impl_borrow_decode!(EventKinds);
