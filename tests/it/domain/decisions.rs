//! Given what happened, when somebody asks for this, then that happens.

use cim_domain_person::domain::limits::{PERSON_ATTRIBUTES_MAX, PERSON_STATE_BYTES_MAX};
use cim_domain_person::domain::{
    Attribute, AttributeType, AttributeValue, Command, Context, Decision, Event, Lifecycle, LifecycleState,
    MergeReason, Party, PersonName, PhysicalType, Refusal, TargetState, binary, decide,
};

use super::{ANN, BOB, CAT, NATIONAL_ID, NOW, attribute, day, folded, id, name, national_id, time};

type Then = Result<Decision, Refusal>;

fn asked(given: &[Event], when: &Command, merge_target: Option<TargetState>) -> Then {
    decide(folded(given).as_ref(), when, &Context { now: time(NOW), merge_target })
}

fn happened(event: Event) -> Then {
    Ok(Decision::Happened(event))
}

fn happens(given: &[Event], when: &Command) -> bool {
    matches!(asked(given, when, None), Ok(Decision::Happened(_)))
}

fn check(story: &str, given: &[Event], when: Command, then: Then) {
    assert_eq!(asked(given, &when, Some(TargetState::Exists(Lifecycle::Active))), then, "{story}");
}

fn invalid(field: &str, problem: &str) -> Then {
    Err(Refusal::Invalid(cim_domain_person::domain::Invalid { field: field.to_owned(), problem: problem.to_owned() }))
}

// What happened, long ago.

const THEN: &str = "2020-01-01T00:00:00Z";

fn created() -> Event {
    Event::PersonCreated {
        person_id: id(ANN),
        name: name("Ann", "Lee").into(),
        source: "import".to_owned(),
        created_at: time(THEN),
    }
}

fn born(birth_date: &str) -> Event {
    Event::BirthDateSet { person_id: id(ANN), birth_date: day(birth_date), set_at: time(THEN) }
}

fn died() -> Event {
    Event::DeathRecorded { person_id: id(ANN), date_of_death: day("2019-12-31"), recorded_at: time(THEN) }
}

fn deactivated() -> Event {
    Event::PersonDeactivated { person_id: id(ANN), reason: "gone".to_owned(), deactivated_at: time(THEN) }
}

fn merged() -> Event {
    Event::PersonMergedInto {
        source_person_id: id(ANN),
        merged_into_id: id(CAT),
        merge_reason: MergeReason::UserRequested,
        merged_at: time(THEN),
    }
}

fn archived() -> Event {
    Event::PersonArchived { person_id: id(ANN), reason: "old".to_owned(), archived_at: time(THEN) }
}

fn recorded(mut attribute: Attribute) -> Event {
    attribute.temporal.recorded_at = Some(time(THEN));
    Event::AttributeRecorded { person_id: id(ANN), attribute: attribute.into(), recorded_at: time(THEN) }
}

// What is asked.

fn create() -> Command {
    Command::CreatePerson { person_id: id(ANN), name: name("Ann", "Lee").into(), source: "import".to_owned() }
}

fn rename(name: PersonName) -> Command {
    Command::UpdateName { person_id: id(ANN), name: name.into(), reason: Some("marriage".to_owned()) }
}

fn set_birth_date(birth_date: &str) -> Command {
    Command::SetBirthDate { person_id: id(ANN), birth_date: day(birth_date) }
}

fn record_death(date_of_death: &str) -> Command {
    Command::RecordDeath { person_id: id(ANN), date_of_death: day(date_of_death) }
}

fn deactivate() -> Command {
    Command::DeactivatePerson { person_id: id(ANN), reason: "away".to_owned() }
}

fn reactivate() -> Command {
    Command::ReactivatePerson { person_id: id(ANN), reason: "back".to_owned() }
}

fn merge() -> Command {
    Command::MergePersons {
        source_person_id: id(ANN),
        target_person_id: id(BOB),
        merge_reason: MergeReason::DuplicateIdentity,
    }
}

fn archive() -> Command {
    Command::ArchivePerson { person_id: id(ANN), reason: "done".to_owned() }
}

fn record(attribute: Attribute) -> Command {
    Command::RecordAttribute { person_id: id(ANN), attribute }
}

fn update(new_attribute: Attribute) -> Command {
    Command::UpdateAttribute { person_id: id(ANN), attribute_type: NATIONAL_ID, new_attribute }
}

fn invalidate(attribute_type: AttributeType) -> Command {
    Command::InvalidateAttribute { person_id: id(ANN), attribute_type, reason: None }
}

/// Every command in every lifecycle state, an attribute being there.
#[test]
fn the_lifecycle_state_decides_what_is_allowed() {
    const TABLE: &str = "
        -                   Absent      Active   Deactivated  Deceased  MergedInto  Archived
        CreatePerson        happens     exists   exists       exists    exists      exists
        UpdateName          not_found   happens  state        state     merged      state
        SetBirthDate        not_found   happens  happens      state     merged      state
        RecordDeath         not_found   happens  happens      state     merged      state
        DeactivatePerson    not_found   happens  state        state     merged      state
        ReactivatePerson    not_found   state    happens      state     merged      state
        MergePersons        not_found   happens  state        state     merged      state
        ArchivePerson       not_found   happens  happens      happens   merged      state
        RecordAttribute     not_found   happens  state        state     merged      state
        UpdateAttribute     not_found   happens  state        state     merged      state
        InvalidateAttribute not_found   happens  state        state     merged      state";
    let commands = [
        create(),
        rename(name("Ann", "Ray")),
        set_birth_date("1990-05-17"),
        record_death("2021-01-01"),
        deactivate(),
        reactivate(),
        merge(),
        archive(),
        record(national_id("2", "", "")),
        update(national_id("2", "", "")),
        invalidate(NATIONAL_ID),
    ];
    let mut rows = TABLE.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let states = rows.next().unwrap();
    for (command, row) in commands.iter().zip(rows) {
        assert_eq!(command.kind(), row[0]);
        for (state, expected) in states.iter().zip(&row).skip(1) {
            assert_eq!(in_state(command, state), *expected, "{} when {state}", command.kind());
        }
    }
}

/// What becomes of a command in a state, in a word.
fn in_state(command: &Command, state: &str) -> &'static str {
    let attribute = recorded(national_id("1", "", ""));
    let given = match state {
        "Absent" => vec![],
        "Active" => vec![created(), attribute],
        "Deactivated" => vec![created(), attribute, deactivated()],
        "Deceased" => vec![created(), attribute, died()],
        "MergedInto" => vec![created(), attribute, merged()],
        _ => vec![created(), attribute, archived()],
    };
    match asked(&given, command, Some(TargetState::Exists(Lifecycle::Active))) {
        Ok(Decision::Happened(_)) => "happens",
        Err(Refusal::AlreadyExists) => "exists",
        Err(Refusal::NotFound(Party::Person)) => "not_found",
        Err(Refusal::PersonMerged { party: Party::Person, moved_to }) if moved_to == id(CAT) => "merged",
        Err(Refusal::InvalidState { party: Party::Person, state: named, command: asked }) => {
            assert_eq!((named.as_str(), asked), (state, command.kind()));
            "state"
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_happens_bears_what_was_asked_and_the_time_of_the_decision() {
    let (person_id, now) = (id(ANN), time(NOW));
    let becomes = |given: &[Event], when: Command, then: Event| {
        check(when.kind(), given, when.clone(), happened(then));
    };
    let created_now = Event::PersonCreated {
        person_id,
        name: name("Ann", "Lee").into(),
        source: "import".to_owned(),
        created_at: now,
    };
    becomes(&[], create(), created_now);
    let renamed = Event::NameUpdated {
        person_id,
        old_name: name("Ann", "Lee").into(),
        new_name: name("Ann", "Ray").into(),
        reason: Some("marriage".to_owned()),
        updated_at: now,
    };
    becomes(&[created()], rename(name("Ann", "Ray")), renamed);
    let birth_date = day("1990-05-17");
    becomes(&[created()], set_birth_date("1990-05-17"), Event::BirthDateSet { person_id, birth_date, set_at: now });
    let date_of_death = day("2021-01-01");
    let died = Event::DeathRecorded { person_id, date_of_death, recorded_at: now };
    becomes(&[created()], record_death("2021-01-01"), died);
    let reason = || "away".to_owned();
    becomes(&[created()], deactivate(), Event::PersonDeactivated { person_id, reason: reason(), deactivated_at: now });
    let reactivated = Event::PersonReactivated { person_id, reason: "back".to_owned(), reactivated_at: now };
    becomes(&[created(), deactivated()], reactivate(), reactivated);
    let merged_now = Event::PersonMergedInto {
        source_person_id: person_id,
        merged_into_id: id(BOB),
        merge_reason: MergeReason::DuplicateIdentity,
        merged_at: now,
    };
    becomes(&[created()], merge(), merged_now);
    becomes(&[created()], archive(), Event::PersonArchived { person_id, reason: "done".to_owned(), archived_at: now });
}

#[test]
fn attributes_bear_the_time_of_their_recording() {
    let (person_id, now) = (id(ANN), time(NOW));
    let at = |mut attribute: Attribute, time| {
        attribute.temporal.recorded_at = Some(time);
        attribute
    };
    let (one, two) = (national_id("1", "", ""), national_id("2", "2020-01-01", ""));
    let recorded_now = Event::AttributeRecorded { person_id, attribute: at(one.clone(), now).into(), recorded_at: now };
    check("recorded", &[created()], record(one.clone()), happened(recorded_now.clone()));
    let given = [created(), recorded(one.clone())];
    check("recorded again, though the same", &given, record(one.clone()), happened(recorded_now));
    let updated = Event::AttributeUpdated {
        person_id,
        attribute_type: NATIONAL_ID,
        old_attribute: at(one, time(THEN)).into(),
        new_attribute: at(two.clone(), now).into(),
        updated_at: now,
    };
    check("updated", &given, update(two), happened(updated));
    let attribute_type = NATIONAL_ID;
    let invalidated = Event::AttributeInvalidated { person_id, attribute_type, reason: None, invalidated_at: now };
    check("invalidated", &given, invalidate(NATIONAL_ID), happened(invalidated));
}

#[test]
fn what_is_so_already_changes_nothing() {
    check("the same name", &[created()], rename(name("Ann", "Lee")), Ok(Decision::Unchanged));
    let given = [created(), born("1990-05-17")];
    check("the same birth date", &given, set_birth_date("1990-05-17"), Ok(Decision::Unchanged));
    check("another one", &given, set_birth_date("1990-05-18"), Err(Refusal::BirthDateAlreadySet));
    check("another one in the future", &given, set_birth_date("2990-05-18"), Err(Refusal::BirthDateAlreadySet));
    let given = [created(), recorded(national_id("1", "", "")), recorded(national_id("2", "", ""))];
    check("an update that says the same", &given, update(national_id("2", "", "")), Ok(Decision::Unchanged));
    assert!(happens(&given, &update(national_id("1", "", ""))), "an update to what an earlier attribute says");
    assert!(happens(&given, &update(national_id("2", "2020-01-01", ""))), "an update of the period alone");
}

#[test]
fn nobody_is_born_or_dies_in_the_future_of_everybody() {
    // It is the tenth in UTC and the eleventh at UTC+14.
    let future = "must not be in the future";
    assert!(happens(&[created()], &set_birth_date("2026-03-11")));
    assert!(happens(&[created()], &record_death("2026-03-11")));
    check("born tomorrow", &[created()], set_birth_date("2026-03-12"), invalid("birth_date", future));
    check("dies tomorrow", &[created()], record_death("2026-03-12"), invalid("date_of_death", future));
}

#[test]
fn nobody_dies_before_the_birth() {
    let given = [created(), born("1990-05-17")];
    let early = invalid("date_of_death", "must not be before the birth date");
    check("the day before", &given, record_death("1990-05-16"), early);
    assert!(happens(&given, &record_death("1990-05-17")), "the same day");
}

#[test]
fn a_merge_needs_an_active_target() {
    let reason = || "x".to_owned();
    let refused = |target| asked(&[created()], &merge(), target).unwrap_err();
    let state = |state| Refusal::InvalidState { party: Party::MergeTarget, state, command: "MergePersons" };
    let exists = |lifecycle| refused(Some(TargetState::Exists(lifecycle)));
    assert_eq!(refused(Some(TargetState::Missing)), Refusal::NotFound(Party::MergeTarget));
    assert_eq!(
        exists(Lifecycle::Deactivated { reason: reason(), since: time(THEN) }),
        state(LifecycleState::Deactivated)
    );
    assert_eq!(exists(Lifecycle::Archived { reason: reason(), since: time(THEN) }), state(LifecycleState::Archived));
    assert_eq!(exists(Lifecycle::Deceased { date_of_death: day("2019-12-31") }), state(LifecycleState::Deceased));
    let merged = exists(Lifecycle::MergedInto { target_id: id(CAT), merged_at: time(THEN) });
    assert_eq!(merged, Refusal::PersonMerged { party: Party::MergeTarget, moved_to: id(CAT) });
}

#[test]
fn a_merge_whose_target_was_not_read_is_never_decided_by_guess() {
    assert_eq!(asked(&[created()], &merge(), None), Err(Refusal::TargetNotRead));
    let hopeless = asked(&[], &merge(), None);
    assert_eq!(hopeless, Err(Refusal::NotFound(Party::Person)), "the source's own state is told first");
}

#[test]
fn only_an_attribute_that_is_there_can_be_changed() {
    let height = AttributeType::Physical(PhysicalType::Height);
    let given = [created(), recorded(attribute(height, AttributeValue::Length(1.8)))];
    let none = || Err(Refusal::AttributeNotFound("the person has no attribute of this type"));
    check("update of another type", &given, update(national_id("1", "", "")), none());
}

#[test]
fn only_what_is_valid_today_in_utc_can_be_invalidated() {
    let cases = [
        ("unbounded", "", "", true),
        ("began today", "2026-03-10", "", true),
        ("began yesterday", "2026-03-09", "", true),
        ("begins tomorrow", "2026-03-11", "", false),
        ("ends tomorrow, so the last valid day is today", "", "2026-03-11", true),
        ("ended today", "", "2026-03-10", false),
        ("never valid", "2026-03-10", "2026-03-10", false),
    ];
    for (story, from, until, is_valid) in cases {
        let given = [created(), recorded(national_id("1", from, until))];
        assert_eq!(happens(&given, &invalidate(NATIONAL_ID)), is_valid, "{story}");
    }
    let none = Refusal::AttributeNotFound("the person has no attribute of this type that is valid today");
    check("none at all", &[created()], invalidate(NATIONAL_ID), Err(none));
}

#[test]
fn a_person_has_at_most_1000_attributes() {
    let mut given = vec![created()];
    given.resize(PERSON_ATTRIBUTES_MAX, recorded(national_id("1", "", "")));
    assert!(happens(&given, &record(national_id("2", "", ""))), "the thousandth");
    given.push(recorded(national_id("1", "", "")));
    let person = folded(&given).unwrap();
    assert_eq!(person.encoded_bytes(), binary::encoded_bytes(&person), "the size is kept up for long lists too");
    let full = Refusal::TooLarge { what: "a person", max: PERSON_ATTRIBUTES_MAX, unit: "attributes" };
    check("one more", &given, record(national_id("2", "", "")), Err(full));
    assert!(happens(&given, &update(national_id("2", "", ""))), "an update adds none");
}

#[test]
fn a_state_has_at_most_512_kib() {
    let large = || recorded(national_id(&"x".repeat(4_096), "", ""));
    let mut given = vec![created()];
    given.resize_with(128, large);
    let person = folded(&given).unwrap();
    // What is left, less what an attribute and its text's length take besides the text.
    let overhead = person.attributes.iter().next().map_or(0, |one| bincode_bytes(one) - 4_096);
    let room = PERSON_STATE_BYTES_MAX - person.encoded_bytes() - overhead;
    let of = |length: usize| record(national_id(&"x".repeat(length), "", ""));
    assert!(happens(&given, &of(room)), "as much as there is room for: {room}");
    let full = Refusal::TooLarge { what: "a person's state", max: PERSON_STATE_BYTES_MAX, unit: "bytes" };
    check("one byte more", &given, of(room + 1), Err(full));
}

fn bincode_bytes(attribute: &Attribute) -> usize {
    binary::encoded_bytes(attribute)
}

#[test]
fn final_is_what_no_later_event_can_turn_into_another_answer() {
    let state = |party, state| Refusal::InvalidState { party, state, command: "UpdateName" };
    let merged = |party| Refusal::PersonMerged { party, moved_to: id(CAT) };
    let finals = [Refusal::AlreadyExists, merged(Party::Person), state(Party::Person, LifecycleState::Archived)];
    let others = [
        Refusal::NotFound(Party::Person),
        Refusal::NotFound(Party::MergeTarget),
        Refusal::TargetNotRead,
        Refusal::AttributeNotFound(""),
        Refusal::BirthDateAlreadySet,
        merged(Party::MergeTarget),
        state(Party::MergeTarget, LifecycleState::Archived),
        state(Party::Person, LifecycleState::Active),
        state(Party::Person, LifecycleState::Deactivated),
        state(Party::Person, LifecycleState::Deceased),
        Refusal::TooLarge { what: "", max: 0, unit: "" },
    ];
    assert_eq!(finals.iter().find(|refusal| !refusal.is_final()), None);
    assert_eq!(others.iter().find(|refusal| refusal.is_final()), None);
}

#[test]
fn a_refusal_says_what_stands_in_the_way() {
    let cases = [
        (asked(&[], &deactivate(), None), "the person does not exist"),
        (asked(&[created()], &create(), None), "the person exists already"),
        (
            asked(&[created(), died()], &deactivate(), None),
            "the person is Deceased, which does not allow DeactivatePerson",
        ),
        (
            asked(&[created(), merged()], &deactivate(), None),
            "the person was merged into 0197a1b2-0000-7000-8000-00000000000c",
        ),
        (asked(&[created()], &merge(), Some(TargetState::Missing)), "the merge target does not exist"),
        (asked(&[created()], &record_death("2999-01-01"), None), "date_of_death: must not be in the future"),
    ];
    for (then, message) in cases {
        assert_eq!(then.unwrap_err().to_string(), message);
    }
}
