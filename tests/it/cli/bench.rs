//! `person-service bench`: a second of load for a real service, and what it says about it.

use super::*;

/// A bench with a result for programs.
fn measured(place: &Place, args: &[&str]) -> Value {
    let mut all = vec!["bench", "--json", "--leave-test-persons", "--persons", "20"];
    all.extend(args);
    place.run(&all).done().json()
}

#[test]
fn a_load_is_answered_and_measured() {
    let place = Place::start();
    let service = place.service.as_ref().expect("it runs").id().to_string();
    let mix = "create=1,update=5,attribute=2,array=2,query=5";
    let result = measured(&place, &["--commands", "300", "--mix", mix, "--connections", "2", "--pid", &service]);
    assert_eq!((&result["accepted"], &result["problems"]), (&json!(300), &json!({})), "{result}");
    assert_eq!(result["load"]["mix"], mix);
    assert_eq!(result["processes"][0]["name"], "person-service");
    assert!(result["processes"][0]["resident_bytes"].as_u64() > Some(1 << 20), "{result}");
    assert!(result["generator"]["cpu_seconds"].as_f64() > Some(0.0), "{result}");
    let latency = |name: &str| result["latency_ms"][name].as_f64().expect("a number");
    assert!(latency("min") > 0.0 && latency("p50") <= latency("p99") && latency("p99") <= latency("max"), "{result}");

    // 20 persons, each created with an attribute, and what the mix brought.
    let history = |person: &str| {
        let text = place.run(&["history", person, "--all", "--json"]).done().stdout;
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    let events = place.run(&["bench", "--leave-test-persons", "--persons", "1", "--history", "3", "--prepare-only"]);
    assert_eq!(events.done().stdout, "1 person is there, of 3 commits each\n");
    let first = place.run(&["bench", "--leave-test-persons", "--persons", "1", "--cold", "--mix", "query", "--json"]);
    assert_eq!(first.done().json()["accepted"], 1);
    // The first person of seed 1, by the rule that makes ids of seeds and numbers.
    let hash = blake3::hash(b"person-service bench 1 0");
    let bytes = hash.as_bytes().first_chunk::<16>().expect("a hash is longer");
    let person = uuid::Builder::from_custom_bytes(*bytes).into_uuid().to_string();
    let events = history(&person);
    assert!(events.len() >= 4, "{events:?}");
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["event"].as_object().expect("one").keys().next().expect("a type").as_str())
        .collect();
    assert_eq!(kinds[..2], ["PersonCreated", "AttributeRecorded"]);
}

#[test]
fn for_a_time_at_a_rate_or_over_each_person_once() {
    let place = Place::start();
    let result =
        measured(&place, &["--duration", "300ms", "--warm-up", "0s", "--rate", "100", "--distribution", "zipf"]);
    // Thirty are due, and none before it is.
    assert!((1..=31).contains(&result["accepted"].as_u64().expect("a number")), "{result}");
    assert_eq!(result["seconds"], 0.3);
    let result = measured(&place, &["--distribution", "each", "--in-flight", "1"]);
    assert_eq!(result["accepted"], 20);
    // Each person once is done long before the time is over, and the rate is that of what it took.
    let result = measured(&place, &["--distribution", "each", "--duration", "1h", "--in-flight", "2"]);
    assert!(result["accepted"] == 20 && result["seconds"].as_f64() < Some(600.0), "{result}");
    place.run(&["bench", "--leave-test-persons", "--in-flight", "1", "--connections", "2"]).ended(64, "is too few");
    // Nothing was sent, so nobody was silent.
    let result = measured(&place, &["--duration", "0s", "--warm-up", "0s"]);
    assert_eq!((&result["accepted"], &result["per_second"]), (&json!(0), &json!(0.0)), "{result}");
    let shown = place
        .run(&["bench", "--leave-test-persons", "--persons", "20", "--commands", "40", "--distribution", "one"])
        .done();
    for said in ["20 persons, one; update=1; 64 in flight", "40 in", "a second", "p99.9", "CPU of bench"] {
        assert!(shown.stdout.contains(said), "{said} is not in\n{}", shown.stdout);
    }
}

/// At a rate that cannot be kept each message is sent long after it was due: what was sent a moment ago was taken for
/// unanswered.
#[test]
fn what_leaves_late_is_waited_for_like_everything_else() {
    let place = Place::start();
    // An answer is waited for during COMMAND_TIMEOUT and a second.
    let late = ["--duration", "1500ms", "--warm-up", "0s", "--rate", "10000000", "--in-flight", "1"];
    let mut result = Value::Null;
    // On a busy machine an answer may well take that long.
    eventually("all are answered", || {
        result = measured(&place, &[&late[..], &["--command-timeout", "100ms"]].concat());
        result["problems"] == json!({})
    });
    assert!(result["latency_ms"]["max"].as_f64() > Some(1100.0), "some left so late: {result}");
}

#[test]
fn test_persons_are_written_only_where_that_was_meant() {
    let place = Place::without_service();
    place.run(&["bench"]).ended(64, "or say --leave-test-persons");
    place.run(&["bench", "--subject-prefix", "eu.person"]).ended(64, "SUBJECT_PREFIX is eu.person");
    // With a prefix for load, or the word, it goes on, as far as to see that nobody is there.
    for args in [&["bench", "--subject-prefix", "eu.bench"][..], &["bench", "--leave-test-persons"]] {
        place.run(args).ended(69, "no replica of the service listens");
        place.run(&[args, &["--cold", "--commands", "1"]].concat()).ended(69, "no replica of the service listens");
    }
}

#[test]
fn what_is_refused_is_counted_by_its_code() {
    let place = Place::start();
    // Nobody wrote these persons.
    let args = ["bench", "--leave-test-persons", "--persons", "5", "--seed", "9", "--cold", "--json"];
    let ended = place.run(&args).ended(1, "5 were not accepted: see their codes");
    assert_eq!(ended.json()["problems"], json!({"person_not_found": 5}));
    let gone = u32::MAX.to_string();
    place.run(&["bench", "--leave-test-persons", "--pid", &gone]).ended(78, "there is no such process");
}
