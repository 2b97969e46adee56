//! `doctor` on healthy systems and on broken ones: what it says, how it ends, and that it changes nothing.

mod replicas;

use std::net::TcpListener;

use super::*;
use crate::nats::cluster::Cluster;
use crate::support::raw::Raw;
use crate::support::streams;

/// What was found.
pub struct Found {
    ended: Ended,
    json: Value,
}

impl Found {
    /// `doctor` with this environment.
    pub fn with(environment: &[(&str, &str)]) -> Self {
        let ended = Ended::of(person_service(&["doctor", "--json"], environment).output().expect("it runs"));
        let json = ended.json();
        assert_eq!(json["status"], ended.status, "{json}");
        Self { ended, json }
    }

    /// `doctor` on this server, with more settings.
    fn on(server: &NatsServer, more: &[(&str, &str)]) -> Self {
        let url = server.url();
        Self::with(&[&[("NATS_URL", url.as_str())], more].concat())
    }

    /// The same, once as many replicas answered in time as these words say.
    #[track_caller]
    fn when(server: &NatsServer, replicas: &str) -> Self {
        let mut found = None;
        eventually(replicas, || {
            let looked = Self::on(server, &[]);
            let shows = |line: &Value| line["about"] == "replicas" && text(&line["says"]).starts_with(replicas);
            let has_all = looked.findings().iter().any(shows);
            found = has_all.then_some(looked);
            has_all
        });
        found.expect("all of them")
    }

    fn findings(&self) -> &[Value] {
        self.json["findings"].as_array().expect("a list")
    }

    /// How it ended.
    pub fn status(&self) -> i32 {
        self.ended.status
    }

    /// All that was found of this verdict, `about: what it says`.
    pub fn all(&self, verdict: &str) -> Vec<String> {
        let of_it = self.findings().iter().filter(|finding| finding["verdict"] == verdict);
        of_it.map(|finding| format!("{}: {}", text(&finding["about"]), text(&finding["says"]))).collect()
    }

    /// There is a line of this verdict with these words.
    #[track_caller]
    fn says(&self, verdict: &str, about: &str, words: &str) -> &Value {
        let fits = |finding: &&Value| {
            finding["verdict"] == verdict && finding["about"] == about && text(&finding["says"]).contains(words)
        };
        let found = self.findings().iter().find(fits);
        found.unwrap_or_else(|| panic!("no {verdict} {about} {words:?} in {:#}", self.json))
    }

    #[track_caller]
    fn ended(self, status: i32) -> Self {
        assert_eq!(self.ended.status, status, "{:#}", self.json);
        self
    }

    /// The call that mends the stream or the bucket.
    #[track_caller]
    fn repair(&self, about: &str) -> (String, Value) {
        let finding = self.findings().iter().find(|finding| finding["about"] == about && !finding["repair"].is_null());
        let repair = &finding.unwrap_or_else(|| panic!("no repair of {about} in {:#}", self.json))["repair"];
        let call = text(&repair["subject"]).strip_prefix("$JS.API.").expect("a call").to_owned();
        (call, repair["config"].clone())
    }
}

fn text(json: &Value) -> &str {
    json.as_str().unwrap_or_default()
}

#[track_caller]
fn call(server: &NatsServer, call: &str, body: &Value) -> Value {
    let answer = Raw::connect(server.port()).api(call, body);
    assert!(answer.get("error").is_none(), "{call}: {answer}");
    answer
}

/// State and configuration of both streams, whatever else is asked of them.
fn kept(server: &NatsServer) -> Vec<Value> {
    let info = |name: &str| call(server, &format!("STREAM.INFO.{name}"), &Value::Null);
    let names = ["PERSON_EVENTS", "KV_PERSON_EVENTS_SNAPSHOTS"];
    names.map(info).iter().map(|info| json!([info["config"], info["state"]])).collect()
}

#[test]
fn a_healthy_system_is_found_healthy_and_left_as_it_is() {
    let mut place = Place::without_service();
    Found::on(&place.server, &[]).ended(0).says("note", "stream", "the service makes it at its start");
    assert_eq!(call(&place.server, "STREAM.NAMES", &Value::Null)["total"], 0, "the doctor made none");

    place.start_service();
    place.create("Ada");
    let before = kept(&place.server);
    let mut reader = Raw::connect(place.server.port());
    reader.subscribe("person.commands.>", 1);
    reader.subscribe("person.queries.>", 2);
    reader.sync();
    let found = Found::when(&place.server, "1 replica runs").ended(0);
    assert_eq!(kept(&place.server), before);
    assert!(reader.next(Duration::from_millis(1)).is_none(), "nothing was sent to the service");
    for (about, words) in [
        ("server", "nats-server "),
        ("connection", "connected to "),
        ("jetstream", "2 streams (no limit)"),
        ("stream", "holds 1 commit of 1 person in"),
        ("stream", "PERSON_EVENTS is configured as the service would have it"),
        ("bucket", "KV_PERSON_EVENTS_SNAPSHOTS is configured as the service would have it"),
        ("permissions", "may do all 11 things"),
        ("round trips", "a read of the leader"),
        ("clock", "the server's, give or take"),
        ("replicas", &format!("1 replica runs: 1 of version {0}; this is {0}", env!("CARGO_PKG_VERSION"))),
        ("max_payload", "1048576"),
    ] {
        found.says("ok", about, words);
    }
    found.says("note", "durability", "one server has it in a file");
    assert!(
        text(&found.says("note", "durability", "")["advice"]).contains("sync_interval"),
        "what cannot be seen is said"
    );
    assert_eq!((found.all("warning"), found.all("wrong")), (vec![], vec![]));
}

#[test]
fn without_nats_it_says_which_server_is_away() {
    let url = deserted_url();
    let found = Found::with(&[("NATS_URL", &url)]).ended(69);
    found.says("wrong", "server", &format!("{url} does not answer: Connection refused"));

    let server = NatsServer::start();
    let found = Found::with(&[("NATS_URL", &format!("{url},{}", server.url()))]).ended(1);
    found.says("warning", "server", &format!("{url} does not answer"));
    found.says("ok", "connection", "connected to");
}

#[test]
fn without_jetstream_it_says_so() {
    let found = Found::on(&NatsServer::configured(""), &[]).ended(69);
    found.says("wrong", "jetstream", "nobody answers JetStream calls");
    let other_account = "accounts { A { users [ {user: a, password: a} ] } }\nno_auth_user: a";
    let found = Found::on(&NatsServer::with(other_account), &[]).ended(69);
    found.says("wrong", "jetstream", "JetStream is not available: JetStream not enabled for account");
    let found = Found::on(&NatsServer::start(), &[("JETSTREAM_DOMAIN", "hub")]).ended(69);
    found.says("wrong", "jetstream", "the domain another one?");
}

/// A server that greets as this version, and answers nothing but pings.
fn server_of_version(version: &'static str) -> String {
    use std::io::{BufRead, BufReader};
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for visitor in listener.incoming() {
            let mut visitor = visitor.expect("a visitor");
            std::thread::spawn(move || {
                let info = json!({"server_id": "OLD", "server_name": "old", "version": version, "host": "127.0.0.1",
                    "port": 4222, "max_payload": 1_048_576, "headers": true, "proto": 1, "go": "go1", "client_id": 1,
                    "jetstream": true, "client_ip": "127.0.0.1"});
                let _ = visitor.write_all(format!("INFO {info}\r\n").as_bytes());
                let lines = BufReader::new(visitor.try_clone().expect("its socket")).lines();
                for _ in lines.map_while(Result::ok).filter(|line| line == "PING") {
                    let _ = visitor.write_all(b"PONG\r\n");
                }
            });
        }
    });
    url
}

#[test]
fn servers_that_are_too_old_or_mute_are_named() {
    let found = Found::with(&[("NATS_URL", &server_of_version("2.11.26"))]).ended(69);
    let finding = found.says("wrong", "server", "is old, nats-server 2.11.26, no cluster");
    assert!(text(&finding["says"]).contains("2.12.0 or newer is needed"), "{finding}");
    found.says("wrong", "jetstream", "JetStream calls get no answer");

    let both = format!("{},{}", server_of_version("2.12.3"), server_of_version("2.15.0"));
    let found = Found::with(&[("NATS_URL", &both)]);
    assert!(text(&found.says("note", "server", "2.12.3")["advice"]).contains("2.14 or newer is advised"));
}

#[test]
fn a_sign_in_that_is_refused_is_77_and_a_bad_configuration_78() {
    let server = NatsServer::with("authorization { user: ann, password: s3cret }");
    Found::on(&server, &[]).ended(77).says("wrong", "connection", "the server refused the sign-in");
    let found = Found::on(&server, &[("NATS_USER", "ann"), ("NATS_PASSWORD", "s3cret")]).ended(0);
    found.says("ok", "sign-in", "user ann with a password");
    assert!(!found.ended.stdout.contains("s3cret"), "{}", found.ended.stdout);

    let output = person_service(&["doctor"], &[("STREAM_REPLICAS", "2")]).output().expect("it runs");
    Ended::of(output).ended(78, "bad configuration: STREAM_REPLICAS");
    let nonsense = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(nonsense.path(), "nonsense\n").expect("it is written");
    let found = Found::on(&server, &[("NATS_CREDS", &nonsense.path().display().to_string())]).ended(78);
    found.says("wrong", "connection", "cannot use");
}

/// What the service needs, and not a subject more.
const PUBLISH: [&str; 9] = [
    "person.events.*",
    "$KV.PERSON_EVENTS_SNAPSHOTS.v1.*",
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.CREATE.*",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.DIRECT.GET.*",
    "person.intake.>",
    "_INBOX.>",
];
const SUBSCRIBE: [&str; 5] =
    ["person.commands.> person-service", "person.queries.> person-service", "$SRV.>", "person.intake.>", "_INBOX.>"];

/// A user with all rights who makes the streams, and one with these.
fn server_for(publish: &[&str], subscribe: &[&str]) -> NatsServer {
    let server = NatsServer::with(&format!(
        "authorization {{ users: [ {{user: all, password: all}}
            {{user: some, password: some, permissions {{ publish: {publish:?}, subscribe: {subscribe:?} }}}} ] }}"
    ));
    let make = |config: &Value| {
        let mut admin = Raw::sign_in(server.port(), r#""user":"all","pass":"all","#);
        let answer = admin.api(&format!("STREAM.CREATE.{}", text(&config["name"])), config);
        assert!(answer.get("error").is_none(), "{answer}");
    };
    make(&streams::commits(&json!({})));
    make(&json!({"name": "KV_PERSON_EVENTS_SNAPSHOTS", "subjects": ["$KV.PERSON_EVENTS_SNAPSHOTS.>"],
        "allow_direct": true, "num_replicas": 1, "retention": "limits", "storage": "file", "discard": "new",
        "deny_delete": true}));
    server
}

const SOME: [(&str, &str); 2] = [("NATS_USER", "some"), ("NATS_PASSWORD", "some")];

#[test]
fn every_permission_that_is_lacking_is_named_and_no_other() {
    let found = Found::on(&server_for(&PUBLISH, &SUBSCRIBE), &SOME).ended(0);
    found.says("ok", "permissions", "may do all 11 things");
    for (lacking, about, words) in [
        ("person.events.*", "permissions", "store commits (publish to person.events.*)"),
        ("$JS.API.INFO", "jetstream", "ask for the account's limits (publish to $JS.API.INFO)"),
        ("$JS.API.STREAM.INFO.*", "stream", "look at PERSON_EVENTS (publish to $JS.API.STREAM.INFO.PERSON_EVENTS)"),
        ("$JS.API.STREAM.MSG.GET.*", "permissions", "read commits from the leader"),
        ("$JS.API.DIRECT.GET.*", "permissions", "read commits (publish to $JS.API.DIRECT.GET.PERSON_EVENTS)"),
        ("person.commands.> person-service", "permissions", "take commands (subscribe to person.commands.>)"),
        ("person.queries.> person-service", "permissions", "take queries (subscribe to person.queries.>)"),
        ("$SRV.>", "permissions", "be discovered (subscribe to $SRV.>)"),
    ] {
        let without =
            |all: &[&'static str]| -> Vec<&str> { all.iter().copied().filter(|one| *one != lacking).collect() };
        let found = Found::on(&server_for(&without(&PUBLISH), &without(&SUBSCRIBE)), &SOME).ended(77);
        found.says("wrong", about, words);
        let wrong = found.all("wrong").len();
        assert!(wrong <= 2, "{lacking}: {:?}", found.all("wrong"));
    }
    let cacheless = [&PUBLISH[..1], &PUBLISH[2..]].concat();
    let found = Found::on(&server_for(&cacheless, &SUBSCRIBE), &SOME).ended(1);
    found.says("warning", "permissions", "no snapshots: this user may not store snapshots (publish to $KV.");
    let apart = [&PUBLISH[..7], &PUBLISH[8..]].concat();
    let found = Found::on(&server_for(&apart, &SUBSCRIBE), &SOME).ended(1);
    found.says("warning", "permissions", "hand over to other replicas (publish to person.intake.*)");
    let apart = [&SUBSCRIBE[..3], &SUBSCRIBE[4..]].concat();
    let found = Found::on(&server_for(&PUBLISH, &apart), &SOME).ended(1);
    found.says("warning", "permissions", "take what replicas hand over (subscribe to person.intake.>)");
    let deaf: Vec<&str> = SUBSCRIBE[..4].to_vec();
    let found = Found::on(&server_for(&PUBLISH, &deaf), &SOME).ended(77);
    found.says("wrong", "permissions", "receive answers (subscribe to _INBOX.>)");
    let silent: Vec<&str> = PUBLISH[..8].to_vec();
    let found = Found::on(&server_for(&silent, &SUBSCRIBE), &SOME).ended(0);
    found.says("note", "replies", "may not send to inboxes");
}

#[test]
fn what_is_missing_and_may_not_be_made_comes_with_what_makes_it() {
    let server = NatsServer::start();
    let settings = [("STREAM_CREATE", "false")];
    let found = Found::on(&server, &settings).ended(69);
    for about in ["stream", "bucket"] {
        found.says("wrong", about, ", and STREAM_CREATE is false");
        let (create, config) = found.repair(about);
        call(&server, &create, &config);
    }
    let found = Found::on(&server, &settings).ended(0);
    found.says("ok", "stream", "configured as the service would have it");
    found.says("ok", "bucket", "configured as the service would have it");
}

#[test]
fn a_stream_in_the_way_is_named() {
    let server = NatsServer::start();
    call(&server, "STREAM.CREATE.OTHER", &json!({"name": "OTHER", "subjects": ["person.>"]}));
    Found::on(&server, &[]).ended(69).says("wrong", "stream", "OTHER holds subjects of person.events.>");
}

/// The configuration that mends it is one that the server takes, and it leaves alone what the service does not mind.
#[test]
fn drift_is_named_field_by_field_and_the_repair_mends_it() {
    let mut place = Place::start();
    place.kill_service();
    let drifted = [
        (
            "PERSON_EVENTS",
            json!({"max_age": 86_400_000_000_000_u64, "discard": "old", "max_msgs": 1000, "compression": "none",
            "allow_direct": false, "description": "ours", "metadata": {"team": "a"}}),
        ),
        ("KV_PERSON_EVENTS_SNAPSHOTS", json!({"max_msgs_per_subject": 5, "allow_direct": false})),
    ];
    for (name, changes) in drifted {
        let info = call(&place.server, &format!("STREAM.INFO.{name}"), &Value::Null);
        let mut config = info["config"].clone();
        for (field, value) in changes.as_object().expect("an object") {
            config[field] = value.clone();
        }
        call(&place.server, &format!("STREAM.UPDATE.{name}"), &config);
    }
    let found = Found::on(&place.server, &[]).ended(69);
    for why in
        ["its max_age drops commits", "its limits drop old commits", "allow_direct is off", "has no person-service"]
    {
        found.says("wrong", "stream", why);
    }
    for field in [
        "max_age is 86400000000000, expected 0",
        "max_msgs is 1000, expected -1",
        "compression is \"none\", expected \"s2\"",
    ] {
        found.says("note", "stream", field);
    }
    found.says("warning", "bucket", "cannot be used");
    found.says("note", "bucket", "max_msgs_per_subject is 5, expected 1");
    for about in ["stream", "bucket"] {
        let (update, config) = found.repair(about);
        assert!(update.starts_with("STREAM.UPDATE."), "{update}");
        call(&place.server, &update, &config);
    }
    let found = Found::on(&place.server, &[]).ended(0);
    found.says("ok", "stream", "configured as the service would have it");
    let info = call(&place.server, "STREAM.INFO.PERSON_EVENTS", &Value::Null);
    assert_eq!((&info["config"]["description"], &info["config"]["metadata"]["team"]), (&json!("ours"), &json!("a")));
}

#[test]
fn what_cannot_be_changed_is_said_and_what_is_unwise_is_a_warning() {
    let server = NatsServer::start();
    streams::create(server.port(), &streams::commits(&json!({"storage": "memory", "compression": null})));
    let found = Found::on(&server, &[("STREAM_REPLICAS", "3")]).ended(1);
    found.says("warning", "stream", "it lies in memory");
    found.says("warning", "stream", "it has 1 copies, 3 are configured");
    found.says("warning", "durability", "commits lie in memory");
    let finding = found.says("note", "stream", "storage is \"memory\", expected \"file\"");
    assert!(text(&finding["advice"]).contains("does not change storage"), "{finding}");
}

#[test]
fn an_account_that_is_nearly_full_is_a_warning() {
    let server = NatsServer::with_jetstream("max_file_store: 1MB", "");
    let storage = json!({"name": "FILLER", "subjects": ["filler"], "max_bytes": -1});
    call(&server, "STREAM.CREATE.FILLER", &storage);
    let mut raw = Raw::connect(server.port());
    raw.request("filler", &vec![b'x'; 900_000]);
    // The limits are the account's; without accounts it is the server's, which JetStream does not show to it.
    let limited = NatsServer::with(
        "accounts { A { jetstream { max_file: 1000000 }, users: [ {user: a, password: a} ] } }\nno_auth_user: a",
    );
    call(&limited, "STREAM.CREATE.FILLER", &storage);
    Raw::connect(limited.port()).request("filler", &vec![b'x'; 900_000]);
    Found::on(&limited, &[]).ended(1).says("warning", "jetstream", "KiB stored (of ");
    Found::on(&server, &[]).ended(0);
}

#[test]
fn a_cluster_is_healthy_and_with_a_server_away_it_is_a_warning() {
    let mut cluster = Cluster::start();
    let url = |servers: &[NatsServer]| servers.iter().map(NatsServer::url).collect::<Vec<_>>().join(",");
    let all = url(&cluster.servers);
    let environment = [("NATS_URL", all.as_str()), ("STREAM_REPLICAS", "3")];
    let info = |found: &Found| found.says("ok", "durability", "").clone();
    // The copies of a stream that was just made may lag for a moment.
    eventually("all copies are there", || {
        Found::with(&environment).all("ok").iter().any(|line| line.contains("PERSON_EVENTS has 3 of 3 copies alive"))
    });
    let found = Found::with(&environment);
    assert!(text(&info(&found)["says"]).contains("when 2 of 3 servers have it in a file"));
    found.says("ok", "server", "nats-server ");
    found.says("ok", "permissions", "may do all 11 things");
    let servers = found.all("ok").iter().filter(|line| line.contains("cluster trio")).count();
    assert_eq!(servers, 3, "{:#}", found.json);

    // From one of them the others are seen, too.
    let one = cluster.servers[0].url();
    let found = Found::with(&[("NATS_URL", &one), ("STREAM_REPLICAS", "3")]);
    assert_eq!(found.all("ok").iter().filter(|line| line.contains("cluster trio")).count(), 3, "{:#}", found.json);

    // Not the leader: until a new one has missed the old one's copy half a minute may go by.
    let is_led_by = |name: &str| {
        let led = format!("PERSON_EVENTS has 3 of 3 copies alive, led by {name};");
        found.all("ok").iter().any(|line| line.contains(&led))
    };
    let victim = if is_led_by("three") { 1 } else { 2 };
    let away = format!("PERSON_EVENTS: the copy on {} is away", ["one", "two", "three"][victim]);
    cluster.servers[victim].kill();
    eventually("the loss is seen", || {
        let found = Found::with(&environment);
        found.ended.status == 1
            && found.all("warning").iter().any(|line| line.contains(&away))
            && found.all("warning").iter().any(|line| line.contains("2 of 3 copies alive"))
    });
    cluster.servers[3 - victim].kill();
    eventually("nothing answers any more", || {
        let found = Found::with(&environment);
        found.ended.status == 69 && !found.all("wrong").is_empty()
    });
}

#[test]
fn people_get_columns_and_colours_only_on_a_terminal() {
    let place = Place::start();
    let shown = place.run(&["doctor"]).done().stdout;
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let lines: Vec<&str> = shown.lines().take_while(|line| !line.is_empty()).collect();
    assert!(lines.iter().all(|line| line.starts_with(['o', 'n', ' ']) && line.get(7..9) == Some("  ")), "{shown}");
    let last = shown.lines().last().expect("a line");
    assert!(last.starts_with("healthy: ") && last.ends_with(" ok"), "{last}");
}

/// What stands in the documentation, and what is shown here, without numbers and the width of columns.
fn masked(text: &str) -> Vec<String> {
    let masked = |word: &str| {
        let mut shown = String::new();
        for part in word.split_inclusive(|c: char| !c.is_ascii_digit() && c != '.') {
            let digits = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            let number = part.starts_with(|c: char| c.is_ascii_digit());
            shown += &if number { format!("0{digits}") } else { part.to_owned() };
        }
        shown
    };
    let line = |line: &str| match line.trim_start().starts_with('{') {
        true => "{...}".to_owned(),
        false => line.split_whitespace().map(masked).collect::<Vec<_>>().join(" "),
    };
    // Two clocks of one machine: which of them is ahead is chance.
    text.lines().map(|text| line(text).replace("ms ahead of the server's", "ms behind the server's")).collect()
}

/// The reports that docs/cli.md shows: the blocks that end in a summary.
fn documented() -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md")).expect("docs/cli.md");
    let blocks = text.split("\n```").map(|block| block.split_once('\n').map_or("", |(_, block)| block).to_owned());
    blocks.filter(|block| block.lines().last().is_some_and(|line| line.ends_with(" ok"))).collect()
}

#[test]
fn the_documentation_shows_what_is_shown_on_a_healthy_and_on_a_broken_system() {
    let server = NatsServer::with("server_name: nats-1");
    let mut place = Place { service: None, server, folder: tempfile::tempdir().expect("a folder") };
    place.start_service();
    place.create("Ada");
    let named = |shown: &str, server: &NatsServer| shown.replace(&server.url(), "nats://nats-1:4222");
    let healthy = place.run(&["doctor"]).ended(0, "").stdout;
    assert_eq!(masked(&documented()[0]), masked(&named(&healthy, &place.server)), "{healthy}");

    let server = NatsServer::with("server_name: nats-1");
    let place = Place { service: None, server, folder: tempfile::tempdir().expect("a folder") };
    let config = streams::commits(&json!({"max_age": 2_592_000_000_000_000_u64, "deny_delete": null}));
    streams::create(place.server.port(), &config);
    let broken = place.run(&["doctor"]).ended(69, "").stdout;
    assert_eq!(masked(&documented()[1]), masked(&named(&broken, &place.server)), "{broken}");
}
