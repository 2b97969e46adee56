//! What becomes of a command when nothing goes wrong, and of its retries.

use serde_json::{Value, json};

use super::*;

/// Each line is asked of the same replica, then all of them again of one that has nothing in memory.
fn check(given: &[Ask], when: &[(Ask, &str)]) {
    let world = World::new();
    world.given(given.iter().cloned());
    let mut replica = world.replica();
    for (ask, then) in when {
        assert_eq!(replica.tell([ask.clone()]), [*then], "{:?} {:?}", ask.commands, ask.headers);
        assert!(replica.worker.is_idle());
        assert_eq!(replica.worker.backlog(), 0);
    }
    world.history(ANN);
}

#[test]
fn commands_are_carried_out_refused_or_find_nothing_to_do() {
    check(
        &[],
        &[
            (ask("1", rename(ANN, "Bea")), "person_not_found v0"),
            (ask("2", create(ANN)), "accepted v1 #1 PersonCreated"),
            (ask("3", create(ANN)), "already_exists v1"),
            (ask("4", rename(ANN, "Bea")), "accepted v2 #2 NameUpdated"),
            (ask("5", rename(ANN, "Bea")), "accepted v2"),
            (ask("6", birth(ANN, "2000-01-01")), "accepted v3 #3 BirthDateSet"),
            (ask("7", birth(ANN, "2000-01-01")), "accepted v3"),
            (ask("8", birth(ANN, "2000-01-02")), "birth_date_already_set v3"),
            (ask("9", birth(ANN, "2999-01-02")), "birth_date_already_set v3"),
            (ask("10", note_again(ANN, "x")), "attribute_not_found v3"),
            (ask("11", note(ANN, "x")), "accepted v4 #4 AttributeRecorded"),
            (ask("12", note_again(ANN, "x")), "accepted v4"),
            (ask("13", deactivate(ANN)), "accepted v5 #5 PersonDeactivated"),
            (ask("14", rename(ANN, "Cy")), "invalid_state v5"),
            (ask("15", archive(ANN)), "accepted v6 #6 PersonArchived"),
            (ask("16", archive(ANN)), "invalid_state v6"),
            (ask("17", create(ANN)), "already_exists v6"),
        ],
    );
}

#[test]
fn a_retry_gets_the_first_outcome() {
    let person = [ask("1", create(ANN)), ask("2", rename(ANN, "Bea")), ask("3", rename(ANN, "Cy"))];
    check(
        &person,
        &[
            (ask("2", rename(ANN, "Bea")), "accepted v2 #2 NameUpdated again"),
            (ask("1", create(ANN)), "accepted v1 #1 PersonCreated again"),
            (ask("3", rename(ANN, "Cy")).expecting(77), "accepted v3 #3 NameUpdated again"),
            (ask("2", rename(ANN, "Dan")), "command_id_reused v3"),
            (ask("2", rename(BOB, "Bea")), "person_not_found v0"),
            (ask("3", rename(ANN, "Cy")), "accepted v3 #3 NameUpdated again"),
        ],
    );
}

#[test]
fn what_stored_nothing_leaves_no_trace() {
    check(
        &[ask("1", create(ANN))],
        &[
            (ask("refused", reactivate(ANN)), "invalid_state v1"),
            (ask("nothing", rename(ANN, "Ann")), "accepted v1"),
            (ask("2", deactivate(ANN)), "accepted v2 #2 PersonDeactivated"),
            (ask("refused", reactivate(ANN)), "accepted v3 #3 PersonReactivated"),
            (ask("4", rename(ANN, "Bea")), "accepted v4 #4 NameUpdated"),
            (ask("nothing", rename(ANN, "Ann")), "accepted v5 #5 NameUpdated"),
            (ask("nothing", rename(ANN, "Ann")), "accepted v5 #5 NameUpdated again"),
        ],
    );
}

#[test]
fn an_id_that_the_service_made_is_not_remembered() {
    check(
        &[ask("1", create(ANN))],
        &[
            (ask("", note(ANN, "x")), "accepted v2 #2 AttributeRecorded"),
            (ask("", note(ANN, "x")), "accepted v3 #3 AttributeRecorded"),
        ],
    );
    let world = World::new();
    world.given([ask("", create(ANN)), ask("named", note(ANN, "x"))]);
    let commits = world.log.commits(id(ANN));
    let generated: Vec<bool> =
        commits.iter().map(|stored| commit::decode(&stored.payload).unwrap().commands[0].generated).collect();
    assert_eq!(generated, [true, false]);
}

#[test]
fn an_expected_version_holds_or_the_command_is_refused() {
    check(
        &[],
        &[
            (ask("1", create(ANN)).expecting(1), "version_conflict v0"),
            (ask("2", rename(ANN, "Bea")).expecting(1), "version_conflict v0"),
            (ask("3", rename(ANN, "Bea")).expecting(0), "person_not_found v0"),
            (ask("4", create(ANN)).expecting(0), "accepted v1 #1 PersonCreated"),
            (ask("5", create(ANN)).expecting(0), "version_conflict v1"),
            (ask("6", create(ANN)).expecting(1), "already_exists v1"),
            (ask("4", create(ANN)).expecting(0), "accepted v1 #1 PersonCreated again"),
            (ask("7", rename(ANN, "Bea")).expecting(1), "accepted v2 #2 NameUpdated"),
            (ask("8", rename(ANN, "Bea")).expecting(1), "version_conflict v2"),
            (ask("9", rename(ANN, "Bea")).expecting(2), "accepted v2"),
            (ask("10", rename(ANN, "Cy")).expecting(u64::MAX), "version_conflict v2"),
        ],
    );
}

#[test]
fn an_array_is_carried_out_whole_or_not_at_all() {
    let all = |commands: &[Value]| json!(commands);
    check(
        &[],
        &[
            (ask("1", all(&[create(ANN), rename(ANN, "Bea"), create(ANN)])), "already_exists v0 [2]"),
            (ask("2", all(&[rename(ANN, "Bea"), create(ANN)])), "person_not_found v0 [0]"),
            (ask("3", all(&[create(ANN), birth(ANN, "2999-01-01")])), "invalid v0 [1]"),
            (
                ask("4", all(&[create(ANN), rename(ANN, "Bea"), note(ANN, "x")])).expecting(0),
                "accepted v3 #1 PersonCreated NameUpdated AttributeRecorded",
            ),
            (ask("5", all(&[rename(ANN, "Bea"), rename(ANN, "Bea")])), "accepted v3"),
            (ask("6", all(&[rename(ANN, "Bea"), rename(ANN, "Cy"), rename(ANN, "Cy")])), "accepted v4 #2 NameUpdated"),
            (ask("7", all(&[rename(ANN, "Dan")])), "accepted v5 #3 NameUpdated"),
            (ask("7", rename(ANN, "Dan")), "accepted v5 #3 NameUpdated again"),
            (ask("8", all(&[reactivate(ANN)])), "invalid_state v5 [0]"),
            (ask("9", all(&[rename(ANN, "Eve"), archive(ANN), rename(ANN, "Fay")])), "invalid_state v5 [2]"),
            (ask("10", rename(ANN, "Dan")), "accepted v5"),
            (
                ask("4", all(&[create(ANN), rename(ANN, "Bea"), note(ANN, "x")])),
                "accepted v3 #1 PersonCreated NameUpdated AttributeRecorded again",
            ),
            (ask("4", all(&[create(ANN), rename(ANN, "Bea"), note(ANN, "y")])), "command_id_reused v5"),
        ],
    );
}

#[test]
fn another_replica_gives_the_same_answer_to_a_retry() {
    let world = World::new();
    let asks = [
        ask("1", create(ANN)),
        ask("2", json!([rename(ANN, "Bea"), note(ANN, "x")])),
        ask("3", deactivate(ANN)),
        ask("4", reactivate(ANN)),
        ask("5", archive(ANN)),
    ];
    let first = world.replica().tell(asks.clone());
    for mut replica in [world.replica(), world.replica()] {
        let again: Vec<String> = first.iter().map(|outcome| format!("{outcome} again")).collect();
        assert_eq!(replica.tell(asks.clone()), again);
    }
    assert_eq!(world.history(ANN).commands, ["1", "2", "3", "4", "5"]);
}

#[test]
fn times_never_run_backwards() {
    let world = World::new();
    let minute = i64::try_from(MINUTE).unwrap();
    let mut replicas = [world.replica(), world.replica()];
    for (turn, skew) in [0, 60 * minute, -60 * minute, 0, -minute, 120 * minute, 0].into_iter().enumerate() {
        let command = if turn == 0 { create(ANN) } else { note(ANN, &turn.to_string()) };
        let told = replicas[turn % 2].tell([ask(&turn.to_string(), command).skewed(skew)]);
        assert!(told[0].starts_with("accepted"), "{told:?}");
    }
    // Reading the history checks it.
    assert_eq!(world.history(ANN).version, 7);
}

#[test]
fn the_commit_tells_where_it_comes_from() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let world = World::new();
    let mut replica = world.replica();
    let first =
        ask("1", create(ANN)).with("traceparent", TRACE).with("Actor", "clerk 7").with("Correlation-Id", "case");
    replica.tell([first, ask("2", rename(ANN, "Bea"))]);
    let commits = world.log.commits(id(ANN));
    let commit = commit::decode(&commits[0].payload).unwrap();
    assert_eq!(commit.commands[0].traceparent.as_deref(), Some(TRACE));
    let told: Vec<_> = commit
        .events
        .iter()
        .map(|event| (event.correlation_id.as_str(), event.causation_id.as_str(), event.actor.as_deref()))
        .collect();
    assert_eq!(told, [("case", "1", Some("clerk 7")), ("2", "2", None)]);
    let made: Vec<_> = commit.events.iter().map(|event| event.event_id.get_version_num()).collect();
    assert_eq!(made, [7, 7]);
    assert_ne!(commit.events[0].event_id, commit.events[1].event_id);
}

#[test]
fn the_same_turns_bring_the_same_bytes() {
    let story = || {
        let world = World::new();
        let mut replica = world.replica_with(Limits { snapshot_frequency: 2, ..LIMITS });
        let told = replica.tell([
            ask("1", create(BOB)),
            ask("2", create(ANN)),
            ask("3", merge(ANN, BOB)),
            ask("4", note(BOB, "x")),
            ask("", note(BOB, "y")),
        ]);
        let bytes: Vec<_> = [ANN, BOB].iter().flat_map(|person| world.log.commits(id(person))).collect();
        let snapshots: Vec<_> = replica.snapshots.into_iter().map(|due| (due.person, due.bytes)).collect();
        (told, bytes, snapshots)
    };
    assert_eq!(story(), story());
}

/// A value lies deeper in a commit than in its command, and a reader of JSON gives up at some depth.
#[test]
fn whatever_is_accepted_can_be_read_again() {
    for depth in [99, 100, 101] {
        let world = World::new();
        let deep = (1..depth).fold(json!([]), |inner, _| json!([inner]));
        let mut command = note(ANN, "x");
        let attribute = &mut command["RecordAttribute"]["attribute"];
        attribute["attribute_type"] =
            json!({ "Custom": { "organization": "o", "attribute_name": "a", "category": "c" } });
        attribute["value"] = json!({ "Json": deep });
        let payload = serde_json::to_vec(&command).unwrap();
        let decoded = request::decode_commands(&payload);
        assert_eq!(decoded.is_ok(), depth <= 100, "{decoded:?}");
        if depth <= 100 {
            let mut replica = world.replica_with(Limits { snapshot_frequency: 1, ..LIMITS });
            assert_eq!(replica.tell([ask("1", create(ANN)), ask("2", command.clone())]).len(), 2);
            assert_eq!(world.history(ANN).version, 2);
            let again = "accepted v2 #1 AttributeRecorded again";
            assert_eq!(world.replica().tell([ask("2", command)]), [again]);
        }
    }
}
