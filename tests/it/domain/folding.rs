//! Given these events, that is the person, and that is what a query shows.

use cim_domain_person::domain::{
    Attribute, AttributeType, AttributeValue, Event, Lifecycle, MergeReason, Person, PersonView, PhysicalType,
};
use serde_json::json;

use super::{ANN, BOB, NATIONAL_ID, attribute, day, folded, id, name, national_id, time};

const FIRST: &str = "2020-01-01T10:00:00Z";
const LATER: &str = "2021-06-30T23:30:00Z";

fn created() -> Event {
    Event::PersonCreated {
        person_id: id(ANN),
        name: name("Ann", "Lee").into(),
        source: "import".to_owned(),
        created_at: time(FIRST),
    }
}

fn recorded(attribute: Attribute) -> Event {
    Event::AttributeRecorded { person_id: id(ANN), attribute: attribute.into(), recorded_at: time(FIRST) }
}

fn invalidated(at: &str) -> Event {
    Event::AttributeInvalidated {
        person_id: id(ANN),
        attribute_type: NATIONAL_ID,
        reason: None,
        invalidated_at: time(at),
    }
}

/// The person after the creation and these events.
fn person(events: &[Event]) -> Person {
    folded([&created()].into_iter().chain(events)).unwrap()
}

fn attributes(person: &Person) -> Vec<Attribute> {
    person.attributes.iter().cloned().collect()
}

#[test]
fn a_person_begins_with_the_creation() {
    let person = person(&[]);
    assert_eq!((person.id, &*person.name), (id(ANN), &name("Ann", "Lee")));
    assert_eq!((person.birth_date, person.death_date), (None, None));
    assert_eq!(person.lifecycle, Lifecycle::Active);
    assert!(person.attributes.is_empty());
    assert_eq!((person.created_at, person.updated_at), (time(FIRST), time(FIRST)));
}

#[test]
fn events_that_do_not_fit_change_nothing() {
    assert_eq!(folded(&[invalidated(LATER)]), None);
    let another = Event::PersonCreated {
        person_id: id(BOB),
        name: name("Bob", "").into(),
        source: "x".to_owned(),
        created_at: time(LATER),
    };
    assert_eq!(person(&[another]), person(&[]));
}

#[test]
fn the_lifecycle_follows_the_events() {
    let (person_id, at) = (id(ANN), time(LATER));
    let reason = || "r".to_owned();
    let deactivated = Event::PersonDeactivated { person_id, reason: reason(), deactivated_at: at };
    let reactivated = Event::PersonReactivated { person_id, reason: reason(), reactivated_at: at };
    let died = Event::DeathRecorded { person_id, date_of_death: day("2021-06-29"), recorded_at: at };
    let archived = Event::PersonArchived { person_id, reason: reason(), archived_at: at };
    let merged = Event::PersonMergedInto {
        source_person_id: person_id,
        merged_into_id: id(BOB),
        merge_reason: MergeReason::PolicyDetermined,
        merged_at: at,
    };
    let check = |events: &[Event], lifecycle: Lifecycle, shown: serde_json::Value| {
        let person = person(events);
        assert_eq!(person.lifecycle, lifecycle);
        assert_eq!(person.updated_at, at);
        assert_eq!(serde_json::to_value(&person.lifecycle).unwrap(), shown);
        assert_eq!(shown["state"], lifecycle.state().as_str());
    };
    check(
        std::slice::from_ref(&deactivated),
        Lifecycle::Deactivated { reason: reason(), since: at },
        json!({"state": "Deactivated", "reason": "r", "since": LATER}),
    );
    check(&[deactivated, reactivated], Lifecycle::Active, json!({"state": "Active"}));
    check(
        std::slice::from_ref(&died),
        Lifecycle::Deceased { date_of_death: day("2021-06-29") },
        json!({"state": "Deceased", "date_of_death": "2021-06-29"}),
    );
    check(
        &[merged],
        Lifecycle::MergedInto { target_id: id(BOB), merged_at: at },
        json!({"state": "MergedInto", "target_id": BOB, "merged_at": LATER}),
    );
    check(
        &[died.clone(), archived.clone()],
        Lifecycle::Archived { reason: reason(), since: at },
        json!({"state": "Archived", "reason": "r", "since": LATER}),
    );
    assert_eq!(person(&[died, archived]).death_date, Some(day("2021-06-29")), "the archived stay dead");
}

#[test]
fn an_update_replaces_the_latest_recorded_of_its_type() {
    let height = attribute(AttributeType::Physical(PhysicalType::Height), AttributeValue::Length(1.8));
    let (one, two, three) = (national_id("1", "", ""), national_id("2", "", ""), national_id("3", "", ""));
    let updated = Event::AttributeUpdated {
        person_id: id(ANN),
        attribute_type: NATIONAL_ID,
        old_attribute: two.clone().into(),
        new_attribute: three.clone().into(),
        updated_at: time(LATER),
    };
    let person = person(&[recorded(one.clone()), recorded(two), recorded(height.clone()), updated]);
    assert_eq!(attributes(&person), [one, three.clone(), height]);
    assert_eq!(person.attributes.latest(&NATIONAL_ID).map(AsRef::as_ref), Some(&three));
}

#[test]
fn an_invalidation_ends_what_is_valid_on_its_day_in_utc() {
    // (from, until) before and after half past eleven at night on the thirtieth of June.
    let cases = [
        (("", ""), ("", "2021-06-30")),
        (("2021-06-01", "2022-01-01"), ("2021-06-01", "2021-06-30")),
        (("2021-06-30", ""), ("2021-06-30", "2021-06-30")),
        (("2021-07-01", ""), ("2021-07-01", "")),
        (("", "2021-07-01"), ("", "2021-06-30")),
        (("", "2021-06-30"), ("", "2021-06-30")),
        (("", "2020-06-30"), ("", "2020-06-30")),
    ];
    let before = cases.map(|((from, until), _)| recorded(national_id("1", from, until)));
    let after = cases.map(|(_, (from, until))| national_id("1", from, until));
    let person = person(&[before.as_slice(), &[invalidated(LATER)]].concat());
    assert_eq!(attributes(&person), after);
    assert!(!person.attributes.is_any_valid_on(&NATIONAL_ID, day("2021-06-30")));
}

#[test]
fn an_invalidation_leaves_other_types_alone() {
    let height = attribute(AttributeType::Physical(PhysicalType::Height), AttributeValue::Length(1.8));
    assert_eq!(attributes(&person(&[recorded(height.clone()), invalidated(LATER)])), [height]);
}

#[test]
fn a_query_shows_the_person() {
    let mut national_id = national_id("1", "2020-01-01", "2020-02-01");
    national_id.temporal.recorded_at = Some(time(FIRST));
    let born = Event::BirthDateSet { person_id: id(ANN), birth_date: day("1990-05-17"), set_at: time(LATER) };
    let person = person(&[recorded(national_id), born]);
    let shown = json!({
        "id": ANN,
        "name": {
            "components": {"given_names": ["Ann"], "family_names": ["Lee"], "prefixes": [], "suffixes": []},
            "naming_convention": "Western",
        },
        "display": {
            "formal": "Ann Lee", "informal": "Ann", "legal": "Ann Lee", "alphabetical": "Lee, Ann",
            "cultural": "Ann Lee",
        },
        "birth_date": "1990-05-17",
        "lifecycle": {"state": "Active"},
        "attributes": [{
            "attribute_type": {"Identifying": "NationalId"},
            "value": {"Text": "1"},
            "temporal": {"recorded_at": FIRST, "valid_from": "2020-01-01", "valid_until": "2020-02-01"},
            "provenance": {"source": "SelfReported", "confidence": "Certain"},
        }],
        "created_at": FIRST,
        "updated_at": LATER,
        "version": 3,
    });
    assert_eq!(serde_json::to_value(PersonView::new(&person, 3, None)).unwrap(), shown);
}

#[test]
fn a_query_can_ask_for_what_is_valid_on_a_day() {
    let person = person(&[
        recorded(national_id("bounded", "2020-01-01", "2020-02-01")),
        recorded(national_id("from", "2020-01-31", "")),
        recorded(national_id("until", "", "2020-01-31")),
        recorded(national_id("always", "", "")),
        recorded(national_id("never", "2020-01-31", "2020-01-31")),
    ]);
    let valid_on = |date: &str| {
        let view = PersonView::new(&person, 6, Some(day(date)));
        let text = |attribute: &&Attribute| match &attribute.value {
            AttributeValue::Text(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        view.attributes.iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(valid_on("2019-12-31"), ["until", "always"]);
    assert_eq!(valid_on("2020-01-01"), ["bounded", "until", "always"]);
    assert_eq!(valid_on("2020-01-31"), ["bounded", "from", "always"]);
    assert_eq!(valid_on("2020-02-01"), ["from", "always"]);
}
