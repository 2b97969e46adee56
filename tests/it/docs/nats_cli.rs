//! Every command of `nats` in the documents and in the help is run with the real tool, as an operator with an operator's
//! rights.
//!
//! They had been read by people and held against a list of options. So a restore had a `nats stream purge ... --force` in it
//! that the tool refuses without a terminal, since the stream belongs to a bucket; two definitions came in one file of
//! which it takes none; what mends a stream was lacking the stream's name.

use std::collections::{BTreeMap, BTreeSet};

use cim_domain_person::cli;

use super::shell::Shell;
use super::{document, fences, section};
use crate::daemon::process::Service;
use crate::support::nats_server::NatsServer;
use crate::support::{nats_cli, skip};
use crate::tidy::files;

/// With which words a command begins, how it is run here (`{}` is the command as it stands there), and what it then says.
/// In this order, which is the story of one stream.
const COMMANDS: [(&str, &str, &str); 37] = [
    ("nats request person.commands.", "{}", r#""status":"accepted""#),
    ("nats request person.queries.get", "{}", r#""status":"ok""#),
    ("nats micro ls", "{}", "│ person-service │"),
    ("nats micro ping", "{} --timeout 1s", "rtt="),
    ("nats micro info person-service", "{}", "Subject: person.commands.>"),
    ("nats micro stats person-service", "{}", "│ queries  │ 1 "),
    ("nats stream info PERSON_EVENTS", "{}", "Last Sequence: 1"),
    ("nats stream get PERSON_EVENTS --last-for", "{}", "Event-Type: PersonCreated"),
    ("nats kv ls PERSON_EVENTS_SNAPSHOTS", "{}", "v1.01980a3c-5f00-7000-8000-000000000001"),
    ("nats kv status PERSON_EVENTS_SNAPSHOTS", "{}", "Values Stored: 1"),
    ("nats stream ls", "{}", "│ PERSON_EVENTS │"),
    ("nats account info", "{}", "JetStream Account Information"),
    ("nats context select", "unset NATS_URL NATS_USER NATS_PASSWORD; terminal {}", "\"person-service\""),
    (
        "nats sub \"person.events.>\"",
        "(while sleep 1; do $RENAME; done) & MORE=$!; unset NATS_URL; {} --count 1; kill $MORE",
        "on \"person.events.",
    ),
    ("nats consumer add PERSON_EVENTS reader ", "{}", "Ack Policy: Explicit"),
    ("nats consumer next PERSON_EVENTS reader", "{}", "Acknowledged message"),
    ("nats stream add PERSON_EVENTS_EU --config mirror.json", "{}", "Stream PERSON_EVENTS_EU was created"),
    (
        "nats stream edit PERSON_EVENTS --config stream.json",
        "cp drift.json stream.json; terminal {}",
        "PERSON_EVENTS was updated",
    ),
    ("nats stream backup PERSON_EVENTS", "{}", "Received "),
    ("nats backup stream", "{} PERSON_EVENTS again", "Received "),
    // A replica goes on serving all the while.
    ("nats stream rm PERSON_EVENTS --force", "{}", ""),
    ("nats request '$JS.API.STREAM.PURGE.KV_PERSON_EVENTS_SNAPSHOTS' ''", "{}", r#""success":true"#),
    ("nats stream restore /var/backups", "{}", "Restored stream"),
    ("nats backup restore stream", "nats stream rm PERSON_EVENTS --force; {} again", "Restored stream"),
    (
        "nats --server nats://127.0.0.1:4333 stream restore ...",
        "nats --server $OTHER stream restore again",
        "Restored stream",
    ),
    ("nats --js-domain hub stream info PERSON_EVENTS", "NATS_URL=$OTHER {}", "Last Sequence: "),
    ("nats stream purge PERSON_EVENTS --subject", "{}", "Purged 0 messages"),
    ("nats request '$JS.API.STREAM.PURGE.KV_PERSON_EVENTS_SNAPSHOTS' '{\"filter\"", "{}", r#""success":true"#),
    (
        "nats stream rm BENCH",
        "nats stream add BENCH --subjects bench.events.* --defaults; terminal {}",
        "Really delete",
    ),
    ("nats kv del BENCH_SNAPSHOTS", "nats kv add BENCH_SNAPSHOTS; terminal {}", "BENCH_SNAPSHOTS"),
    ("nats server report jetstream", "{} --user sys --password secret", "JetStream Summary"),
    // No commands, but names of some.
    ("nats request", "{} --help", "usage: nats request"),
    ("nats micro", "{} --help", "usage: nats service"),
    ("nats stream rm", "{} --help", "usage: nats stream rm"),
    ("nats stream purge", "{} --help", "usage: nats stream purge"),
    ("nats stream info", "{} --help", "usage: nats stream info"),
    ("nats stream add", "{} --help", "usage: nats stream add"),
];

/// The lines of a block, those that a backslash or an open quote continues in one.
fn lines(block: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in block.lines() {
        match lines.last_mut() {
            Some(last) if goes_on => {
                *last = format!("{} {}", last.trim_end_matches('\\').trim_end(), line.trim_start())
            }
            _ => lines.push(line.to_owned()),
        }
        goes_on = lines.last().is_some_and(|last| last.ends_with('\\') || last.matches('\'').count() % 2 == 1);
    }
    lines
}

/// What stands between single backquotes, and not in a block.
fn in_line(text: &str) -> Vec<String> {
    let prose: Vec<&str> = text.split("\n```").step_by(2).collect();
    prose.join("\n").replace('\n', " ").split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// All commands of `nats`, but those in the tour's blocks, which another test runs.
fn documented() -> BTreeSet<String> {
    let mut found = Vec::new();
    for (name, text) in files("docs", ".md").into_iter().chain([("README.md".to_owned(), document("README.md"))]) {
        let blocks =
            fences(&text).into_iter().filter(|(opening, _)| name != "docs/tour.md" && ["sh", ""].contains(&&**opening));
        found.extend(blocks.flat_map(|(_, block)| lines(&block)));
        found.extend(in_line(&text));
    }
    for mut subcommand in cli::command().get_subcommands().cloned() {
        let help = subcommand.render_long_help().to_string();
        found.extend(help.split('\'').map(str::to_owned));
    }
    found.iter().map(|line| line.trim().to_owned()).filter(|line| line.starts_with("nats ")).collect()
}

/// Each command with the entry that says how it is run: the one that says most of how it begins.
fn by_entry() -> BTreeMap<usize, Vec<String>> {
    let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for command in documented() {
        let fits = COMMANDS.iter().enumerate().filter(|(_, (begins, ..))| command.starts_with(begins));
        let entry = fits.max_by_key(|(_, (begins, ..))| begins.len());
        found.entry(entry.unwrap_or_else(|| panic!("nobody runs {command}")).0).or_default().push(command);
    }
    let unused: Vec<&str> = (0..).zip(COMMANDS).filter(|(n, _)| !found.contains_key(n)).map(|(_, c)| c.0).collect();
    assert!(unused.is_empty(), "no document has commands that begin with {unused:?}");
    found
}

#[test]
fn every_command_of_the_documents_is_in_the_list() {
    by_entry();
}

/// The files of docs/nats, with a user of the system account for what concerns the servers.
fn configuration(file: &str) -> String {
    let users = ["SERVICE", "CLIENT", "READER", "OPERATOR"];
    let text = document(&format!("docs/nats/{file}"));
    let text = users.iter().fold(text, |text, user| text.replace(&format!("${user}_PASSWORD"), "secret"));
    let system = "SYS: { users: [ { user: sys, password: secret } ] }";
    let text = match text.contains("accounts {\n") {
        true => text.replace("accounts {\n", &format!("accounts {{\n{system}\n")),
        false => format!("{text}\naccounts {{ {system} }}\n"),
    };
    format!("{text}\nsystem_account: SYS\n")
}

const AS_SERVICE: [(&str, &str); 4] =
    [("NATS_USER", "service"), ("NATS_PASSWORD", "secret"), ("STREAM_CREATE", "false"), ("SNAPSHOT_FREQ", "1")];

/// What the commands find: files of which the documents speak, servers, and people who go on working.
fn prepared(shell: &mut Shell, server: &NatsServer, other: &NatsServer) {
    // Each time another name, so that there is an event.
    let rename = "person-service send rename 01980a3c-5f00-7000-8000-000000000001 --given Ada --family $(date +%s)";
    for (name, value) in [
        ("NATS_URL", server.url().as_str()),
        ("NATS_USER", "operator"),
        ("NATS_PASSWORD", "secret"),
        ("OTHER", &other.url()),
        ("RENAME", &format!("eval {rename}")),
    ] {
        shell.set(name, value);
    }
    let mirror = fences(&document("docs/operations.md")).into_iter().find(|(opening, _)| opening == "json");
    // As a container finds it at its boot.
    let nix = document("deployment/nix/container.nix");
    for words in [
        "description = \"The NATS server of the person service\"",
        "url = cfg.natsUrl",
        "nats/context/person-service.json",
    ] {
        assert!(nix.contains(words), "{words}");
    }
    let context =
        format!("{{\"description\": \"The NATS server of the person service\", \"url\": \"{}\"}}", server.url());
    let contexts = shell.folder().join(".config/nats/context");
    std::fs::create_dir_all(&contexts).expect("a folder");
    std::fs::write(contexts.join("person-service.json"), context).expect("it is written");
    std::fs::write(shell.folder().join("mirror.json"), mirror.expect("a mirror").1).expect("it is written");
}

/// All of it on a server with this file's users, as its operator.
fn everything_on(file: &str) {
    let Some(nats) = nats_cli::binary() else {
        return skip(&format!("nats with {file}"), "the real nats cannot be had, see tests/nats-cli");
    };
    let configuration = configuration(file);
    let server = NatsServer::with(&configuration);
    let other = NatsServer::with_jetstream("domain: hub", &configuration);
    let mut shell = Shell::new(nats);
    prepared(&mut shell, &server, &other);
    let mut wrong = String::new();
    let mut run = |script: &str, says: &str| {
        let (success, text) = shell.run(script);
        if !success || !text.contains(says) || text.to_lowercase().contains("permissions violation") {
            let ended = if success { "went well" } else { "failed" };
            wrong.push_str(&format!("--- {file}: {ended}, and should say {says:?}\n{script}\n---\n{text}\n"));
        }
        text
    };

    let (_, by_hand) = fences(&section("docs/operations.md", "Streams made by hand")).remove(0);
    run(&by_hand, "status 69");
    let mut service = Service::start(&server.url(), &AS_SERVICE);
    run("nats stream info PERSON_EVENTS --json | jq '.config | .description = \"ours\"' > drift.json", "");
    for (number, commands) in by_entry() {
        let (_, script, says) = COMMANDS[number];
        for command in commands.iter().filter(|command| !by_hand.contains(*command)) {
            run(&script.replace("{}", &command.replace("/var/backups/", "")), says);
        }
    }
    if file == "accounts.conf" {
        run("NATS_USER=reader nats consumer next PERSON_EVENTS reader", "Acknowledged message");
    }
    run("person-service doctor || true", "PERSON_EVENTS is configured as the service would have it");
    run("person-service verify", "1 person, ");
    assert!(wrong.is_empty(), "{wrong}");
    service.wait_for_log("the stream is not the one that it was");
    service.stop();
}

#[test]
fn an_operator_in_the_account_of_the_service_does_all_of_it() {
    everything_on("accounts.conf");
}

#[test]
fn an_operator_among_users_of_one_account_does_all_of_it() {
    everything_on("users.conf");
}
