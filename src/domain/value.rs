//! Identities and times: the small values that everything else is made of.
//!
//! Each has one text form (JSON, logs, subjects) and one compact binary form (snapshots, digests).

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use bincode::{Decode, Encode};
use jiff::{civil, tz::Offset};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// The identity of a person: a UUID of any version, written hyphenated and in lower case.
///
/// In two halves, the high one first: one number of 128 bits would have all that holds an id begin at multiples of 16
/// bytes, which costs the allocator more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonId(u64, u64);

impl PersonId {
    /// The person with this UUID.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        let (high, low) = uuid.as_u64_pair();
        Self(high, low)
    }

    /// The UUID itself.
    pub const fn uuid(self) -> Uuid {
        Uuid::from_u64_pair(self.0, self.1)
    }
}

impl Encode for PersonId {
    fn encode<E: bincode::enc::Encoder>(&self, encoder: &mut E) -> Result<(), bincode::error::EncodeError> {
        self.uuid().as_u128().encode(encoder)
    }
}

impl<Context> Decode<Context> for PersonId {
    fn decode<D: bincode::de::Decoder<Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        Ok(Self::from_uuid(Uuid::from_u128(Decode::decode(decoder)?)))
    }
}
bincode::impl_borrow_decode!(PersonId);

/// The text is not a UUID in its hyphenated form of 36 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a UUID in its hyphenated form")]
pub struct NotAUuid;

impl FromStr for PersonId {
    type Err = NotAUuid;

    /// Takes the hyphenated form alone, in any case; the other forms that UUID libraries accept are refused, so that
    /// an id has one spelling in subjects and logs.
    fn from_str(text: &str) -> Result<Self, NotAUuid> {
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == uuid::fmt::Hyphenated::LENGTH => Ok(Self::from_uuid(uuid)),
            _ => Err(NotAUuid),
        }
    }
}

/// An instant in UTC with a resolution of one microsecond, from year -9999 to 9999; RFC 3339 as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant this many microseconds after 1970-01-01T00:00:00Z, brought into the representable range.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(jiff::Timestamp::MIN.as_microsecond(), jiff::Timestamp::MAX.as_microsecond()))
    }

    /// Microseconds since 1970-01-01T00:00:00Z; negative before.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The system clock's instant. For the edge of the service alone: nothing below it reads a clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// The day on which this instant falls in UTC.
    pub fn utc_date(self) -> Date {
        Date(Offset::UTC.to_datetime(self.to_jiff()).date())
    }

    /// The latest day that it is anywhere on Earth at this instant (UTC+14, Line Islands): what is after it lies in the
    /// future for everybody.
    pub fn latest_date_on_earth(self) -> Date {
        Date(Offset::constant(14).to_datetime(self.to_jiff()).date())
    }

    /// This instant moved by `micros`, brought into the representable range.
    pub fn plus_micros(self, micros: i64) -> Self {
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// This instant moved back by `micros`, brought into the representable range.
    pub fn minus_micros(self, micros: u64) -> Self {
        Self::from_micros(self.0.saturating_sub_unsigned(micros))
    }

    /// How many microseconds passed since an earlier instant; 0 since a later one.
    pub fn micros_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }

    fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::MAX)
    }
}

/// The text is not an RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an RFC 3339 time such as 2026-01-31T12:00:00Z")]
pub struct NotATime;

impl FromStr for Timestamp {
    type Err = NotATime;

    /// Takes any offset and keeps the instant; digits beyond the microsecond are cut off.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        text.parse::<jiff::Timestamp>().map(|time| Self(time.as_microsecond())).map_err(|_| NotATime)
    }
}

/// A day of the proleptic Gregorian calendar, years 1 to 9999; `YYYY-MM-DD` as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(civil::Date);

impl Date {
    /// The day with this year, month and day; `None` when the calendar has no such day or the year is not 1 to 9999.
    pub fn new(year: i16, month: i8, day: i8) -> Option<Self> {
        civil::Date::new(year, month, day).ok().filter(|date| date.year() >= 1).map(Self)
    }

    /// The year, 1 to 9999.
    pub fn year(self) -> i16 {
        self.0.year()
    }
}

/// The text is not a day of the calendar in the form `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a date in the form YYYY-MM-DD")]
pub struct NotADate;

impl FromStr for Date {
    type Err = NotADate;

    fn from_str(text: &str) -> Result<Self, NotADate> {
        let shaped = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        let date = shaped.then(|| text.parse::<civil::Date>().ok()).flatten().ok_or(NotADate)?;
        Self::new(date.year(), date.month(), date.day()).ok_or(NotADate)
    }
}

impl Encode for Date {
    fn encode<E: bincode::enc::Encoder>(&self, encoder: &mut E) -> Result<(), bincode::error::EncodeError> {
        (self.0.year(), self.0.month(), self.0.day()).encode(encoder)
    }
}

impl<Context> Decode<Context> for Date {
    fn decode<D: bincode::de::Decoder<Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, bincode::error::DecodeError> {
        let (year, month, day) = Decode::decode(decoder)?;
        Self::new(year, month, day).ok_or(bincode::error::DecodeError::Other("no such date"))
    }
}
bincode::impl_borrow_decode!(Date);

/// Reads a member whose absence means the type's default, and null as absence.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a value from its text form, which is not copied for that.
pub fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    struct Text<T>(PhantomData<T>);

    impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(PhantomData))
}

/// Text forms for JSON and logs: one by `Display`, and the same in one piece for serde.
macro_rules! as_text {
    ($($value:ty: |$self:ident| $display:expr, |$serializer:ident| $serialized:expr;)*) => {$(
        impl fmt::Display for $value {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $self = self;
                $display.fmt(f)
            }
        }

        impl fmt::Debug for $value {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $value {
            fn serialize<S: Serializer>(&self, $serializer: S) -> Result<S::Ok, S::Error> {
                let $self = self;
                $serialized
            }
        }

        impl<'de> Deserialize<'de> for $value {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer)
            }
        }
    )*};
}

as_text! {
    PersonId: |id| id.uuid().as_hyphenated(), |serializer| id.uuid().as_hyphenated().serialize(serializer);
    Timestamp: |time| time.to_jiff(), |serializer| serializer.collect_str(&time.to_jiff());
    Date: |date| date.0, |serializer| serializer.collect_str(&date.0);
}
