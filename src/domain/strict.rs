//! Decoding what strangers send: strictly, and without repeating any of it.
//!
//! serde's own errors quote what they found, which may be personal data on its way into a log, and a type is either
//! strict about unknown members everywhere or nowhere, while the same names and attributes stand in commands (strict)
//! and in events (where a later release may have added members). So this reader of a [`Value`] refuses what the types
//! would ignore, and its error names the place and what was expected, nothing else.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::CowStrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json_borrow::{Number, Value};

use super::invalid::joined;

/// Reads a value of any type that strangers may send, strictly.
///
/// # Errors
/// The value has not the shape of the type; the error names the place and quotes nothing.
pub fn from_json<T: de::DeserializeOwned>(sent: Value<'_>) -> Result<T, Malformed> {
    T::deserialize(Sent(sent, Others::Refused))
}

/// Looks into something stored that did not decode for a variant that `T` does not know: its name, presentable, and where
/// it stands. A later release wrote it then. Members that are not known are nothing of the kind.
pub fn unknown_variant<T: de::DeserializeOwned>(stored: Value<'_>) -> Option<(String, String)> {
    let malformed = T::deserialize(Sent(stored, Others::Ignored)).err()?;
    Some((malformed.unknown_variant?, malformed.field))
}

/// What becomes of members that a type does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// As in what strangers send.
    Refused,
    /// As in what is stored.
    Ignored,
}

/// What was sent has not the shape of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The path of the member that is wrong, such as `name.components`; empty for the whole.
    pub field: String,
    /// What is wrong with it. Never the value, which may be personal.
    pub problem: String,
    /// The name of the variant that is not known, where that is what is wrong.
    unknown_variant: Option<String>,
}

impl Malformed {
    fn here(problem: impl Into<String>) -> Self {
        Self { field: String::new(), problem: problem.into(), unknown_variant: None }
    }

    fn within(self, parent: impl fmt::Display) -> Self {
        Self { field: joined(&parent, &self.field), ..self }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.problem),
            field => write!(f, "{field}: {}", self.problem),
        }
    }
}

impl std::error::Error for Malformed {}

impl de::Error for Malformed {
    /// The types of the domain say here what they expected; none of them quotes what it got.
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::here(problem.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::here(format!("expected {}, not {}", wanted(expected), shape(found)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::here(format!("expected {}", wanted(expected)))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::here(format!("expected {expected}, not {length}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let problem = format!("expected one of {}", expected.join(", "));
        Self { unknown_variant: Some(presentable_variant(variant).to_owned()), ..Self::here(problem) }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::here("is missing").within(field)
    }
}

/// A value as it was sent.
pub(super) struct Sent<'de>(pub(super) Value<'de>, pub(super) Others);

impl<'de> Deserializer<'de> for Sent<'de> {
    type Error = Malformed;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(value) => visit_number(&value, visitor),
            Value::Str(Cow::Borrowed(value)) => visitor.visit_borrowed_str(value),
            Value::Str(Cow::Owned(value)) => visitor.visit_string(value),
            Value::Array(items) => visit_items(items, self.1, visitor),
            Value::Object(members) => visitor.visit_map(Members::of(members.into_vec(), self.1)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Malformed> {
        visitor.visit_newtype_struct(self)
    }

    /// Members have names here; serde alone would also take them by position.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        visitor.visit_map(Members::of(object(self.0)?, self.1))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        let (name, content) = match self.0 {
            Value::Str(name) => (name, None),
            other => {
                let mut members = object(other)?.into_iter();
                match (members.next(), members.next()) {
                    (Some((name, content)), None) => (name, Some(content)),
                    _ => return Err(Malformed::here("expected an object with a single member")),
                }
            }
        };
        visitor.visit_enum(Variant { name, content, others: self.1 })
    }

    /// Derived code skips the value of a member that it does not know by this.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        match self.1 {
            Others::Refused => Err(Malformed::here("unknown field")),
            Others::Ignored => visitor.visit_unit(),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}

/// A member with its name.
type Member<'de> = (Cow<'de, str>, Value<'de>);

/// The members of an object, in order.
struct Members<'de> {
    rest: std::vec::IntoIter<Member<'de>>,
    current: Option<Member<'de>>,
    others: Others,
}

impl<'de> Members<'de> {
    fn of(members: Vec<Member<'de>>, others: Others) -> Self {
        Self { rest: members.into_iter(), current: None, others }
    }
}

impl<'de> de::MapAccess<'de> for Members<'de> {
    type Error = Malformed;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Malformed> {
        self.current = self.rest.next();
        let Some((name, _)) = &self.current else { return Ok(None) };
        let name: CowStrDeserializer<'_, Malformed> = Cow::Borrowed(name.as_ref()).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Malformed> {
        let Some((name, value)) = self.current.take() else { return Err(Malformed::here("a value without a name")) };
        seed.deserialize(Sent(value, self.others)).map_err(|malformed| malformed.within(presentable(&name)))
    }
}

/// The elements of an array, in order.
struct Items<'de> {
    rest: std::vec::IntoIter<Value<'de>>,
    index: usize,
    others: Others,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Malformed;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Malformed> {
        let Some(value) = self.rest.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        let item = seed.deserialize(Sent(value, self.others));
        item.map(Some).map_err(|malformed| malformed.within(format_args!("[{index}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The chosen variant of an enum, with what belongs to it.
struct Variant<'de> {
    name: Cow<'de, str>,
    content: Option<Value<'de>>,
    others: Others,
}

impl<'de> de::EnumAccess<'de> for Variant<'de> {
    type Error = Malformed;
    type Variant = Sent<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Sent<'de>), Malformed> {
        let name: CowStrDeserializer<'_, Malformed> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, Sent(self.content.unwrap_or(Value::Null), self.others)))
    }
}

impl<'de> de::VariantAccess<'de> for Sent<'de> {
    type Error = Malformed;

    fn unit_variant(self) -> Result<(), Malformed> {
        if self.0.is_null() { Ok(()) } else { Err(Malformed::here("expected the name alone")) }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Malformed> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Malformed> {
        match self.0 {
            Value::Array(items) => visit_items(items, self.1, visitor),
            _ => Err(Malformed::here("expected an array")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Malformed> {
        visitor.visit_map(Members::of(object(self.0)?, self.1))
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: &Number, visitor: V) -> Result<V::Value, Malformed> {
    match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(value), _, _) => visitor.visit_u64(value),
        (None, Some(value), _) => visitor.visit_i64(value),
        (None, None, Some(value)) => visitor.visit_f64(value),
        (None, None, None) => Err(Malformed::here("the number does not fit 64 bits")),
    }
}

fn visit_items<'de, V: Visitor<'de>>(
    items: Vec<Value<'de>>,
    others: Others,
    visitor: V,
) -> Result<V::Value, Malformed> {
    let mut items = Items { rest: items.into_iter(), index: 0, others };
    let value = visitor.visit_seq(&mut items)?;
    if items.rest.len() == 0 { Ok(value) } else { Err(Malformed::here("has too many elements")) }
}

fn object(value: Value<'_>) -> Result<Vec<Member<'_>>, Malformed> {
    match value {
        Value::Object(members) => Ok(members.into_vec()),
        _ => Err(Malformed::here("expected an object")),
    }
}

/// serde's names of Rust's types, in words.
fn wanted(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "i64" => "a whole number that fits 64 bits".to_owned(),
        "f64" => "a number".to_owned(),
        "a sequence" => "an array".to_owned(),
        other => other.to_owned(),
    }
}

fn shape(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Seq => "an array",
        Unexpected::Map => "an object",
        Unexpected::Unit | Unexpected::Option => "null",
        _ => "this",
    }
}

/// The name of a variant of a later release is told to people; anything else that stands in its place could be data, or a
/// joke on the log.
pub fn presentable_variant(name: &str) -> &str {
    let plain = name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    if plain && name.starts_with(|first: char| first.is_ascii_uppercase()) { name } else { "(another name)" }
}

/// A name that somebody could take for one of our members is told back; one that could be data or a joke on the log is
/// not.
fn presentable(name: &str) -> &str {
    let plain = name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if plain && name.starts_with(|first: char| first.is_ascii_lowercase()) { name } else { "(another name)" }
}
