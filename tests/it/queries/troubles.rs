//! Answers when the log is not what it was: restored, damaged, away.

use cim_domain_person::domain::PersonId;
use cim_domain_person::engine::inquiry::Inquiry;
use cim_domain_person::engine::turn::Notice;
use cim_domain_person::wire::query::{Get, Query, RecordedAt};
use serde_json::{Value, json};

use super::{ANSWER_BYTES_MAX, Truth, ask, get, inquiry, inquiry_with};
use crate::engine::faults::{Faults, FaultyLog, OnRead};
use crate::engine::{ANN, BOB, World, ask as asked, create, id, large_note, note, rename};

fn world(commits: usize) -> World {
    let world = World::new();
    world.given([asked("", create(ANN))]);
    world.given((1..commits).map(|number| asked("", note(ANN, &number.to_string()))));
    world
}

fn history(inquiry: &mut Inquiry, from: u64, limit: u64) -> Value {
    ask(inquiry, "history", &json!({ "person_id": ANN, "from_version": from, "limit": limit }))
}

/// Where a restored stream had grown again to the same position, what was in memory was taken for what is stored: the
/// sequence alone was compared.
#[test]
fn a_restored_stream_that_has_grown_again_is_not_taken_for_the_old_one() {
    let world = world(3);
    let mut inquiry = inquiry(&world, ANSWER_BYTES_MAX);
    assert_eq!(get(&mut inquiry, ANN)["version"], 3);
    world.log.lose_after(2);
    world.given([asked("", rename(ANN, "Annabel"))]);
    assert_eq!(get(&mut inquiry, ANN), Truth::of(&world, ANN).answer(|_| true));
    // Nobody who runs the service was told.
    assert_eq!(inquiry.take_notices(), [Notice::LostTail(id(ANN))]);
    world.log.lose_after(1);
    assert_eq!(get(&mut inquiry, ANN), Truth::of(&world, ANN).answer(|_| true));
    assert_eq!(inquiry.take_notices(), [Notice::LostTail(id(ANN))]);
    world.log.lose_after(0);
    assert_eq!(get(&mut inquiry, ANN), "person_not_found");
}

/// The place where a page had ended was believed for ever: in a restored stream it may lie behind the event that it is
/// for, which was then missing from the next page.
#[test]
fn the_next_page_begins_where_the_last_one_ended_in_a_restored_stream_too() {
    let world = World::new();
    world.given([asked("", create(ANN)), asked("", create(BOB)), asked("", rename(BOB, "Bea"))]);
    world.given((0..4).map(|number| asked("", note(ANN, &number.to_string()))));
    let mut inquiry = inquiry(&world, ANSWER_BYTES_MAX);
    assert_eq!(history(&mut inquiry, 1, 2)["next_version"], 3);
    world.log.lose_after(1);
    world.given((0..6).map(|number| asked("", note(ANN, &format!("new {number}")))));
    let page = history(&mut inquiry, 3, 100);
    assert_eq!(page["events"], json!(Truth::of(&world, ANN).json[2..]));
}

/// The place where a page ended was remembered for the event after the next one where bytes, not the limit, ended it:
/// every page was looked for from the beginning, and reading a long history cost the square of its length.
#[test]
fn the_next_page_is_not_looked_for_from_the_beginning() {
    let world = world(1);
    world.given((0..30).map(|_| asked("", large_note(ANN, 8_000))));
    let faults = Faults::default();
    faults.page_commits_max(4);
    for (limit, bytes_max) in [(5, 1 << 20), (100, 50_000)] {
        let mut inquiry = inquiry_with(&world, &faults, bytes_max);
        get(&mut inquiry, ANN);
        let mut next = Some(1);
        let mut pages = 0;
        faults.calls();
        while let Some(from) = next {
            next = history(&mut inquiry, from, limit).get("next_version").map(|next| next.as_u64().unwrap());
            pages += 1;
        }
        let reads = faults.calls().into_iter().filter(|call| *call == "read").count();
        assert!(pages >= 6, "{pages} pages");
        assert!(reads <= 3 * pages, "{reads} reads for {pages} pages of {limit} events and {bytes_max} bytes");
    }
}

/// With a good snapshot the present does not need the old commits; the past was folded over whatever was there, also
/// over a history with a commit missing or another one in its place.
#[test]
fn a_past_that_does_not_check_out_is_damaged_and_the_present_goes_on() {
    let world = world(6);
    let rival = World::new();
    rival.given([asked("", create(ANN)), asked("", note(ANN, "other")), asked("", note(ANN, "other"))]);
    let others = rival.log.commits(id(ANN))[2].payload.clone();
    for damage in [&others[..], b"garbage"] {
        let before = world.log.commits(id(ANN))[2].payload.clone();
        let mut inquiry = inquiry(&world, ANSWER_BYTES_MAX);
        let present = get(&mut inquiry, ANN);
        world.log.corrupt(id(ANN), 3, damage);
        assert_eq!(get(&mut inquiry, ANN), present);
        for version in [3, 4, 5] {
            let query = json!({ "person_id": ANN, "at_version": version });
            assert_eq!(ask(&mut inquiry, "get", &query), "history_damaged", "{version}");
        }
        assert_eq!(ask(&mut inquiry, "get", &json!({ "person_id": ANN, "at_version": 2 }))["person"]["version"], 2);
        assert_eq!(history(&mut inquiry, 1, 100), "history_damaged");
        world.log.corrupt(id(ANN), 3, &before);
    }
}

/// What a copy shows is not believed to be damage before the leader shows it too.
#[test]
fn what_only_a_copy_shows_is_no_damage() {
    let world = world(6);
    let faults = Faults::default();
    let mut inquiry = inquiry_with(&world, &faults, ANSWER_BYTES_MAX);
    get(&mut inquiry, ANN);
    faults.garble(3, b"garbage");
    let truth = Truth::of(&world, ANN);
    let query = json!({ "person_id": ANN, "at_version": 4 });
    assert_eq!(ask(&mut inquiry, "get", &query), truth.answer(|event| event.sequence <= 4));
    assert_eq!(history(&mut inquiry, 1, 100)["events"], json!(truth.json));
}

#[test]
fn a_log_that_is_away_is_unavailable_and_comes_back() {
    let world = world(3);
    let faults = Faults::default();
    let mut inquiry = inquiry_with(&world, &faults, ANSWER_BYTES_MAX);
    faults.on_read([OnRead::Unavailable]);
    assert_eq!(get(&mut inquiry, ANN), "unavailable");
    assert_eq!(get(&mut inquiry, ANN)["version"], 3);
    faults.on_tips([OnRead::Unavailable]);
    assert_eq!(get(&mut inquiry, ANN), "unavailable");
    faults.calls();
    assert_eq!(get(&mut inquiry, ANN)["version"], 3);
    assert_eq!(faults.calls(), ["tips"], "it is still in memory");
    assert_eq!(history(&mut inquiry, 1, 100)["version"], 3);
    assert_eq!(get(&mut inquiry, BOB), "person_not_found");
}

/// One question about a person with a long history and no snapshot held up all that were asked beside it and after it.
#[test]
fn nobody_waits_for_somebody_elses_long_history() {
    let world = world(40);
    world.given([asked("", create(BOB))]);
    let faults = Faults::default();
    faults.page_commits_max(2);
    let mut inquiry = inquiry_with(&world, &faults, ANSWER_BYTES_MAX);
    let query = |person| Query::Get(Get { person: id(person), at: RecordedAt::Now, valid_on: None });
    let round = |inquiry: &mut Inquiry, arrivals: Vec<(u64, Query)>| {
        let mut answers = Vec::new();
        inquiry.round(arrivals, &mut |ticket, answer| answers.push((ticket, answer.is_ok())));
        answers
    };
    assert_eq!(round(&mut inquiry, vec![(1, query(ANN)), (2, query(BOB))]), [(2, true)]);
    // Whoever asks about the person later is answered by what there was when that was asked.
    world.given([asked("", rename(BOB, "Bea"))]);
    assert_eq!(round(&mut inquiry, vec![(3, query(BOB)), (4, query(ANN))]), [(3, true)]);
    let mut rounds = 0;
    let mut answered = Vec::new();
    while answered.is_empty() {
        answered = round(&mut inquiry, vec![(100 + rounds, query(BOB))]);
        answered.retain(|(ticket, _)| *ticket < 100);
        rounds += 1;
    }
    assert_eq!(answered, [(1, true)]);
    assert!(rounds > 3, "{rounds} rounds");
    assert_eq!(round(&mut inquiry, Vec::new()), [(4, true)]);
    assert!(inquiry.is_idle());
}

/// Four long histories filled each round, and whoever asked about a fifth person waited until one of them had ended.
#[test]
fn a_long_history_behind_four_longer_ones_gets_on() {
    let world = World::new();
    let persons: Vec<PersonId> = (1..=5).map(|number| PersonId::from_uuid(uuid::Uuid::from_u128(number))).collect();
    for (person, commits) in persons.iter().map(PersonId::to_string).zip([16, 16, 16, 16, 6]) {
        world.given([asked("", create(&person))]);
        (1..commits).for_each(|_| world.given([asked("", large_note(&person, 20_000))]));
    }
    let faults = Faults::default();
    faults.page_commits_max(1);
    // Room for four commits in each half of a round.
    let log = FaultyLog::new(world.log.clone(), faults);
    let mut inquiry = Inquiry::new(Box::new(log), Box::new(world.snapshots.clone()), 0, ANSWER_BYTES_MAX, 140_000);
    let query = |person: &PersonId| Query::Get(Get { person: *person, at: RecordedAt::Now, valid_on: None });
    let mut arrivals: Vec<_> = (0..).zip(persons.iter().map(query)).collect();
    let mut answered = Vec::new();
    while !arrivals.is_empty() || !inquiry.is_idle() {
        inquiry.round(std::mem::take(&mut arrivals), &mut |ticket, answer| answered.push((ticket, answer.is_ok())));
    }
    assert_eq!(answered.first(), Some(&(4, true)), "{answered:?}");
    assert!(answered.len() == 5 && answered.iter().all(|(_, is_ok)| *is_ok), "{answered:?}");
}

/// A history that takes longer than there is time was read from its beginning whenever it was asked for.
#[test]
fn what_was_read_for_a_question_that_came_to_nothing_is_kept() {
    let world = world(40);
    let faults = Faults::default();
    faults.page_commits_max(2);
    let mut inquiry = inquiry_with(&world, &faults, ANSWER_BYTES_MAX);
    let query = Query::Get(Get { person: id(ANN), at: RecordedAt::Now, valid_on: None });
    inquiry.round(vec![(1, query.clone()), (2, query.clone())], &mut |_, _| panic!("it is not read yet"));
    inquiry.round(Vec::new(), &mut |_, _| panic!("it is not read yet"));
    assert_eq!(inquiry.give_up(|ticket| ticket == 1), [1]);
    assert!(!inquiry.is_idle(), "somebody still waits");
    assert_eq!(inquiry.give_up(|_| true), [2]);
    assert!(inquiry.is_idle());
    faults.commits_read();
    let answer: Value = serde_json::from_slice(&inquiry.answer(&[query]).pop().unwrap().unwrap()).unwrap();
    assert_eq!(answer["version"], 40);
    let read = faults.commits_read();
    assert!(read < 38, "{read} commits are read again");
}

/// A copy showed another commit that continues the history as well, and what it showed was answered, or called damage.
#[test]
fn a_copy_that_showed_another_commit_is_not_quoted() {
    let world = world(3);
    world.given((3..8).map(|number| asked("", note(ANN, &number.to_string()))));
    let truth = Truth::of(&world, ANN);
    let mut events: Value = serde_json::from_slice(&world.log.commits(id(ANN))[3].payload).unwrap();
    events["events"][0]["actor"] = json!("somebody else");
    let faults = Faults::default();
    let mut inquiry = inquiry_with(&world, &faults, ANSWER_BYTES_MAX);
    get(&mut inquiry, ANN);
    faults.garble(4, events.to_string().into_bytes().leak());
    assert_eq!(history(&mut inquiry, 1, 100)["events"], json!(truth.json));
    let query = json!({ "person_id": ANN, "at_version": 7 });
    assert_eq!(ask(&mut inquiry, "get", &query), truth.answer(|event| event.sequence <= 7));
}
