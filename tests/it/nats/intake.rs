//! Receiving what strangers send, and leaving without losing any of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use cim_domain_person::nats::{Incoming, Intake, Left};
use cim_domain_person::wire::request::Header;

use crate::support::nats_server::NatsServer;
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;
use crate::support::{PATIENCE, config, eventually};

fn open(url: &str) -> Intake {
    Intake::open(&config(url).nats).unwrap()
}

#[test]
fn a_message_comes_with_all_its_parts() {
    let server = NatsServer::start();
    let intake = open(&server.url());
    let group = intake.join("person.commands.>", Some("person-service")).unwrap();
    assert!(intake.settle(PATIENCE));
    let mut raw = Raw::connect(server.port());
    let headers = b"NATS/1.0\r\nNats-Msg-Id: c1\r\nTwice: a\r\nTwice: b\r\nEmpty:\r\n\r\n";
    raw.publish_with_headers("person.commands.x", "_INBOX.r", headers, b"payload");
    raw.publish("person.commands.y", "", b"");
    let first = group.arrivals().recv_timeout(PATIENCE).unwrap();
    assert_eq!((first.subject(), first.reply()), ("person.commands.x", Some("_INBOX.r")));
    assert_eq!(first.header("Nats-Msg-Id"), Header::One("c1"));
    assert_eq!(first.header("Twice"), Header::Several);
    assert_eq!(first.header("Empty"), Header::One(""));
    assert_eq!(first.header("Actor"), Header::Absent);
    assert_eq!(first.into_payload(), b"payload");
    let second = group.arrivals().recv_timeout(PATIENCE).unwrap();
    assert_eq!((second.reply(), second.payload(), second.header("A")), (None, b"".as_slice(), Header::Absent));
}

#[test]
fn members_of_a_group_share_and_others_get_all() {
    let server = NatsServer::start();
    let intakes: Vec<Intake> = (0..3).map(|_| open(&server.url())).collect();
    let groups: Vec<_> = intakes.iter().map(|intake| intake.join("work", Some("crew")).unwrap()).collect();
    let watcher = intakes[0].join("work", None).unwrap();
    assert!(intakes.iter().all(|intake| intake.settle(PATIENCE)));
    let mut raw = Raw::connect(server.port());
    for _ in 0..300 {
        raw.publish("work", "", b"x");
    }
    raw.sync();
    assert!(intakes.iter().all(|intake| intake.settle(PATIENCE)));
    let shares: Vec<usize> = groups.iter().map(|group| group.arrivals().len()).collect();
    assert_eq!(shares.iter().sum::<usize>(), 300, "{shares:?}");
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    assert_eq!(watcher.arrivals().len(), 300);
}

/// Pins what leaving relies on: the client counts its subscriptions from 1 and writes subjects as they are. Each group
/// here is left in another order than it was joined in, and the server forgets that one and no other.
#[test]
fn leaving_concerns_the_group_that_is_left() {
    let server = NatsServer::start();
    let intake = open(&server.url());
    let mut raw = Raw::connect(server.port());
    let [a, b, c] = ["a", "b", "c"].map(|subject| intake.join(subject, Some("crew")).unwrap());
    assert!(intake.settle(PATIENCE));
    let heard = |raw: &mut Raw| ["a", "b", "c", "d"].map(|subject| raw.has_listener(subject));
    assert_eq!(heard(&mut raw), [true, true, true, false]);
    assert_eq!(b.leave(PATIENCE), Left::Complete);
    assert_eq!(heard(&mut raw), [true, false, true, false]);
    let d = intake.join("d", Some("crew")).unwrap();
    let b = intake.join("b", Some("crew")).unwrap();
    assert!(intake.settle(PATIENCE));
    assert_eq!(heard(&mut raw), [true, true, true, true]);
    assert_eq!(d.leave(PATIENCE), Left::Complete);
    assert_eq!(a.leave(PATIENCE), Left::Complete);
    assert_eq!(heard(&mut raw), [false, true, true, false]);
    drop((b, c));
    assert_eq!(intake.health().generation, 0, "the server took no offence");
}

#[test]
fn a_group_that_was_left_is_not_joined_again_by_a_reconnect() {
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let intake = open(&proxy.url());
    let mut raw = Raw::connect(server.port());
    let (left, kept) = (intake.join("left", None).unwrap(), intake.join("kept", None).unwrap());
    assert_eq!(left.leave(PATIENCE), Left::Complete);
    proxy.cut();
    eventually("the loss is noticed", || intake.health().generation >= 1);
    eventually("the intake is back", || intake.settle(Duration::from_secs(1)));
    eventually("the other group is joined again", || raw.has_listener("kept"));
    assert!(!raw.has_listener("left"));
    drop(kept);
}

/// Two replicas under load take turns in leaving and joining again: every message reaches one of them.
#[test]
fn nothing_is_lost_by_leaving_under_load() {
    const MESSAGES_PER_BURST: u64 = 40;
    const BURST_INTERVAL: Duration = Duration::from_millis(2);
    const ROUNDS: u32 = 60;
    let server = NatsServer::start();
    let (steady, changing) = (open(&server.url()), open(&server.url()));
    let group = steady.join("work", Some("crew")).unwrap();
    assert!(steady.settle(PATIENCE));
    let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (mut received, mut rounds) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut raw = Raw::connect(server.port());
            while !stop.load(SeqCst) {
                for _ in 0..MESSAGES_PER_BURST {
                    raw.publish("work", "", &[b'x'; 200]);
                }
                sent.fetch_add(MESSAGES_PER_BURST, SeqCst);
                std::thread::sleep(BURST_INTERVAL);
            }
            raw.sync();
        });
        while rounds < ROUNDS {
            let group = changing.join("work", Some("crew")).unwrap();
            assert!(changing.settle(PATIENCE));
            std::thread::sleep(Duration::from_millis(10));
            let arrivals = group.arrivals();
            assert_eq!(group.leave(PATIENCE), Left::Complete);
            while arrivals.recv_timeout(PATIENCE).is_ok() {
                received += 1;
            }
            rounds += 1;
        }
        stop.store(true, SeqCst);
    });
    assert!(steady.settle(PATIENCE));
    let arrivals = group.arrivals();
    while arrivals.try_recv().is_ok() {
        received += 1;
    }
    let sent = sent.load(SeqCst);
    println!("{rounds} times left, {sent} messages");
    assert_eq!(received, sent);
}

#[test]
fn leaving_while_the_server_is_away_ends_in_time() {
    let mut server = NatsServer::start();
    let intake = open(&server.url());
    let group = intake.join("work", Some("crew")).unwrap();
    assert!(intake.settle(PATIENCE));
    server.kill();
    assert_eq!(group.leave(Duration::from_millis(300)), Left::Abrupt);
    server.restart();
    eventually("the intake is back", || intake.settle(Duration::from_secs(1)));
    assert!(!Raw::connect(server.port()).has_listener("work"), "what was left stays left");
}

/// Whoever may send commands may send these, and the client drops the connection for most of them.
#[test]
fn poison_costs_a_quick_reconnect_at_most() {
    let server = NatsServer::start();
    let intake = open(&server.url());
    let group = intake.join("person.commands.>", Some("person-service")).unwrap();
    assert!(intake.settle(PATIENCE));
    let arrivals = group.arrivals();
    let mut raw = Raw::connect(server.port());
    let message = |subject: &str, block: &[u8]| {
        let line = format!("HPUB {subject} {} {}\r\n", block.len(), block.len());
        [line.as_bytes(), block, b"\r\n"].concat()
    };
    let poisons = [
        message("person.commands.x", b"NATS/1.0\r\nno colon\r\n\r\n"),
        message("person.commands.x", b"NATS/1.0\r\nName: \xff\xfe\r\n\r\n"),
        message("person.commands.x", b"NATS/9.9\r\n\r\n"),
        message("person.commands.x", b"NATS/1.0 503\r\n\r\n"),
        message("person.commands.x", b"NATS/1.0\r\n\r\n"),
        message("person.commands.x", b"NATS/1.0\r\n: no name\r\n\r\n"),
        message("person.commands.\u{3000}", b"NATS/1.0\r\n\r\n"),
        message("person.commands.a\u{a0}b", b"NATS/1.0\r\n\r\n"),
        message("person.commands.\u{b}", b"NATS/1.0\r\n\r\n"),
        b"PUB person.commands.\xff 0\r\n\r\n".to_vec(),
    ];
    for poison in &poisons {
        let before = intake.health().generation;
        raw.send(poison);
        raw.sync();
        eventually("the intake receives again", || {
            while arrivals.try_recv().is_ok() {}
            raw.publish("person.commands.x", "", b"good");
            arrivals.recv_timeout(Duration::from_millis(50)).is_ok_and(|message: Incoming| message.payload() == b"good")
        });
        assert!(intake.health().generation <= before + 1);
    }
    println!("{} poisons cost {} reconnects", poisons.len(), intake.health().generation);
}
