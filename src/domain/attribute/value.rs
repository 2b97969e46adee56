//! What an attribute can say: values of twenty kinds.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::domain::choices::choices;
use crate::domain::invalid::{Invalid, Within, check_length, check_text};
use crate::domain::limits::{JSON_BYTES_MAX, JSON_DEPTH_MAX, TEXT_LIST_ITEMS_MAX, YEAR_MAX, YEAR_MIN};
use crate::domain::value::{Date, PersonId, Timestamp};

/// What an attribute says.
///
/// Numbers that a rule bounds are wider here than the rule, so that one out of its bounds still decodes and is then
/// refused with the rule. Append only: the binary form is the index of the variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub enum AttributeValue {
    /// Free text.
    Text(String),
    /// A finite number.
    Number(f64),
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Boolean(bool),
    /// An instant.
    DateTime(Timestamp),
    /// A day.
    Date(Date),
    /// A month: the year, 1 to 9999, and the month in it, 1 to 12.
    YearMonth(i64, i64),
    /// A year, 1 to 9999.
    Year(i64),
    /// A day that is known only roughly.
    ApproximateDate {
        /// A day in the period meant.
        date: Date,
        /// How long that period is.
        precision: Precision,
    },
    /// A length in metres, above zero.
    Length(f64),
    /// A mass in kilograms, above zero.
    Mass(f64),
    /// A blood group with its Rhesus factor.
    BloodType(BloodType),
    /// A colour of eyes.
    EyeColor(EyeColor),
    /// A colour of hair.
    HairColor(HairColor),
    /// A sex.
    BiologicalSex(BiologicalSex),
    /// The hand that is preferred.
    Handedness(Handedness),
    /// The name or id of a place in some other system.
    LocationReference(String),
    /// Another person.
    PersonReference(PersonId),
    /// Several texts, at most 256.
    TextList(Vec<String>),
    /// Anything that JSON can say.
    Json(JsonValue),
}

choices! {
    /// The kinds of [`AttributeValue`], by the same names.
    ValueKind {
        Text, Number, Integer, Boolean, DateTime, Date, YearMonth, Year, ApproximateDate, Length, Mass, BloodType,
        EyeColor, HairColor, BiologicalSex, Handedness, LocationReference, PersonReference, TextList, Json,
    }

    /// How exactly a date is known.
    Precision { Exact, Month, Year, Decade, Century, }

    /// Blood groups of the AB0 system with the Rhesus factor.
    BloodType {
        APositive, ANegative, BPositive, BNegative, ABPositive, ABNegative, OPositive, ONegative,
    }

    /// Colours of eyes.
    EyeColor { Brown, Blue, Green, Hazel, Gray, Amber, Heterochromia, }

    /// Colours of hair.
    HairColor { Black, Brown, Blonde, Red, Gray, White, Dyed, }

    /// Sexes.
    BiologicalSex { Male, Female, Intersex, }

    /// Which hand is preferred.
    Handedness { Right, Left, Ambidextrous, }
}

impl AttributeValue {
    /// Which kind of value this is.
    pub const fn kind(&self) -> ValueKind {
        match self {
            Self::Text(_) => ValueKind::Text,
            Self::Number(_) => ValueKind::Number,
            Self::Integer(_) => ValueKind::Integer,
            Self::Boolean(_) => ValueKind::Boolean,
            Self::DateTime(_) => ValueKind::DateTime,
            Self::Date(_) => ValueKind::Date,
            Self::YearMonth(..) => ValueKind::YearMonth,
            Self::Year(_) => ValueKind::Year,
            Self::ApproximateDate { .. } => ValueKind::ApproximateDate,
            Self::Length(_) => ValueKind::Length,
            Self::Mass(_) => ValueKind::Mass,
            Self::BloodType(_) => ValueKind::BloodType,
            Self::EyeColor(_) => ValueKind::EyeColor,
            Self::HairColor(_) => ValueKind::HairColor,
            Self::BiologicalSex(_) => ValueKind::BiologicalSex,
            Self::Handedness(_) => ValueKind::Handedness,
            Self::LocationReference(_) => ValueKind::LocationReference,
            Self::PersonReference(_) => ValueKind::PersonReference,
            Self::TextList(_) => ValueKind::TextList,
            Self::Json(_) => ValueKind::Json,
        }
    }

    /// Writes zero without a sign: two numbers are then equal exactly if their binary forms are.
    pub(super) fn normalise(&mut self) -> Result<(), Invalid> {
        match self {
            Self::Text(text) | Self::LocationReference(text) => check_text(text),
            Self::Number(number) => {
                *number += 0.0;
                check_finite(*number)
            }
            Self::Length(number) | Self::Mass(number) => check_positive(*number),
            Self::Year(year) => check_year(*year),
            Self::YearMonth(year, month) => check_year_month(*year, *month),
            Self::TextList(items) => check_text_list(items),
            Self::Json(json) => json.check(),
            Self::Integer(_)
            | Self::Boolean(_)
            | Self::DateTime(_)
            | Self::Date(_)
            | Self::ApproximateDate { .. }
            | Self::BloodType(_)
            | Self::EyeColor(_)
            | Self::HairColor(_)
            | Self::BiologicalSex(_)
            | Self::Handedness(_)
            | Self::PersonReference(_) => Ok(()),
        }
    }
}

/// Anything that JSON can say, at most 16 KiB written compactly and 100 levels deep. JSON passes it through; its binary
/// form is its compact text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonValue(pub serde_json::Value);

impl JsonValue {
    fn check(&self) -> Result<(), Invalid> {
        if depth(&self.0) > JSON_DEPTH_MAX {
            return Err(Invalid::here(format!("must not be nested more than {JSON_DEPTH_MAX} levels deep")));
        }
        if self.0.to_string().len() > JSON_BYTES_MAX {
            return Err(Invalid::here(format!("must have at most {JSON_BYTES_MAX} bytes as compact JSON")));
        }
        Ok(())
    }
}

impl Encode for JsonValue {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.to_string().encode(encoder)
    }
}

impl<Context> Decode<Context> for JsonValue {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let text = String::decode(decoder)?;
        serde_json::from_str(&text).map(Self).map_err(|_| DecodeError::Other("not a JSON text"))
    }
}
bincode::impl_borrow_decode!(JsonValue);

/// Levels of arrays and objects. It recurses no deeper than the reader of JSON that made the value.
fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn check_finite(number: f64) -> Result<(), Invalid> {
    if number.is_finite() { Ok(()) } else { Err(Invalid::here("must be a finite number")) }
}

fn check_positive(number: f64) -> Result<(), Invalid> {
    check_finite(number)?;
    if number > 0.0 { Ok(()) } else { Err(Invalid::here("must be above zero")) }
}

fn check_year(year: i64) -> Result<(), Invalid> {
    if (YEAR_MIN..=YEAR_MAX).contains(&year) {
        return Ok(());
    }
    Err(Invalid::here(format!("the year must be {YEAR_MIN} to {YEAR_MAX}")))
}

fn check_year_month(year: i64, month: i64) -> Result<(), Invalid> {
    check_year(year)?;
    if (1..=12).contains(&month) { Ok(()) } else { Err(Invalid::here("the month must be 1 to 12")) }
}

fn check_text_list(items: &[String]) -> Result<(), Invalid> {
    check_length(items, TEXT_LIST_ITEMS_MAX, "items")?;
    items.iter().enumerate().try_for_each(|(index, item)| check_text(item).within(format_args!("[{index}]")))
}
