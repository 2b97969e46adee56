//! Generators: valid values of every kind, small, and likely to meet one another again.
//!
//! Most are boxed: the types of strategies nested into one another would not fit a test thread's stack.

use cim_domain_person::domain::{
    Attribute, AttributeType, AttributeValue, BiologicalSex, BloodType, Command, Confidence, Date, Event, EyeColor,
    HairColor, Handedness, JsonValue, MergeReason, NameComponents, NamingConvention, PersonId, PersonName, Precision,
    Provenance, Temporal, Text, Timestamp, Transformation, ValueKind, ValueSource,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use uuid::Uuid;

/// One of four persons.
pub fn person_id() -> impl Strategy<Value = PersonId> {
    (1..=4_u128).prop_map(|number| PersonId::from_uuid(Uuid::from_u128(number)))
}

/// From 1953 to 2043, to the microsecond.
pub fn timestamp() -> impl Strategy<Value = Timestamp> {
    (-500_000_000_i64..2_300_000_000, 0..1_000_000_i64)
        .prop_map(|(seconds, micros)| Timestamp::from_micros(seconds * 1_000_000 + micros))
}

/// One of some days around the turn of the century, so that periods meet, or any day at all.
pub fn date() -> impl Strategy<Value = Date> {
    prop_oneof![
        3 => (1..=28_i8).prop_map(|day| Date::new(2000, 1, day).unwrap()),
        1 => (1..=9999_i16, 1..=12_i8, 1..=28_i8).prop_map(|(y, m, d)| Date::new(y, m, d).unwrap()),
    ]
}

/// A name in normal form C, by any convention.
pub fn person_name() -> BoxedStrategy<PersonName> {
    let part = || select(NAME_PARTS).prop_map(Text::from);
    let components = (
        vec(part(), 1..3),
        vec(part(), 0..3),
        option::of(part()),
        option::of(part()),
        vec(part(), 0..2),
        vec(select(&["Jr.", "III", "PhD", "様"][..]).prop_map(Text::from), 0..3),
    )
        .prop_map(|(given_names, family_names, patronymic, matronymic, prefixes, suffixes)| {
            let [given_names, family_names, prefixes, suffixes] =
                [given_names, family_names, prefixes, suffixes].map(|parts| parts.into_iter().collect());
            NameComponents { given_names, family_names, patronymic, matronymic, prefixes, suffixes }
        });
    (components, option::of(part()), select(NamingConvention::ALL))
        .prop_map(|(components, preferred_form, naming_convention)| PersonName {
            components,
            preferred_form,
            naming_convention,
        })
        .boxed()
}

const NAME_PARTS: &[&str] =
    &["Ana", "von", "de la", "Cruz", "山田", "太郎", "김", "민준", "Лев", "Ødegård", "O'Neil", "y", "محمد", "Nguyễn"];

/// A value of a kind.
pub fn attribute_value(kind: ValueKind) -> BoxedStrategy<AttributeValue> {
    match kind {
        ValueKind::Text => text().prop_map(AttributeValue::Text).boxed(),
        ValueKind::Number => number().prop_map(AttributeValue::Number).boxed(),
        ValueKind::Integer => any::<i64>().prop_map(AttributeValue::Integer).boxed(),
        ValueKind::Boolean => any::<bool>().prop_map(AttributeValue::Boolean).boxed(),
        ValueKind::DateTime => timestamp().prop_map(AttributeValue::DateTime).boxed(),
        ValueKind::Date => date().prop_map(AttributeValue::Date).boxed(),
        ValueKind::YearMonth => {
            (1..=9999_i64, 1..=12_i64).prop_map(|(year, month)| AttributeValue::YearMonth(year, month)).boxed()
        }
        ValueKind::Year => (1..=9999_i64).prop_map(AttributeValue::Year).boxed(),
        ValueKind::ApproximateDate => (date(), select(Precision::ALL))
            .prop_map(|(date, precision)| AttributeValue::ApproximateDate { date, precision })
            .boxed(),
        ValueKind::Length => number().prop_map(|number| AttributeValue::Length(number.abs() + 0.25)).boxed(),
        ValueKind::Mass => number().prop_map(|number| AttributeValue::Mass(number.abs() + 0.25)).boxed(),
        ValueKind::BloodType => select(BloodType::ALL).prop_map(AttributeValue::BloodType).boxed(),
        ValueKind::EyeColor => select(EyeColor::ALL).prop_map(AttributeValue::EyeColor).boxed(),
        ValueKind::HairColor => select(HairColor::ALL).prop_map(AttributeValue::HairColor).boxed(),
        ValueKind::BiologicalSex => select(BiologicalSex::ALL).prop_map(AttributeValue::BiologicalSex).boxed(),
        ValueKind::Handedness => select(Handedness::ALL).prop_map(AttributeValue::Handedness).boxed(),
        ValueKind::LocationReference => text().prop_map(AttributeValue::LocationReference).boxed(),
        ValueKind::PersonReference => person_id().prop_map(AttributeValue::PersonReference).boxed(),
        ValueKind::TextList => vec(text(), 0..4).prop_map(AttributeValue::TextList).boxed(),
        ValueKind::Json => json_value().prop_map(|json| AttributeValue::Json(JsonValue(json))).boxed(),
    }
}

/// A type, one of three as often as all the others together, so that attributes of one type meet.
pub fn attribute_type() -> BoxedStrategy<AttributeType> {
    let known: Vec<_> = AttributeType::all_known().collect();
    let few: Vec<_> = known.iter().step_by(15).cloned().collect();
    let custom = (text(), text(), text()).prop_map(|(organization, attribute_name, category)| AttributeType::Custom {
        organization,
        attribute_name,
        category,
    });
    prop_oneof![3 => select(few), 2 => select(known), 1 => custom].boxed()
}

/// An attribute of a type, as it stands in a command.
pub fn attribute_of(attribute_type: AttributeType) -> BoxedStrategy<Attribute> {
    let value = select(attribute_type.value_kinds()).prop_flat_map(attribute_value);
    (value, temporal(), provenance())
        .prop_map(move |(value, temporal, provenance)| Attribute {
            attribute_type: attribute_type.clone(),
            value,
            temporal,
            provenance,
        })
        .boxed()
}

/// An attribute of any type, as it stands in a command.
pub fn attribute() -> BoxedStrategy<Attribute> {
    attribute_type().prop_flat_map(attribute_of).boxed()
}

/// A command that is valid and in its normal form.
pub fn command() -> impl Strategy<Value = Command> {
    person_id().prop_flat_map(command_for)
}

/// A command for one person, valid and in its normal form.
pub fn command_for(person_id: PersonId) -> BoxedStrategy<Command> {
    let updated = attribute_type().prop_flat_map(|of| (Just(of.clone()), attribute_of(of)));
    prop_oneof![
        2 => (person_name(), reason())
            .prop_map(move |(name, source)| Command::CreatePerson { person_id, name: name.into(), source }),
        2 => (person_name(), option::of(reason()))
            .prop_map(move |(name, reason)| Command::UpdateName { person_id, name: name.into(), reason }),
        1 => date().prop_map(move |birth_date| Command::SetBirthDate { person_id, birth_date }),
        1 => date().prop_map(move |date_of_death| Command::RecordDeath { person_id, date_of_death }),
        1 => reason().prop_map(move |reason| Command::DeactivatePerson { person_id, reason }),
        1 => reason().prop_map(move |reason| Command::ReactivatePerson { person_id, reason }),
        1 => merge(person_id),
        1 => reason().prop_map(move |reason| Command::ArchivePerson { person_id, reason }),
        4 => attribute().prop_map(move |attribute| Command::RecordAttribute { person_id, attribute }),
        3 => updated.prop_map(move |(attribute_type, new_attribute)| {
            Command::UpdateAttribute { person_id, attribute_type, new_attribute }
        }),
        2 => (attribute_type(), option::of(reason())).prop_map(move |(attribute_type, reason)| {
            Command::InvalidateAttribute { person_id, attribute_type, reason }
        }),
    ]
    .boxed()
}

fn merge(source_person_id: PersonId) -> impl Strategy<Value = Command> {
    let target = person_id().prop_filter("another person", move |target| *target != source_person_id);
    (target, select(MergeReason::ALL)).prop_map(move |(target_person_id, merge_reason)| Command::MergePersons {
        source_person_id,
        target_person_id,
        merge_reason,
    })
}

/// An event of any kind, with times in no order, whether it fits any state or not.
pub fn event() -> BoxedStrategy<Event> {
    (person_id(), timestamp())
        .prop_flat_map(|(person_id, at)| {
            prop_oneof![
                2 => (person_name(), reason())
                    .prop_map(move |(name, source)| Event::PersonCreated { person_id, name: name.into(), source, created_at: at }),
                1 => (person_name(), person_name(), option::of(reason())).prop_map(move |(old_name, new_name, reason)| {
                    Event::NameUpdated { person_id, old_name: old_name.into(), new_name: new_name.into(), reason, updated_at: at }
                }),
                1 => date().prop_map(move |birth_date| Event::BirthDateSet { person_id, birth_date, set_at: at }),
                1 => date().prop_map(move |date_of_death| {
                    Event::DeathRecorded { person_id, date_of_death, recorded_at: at }
                }),
                1 => reason()
                    .prop_map(move |reason| Event::PersonDeactivated { person_id, reason, deactivated_at: at }),
                1 => reason()
                    .prop_map(move |reason| Event::PersonReactivated { person_id, reason, reactivated_at: at }),
                1 => (self::person_id(), select(MergeReason::ALL)).prop_map(move |(merged_into_id, merge_reason)| {
                    Event::PersonMergedInto { source_person_id: person_id, merged_into_id, merge_reason, merged_at: at }
                }),
                1 => reason().prop_map(move |reason| Event::PersonArchived { person_id, reason, archived_at: at }),
                6 => attribute_event(person_id, at),
            ]
        })
        .boxed()
}

fn attribute_event(person_id: PersonId, at: Timestamp) -> BoxedStrategy<Event> {
    let updated = (attribute_type(), attribute(), attribute());
    prop_oneof![
        3 => attribute().prop_map(move |attribute| Event::AttributeRecorded { person_id, attribute: attribute.into(), recorded_at: at }),
        1 => updated.prop_map(move |(attribute_type, old_attribute, new_attribute)| Event::AttributeUpdated {
            person_id,
            attribute_type,
            old_attribute: old_attribute.into(),
            new_attribute: new_attribute.into(),
            updated_at: at
        }),
        1 => (attribute_type(), option::of(reason())).prop_map(move |(attribute_type, reason)| {
            Event::AttributeInvalidated { person_id, attribute_type, reason, invalidated_at: at }
        }),
    ]
    .boxed()
}

fn temporal() -> BoxedStrategy<Temporal> {
    (option::of(date()), option::of(date()))
        .prop_map(|(one, other)| {
            let (valid_from, valid_until) = match (one, other) {
                (Some(one), Some(other)) => (Some(one.min(other)), Some(one.max(other))),
                open => open,
            };
            Temporal { recorded_at: None, valid_from, valid_until }
        })
        .boxed()
}

fn provenance() -> BoxedStrategy<Provenance> {
    let source = prop_oneof![
        select(&[ValueSource::SelfReported, ValueSource::Measured, ValueSource::DocumentVerified][..]),
        Just(ValueSource::Computed),
        text().prop_map(|system| ValueSource::Imported { system }),
    ];
    let entry = (text(), timestamp(), text()).prop_map(|(transformation, applied_at, applied_by)| Transformation {
        transformation,
        applied_at,
        applied_by,
    });
    (source, select(Confidence::ALL), option::of(text()), vec(entry, 0..3))
        .prop_map(|(source, confidence, recorded_by, trace)| Provenance { source, confidence, recorded_by, trace })
        .boxed()
}

/// Text that says something, in several scripts; short ones are usual, long ones exist.
fn reason() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("because {text}"))
}

fn text() -> BoxedStrategy<String> {
    const CHARACTERS: &[char] =
        &['a', 'Z', '0', ' ', '"', '\\', '/', 'é', 'ß', '漢', '한', '😀', '\u{301}', '\u{200f}'];
    prop_oneof![
        9 => vec(select(CHARACTERS), 0..12).prop_map(String::from_iter),
        1 => vec(select(CHARACTERS), 0..200).prop_map(String::from_iter),
    ]
    .boxed()
}

/// A number that has few digits as text.
fn number() -> impl Strategy<Value = f64> {
    (-4_000_000..4_000_000_i32).prop_map(|quarters| f64::from(quarters) / 4.0)
}

fn json_value() -> BoxedStrategy<serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        number().prop_map(|value| json!(value)),
        text().prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
            vec((text(), inner), 0..4).prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
    .boxed()
}
