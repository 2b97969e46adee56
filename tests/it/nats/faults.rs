//! The harm that a network and a server do, and what the store says then: never more than it knows.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cim_domain_person::engine::ports::{Appended, Consistency, EventLog};
use cim_domain_person::nats::{Connection, NotSent, OpenError};

use super::{impatient_log, log, open, prepared, settled};
use crate::port_contract::{append, read, store};
use crate::support::nats_server::NatsServer;
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::{PATIENCE, config, eventually, somebody};

/// Health counts in whole milliseconds.
const MILLIS_ROUNDED: Duration = Duration::from_millis(5);

const IMPATIENCE: Duration = Duration::from_millis(300);

fn payloads(log: &mut dyn EventLog, person: cim_domain_person::domain::PersonId) -> Vec<Vec<u8>> {
    read(log, person, 1, Consistency::Leader).commits.iter().map(|commit| commit.payload.to_vec()).collect()
}

/// How much lies in the stream.
fn stored(server: &NatsServer) -> u64 {
    let info = Raw::connect(server.port()).api("STREAM.INFO.PERSON_EVENTS", &serde_json::Value::Null);
    info["state"]["messages"].as_u64().expect("a count")
}

/// Stores something for somebody, with whom this log has to hurry: on a busy machine that may take some tries.
fn stored_by_an_impatient(log: &mut dyn EventLog) -> (cim_domain_person::domain::PersonId, u64) {
    let mut done = None;
    eventually("something is stored in time", || {
        let person = somebody();
        if let [Appended::Stored(sequence)] = log.append(&[append(person, 0, *b"next")])[..] {
            done = Some((person, sequence));
        }
        done.is_some()
    });
    done.expect("it is stored")
}

/// The commit is in the stream, its acknowledgement is not here: nothing is claimed, nothing is sent again.
#[test]
fn a_lost_acknowledgement_leaves_it_unknown() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let config = config(&proxy.url());
    let connection = prepared(&config);
    let mut log = impatient_log(&connection, &config, IMPATIENCE);
    let person = somebody();
    proxy.lose_answers(true);
    assert_eq!(log.append(&[append(person, 0, *b"x")]), [Appended::Unknown]);
    eventually("the server has it", || stored(&server) == 1);
    proxy.lose_answers(false);
    proxy.cut();
    settled(&connection);
    let mut log = self::log(&connection, &config);
    assert_eq!(payloads(&mut log, person), [b"x"]);
    assert!(matches!(log.append(&[append(person, 0, *b"x")])[..], [Appended::Conflict(_)]));
}

/// A connection that was let go of stayed open at the server until its next ping, two minutes later: each failed attempt to
/// start left two, and a server with `max_connections` was full of them.
#[test]
fn a_connection_that_is_let_go_of_is_closed() {
    let server = NatsServer::with("max_connections: 3");
    let config = config(&server.url());
    for _ in 0..3 * 3 {
        eventually("there is room for another", || Connection::open(&config.nats, "store").is_ok());
    }
}

/// A late answer belongs to a question long given up: it must not be taken for the answer to a later one.
#[test]
fn a_late_acknowledgement_is_nobodys() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let config = config(&proxy.url());
    let connection = prepared(&config);
    let mut log = impatient_log(&connection, &config, IMPATIENCE);
    let late = somebody();
    proxy.stall(true);
    assert_eq!(log.append(&[append(late, 0, *b"late")]), [Appended::Unknown]);
    proxy.stall(false);
    settled(&connection);
    let (next, sequence) = stored_by_an_impatient(&mut log);
    let mut log = self::log(&connection, &config);
    assert_eq!(read(&mut log, next, 1, Consistency::Leader).commits[0].sequence, sequence);
    assert_eq!(payloads(&mut log, late), [b"late"]);
}

/// A wait does not last to its end when the connection that would bring the answer is gone.
#[test]
fn a_lost_connection_ends_the_wait() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let config = config(&proxy.url());
    let connection = prepared(&config);
    // Longer than anybody waits for this test.
    let mut log = impatient_log(&connection, &config, 10 * PATIENCE);
    proxy.lose_answers(true);
    let waiting = std::thread::spawn(move || log.append(&[append(somebody(), 0, *b"x")]).remove(0));
    eventually("it waits for an answer", || stored(&server) == 1);
    // In this order: on a busy machine the answer may be that late.
    proxy.cut();
    proxy.lose_answers(false);
    eventually("the wait ends", || waiting.is_finished());
    assert_eq!(waiting.join().unwrap(), Appended::Unknown);
}

#[test]
fn nothing_is_sent_while_the_server_is_away() {
    let mut server = NatsServer::start();
    let config = config(&server.url());
    let connection = prepared(&config);
    let mut log = log(&connection, &config);
    let person = somebody();
    server.kill();
    eventually("the loss is noticed", || !connection.connection().health().connected);
    assert_eq!(connection.publish("a", None, &[], b""), Err(NotSent::Away));
    assert!(matches!(log.append(&[append(person, 0, *b"x")])[..], [Appended::Unavailable(_)]));
    assert!(log.tips(&[person])[0].is_err());
    server.restart();
    settled(&connection);
    assert_eq!(payloads(&mut log, person), [[0_u8; 0]; 0], "nothing was kept and sent later");
    store(&mut log, person, 0, b"y");
}

#[test]
fn nothing_is_sent_to_a_mute_server() {
    let server = NatsServer::start();
    let config = config(&server.url());
    let connection = prepared(&config);
    let mut log = log(&connection, &config);
    let person = somebody();
    // A second and a half later another session is tried, which may come first on a busy machine.
    eventually("it is seen before anybody has noticed, while the silence grows", || {
        server.freeze();
        eventually("the silence is noticed", || connection.publish("a", None, &[], b"").is_err());
        let is_mute = matches!(connection.publish("a", None, &[], b""), Err(NotSent::Mute(_)));
        assert!(matches!(log.append(&[append(person, 0, *b"x")])[..], [Appended::Unavailable(_)]));
        let is_seen = is_mute && connection.connection().health().connected;
        server.thaw();
        settled(&connection);
        is_seen
    });
    store(&mut log, person, 0, b"y");
}

/// What is said to be stored is, what is said not to be is not, whatever is killed in between.
#[test]
fn a_server_killed_in_the_middle_of_appends_makes_no_liar_of_the_log() {
    let mut server = NatsServer::start();
    let config = config(&server.url());
    let connection = prepared(&config);
    let mut log = log(&connection, &config);
    let mut appended = Vec::new();
    let stored = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            for _ in 0..4 {
                let before = stored.load(SeqCst);
                eventually("appends go on", || stored.load(SeqCst) > before);
                server.restart();
            }
        });
        while !killer.is_finished() {
            let batch: Vec<_> = (0..50).map(|_| append(somebody(), 0, *b"commit")).collect();
            let outcomes = log.append(&batch);
            let count = outcomes.iter().filter(|outcome| matches!(outcome, Appended::Stored(_))).count();
            stored.fetch_add(count, SeqCst);
            appended.extend(batch.into_iter().map(|append| append.person).zip(outcomes));
        }
    });
    settled(&connection);
    let persons: Vec<_> = appended.iter().map(|(person, _)| *person).collect();
    let mut counts = [0; 3];
    for (tip, (_, outcome)) in log.tips(&persons).into_iter().zip(&appended) {
        let tip = tip.unwrap();
        match outcome {
            Appended::Stored(sequence) => assert_eq!(tip.map(|tip| tip.sequence), Some(*sequence)),
            Appended::Unavailable(why) | Appended::Refused(why) => assert_eq!(tip, None, "{why}"),
            Appended::Unknown => {}
            Appended::Conflict(_) => panic!("nobody else writes"),
        }
        counts[match outcome {
            Appended::Stored(_) => 0,
            Appended::Unavailable(_) => 1,
            _ => 2,
        }] += 1;
    }
    println!("stored {}, refused {}, unknown {}", counts[0], counts[1], counts[2]);
    assert!(counts[0] > 0);
}

#[test]
fn a_connection_comes_back_again_and_again() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let config = config(&proxy.url());
    let connection = prepared(&config);
    let mut log = log(&connection, &config);
    let generation = || connection.connection().health().generation;
    // Who is away for two seconds, on a busy machine, opens another session as well.
    eventually("each time is one generation", || {
        let begun = generation();
        for _ in 0..5 {
            let before = generation();
            proxy.cut();
            eventually("the loss is noticed", || generation() > before);
            settled(&connection);
            store(&mut log, somebody(), 0, b"x");
        }
        generation() == begun + 5
    });
}

#[test]
fn a_slow_network_is_only_slow() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    proxy.delay(Duration::from_millis(30));
    let config = config(&proxy.url());
    let mut log = log(&prepared(&config), &config);
    let person = somebody();
    store(&mut log, person, 0, b"x");
    assert_eq!(payloads(&mut log, person), [b"x"]);
}

/// The client would say `Ok` and the server would cut the connection, with all that is under way on it.
#[test]
fn what_is_too_large_is_not_sent() {
    let server = NatsServer::with("max_payload: 1000");
    let connection = open(&config(&server.url()));
    assert_eq!(connection.message_bytes_max(), 1000);
    connection.publish("a", None, &[], &[0; 1000]).unwrap();
    assert!(matches!(connection.publish("a", None, &[], &[0; 1001]), Err(NotSent::TooLarge { bytes: 1001, .. })));
    let headers = [("Name", "value")];
    let room = 1000 - "NATS/1.0\r\nName:value\r\n\r\n".len();
    connection.publish("a", None, &headers, &vec![0; room]).unwrap();
    assert!(connection.publish("a", None, &headers, &vec![0; room + 1]).is_err());
    settled(&connection);
    assert_eq!(connection.connection().health().generation, 0);
}

#[test]
fn an_idle_connection_shows_that_it_lives() {
    let server = NatsServer::start();
    let connection = open(&config(&server.url()));
    settled(&connection);
    for _ in 0..3 {
        let begun = Instant::now();
        eventually("the server is heard though nothing is asked of it", || {
            let passed = begun.elapsed();
            let health = connection.connection().health();
            assert!(health.connected, "{health:?}");
            health.silent_for + MILLIS_ROUNDED < passed
        });
    }
}

/// The client's own reconnect has no reason to give and no limit. After two seconds the connection opens another session as
/// at the start, and says why it cannot; when it can, everything goes on over the same store, and counts as another generation.
#[test]
fn a_connection_that_stays_away_is_opened_anew() {
    let mut server = NatsServer::start();
    let config = config(&server.url());
    let connection = prepared(&config);
    let mut log = log(&connection, &config);
    server.kill();
    eventually("the reason is known", || {
        connection.connection().trouble().is_some_and(|why| why.to_string().contains("refused"))
    });
    assert!(connection.connection().failures().count() > 0);
    eventually("the client has given up by itself", || {
        connection.connection().health().away_for > Duration::from_secs(4)
    });
    let away = connection.connection().health();
    assert!(!away.connected, "{away:?}");
    server.restart();
    let back = Instant::now();
    settled(&connection);
    println!("back {:?} after the server", back.elapsed());
    assert!(connection.connection().health().generation > away.generation, "what was under way is lost");
    store(&mut log, somebody(), 0, b"x");
    eventually("no trouble any more", || connection.connection().trouble().is_none());
}

/// A connection that stands open and mute was let go of by a new process alone, after two minutes. A way that swallows what
/// is sent on connections of before, and takes new ones, is found out by another session.
#[test]
fn a_connection_that_is_mute_is_opened_anew() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let config = config(&proxy.url());
    let connection = prepared(&config);
    let mut log = impatient_log(&connection, &config, IMPATIENCE);
    let person = somebody();
    proxy.abandon();
    assert_eq!(log.append(&[append(person, 0, *b"x")]), [Appended::Unknown]);
    let begun = Instant::now();
    eventually("another session is there", || connection.connection().health().generation > 0);
    println!("replaced after {:?}", begun.elapsed());
    settled(&connection);
    store(&mut self::log(&connection, &config), person, 0, b"y");
    assert!(connection.connection().close(PATIENCE));
}

/// A server that greets and then says nothing, before or behind one that answers: the client tries them in any order and
/// waits for each without end.
#[test]
fn a_server_that_greets_and_no_more_does_not_hide_the_others() {
    let server = NatsServer::start();
    let greeting = Raw::greeting(server.port()).unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", silent.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut connection in silent.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut connection, format!("INFO {greeting}\r\n").as_bytes());
            kept.push(connection);
        }
    });
    let mut config = config(&server.url());
    config.nats.urls.insert(0, url);
    let connection = opened_patiently(&config);
    let proxied = connection.connection();
    for _ in 0..2 {
        let generation = proxied.health().generation;
        proxied.renew();
        eventually("another session is there", || proxied.health().generation > generation);
        settled(&connection);
    }
}

/// The first attempt may meet the server that only greets; the start tries again as well.
fn opened_patiently(config: &cim_domain_person::config::Config) -> cim_domain_person::nats::Store {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        match Connection::open(&config.nats, "store") {
            Ok(connection) => return cim_domain_person::nats::Store::new(connection.into()),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

#[test]
fn opening_says_why_it_does_not() {
    let mut server = NatsServer::start();
    let config = config(&server.url());
    server.freeze();
    // It may greet once more before it stands still.
    eventually("a server that says nothing is told from one that is not there", || {
        let away = Connection::open(&config.nats, "store").unwrap_err();
        matches!(&away, OpenError::Away(why) if why.contains("says nothing"))
    });
    server.thaw();
    server.kill();
    let away = Connection::open(&config.nats, "store").unwrap_err();
    assert!(matches!(&away, OpenError::Away(why) if why.contains(&config.nats.urls[0])), "{away}");
}

#[test]
fn one_server_of_several_is_enough() {
    let server = NatsServer::start();
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&server.url());
    config.nats.urls.push(format!("nats://{}", mute.local_addr().unwrap()));
    config.nats.urls.push("nats://127.0.0.1:1".to_owned());
    settled(&open(&config));
}

#[test]
fn closing_sends_off_what_was_written() {
    let server = NatsServer::start();
    let mut raw = Raw::connect(server.port());
    raw.subscribe("last.words", 1);
    raw.sync();
    let connection = open(&config(&server.url()));
    connection.publish("last.words", None, &[], b"farewell").unwrap();
    assert!(connection.connection().close(PATIENCE));
    assert_eq!(raw.next(PATIENCE).unwrap().payload, b"farewell");
    assert_eq!(connection.publish("a", None, &[], b""), Err(NotSent::Away));
}

#[test]
fn closing_does_not_hang_while_the_server_is_away_or_mute() {
    let mut server = NatsServer::start();
    let (one, two) = (open(&config(&server.url())), open(&config(&server.url())));
    server.freeze();
    let mute = std::thread::spawn(move || one.connection().close(IMPATIENCE));
    eventually("it ends while the server is mute", || mute.is_finished());
    assert!(!mute.join().unwrap());
    server.thaw();
    server.kill();
    eventually("the loss is noticed", || !two.connection().health().connected);
    // Between two attempts to connect again the client lets go at once, in the midst of one it does not.
    let away = std::thread::spawn(move || two.connection().close(IMPATIENCE));
    eventually("it ends while the server is away", || away.is_finished());
}
