//! Whatever happened to a person: every moment of it is shown as it was, from whatever it is put together.

use std::collections::BTreeSet;

use cim_domain_person::domain::Command;
use cim_domain_person::engine::turn::Limits;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ANSWER_BYTES_MAX, Truth, ask, inquiry, inquiry_with};
use crate::domain::arbitrary;
use crate::engine::faults::Faults;
use crate::engine::{ANN, LIMITS, World, ask as asked, create, id};

/// One message to the service, and how many microseconds pass before the next one.
type Sent = (Vec<Command>, u64);

fn story() -> impl Strategy<Value = Vec<Sent>> {
    let ends = |command: &Command| {
        matches!(command, Command::MergePersons { .. } | Command::ArchivePerson { .. } | Command::RecordDeath { .. })
    };
    let going_on = arbitrary::command_for(id(ANN)).prop_filter("nothing ends here", move |command| !ends(command));
    let message = prop_oneof![4 => vec(going_on, 1..4), 1 => vec(arbitrary::command_for(id(ANN)), 1)];
    vec((message, prop_oneof![Just(0), 1..5_000_000_u64]), 1..24)
}

/// A world in which these were sent, those that were refused too, and the snapshot after each commit.
fn told(story: &[Sent]) -> (World, Vec<Vec<u8>>) {
    let world = World::new();
    for number in 1..=4_u128 {
        world.given([asked("", create(&uuid::Uuid::from_u128(number).to_string()))]);
    }
    let mut replica = world.replica_with(Limits { snapshot_frequency: 1, ..LIMITS });
    assert!(replica.tell([asked("", create(ANN))])[0].starts_with("accepted"));
    for (commands, pause) in story {
        world.pass(*pause);
        let json: Vec<Value> = commands.iter().map(|command| serde_json::to_value(command).unwrap()).collect();
        replica.tell([asked("", json!(json))]);
    }
    world.snapshots.forge(id(ANN), None);
    let snapshots = replica.snapshots.into_iter().filter(|due| due.person == id(ANN)).map(|due| due.bytes).collect();
    (world, snapshots)
}

/// The same answer with the attributes alone that are valid on a day, found by comparing text.
fn valid_on(answer: &Value, day: &str) -> Value {
    let mut answer = answer.clone();
    if let Some(attributes) = answer["person"]["attributes"].as_array_mut() {
        attributes.retain(|attribute| {
            let bound = |name| attribute["temporal"][name].as_str();
            bound("valid_from").is_none_or(|from| from <= day) && bound("valid_until").is_none_or(|until| day < until)
        });
    }
    answer
}

/// Every day on which a validity begins or ends, and the days around them.
fn days(answer: &Value) -> BTreeSet<String> {
    let mut days = BTreeSet::from(["2000-01-15".to_owned()]);
    for attribute in answer["person"]["attributes"].as_array().into_iter().flatten() {
        for bound in ["valid_from", "valid_until"].iter().filter_map(|name| attribute["temporal"][*name].as_str()) {
            days.insert(bound.to_owned());
            if let Some((month, day)) = bound.rsplit_once('-').filter(|(_, day)| ("02".."28").contains(day)) {
                let day: u8 = day.parse().unwrap();
                days.extend([day - 1, day + 1].map(|day| format!("{month}-{day:02}")));
            }
        }
    }
    days
}

/// A follower that lags, and pages as short as this.
fn faults((lag, page): (Option<u64>, usize)) -> Faults {
    let faults = Faults::default();
    faults.lag_at(lag);
    faults.page_commits_max(page);
    faults
}

fn trouble() -> impl Strategy<Value = (Option<u64>, usize)> {
    (option::of(0..20_u64), prop_oneof![1..4_usize, Just(256)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_moment_of_the_record_is_the_fold_of_what_came_before(story in story(), trouble in trouble()) {
        let (world, _) = told(&story);
        let truth = Truth::of(&world, ANN);
        let mut inquiry = inquiry_with(&world, &faults(trouble), ANSWER_BYTES_MAX);
        prop_assert_eq!(super::get(&mut inquiry, ANN), truth.answer(|_| true));
        for version in 1..=truth.version() {
            let then = truth.answer(|event| event.sequence <= version);
            let query = json!({ "person_id": ANN, "at_version": version });
            prop_assert_eq!(ask(&mut inquiry, "get", &query), then);
        }
        let times: BTreeSet<_> = truth.events.iter().map(|event| event.timestamp).collect();
        for time in times.into_iter().flat_map(|time| [-1, 0, 1].map(|by| time.plus_micros(by))) {
            let then = truth.answer(|event| event.timestamp <= time);
            prop_assert_eq!(ask(&mut inquiry, "get", &json!({ "person_id": ANN, "as_of": time })), then);
        }
    }

    #[test]
    fn a_day_keeps_what_is_valid_on_it_at_any_moment_of_the_record(story in story()) {
        let (world, _) = told(&story);
        let truth = Truth::of(&world, ANN);
        let mut inquiry = inquiry(&world, ANSWER_BYTES_MAX);
        for day in days(&truth.answer(|_| true)) {
            let now = valid_on(&truth.answer(|_| true), &day);
            prop_assert_eq!(ask(&mut inquiry, "get", &json!({ "person_id": ANN, "valid_on": day })), now);
            let (version, time) = (truth.version().div_ceil(2), truth.events[truth.events.len() / 2].timestamp);
            let then = valid_on(&truth.answer(|event| event.sequence <= version), &day);
            let query = json!({ "person_id": ANN, "valid_on": day, "at_version": version });
            prop_assert_eq!(ask(&mut inquiry, "get", &query), then);
            let then = valid_on(&truth.answer(|event| event.timestamp <= time), &day);
            let query = json!({ "person_id": ANN, "valid_on": day, "as_of": time });
            prop_assert_eq!(ask(&mut inquiry, "get", &query), then);
        }
    }

    #[test]
    fn every_snapshot_and_its_tail_are_shown_as_the_whole_history_is(story in story(), trouble in trouble()) {
        let (world, snapshots) = told(&story);
        let truth = Truth::of(&world, ANN).answer(|_| true);
        for snapshot in snapshots {
            world.snapshots.forge(id(ANN), Some(snapshot));
            let mut inquiry = inquiry_with(&world, &faults(trouble), ANSWER_BYTES_MAX);
            prop_assert_eq!(&super::get(&mut inquiry, ANN), &truth);
            prop_assert_eq!(&super::get(&mut inquiry, ANN), &truth, "from the cache");
        }
    }

    #[test]
    fn pages_of_any_size_have_every_event_once_and_in_order(
        story in story(), trouble in trouble(), limit in 1..12_u64, bytes_max in 200..20_000_usize,
    ) {
        let (world, _) = told(&story);
        let truth = Truth::of(&world, ANN);
        let mut inquiry = inquiry_with(&world, &faults(trouble), bytes_max.max(200));
        let mut found: Vec<Value> = Vec::new();
        let mut next = Some(1);
        while let Some(from) = next {
            let query = json!({ "person_id": ANN, "from_version": from, "limit": limit });
            let page = match super::bytes(&mut inquiry, "history", &query) {
                Ok(page) => page,
                Err(code) => {
                    prop_assert_eq!(code, "too_large");
                    prop_assert!(truth.json[found.len()].to_string().len() + 200 > bytes_max);
                    return Ok(());
                }
            };
            prop_assert!(page.len() <= bytes_max);
            let page: Value = serde_json::from_slice(&page).unwrap();
            prop_assert_eq!(&page["version"], truth.version());
            let events = page["events"].as_array().unwrap();
            prop_assert!((1..=usize::try_from(limit).unwrap()).contains(&events.len()));
            found.extend(events.iter().cloned());
            next = page.get("next_version").map(|next| next.as_u64().unwrap());
            prop_assert!(next.is_none_or(|next| next == found.len() as u64 + 1));
        }
        prop_assert_eq!(found, truth.json);
    }
}
