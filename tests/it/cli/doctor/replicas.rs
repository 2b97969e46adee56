//! What `doctor` says of the replicas: which versions run, and which of them do not share the persons. Replicas of other
//! releases, and such as do not hear each other, are played: each is an answer to the question who is there.

use super::*;
use crate::daemon::process::Service;

/// This release.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a replica answers that counts so many members.
fn replica(id: &str, protocol: u8, cluster: &str, members: usize) -> Value {
    json!({"type": "io.nats.micro.v1.ping_response", "name": "person-service", "id": id, "version": VERSION,
        "metadata": {"cluster": cluster, "protocol": protocol.to_string(), "members": members.to_string()}})
}

/// Answers as these replicas do, as long as it is asked: a doctor waits half a second, and not all answers may come in time
/// on a busy machine.
fn play(server: &NatsServer, replicas: Vec<Value>) {
    let mut player = Raw::connect(server.port());
    player.subscribe("$SRV.PING.person-service", 1);
    player.sync();
    std::thread::spawn(move || {
        while let Some(asked) = player.next(PATIENCE) {
            let reply = asked.reply.expect("a reply subject");
            replicas.iter().for_each(|replica| player.publish(&reply, "", replica.to_string().as_bytes()));
        }
    });
}

/// What real ones answer is what is read.
#[test]
fn real_replicas_that_count_each_other_are_ok() {
    let place = Place::start();
    let _second = Service::start(&place.server.url(), &[]);
    eventually("both count both", || {
        let found = Found::on(&place.server, &[]);
        let has_both = found.all("ok").iter().any(|line| line.starts_with("replicas: 2 replicas run"));
        has_both && found.all("warning").is_empty()
    });
}

#[test]
fn replicas_of_different_versions_are_a_warning() {
    let place = Place::start();
    let mut newer = replica("X", 2, "", 1);
    newer["version"] = "9.9.9".into();
    play(&place.server, vec![newer]);
    let found = Found::when(&place.server, "2 replicas run").ended(1);
    found.says(
        "warning",
        "replicas",
        &format!("2 replicas run, of different versions: 1 of version {VERSION}, 1 of version 9.9.9"),
    );
    found.says("warning", "replicas", "with each other: hand-over version 1 in no cluster: ");
    found.says("warning", "replicas", "; hand-over version 2 in no cluster: X");
}

/// Of replicas that cannot share the persons only those of one cluster were compared, and of those that miscount it said how
/// many each counts and not which one it is.
#[test]
fn those_that_do_not_share_the_persons_are_named() {
    let three = |members: [usize; 3]| {
        ["a", "b", "c"].iter().zip(members).map(|(id, members)| replica(id, 1, "C", members)).collect::<Vec<_>>()
    };
    let many = (1..=9).map(|number| replica(&format!("r{number}"), 1, "", 8)).collect::<Vec<_>>();
    // Who answers, how it ends, the verdict, and what is said besides how many run; nothing where all is well.
    let cases: [(Vec<Value>, i32, &str, &[&str]); 7] = [
        (vec![replica("a", 1, "", 1)], 0, "warning", &[]),
        (three([3, 3, 3]), 0, "warning", &[]),
        (
            three([2, 1, 2]),
            1,
            "warning",
            &["3 replicas do not count each other: b serves alone, a counts 2, c counts 2"],
        ),
        (three([3, 3, 4]), 1, "warning", &["3 replicas do not count each other: c counts 4"]),
        (
            many,
            1,
            "warning",
            &["9 replicas do not count each other: r1 counts 8, r2 counts 8, r3 counts 8, r4 counts 8, r5 counts 8, \
               r6 counts 8, r7 counts 8, r8 counts 8 and 1 more"],
        ),
        (
            [three([3, 3, 3]), vec![replica("d", 2, "C", 1)]].concat(),
            1,
            "warning",
            &[
                "they do not all share the persons with each other: hand-over version 1 in cluster C: a, b, c; hand-over \
                 version 2 in cluster C: d",
            ],
        ),
        // A region each: as it may well be meant.
        (
            [three([3, 3, 3]), vec![replica("d", 1, "", 1)]].concat(),
            0,
            "note",
            &[
                "they do not all share the persons with each other: hand-over version 1 in no cluster: d; hand-over version 1 \
                 in cluster C: a, b, c",
            ],
        ),
    ];
    for (replicas, status, verdict, expected) in cases {
        let server = NatsServer::start();
        let len = replicas.len();
        play(&server, replicas);
        let run = if len == 1 { "1 replica runs".to_owned() } else { format!("{len} replicas run") };
        let found = Found::when(&server, &run).ended(status);
        found.says("ok", "replicas", &format!("{run}: {len} of version {VERSION}; this is {VERSION}"));
        let said = |verdict: &str| {
            let all = found.all(verdict).into_iter();
            all.filter_map(|line| Some(line.strip_prefix("replicas: ")?.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(said(verdict), expected);
        let other = if verdict == "note" { "warning" } else { "note" };
        assert_eq!(said(other), [""; 0]);
    }
}
