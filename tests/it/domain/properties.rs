//! What holds for all commands, events and states.

use cim_domain_person::domain::limits::PERSON_STATE_BYTES_MAX;
use cim_domain_person::domain::{
    Command, Context, Decision, Event, Lifecycle, Person, PersonId, PersonView, TargetState, binary, decide, evolve,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::{NOW, arbitrary, folded, time};

fn decided(state: Option<&Person>, command: &Command) -> Option<Event> {
    let context = Context { now: time(NOW), merge_target: Some(TargetState::Exists(Lifecycle::Active)) };
    match decide(state, command, &context) {
        Ok(Decision::Happened(event)) => Some(event),
        Ok(Decision::Unchanged) | Err(_) => None,
    }
}

fn encoded(value: &impl bincode::Encode) -> Vec<u8> {
    bincode::encode_to_vec(value, binary::CONFIG).unwrap()
}

fn decoded<T: bincode::Decode<()>>(bytes: &[u8]) -> T {
    let (value, read) = bincode::decode_from_slice(bytes, binary::CONFIG).unwrap();
    assert_eq!(read, bytes.len());
    value
}

/// The same JSON with the members of every object in the opposite order.
fn backwards(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(backwards).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}:{}", Value::from(name.as_str()), backwards(value));
            format!("{{{}}}", members.iter().rev().map(member).collect::<Vec<_>>().join(","))
        }
        leaf => leaf.to_string(),
    }
}

proptest! {
    #[test]
    fn any_events_fold_into_a_state_whose_size_is_known(events in vec(arbitrary::event(), 0..40)) {
        let mut state = None;
        for event in &events {
            evolve(&mut state, event);
            if let Some(person) = &state {
                prop_assert_eq!(person.encoded_bytes(), encoded(person).len());
            }
        }
        let Some(person) = state else { return Ok(()) };
        let bytes = encoded(&person);
        let restored: Person = decoded(&bytes);
        prop_assert_eq!(restored.encoded_bytes(), bytes.len());
        prop_assert_eq!(&restored, &person);
        serde_json::to_value(PersonView::new(&person, 1, None)).unwrap();
    }

    #[test]
    fn a_working_copy_does_not_touch_the_original(
        events in vec(arbitrary::event(), 1..20),
        later in vec(arbitrary::event(), 1..20),
    ) {
        let original = folded(&events);
        let mut copy = original.clone();
        later.iter().for_each(|event| evolve(&mut copy, event));
        prop_assert_eq!(original, folded(&events));
    }

    #[test]
    fn a_command_happens_once(
        history in vec(arbitrary::command_for(ANYONE), 0..20),
        command in arbitrary::command_for(ANYONE),
    ) {
        let mut state = None;
        for command in history.iter().chain([&command]) {
            if let Some(event) = decided(state.as_ref(), command) {
                evolve(&mut state, &event);
            }
        }
        let again = decided(state.as_ref(), &command);
        let records = matches!(command, Command::RecordAttribute { .. });
        prop_assert!(again.is_none() || records, "happened again: {:?}", again);
    }

    #[test]
    fn what_happens_is_told_of_the_person_at_the_time_and_changes_the_state(
        history in vec(arbitrary::command_for(ANYONE), 1..20),
    ) {
        let mut state: Option<Person> = None;
        for command in &history {
            let before = state.clone();
            let Some(event) = decided(state.as_ref(), command) else { continue };
            evolve(&mut state, &event);
            prop_assert_eq!(event.person_id(), command.person_id());
            prop_assert_eq!(event.happened_at(), time(NOW));
            prop_assert_ne!(&before, &state);
            let person = state.as_ref().unwrap();
            prop_assert_eq!((person.id, person.updated_at), (ANYONE, time(NOW)));
            prop_assert!(person.encoded_bytes() <= PERSON_STATE_BYTES_MAX);
        }
    }

    #[test]
    fn commands_survive_both_forms(command in arbitrary::command()) {
        let json = serde_json::to_string(&command).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Command>(&json).unwrap(), &command);
        prop_assert_eq!(&decoded::<Command>(&encoded(&command)), &command);
        prop_assert_eq!(&command.clone().validated().unwrap(), &command);
    }

    #[test]
    fn events_survive_both_forms_and_never_hold_null(event in arbitrary::event()) {
        let json = serde_json::to_string(&event).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Event>(&json).unwrap(), &event);
        prop_assert_eq!(&decoded::<Event>(&encoded(&event)), &event);
        prop_assert!(!json.contains("null") || json.contains("\"Json\""));
        let tag = serde_json::from_str::<Value>(&json).unwrap().as_object().unwrap().keys().next().cloned();
        prop_assert_eq!(tag.as_deref(), Some(event.kind().as_str()));
    }

    #[test]
    fn the_order_of_members_does_not_matter(command in arbitrary::command(), event in arbitrary::event()) {
        let json = backwards(&serde_json::to_value(&command).unwrap());
        prop_assert_eq!(serde_json::from_str::<Command>(&json).unwrap(), command);
        let json = backwards(&serde_json::to_value(&event).unwrap());
        prop_assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }

    #[test]
    fn a_name_is_written_without_stray_spaces_and_commas(name in arbitrary::person_name()) {
        let forms = serde_json::to_value(cim_domain_person::domain::DisplayNames::of(&name)).unwrap();
        for (form, written) in forms.as_object().unwrap() {
            let written = written.as_str().unwrap();
            let is_tidy = written.trim() == written
                && !written.is_empty()
                && !["  ", " ,", ",,", ", ,"].iter().any(|stray| written.contains(stray))
                && !written.starts_with(',')
                && !written.ends_with(',');
            prop_assert!(is_tidy, "{form}: {written:?}");
        }
    }
}

const ANYONE: PersonId = PersonId::from_uuid(uuid::Uuid::from_u128(1));
