//! The attributes of one person, in the order in which they were recorded.
//!
//! A working copy of a person shares them until one of both changes, and then shares each attribute that did not. Their
//! size in the binary form is kept up with every change, so that nobody encodes a thousand attributes to learn it.

use std::sync::Arc;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use super::attribute::{Attribute, AttributeType};
use super::binary;
use super::value::Date;

/// The attributes of one person, the latest recorded last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes {
    /// `None` where there is none: most persons then need no memory for it.
    recorded: Option<Arc<Vec<Arc<Attribute>>>>,
    /// The sum of the attributes' own sizes; the list's length comes on top.
    items_bytes: usize,
}

impl Attributes {
    /// How many there are, those that are no longer valid included.
    pub fn len(&self) -> usize {
        self.list().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// All of them, the latest recorded last.
    pub fn iter(&self) -> impl Iterator<Item = &Attribute> {
        self.list().iter().map(Arc::as_ref)
    }

    /// The latest recorded one of a type.
    pub fn latest(&self, of: &AttributeType) -> Option<&Arc<Attribute>> {
        self.list().get(self.latest_place(of)?)
    }

    /// Whether one of a type is valid on a day.
    pub fn is_any_valid_on(&self, of: &AttributeType, day: Date) -> bool {
        self.iter().any(|attribute| is_hit(attribute, of, day))
    }

    /// How many bytes they have in their binary form.
    pub fn encoded_bytes(&self) -> usize {
        binary::encoded_bytes(&self.len()) + self.items_bytes
    }

    pub(super) fn record(&mut self, attribute: Arc<Attribute>) {
        self.items_bytes += binary::encoded_bytes(&attribute);
        Arc::make_mut(self.recorded.get_or_insert_default()).push(attribute);
    }

    /// Puts another attribute in the place of the latest recorded one of a type; nothing where there is none.
    pub(super) fn replace_latest(&mut self, of: &AttributeType, attribute: Arc<Attribute>) {
        let Some(place) = self.latest_place(of) else { return };
        let Self { recorded: Some(recorded), items_bytes } = self else { return };
        if let Some(slot) = Arc::make_mut(recorded).get_mut(place) {
            change(slot, items_bytes, |old| *old = attribute);
        }
    }

    /// Ends, with the day before, the validity of each one of a type that is valid on a day.
    pub(super) fn invalidate(&mut self, of: &AttributeType, day: Date) {
        let Self { recorded: Some(recorded), items_bytes } = self else { return };
        for slot in Arc::make_mut(recorded) {
            if is_hit(slot, of, day) {
                let end = |old: &mut Arc<Attribute>| Arc::make_mut(old).temporal.valid_until = Some(day);
                change(slot, items_bytes, end);
            }
        }
    }

    fn list(&self) -> &[Arc<Attribute>] {
        self.recorded.as_deref().map_or(&[], Vec::as_slice)
    }

    fn latest_place(&self, of: &AttributeType) -> Option<usize> {
        self.list().iter().rposition(|attribute| attribute.attribute_type == *of)
    }
}

fn is_hit(attribute: &Attribute, of: &AttributeType, day: Date) -> bool {
    attribute.attribute_type == *of && attribute.is_valid_on(day)
}

fn change(slot: &mut Arc<Attribute>, items_bytes: &mut usize, how: impl FnOnce(&mut Arc<Attribute>)) {
    let before = binary::encoded_bytes(slot);
    how(slot);
    *items_bytes = *items_bytes - before + binary::encoded_bytes(slot);
}

impl Encode for Attributes {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.list().encode(encoder)
    }
}

impl<Context> Decode<Context> for Attributes {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let recorded: Vec<Arc<Attribute>> = Decode::decode(decoder)?;
        let items_bytes = recorded.iter().map(binary::encoded_bytes).sum();
        Ok(Self { recorded: (!recorded.is_empty()).then(|| Arc::new(recorded)), items_bytes })
    }
}
bincode::impl_borrow_decode!(Attributes);
