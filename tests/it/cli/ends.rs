//! How a client ends when it does not get what it wants: the status, and a line that says what to do.

use super::*;

const SOMEBODY: &str = "0197c5a0-5b3c-7d3e-9a52-6f7d0c1b2a30";

fn run(args: &[&str], environment: &[(&str, &str)]) -> Ended {
    Ended::of(person_service(args, environment).stdin(Stdio::null()).output().expect("it runs"))
}

#[test]
fn bad_usage_ends_with_64_and_repeats_no_values() {
    let too_long = "x".repeat(129);
    for (args, said) in [
        (&["show"][..], "<ID>"),
        (&["show", "Grace"], "expected a UUID"),
        (&["show", SOMEBODY, "--at-version", "1", "--as-of", "2026-01-01T00:00:00Z"], "cannot be used with"),
        (
            &["show", SOMEBODY, "--valid-on", "1906-12-99"],
            "YYYY-MM-DD; allowed: what 'person-service show --help' lists",
        ),
        (&["history", SOMEBODY, "--limit", "0"], "--limit"),
        (&["history", SOMEBODY, "--all", "--limit", "3"], "cannot be used with"),
        (&["send"], "there is nothing to send"),
        (&["send", "{}", "create", "--source", "x"], "not both"),
        (&["send", "{}", "--lines", "x"], "cannot be used with"),
        (&["send", "--lines", "x", "--id", "c1"], "not for --lines"),
        (&["send", "{}", "--refused", "x"], "--lines"),
        (&["send", "archive", SOMEBODY, "--reason", "x", "--in-flight", "3"], "unexpected argument"),
        (&["send", "--batch", "x", "{}"], "go with --lines"),
        (&["send", "{}", "--id", &too_long], "visible ASCII"),
        (&["send", "{}", "--patience", "soon"], "such as 10s"),
        (&["send", "create", "--given", "Grace", "Hopper", "--source", "x"], "person-service send create --help"),
        (&["send", "set-birth-date", SOMEBODY, "1906-12-99"], "YYYY-MM-DD"),
        (&["send", "merge", SOMEBODY, "--into", SOMEBODY, "--reason", "Whim"], "DuplicateIdentity"),
    ] {
        let ended = run(args, &[]).ended(64, said);
        assert_eq!(ended.stdout, "");
        let values = ["Grace", "Hopper", "1906-12-99"];
        assert!(!values.iter().any(|value| ended.stderr.contains(value)), "{}", ended.stderr);
    }
}

#[test]
fn without_nats_or_a_service_it_is_69() {
    let url = deserted_url();
    let away = [("NATS_URL", url.as_str())];
    run(&["show", SOMEBODY], &away).ended(69, "NATS is away");
    run(&["history", SOMEBODY], &away).ended(69, "see whether nats-server runs, and NATS_URL");
    run(&["send", "{}", "--patience", "0s"], &away).ended(69, "NATS is away");
    let waited = run(&["send", "{}", "--patience", "1s"], &away).ended(69, "NATS is away");
    assert!(waited.stderr.contains("trying again for 1s (--patience)"), "{}", waited.stderr);

    let place = Place::without_service();
    place.run(&["show", SOMEBODY]).ended(69, "no replica of the service listens on person.queries.get");
    let ended = place.run(&["send", "archive", SOMEBODY, "--reason", "x", "--patience", "0s", "--id", "c7"]);
    let ended = ended.ended(69, "no replica of the service listens on person.commands.*");
    assert!(ended.stderr.contains("send the same again with --id c7") && !ended.stderr.contains(SOMEBODY));
}

/// Somebody listens who never answers.
#[test]
fn silence_ends_after_the_commands_time_and_a_second() {
    let place = Place::without_service();
    let mut mute = crate::support::raw::Raw::connect(place.server.port());
    mute.subscribe("person.>", 1);
    mute.sync();
    place
        .run(&["show", SOMEBODY, "--command-timeout", "500ms"])
        .ended(69, "no reply on person.queries.get within 1.5 s");
}

#[test]
fn a_bad_configuration_is_78_but_what_only_the_service_needs_is_not_looked_at() {
    let place = Place::start();
    let person = place.create("Ada");
    place.run(&["show", &person, "--subject-prefix", "a..b"]).ended(78, "SUBJECT_PREFIX");
    place.run(&["send", "--lines", "/nowhere/at/all"]).ended(78, "/nowhere/at/all cannot be read");
    place.run(&["send", "--file", "/nowhere/at/all"]).ended(78, "/nowhere/at/all cannot be read");
    let mut command = place.command(&["show", &person]);
    let output = command.envs([("WORKERS", "many"), ("STREAM_REPLICAS", "2"), ("LOG_LEVEL", "loud")]).output();
    Ended::of(output.expect("it runs")).done();
}

#[test]
fn a_sign_in_that_is_refused_is_77_and_one_that_is_not_works() {
    let server = NatsServer::with("authorization { token: \"s3cret\" }");
    let url = server.url();
    run(&["show", SOMEBODY], &[("NATS_URL", &url)]).ended(77, "refused the sign-in");
    let wrong = [("NATS_URL", url.as_str()), ("NATS_TOKEN", "wr0ng")];
    let ended = run(&["send", "{}"], &wrong).ended(77, "refused the sign-in");
    assert!(!ended.stderr.contains("wr0ng"), "{}", ended.stderr);
    run(&["show", SOMEBODY], &[("NATS_URL", &url), ("NATS_TOKEN", "s3cret")]).ended(69, "no replica");
}

/// `person-service history ... | head -1` must not end in a panic.
#[test]
fn whoever_closes_the_pipe_has_read_enough() {
    let place = Place::start();
    let person = place.create("Ada");
    let lines: Vec<String> = (0..100).map(|n| rename_line(&person, &format!("N{n}"))).collect();
    place.run_with(&lines.join("\n"), &["send", "--lines", "-"]).done();
    for args in [
        &["history", &person, "--all"][..],
        &["history", &person, "--all", "--json"],
        &["show", &person],
        &["show", &person, "--json"],
        &["send", "rename", &person, "--given", "Last"],
        &["send", "--help"],
    ] {
        let mut command = place.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        end_of(child).done();
    }
    assert!(place.run(&["show", &person]).done().stdout.starts_with("Last\n"), "and what it was to do was done");
}

#[test]
fn the_help_of_every_subcommand_has_examples_and_the_options_of_the_connection() {
    for subcommand in ["show", "history", "send", "bench"] {
        let help = run(&[subcommand, "--help"], &[]).done().stdout;
        for part in ["Examples:", "Exit status:", "--nats-url", "--nats-creds", "--subject-prefix", "--command-timeout"]
        {
            assert!(help.contains(part), "{subcommand}: {part} is not in\n{help}");
        }
        assert!(!help.contains("--workers") && !help.contains("--stream-name"), "{subcommand}:\n{help}");
        let short = run(&[subcommand, "-h"], &[]).done().stdout;
        assert!(!short.contains("--nats-creds"), "{short}");
    }
    let help = run(&["--help"], &[]).done().stdout;
    for part in ["show ", "history ", "send ", "bench ", "--workers"] {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
}
