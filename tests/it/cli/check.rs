//! `check`: the configuration as the service takes it, without the secrets in it, and refused as the service refuses it.

use super::*;
use crate::binary::last_line;

/// `check` with this environment, and its JSON.
fn check(args: &[&str], environment: &[(&str, &str)]) -> (Ended, Value) {
    let all = [&["check", "--json"], args].concat();
    let ended = Ended::of(person_service(&all, environment).output().expect("it runs"));
    let json = ended.json();
    (ended, json)
}

fn option<'a>(json: &'a Value, name: &str) -> &'a Value {
    let options = json["options"].as_array().expect("a list");
    options.iter().find(|option| option["name"] == name).unwrap_or_else(|| panic!("no {name} in {json}"))
}

#[test]
fn every_value_is_shown_with_where_it_came_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("environment").display().to_string();
    std::fs::write(&file, "STREAM_NAME=OTHERS\nLOG_LEVEL=warn\n").expect("it is written");
    let environment = [("STREAM_NAME", "OTHERS"), ("LOG_LEVEL", "debug"), ("WORKERS", ""), ("ENVIRONMENT_FILE", &file)];
    let (ended, json) = check(&["--log-level", "error", "--queue-capacity", "17"], &environment);
    ended.done();
    assert_eq!(json["ok"], true);
    for (name, value, from) in [
        ("NATS_URL", json!("nats://localhost:4222"), "default"),
        ("STREAM_NAME", json!("OTHERS"), "environment"),
        ("LOG_LEVEL", json!("error"), "flag"),
        ("QUEUE_CAPACITY", json!("17"), "flag"),
        ("WORKERS", json!("auto"), "default"),
        ("NATS_CREDS", Value::Null, "default"),
    ] {
        let found = option(&json, name);
        assert_eq!((&found["value"], found["from"].as_str()), (&value, Some(from)), "{name}");
    }
    assert_eq!(option(&json, "STREAM_NAME")["file"], json!(file));
    assert_eq!(option(&json, "LOG_LEVEL")["file"], Value::Null, "a flag is from no file");
    assert!(option(&json, "WORKERS")["means"].as_str().expect("a number").parse::<u8>().expect("a number") >= 2);

    let known = cim_domain_person::cli::command();
    let known = known.get_arguments().filter(|arg| arg.get_env().is_some()).count();
    assert_eq!(json["options"].as_array().expect("a list").len(), known);

    let text = Ended::of(person_service(&["check"], &environment).output().expect("it runs")).done().stdout;
    let line = text.lines().find(|line| line.contains("STREAM_NAME")).expect("a line");
    assert!(line.contains("OTHERS") && line.contains(&format!("environment, as in {file}")), "{line}");
}

#[test]
fn secrets_are_not_shown() {
    for (name, value) in [
        ("NATS_URL", "nats://ann:s3cret@localhost:4222"),
        ("NATS_URL", "nats://s3cret@localhost:4222"),
        ("NATS_URL", "nats://ann:s3cret@local host"),
        ("NATS_TOKEN", "s3cret"),
        ("NATS_PASSWORD", "s3cret"),
        ("NATS_PASSWORD", "s3cret\u{7}"),
    ] {
        let user = if name == "NATS_PASSWORD" { "ann" } else { "" };
        let environment = [(name, value), ("NATS_USER", user)];
        for args in [&["check"][..], &["check", "--json"]] {
            let ended = Ended::of(person_service(args, &environment).output().expect("it runs"));
            assert!(!format!("{ended:?}").contains("s3cret"), "{ended:?}");
        }
        let (_, json) = check(&[], &environment);
        assert_eq!((&option(&json, name)["set"], &option(&json, name)["secret"]), (&json!(true), &json!(true)));
    }
}

#[test]
fn it_refuses_what_the_service_refuses_in_the_same_words() {
    let nonsense = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(nonsense.path(), "nonsense\n").expect("it is written");
    let nonsense = nonsense.path().display().to_string();
    let away = deserted_url();
    for (name, value) in [
        ("STREAM_REPLICAS", "2"),
        ("SUBJECT_PREFIX", "a..b"),
        ("NATS_CREDS", "/nowhere/at/all"),
        ("NATS_CREDS", nonsense.as_str()),
        ("NATS_CA", nonsense.as_str()),
        ("NATS_KEY", nonsense.as_str()),
    ] {
        let environment = [("NATS_URL", away.as_str()), (name, value)];
        let (ended, json) = check(&[], &environment);
        let service = person_service(&["run"], &environment).output().expect("it runs");
        assert_eq!((ended.status, status(&service)), (78, 78), "{name}={value}");
        let (said, refused) = (ended.stderr.trim_end().to_owned(), last_line(&service));
        let words = said.strip_prefix("person-service: ").expect("the last words");
        assert!(refused.ends_with(words), "{said} and {refused}");
        assert_eq!((&json["ok"], &json["error"]), (&json!(false), &json!(words)));
    }
    let (ended, _) = check(&["--nats-url", &away], &[]);
    ended.done();
}
