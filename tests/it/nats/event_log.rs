//! The log on a single server.

use std::time::Duration;

use cim_domain_person::config::Config;
use cim_domain_person::domain::PersonId;
use cim_domain_person::engine::ports::{
    Append, Appended, AppendedTogether, Consistency, EventLog, Page, Read, Sequence,
};
use cim_domain_person::engine::trail::Trail;
use cim_domain_person::nats::NatsLog;
use serde_json::json;

use super::{log, open, prepared, settled};
use crate::port_contract::{append, check_event_log, read, store};
use crate::support::nats_server::NatsServer;
use crate::support::raw::Raw;
use crate::support::streams;
use crate::support::{PATIENCE, config, somebody};

#[test]
fn keeps_to_the_contract() {
    let server = NatsServer::start();
    let config = config(&server.url());
    check_event_log(&mut log(&prepared(&config), &config));
}

#[test]
fn keeps_to_the_contract_in_a_domain_and_under_a_longer_prefix() {
    let server = NatsServer::with_jetstream("domain: hub", "");
    let mut config = config(&server.url());
    config.nats.jetstream_domain = Some("hub".to_owned());
    config.subject_prefix = "person.eu".to_owned();
    check_event_log(&mut log(&prepared(&config), &config));
}

/// A configuration with atomic batches, and the log on the stream that the service makes.
fn batched(server: &NatsServer, len_max: usize) -> (Config, NatsLog) {
    let mut config = config(&server.url());
    config.store.batch_len_max = len_max;
    let log = log(&prepared(&config), &config).in_batches(len_max);
    (config, log)
}

#[test]
fn keeps_to_the_contract_in_atomic_batches() {
    let server = NatsServer::start();
    for len_max in [7, 1000] {
        let (_, mut log) = batched(&server, len_max);
        check_event_log(&mut log);
    }
}

#[test]
fn a_batch_is_stored_together_and_one_that_is_stale_costs_the_others_nothing() {
    let server = NatsServer::start();
    let (_, mut log) = batched(&server, 8);
    let persons: Vec<PersonId> = (0..20).map(|_| somebody()).collect();
    let stale = store(&mut log, persons[9], 0, b"a rival's");
    let appends: Vec<Append> = persons.iter().map(|person| append(*person, 0, *b"first")).collect();
    let outcomes = log.append(&appends);
    let mut raw = Raw::connect(server.port());
    for (index, (append, outcome)) in appends.iter().zip(&outcomes).enumerate() {
        if index == 9 {
            assert_eq!(outcome, &Appended::Conflict(Some(stale)));
            continue;
        }
        let Appended::Stored(sequence) = outcome else { panic!("{index}: {outcome:?}") };
        let page = read(&mut log, append.person, 0, Consistency::Leader);
        assert_eq!(page.commits.iter().map(|commit| commit.sequence).collect::<Vec<_>>(), [*sequence], "{index}");
        let question = json!({ "seq": sequence }).to_string();
        let stored = raw.request("$JS.API.DIRECT.GET.PERSON_EVENTS", question.as_bytes());
        // Three chunks: the one with the rival's person and the last one, which is too short, went one by one.
        assert_eq!(stored.headers.contains("Nats-Batch-Id"), index < 8, "{index}: {}", stored.headers);
    }
}

/// Somebody turned `allow_atomic` off behind the service's back: what can be stored singly is, and of what belongs together
/// nothing is.
#[test]
fn a_stream_that_lost_its_atomic_batches_stores_no_half_of_one() {
    let server = NatsServer::start();
    let (_, mut log) = batched(&server, 100);
    let stream = streams::configuration(server.port(), "PERSON_EVENTS");
    streams::update(server.port(), &streams::changed(stream, &json!({ "allow_atomic": false })));
    let appends: Vec<Append> = (0..10).map(|_| append(somebody(), 0, *b"1")).collect();
    let outcome = log.append_together(&appends);
    assert!(matches!(&outcome, AppendedTogether::Refused(why) if why.0.contains("atomic")), "{outcome:?}");
    let persons: Vec<PersonId> = appends.iter().map(|append| append.person).collect();
    assert!(log.tips(&persons).into_iter().all(|tip| tip == Ok(None)));
    let outcomes = log.append(&appends);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Appended::Stored(_))), "{outcomes:?}");
}

/// Under a `subject_transform` a person's first commit was acknowledged and lay where nobody ever reads: the expected
/// sequence, none, was right there too.
#[test]
fn a_first_commit_that_was_moved_is_not_stored() {
    let server = NatsServer::start();
    for len_max in [0, 1000] {
        let (config, log) = batched(&server, len_max);
        let mut log = log.in_batches(len_max);
        let known = somebody();
        let sequence = store(&mut log, known, 0, b"1");
        let good = streams::configuration(server.port(), "PERSON_EVENTS");
        let transform = json!({ "src": "person.events.*", "dest": "moved.{{wildcard(1)}}" });
        streams::update(server.port(), &streams::changed(good.clone(), &json!({ "subject_transform": transform })));
        let mut appends: Vec<Append> = (0..10).map(|_| append(somebody(), 0, *b"1")).collect();
        for outcome in log.append(&appends) {
            assert!(matches!(&outcome, Appended::Refused(why) if why.0.contains("subject_transform")), "{outcome:?}");
        }
        // They lie there now, and are not tried again.
        let conflicts = log.append(&appends);
        assert!(conflicts.iter().all(|outcome| matches!(outcome, Appended::Conflict(Some(_)))), "{conflicts:?}");
        let others: Vec<Append> = (0..10).map(|_| append(somebody(), 0, *b"1")).collect();
        let outcome = log.append_together(&others);
        assert!(
            matches!(&outcome, AppendedTogether::Refused(why) if why.0.contains("subject_transform")),
            "{outcome:?}"
        );
        // Whoever has a commit is told apart by the expected sequence.
        assert_eq!(log.append(&[append(known, sequence, *b"2")]), [Appended::Conflict(Some(0))]);
        streams::update(server.port(), &good);
        appends.push(append(known, sequence, *b"2"));
        let outcomes = log.append(&appends);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Appended::Stored(_))), "{outcomes:?}");
        drop(config);
    }
}

/// The domain is somewhere else: the service's own server has a JetStream too, which must not be used.
#[test]
fn keeps_to_the_contract_across_a_leaf_node() {
    let hub = NatsServer::with_jetstream("domain: hub", "leafnodes { listen: \"127.0.0.1:-1\" }\nserver_name: hub");
    let leaf_port = hub.leaf_port();
    let remotes = format!("leafnodes {{ remotes: [{{ url: \"nats://127.0.0.1:{leaf_port}\" }}] }}\nserver_name: leaf");
    let leaf = NatsServer::with_jetstream("domain: leaf", &remotes);
    let mut config = config(&leaf.url());
    config.nats.jetstream_domain = Some("hub".to_owned());
    let mut at_hub = Raw::connect(hub.port());
    crate::support::eventually("the leaf is linked", || {
        Raw::connect(leaf.port()).request("$JS.hub.API.INFO", b"").payload.starts_with(b"{")
    });
    let store = prepared(&config);
    check_event_log(&mut log(&store, &config));
    crate::port_contract::check_snapshot_store(&mut super::snapshots(&store, &config));
    assert!(at_hub.api("STREAM.INFO.PERSON_EVENTS", &json!(null))["state"]["messages"].as_u64() > Some(100));
}

#[test]
fn a_commit_bears_its_headers() {
    const SERVERS_HEADERS: [&str; 4] = ["Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"];
    let server = NatsServer::start();
    let config = config(&server.url());
    let mut log = log(&prepared(&config), &config);
    let person = somebody();
    let first = store(&mut log, person, 0, b"1");
    let mut second = append(person, first, *b"2");
    second.headers.traceparent = None;
    assert!(matches!(log.append(&[second])[..], [Appended::Stored(_)]));

    let mut raw = Raw::connect(server.port());
    let mut headers = |number: u64| {
        let answer = raw.request("$JS.API.DIRECT.GET.PERSON_EVENTS", json!({ "seq": number }).to_string().as_bytes());
        let is_ours = |line: &&str| line.contains(':') && !SERVERS_HEADERS.iter().any(|name| line.starts_with(name));
        let mut ours: Vec<String> = answer.headers.split("\r\n").filter(is_ours).map(str::to_owned).collect();
        ours.sort();
        ours
    };
    assert_eq!(
        headers(first),
        [
            "Content-Type:application/json",
            "Event-Type:PersonCreated,NameUpdated",
            "Nats-Expected-Last-Subject-Sequence:0",
            "Nats-Expected-Stream:PERSON_EVENTS",
            "Person-Version:2",
            "traceparent:00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ]
    );
    assert_eq!(
        headers(first + 1),
        [
            "Content-Type:application/json".to_owned(),
            "Earlier-Commits:1:".to_owned(),
            "Event-Type:PersonCreated,NameUpdated".to_owned(),
            format!("Nats-Expected-Last-Subject-Sequence:{first}"),
            "Person-Version:2".to_owned(),
        ]
    );
}

/// The stream refuses what goes beyond its limits: that is known at once, and known not to be stored.
#[test]
fn limits_of_the_stream_are_decisive() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let store_connection = open(&config);
    streams::create(server.port(), &streams::commits(&json!({ "max_msgs": 1 })));
    let mut log = log(&store_connection, &config);
    store(&mut log, somebody(), 0, b"full");
    let outcome = log.append(&[append(somebody(), 0, *b"more")]).remove(0);
    let Appended::Refused(why) = &outcome else { panic!("{outcome:?}") };
    assert!(why.0.contains("maximum messages exceeded"), "{why}");
}

#[test]
fn without_a_stream_nothing_is_stored() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let mut log = log(&open(&config), &config);
    assert!(matches!(log.append(&[append(somebody(), 0, *b"x")])[..], [Appended::Unavailable(_)]));
    assert!(log.tips(&[somebody()])[0].is_err());
    let read =
        Read { person: somebody(), start: 1, consistency: Consistency::Any, newest: None, commits_max: usize::MAX };
    assert!(log.read(&[read], usize::MAX)[0].is_err());
}

/// Another stream has our subjects in place of ours: what it says is not our stream's word.
#[test]
fn another_streams_acknowledgement_proves_nothing() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let other = json!({ "name": "OTHER", "subjects": ["person.events.>"] });
    Raw::connect(server.port()).api("STREAM.CREATE.OTHER", &other);
    let mut log = super::impatient_log(&open(&config), &config, Duration::from_millis(300));
    let person = somebody();
    assert_eq!(log.append(&[append(person, 0, *b"x")]), [Appended::Unknown]);
}

/// A stored message whose headers the client cannot read costs a connection each time that it is read directly. Its
/// person is read from the leader from then on, and nobody else notices.
#[test]
fn a_poisoned_history_is_read_all_the_same() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let store_connection = prepared(&config);
    let mut log = log(&store_connection, &config);
    let person = somebody();
    let first = store(&mut log, person, 0, b"1");
    let mut raw = Raw::connect(server.port());
    raw.stored(&format!("person.events.{person}"), "no colon\r\n", b"poison");
    let question = Read { person, start: 1, consistency: Consistency::Any, newest: None, commits_max: usize::MAX };
    // Nobody may answer while the connection comes back.
    let whole = |page: Page| assert_eq!(page.commits.len(), 2);
    log.read(&[question], usize::MAX).remove(0).map_or_else(drop, whole);
    settled(&store_connection);
    let generation = store_connection.connection().health().generation;
    let page = log.read(&[question], usize::MAX).remove(0).unwrap();
    let payloads: Vec<&[u8]> = page.commits.iter().map(|commit| &*commit.payload).collect();
    assert_eq!(payloads, [b"1".as_slice(), b"poison"]);
    assert_eq!(page.commits[0].sequence, first);
    assert_eq!(store_connection.connection().health().generation, generation, "the connection was not lost again");
}

/// A stranger's message that wears the server's own headers does not confuse a read.
#[test]
fn forged_headers_do_not_confuse_a_read() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let mut log = log(&prepared(&config), &config);
    let person = somebody();
    let first = store(&mut log, person, 0, b"1");
    let mut raw = Raw::connect(server.port());
    let subject = format!("person.events.{person}");
    let forged = "Nats-Sequence: 999\r\nNats-Last-Sequence: 7\r\nStatus: 204\r\nNats-Num-Pending: 0\r\n";
    raw.stored(&subject, forged, b"forged");
    raw.stored(&subject, "", b"");
    for consistency in [Consistency::Any, Consistency::Leader] {
        let page = read(&mut log, person, 1, consistency);
        let payloads: Vec<&[u8]> = page.commits.iter().map(|commit| &*commit.payload).collect();
        assert_eq!(payloads, [b"1".as_slice(), b"forged", b""], "{consistency:?}");
        assert_eq!(page.commits[0].sequence, first);
    }
}

/// What a fresh log reads of a person from these starts on is what the leader has.
#[track_caller]
fn reads_like_the_leader(log: &mut dyn EventLog, person: PersonId, starts: impl IntoIterator<Item = Sequence>) {
    for from in starts {
        let direct = read(log, person, from, Consistency::Any);
        let by_leader = read(log, person, from, Consistency::Leader);
        let up_to = direct.commits.len().min(by_leader.commits.len());
        assert!(up_to > 0 || by_leader.commits.is_empty(), "from {from}");
        assert_eq!(direct.commits[..up_to], by_leader.commits[..up_to], "from {from}");
        assert!(direct.more || direct.commits.len() >= by_leader.commits.len(), "from {from}");
    }
}

/// The server is never asked to search for them.
#[test]
fn a_scattered_history_is_read_by_its_sequences() {
    const COMMITS: usize = 300;
    let server = NatsServer::start();
    let config = config(&server.url());
    let store_connection = prepared(&config);
    let mut writer = log(&store_connection, &config);
    let person = somebody();
    let (mut expected, mut sequences, mut trail) = (0, Vec::new(), Trail::of_first());
    let write = |writer: &mut NatsLog, expected, payload: &str, trail: &Trail| {
        let mut append = append(person, expected, payload.as_bytes());
        append.headers.trail = trail.to_header();
        match writer.append(&[append])[..] {
            [Appended::Stored(sequence)] => (sequence, trail.next(sequence)),
            ref other => panic!("expected it to be stored: {other:?}"),
        }
    };
    for number in 0..COMMITS {
        let strangers: Vec<_> = (0..number % 7).map(|_| append(somebody(), 0, *b"somebody else's")).collect();
        writer.append(&strangers);
        (expected, trail) = write(&mut writer, expected, &number.to_string(), &trail);
        sequences.push(expected);
    }
    let mut observer = Raw::connect(server.port());
    observer.subscribe("$JS.API.DIRECT.GET.PERSON_EVENTS", 1);
    observer.sync();
    let mut reader = log(&store_connection, &config);
    let page = read(&mut reader, person, 1, Consistency::Any);
    assert_eq!(page.commits.iter().map(|commit| commit.sequence).collect::<Vec<_>>(), sequences);
    let tail = read(&mut reader, person, sequences[120], Consistency::Any);
    assert_eq!(tail.commits, page.commits[120..]);
    for _ in 0..COMMITS {
        let question = observer.next(PATIENCE).expect("a question for each commit").payload;
        assert!(!String::from_utf8_lossy(&question).contains("batch"));
    }
    reads_like_the_leader(&mut reader, person, [sequences[7], sequences[150] + 1, sequences[299], sequences[299] + 1]);
    // Who has read it goes on with its trail.
    let (newest, found) = page.newest.expect("the newest commit's trail");
    assert_eq!((newest, found.next(newest)), (expected, trail.clone()));
    let (next, _) = write(&mut reader, expected, "next", &trail);
    let page = read(&mut log(&store_connection, &config), person, 1, Consistency::Any);
    assert_eq!((page.commits.len(), page.commits.last().map(|commit| commit.sequence)), (COMMITS + 1, Some(next)));
}

/// Earlier releases wrote no trails; somebody else's may say anything.
#[test]
fn histories_without_trails_or_with_wrong_ones_are_read_all_the_same() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let store_connection = prepared(&config);
    let mut writer = log(&store_connection, &config);
    let strangers: Vec<_> = (0..50).map(|_| append(somebody(), 0, *b"somebody else's")).collect();
    writer.append(&strangers);
    let mut raw = Raw::connect(server.port());
    for (history, trail) in [
        "",
        "Earlier-Commits: 1:\r\n",
        "Earlier-Commits: 5:1,1,1,1\r\n",
        "Earlier-Commits: 2:1\r\n",
        "Earlier-Commits: 18446744073709551615:1\r\n",
        "Earlier-Commits: nonsense\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let person = somebody();
        let mut before = 0;
        for number in 0..40 {
            // Ours now and then, as when releases are mixed.
            if number % 11 == history {
                before = store(&mut log(&store_connection, &config), person, before, b"ours");
                continue;
            }
            let headers = format!("Nats-Expected-Last-Subject-Sequence: {before}\r\n{trail}");
            before = raw.stored(&format!("person.events.{person}"), &headers, b"theirs");
        }
        reads_like_the_leader(&mut log(&store_connection, &config), person, [0, 1, before - 20, before, before + 1]);
    }
}
