//! `doctor` and the start agree. They judged the same things apart, and drifted: the start ended with 69 where `doctor` saw
//! nothing wrong, waited for ever where `doctor` knew the cause, and was ready where `doctor` said that nothing works.
//!
//! Each situation is made on a real server. The service is started in it, `doctor` is run in it: status and verdict have to
//! agree, and both have to name the same cause.

use super::doctor::Found;
use super::*;
use crate::daemon::process::Service;
use crate::nats::sign_in::Certificates;
use crate::operations::{AS_SERVICE, documented};
use crate::support::proxy::Proxy;
use crate::support::raw::Raw;

/// What the start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// It ends with this status.
    Ends(i32),
    /// It waits, and says so.
    Waits,
    /// It is ready, and says as an error what it cannot do.
    GoesOn,
    /// It is ready, and nothing is wrong.
    IsReady,
}
use Start::{Ends, GoesOn, IsReady, Waits};

/// Runs both in this situation and compares them: what the start does, and the words by which both name the cause.
#[track_caller]
fn check(what: &str, url: &str, environment: &[(&str, &str)], expected: Start, words: &str) {
    let all: Vec<(&str, &str)> = [&[("NATS_URL", url)], environment].concat();
    let found = Found::with(&all);
    let mut service = Service::launch(url, environment);
    let has_ended = |service: &mut Service| service.end().and_then(|status| status.code());
    eventually(&format!("{what}: the start comes to something"), || {
        let says = service.log().contains("waiting for NATS at") && service.log().contains(words);
        // On a busy machine it may wait for a moment before it is ready.
        says && expected == Waits || service.is_ready() || has_ended(&mut service).is_some()
    });
    let status = has_ended(&mut service);
    // What it wrote last is read a moment later.
    let said = || service.log().lines().rfind(|line| line.contains("ERROR")).unwrap_or_default().to_owned();
    if status.is_some() || expected == GoesOn {
        eventually(&format!("{what}: the start says {words:?}"), || said().contains(words));
    }
    let log = service.log();
    let came = match (status, service.is_ready()) {
        (Some(status), _) => Ends(status),
        (None, false) => Waits,
        (None, true) if log.contains("ERROR") => GoesOn,
        (None, true) => IsReady,
    };
    assert_eq!(came, expected, "{what}:\n{log}");
    let status = match expected {
        Ends(status) => status,
        Waits | GoesOn => 69,
        IsReady => 0,
    };
    let wrong = found.all("wrong");
    let agree = match expected {
        // With warnings, perhaps.
        IsReady => wrong.is_empty() && found.status() <= 1,
        _ => found.status() == status && wrong.iter().any(|line| line.contains(words)),
    };
    assert!(agree, "{what}: doctor ends with {}, expected {status} and {words:?}: {wrong:#?}", found.status());
}

/// A server whose only account has these limits in its `jetstream` block.
fn limited(limits: &str) -> NatsServer {
    NatsServer::with(&format!(
        "accounts {{ A {{ jetstream {{ {limits} }}, users: [ {{user: a, password: a}} ] }} }}\nno_auth_user: a"
    ))
}

#[track_caller]
fn create(server: &NatsServer, config: &Value) -> Value {
    let name = config["name"].as_str().expect("a name");
    let answer = Raw::connect(server.port()).api(&format!("STREAM.CREATE.{name}"), config);
    assert!(answer.get("error").is_none(), "{answer}");
    answer
}

/// What the start prints when nothing is there and nothing may be created: the streams as it would have them.
fn definitions(server: &NatsServer) -> Vec<Value> {
    printed(server, &[("STREAM_CREATE", "false")])
}

/// What the start prints to be created by hand.
fn printed(server: &NatsServer, environment: &[(&str, &str)]) -> Vec<Value> {
    let mut service = Service::launch(&server.url(), environment);
    service.wait(PATIENCE);
    let printed = service.stdout();
    serde_json::Deserializer::from_str(&printed).into_iter().map(|one| one.expect("JSON")).collect()
}

/// The stream of commits as the service makes it, with these changes.
fn stream_with(server: &NatsServer, changes: Value) {
    let mut config = definitions(server).remove(0);
    for (field, value) in changes.as_object().expect("an object") {
        config[field] = value.clone();
    }
    create(server, &config);
}

/// Stores bytes in a stream of somebody else's until nothing more is taken.
fn fill(server: &NatsServer, bytes: usize) {
    create(server, &json!({"name": "FILLER", "subjects": ["filler"]}));
    let mut raw = Raw::connect(server.port());
    let full = |raw: &mut Raw, bytes: usize| {
        let answer = raw.request("filler", &vec![b'x'; bytes]);
        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        !answer["error"].is_null()
    };
    let mut bytes = bytes;
    while bytes > 64 {
        if full(&mut raw, bytes) {
            bytes /= 2;
        }
    }
}

const BY_HAND: (&str, &str) = ("STREAM_CREATE", "false");

#[test]
fn about_the_account() {
    let words = "account requires a stream config to have max bytes set";
    let demanding = limited("max_bytes_required: true, max_file: 100000000");
    check("max_bytes_required", &demanding.url(), &[], Ends(69), words);
    // What is printed is what the account takes, also where nothing was to be created.
    for environment in [&[][..], &[BY_HAND]] {
        let printed = printed(&limited("max_bytes_required: true, max_file: 100000000"), environment);
        assert_eq!(printed.len(), 2, "stream and bucket: {printed:?}");
        let demanding = limited("max_bytes_required: true, max_file: 100000000");
        printed.iter().for_each(|definition| drop(create(&demanding, definition)));
        check("made by hand", &demanding.url(), environment, IsReady, "");
        let found = Found::with(&[("NATS_URL", &demanding.url())]);
        assert_eq!(found.all("warning"), [""; 0], "a stream as the account demands it is no reason to warn for ever");
    }

    let crowded = limited("max_streams: 1");
    create(&crowded, &json!({"name": "OTHER", "subjects": ["other"]}));
    check("max_streams", &crowded.url(), &[], Ends(69), "maximum number of streams reached (400, 10027)");
    check("max_streams without a bucket", &limited("max_streams: 1").url(), &[], IsReady, "");
    let none = "insufficient storage resources available (500, 10047)";
    check("no storage at all", &limited("max_file: 0").url(), &[], Ends(69), none);

    let impatient = NatsServer::with_jetstream("limits { duplicate_window: 30s }", "");
    check("a limit on the duplicate window", &impatient.url(), &[], IsReady, "");
    let found = Found::with(&[("NATS_URL", &impatient.url())]);
    assert_eq!(found.all("warning"), [""; 0], "stream and bucket take the window that they may have");
}

#[test]
fn about_room() {
    let words = "nothing more can be stored";
    let account = limited("max_file: 1000000");
    definitions(&account).iter().for_each(|definition| drop(create(&account, definition)));
    fill(&account, 500_000);
    check("the account is full", &account.url(), &[], GoesOn, words);

    let server = NatsServer::with_jetstream("max_file_store: 1000000", "");
    definitions(&server).iter().for_each(|definition| drop(create(&server, definition)));
    fill(&server, 500_000);
    check("max_file_store is full", &server.url(), &[], GoesOn, "nothing more can be stored: insufficient resources");

    for limit in [json!({"max_bytes": 1000}), json!({"max_msgs": 1})] {
        let server = NatsServer::start();
        stream_with(&server, limit.clone());
        check("a stream with a limit", &server.url(), &[], IsReady, "");
        let found = Found::with(&[("NATS_URL", &server.url())]);
        assert_eq!(found.all("warning"), [""; 0], "{limit} refuses and drops nothing");
        Raw::connect(server.port()).request("person.events.x", &[b'x'; 700]);
        check("a full stream", &server.url(), &[], GoesOn, "nothing more can be stored: stream PERSON_EVENTS holds");
    }
}

/// The disk itself is full: on a file system of its own, which takes root.
#[test]
fn about_a_full_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let tiny = Mounted::tmpfs(folder.path());
    let Some(tiny) = tiny else {
        return crate::support::skip("about_a_full_disk", "no file system can be mounted here");
    };
    let server = |limit: &str| {
        let folder = tiny.path.join(if limit.is_empty() { "usual" } else { "limited" });
        let store = format!("jetstream {{ store_dir: \"{}\", {limit} }}", folder.display());
        let server = NatsServer::configured(&store);
        definitions(&server).iter().for_each(|definition| drop(create(&server, definition)));
        server
    };
    // By default nats-server uses three quarters of what is free.
    let usual = server("");
    fill(&usual, 500_000);
    check("JetStream's part is full", &usual.url(), &[], GoesOn, "nothing more can be stored: insufficient resources");
    // And where it may use more than there is, it finds out while it writes.
    let trusting = server("max_file_store: 1GB");
    let full = std::fs::write(tiny.path.join("others"), vec![b'x'; 5_000_000]);
    assert!(full.is_err(), "there was room for more than the whole disk");
    check(
        "the disk is full",
        &trusting.url(),
        &[],
        GoesOn,
        "nothing more can be stored: atomic publish batch is incomplete",
    );
}

/// A small file system, taken away when dropped.
struct Mounted {
    path: std::path::PathBuf,
}

impl Mounted {
    fn tmpfs(path: &Path) -> Option<Self> {
        let options = ["-t", "tmpfs", "-o", "size=4m", "tmpfs"];
        let mounted = Command::new("mount").args(options).arg(path).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self { path: path.to_owned() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The server of the test is gone by then, but for a moment.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

#[test]
fn about_connections() {
    let one_server = NatsServer::with("max_connections: 1");
    let one_account = NatsServer::with(
        "accounts { A { jetstream: enabled, limits { max_connections: 1 }, users: [ {user: a, password: a} ] } }\n\
         no_auth_user: a",
    );
    let listening_once = NatsServer::with(
        "accounts { A { jetstream: enabled, limits { max_subscriptions: 1 }, users: [ {user: a, password: a} ] } }\n\
         no_auth_user: a",
    );
    let words = "NATS takes no more subscriptions: maximum subscriptions exceeded";
    check("max_subscriptions of the account", &listening_once.url(), &[], Waits, words);
    check("max_connections of the server", &one_server.url(), &[], Waits, "maximum connections exceeded");
    let words = "maximum account active connections exceeded";
    check("max_connections of the account", &one_account.url(), &[], Waits, words);
    check("nobody there", &deserted_url(), &[], Waits, "Connection refused");
    let frozen = NatsServer::start();
    frozen.freeze();
    check("a mute server", &frozen.url(), &[], Waits, "it accepts connections and says nothing");
    frozen.thaw();

    let guarded = NatsServer::with("authorization { user: ann, password: s3cret }");
    check("no sign-in", &guarded.url(), &[], Ends(77), "the server refused the sign-in");
    let signed_in = [("NATS_USER", "ann"), ("NATS_PASSWORD", "s3cret")];
    check("a sign-in", &guarded.url(), &signed_in, IsReady, "");
}

#[test]
fn about_tls() {
    let Some(certificates) = Certificates::make("about_tls") else { return };
    let path = |name: &str| certificates.path(name).display().to_string();
    let (ca, other, nothing) = (path("ca.pem"), path("client.pem"), path("garbage"));
    std::fs::write(&nothing, "garbage\n").expect("it is written");
    std::fs::write(path("empty"), "").expect("it is written");
    let server = certificates.server_with("", "");
    let plain = NatsServer::start();
    let tls = |server: &NatsServer| server.url().replace("nats://", "tls://");

    check("TLS is demanded, and trusted", &server.url(), &[("NATS_CA", &ca)], IsReady, "");
    // As editors and secret stores leave it.
    let authority = std::fs::read_to_string(&ca).expect("it is read");
    for text in [authority.trim_end().to_owned(), authority.replace('\n', "\r\n"), format!("# ours\n\n{authority}")] {
        std::fs::write(path("other.pem"), text).expect("it is written");
        check("an authority in other words", &server.url(), &[("NATS_CA", &path("other.pem"))], IsReady, "");
    }
    check("tls:// and trusted", &tls(&server), &[("NATS_CA", &ca)], IsReady, "");
    let words = "no authority that is trusted has signed it (UnknownIssuer)";
    check("another authority", &server.url(), &[("NATS_CA", &other)], Ends(69), words);
    check("another authority, tls://", &tls(&server), &[("NATS_CA", &other)], Ends(69), words);
    let host = server.url().replace("127.0.0.1", "localhost");
    check("another name", &host, &[("NATS_CA", &ca)], Ends(69), "(NotValidForName)");
    check("tls:// without TLS", &tls(&plain), &[("NATS_CA", &ca)], Ends(69), "it offers no TLS");
    check("no certificate", &server.url(), &[("NATS_CA", &nothing)], Ends(78), "it holds no certificate");

    let first = certificates.server_with("handshake_first: true", "");
    for url in [first.url(), tls(&first)] {
        check("TLS first", &url, &[("NATS_CA", &ca)], Ends(69), "it speaks TLS from the first byte on");
    }
    let auto = certificates.server_with("handshake_first: auto", "");
    check("TLS first for those who can", &auto.url(), &[("NATS_CA", &ca)], IsReady, "");
    let both = format!("{},{}", first.url(), server.url());
    check("one of two", &both, &[("NATS_CA", &ca)], IsReady, "");
    let away = format!("{},{}", first.url(), deserted_url());
    check(
        "one of two, and the other is away",
        &away,
        &[("NATS_CA", &ca)],
        Waits,
        "it speaks TLS from the first byte on",
    );

    // A broken SSL_CERT_FILE kept a plain connection waiting for ever.
    for name in ["nowhere.pem", "empty", "garbage"] {
        let system = path(name);
        let broken = [("SSL_CERT_FILE", system.as_str())];
        check(name, &plain.url(), &broken, IsReady, "");
        check(name, &server.url(), &broken, Ends(78), "SSL_CERT_FILE names it, and TLS is spoken");
        check(name, &server.url(), &[broken[0], ("NATS_CA", &ca)], IsReady, "");
    }
    check("the system's", &server.url(), &[("SSL_CERT_FILE", &ca)], IsReady, "");

    certificates.expire();
    let expired = certificates.server_with("", "");
    check("an expired certificate", &expired.url(), &[("NATS_CA", &ca)], Ends(69), "it has expired (Expired)");
}

#[test]
fn about_the_server() {
    let off = "JetStream is not available: nobody answers JetStream calls";
    check("JetStream is off", &NatsServer::configured("").url(), &[], Ends(69), off);
    let other_account = "accounts { A { users [ {user: a, password: a} ] } }\nno_auth_user: a";
    let words = "JetStream is not available: JetStream not enabled for account";
    check("not for this account", &NatsServer::with(other_account).url(), &[], Ends(69), words);
    check("another domain", &NatsServer::start().url(), &[("JETSTREAM_DOMAIN", "hub")], Ends(69), off);
    let server = NatsServer::start();
    let proxy = Proxy::before(server.port());
    let version = Raw::greeting(server.port()).expect("a greeting")["version"].as_str().expect("a version").to_owned();
    // Of the same length as what is there.
    proxy.disguise(&version, &format!("2.11.{}", "9".repeat(version.len() - 5)));
    check("an old server", &proxy.url(), &[], Ends(69), "too old: 2.12.0 or newer is needed");
}

#[test]
fn about_the_stream() {
    let server = NatsServer::start();
    check("nothing there", &server.url(), &[BY_HAND], Ends(69), ", and STREAM_CREATE is false");
    create(&server, &definitions(&server)[0]);
    check("no bucket", &server.url(), &[BY_HAND], Ends(69), ", and STREAM_CREATE is false");
    check("no bucket wanted", &server.url(), &[BY_HAND, ("SNAPSHOT_FREQ", "0")], IsReady, "");
    check("a bucket to make", &server.url(), &[], IsReady, "");

    let taken = NatsServer::start();
    create(&taken, &json!({"name": "OTHER", "subjects": ["person.events.x"]}));
    let words = "cannot create stream PERSON_EVENTS: subjects overlap with an existing stream";
    check("another stream's subjects", &taken.url(), &[], Ends(69), words);
    let words = "replicas > 1 not supported in non-clustered mode (500, 10074)";
    check("copies without a cluster", &NatsServer::start().url(), &[("STREAM_REPLICAS", "3")], Ends(69), words);

    // Another team's audit stream acknowledged every command, and clients took that for the reply.
    let audited = NatsServer::start();
    create(&audited, &json!({"name": "AUDIT", "subjects": ["person.commands.>"]}));
    let words = "clients get its acknowledgement in place of the service's reply";
    check("another stream over the commands", &audited.url(), &[], GoesOn, words);

    let mirrored = NatsServer::start();
    create(&mirrored, &json!({"name": "ORIGIN", "subjects": ["person.events.>"]}));
    create(&mirrored, &json!({"name": "PERSON_EVENTS", "mirror": {"name": "ORIGIN"}}));
    check("a mirror", &mirrored.url(), &[], Ends(69), "it is a mirror");
    for (changes, words) in [
        (json!({"max_age": 3_600_000_000_000_u64, "duplicate_window": 60_000_000_000_u64}), "max_age"),
        (json!({"discard": "old", "max_bytes": 1_000_000}), "drop old commits"),
        (json!({"allow_direct": false}), "allow_direct"),
    ] {
        let server = NatsServer::start();
        stream_with(&server, changes);
        check("a stream that loses commits", &server.url(), &[], Ends(69), words);
    }
    let useless = NatsServer::start();
    create(&useless, &json!({"name": "KV_PERSON_EVENTS_SNAPSHOTS", "subjects": ["elsewhere"]}));
    check("a bucket that is none", &useless.url(), &[], IsReady, "");
}

#[test]
fn about_rights() {
    let rights = documented("users.conf");
    let denied = "NATS denies the service a right that it needs";
    let without = |right: &str| {
        let is_it = |line: &&str| line.trim_start().starts_with('"') && line.contains(right);
        let kept: Vec<String> = rights.lines().filter(|line| !is_it(line)).map(str::to_owned).collect();
        assert_ne!(kept.len(), rights.lines().count(), "{right} is none of the rights");
        kept.join("\n")
    };
    for (right, expected) in [
        ("$JS.API.INFO", Ends(77)),
        ("STREAM.INFO.PERSON_EVENTS", Ends(77)),
        ("STREAM.INFO.KV", Ends(77)),
        ("STREAM.CREATE.PERSON", Ends(77)),
        ("person.events.*", Ends(77)),
        ("DIRECT.GET.PERSON", Ends(77)),
        ("MSG.GET.PERSON", Ends(77)),
        ("person.commands.> person-service", Ends(77)),
        ("person.queries.> person-service", Ends(77)),
        ("\"_INBOX.>", Ends(77)),
        // Without snapshots it works.
        ("DIRECT.GET.KV", IsReady),
        ("MSG.GET.KV", IsReady),
        ("\"$KV", IsReady),
        // Without the intake each serves alone.
        ("person.intake.>", IsReady),
    ] {
        let server = NatsServer::with(&without(right));
        check(right, &server.url(), &AS_SERVICE, expected, if expected == IsReady { "" } else { denied });
    }
}
