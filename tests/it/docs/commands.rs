//! The commands in docs/operations.md: shell that parses, subcommands that there are, configuration that nats-server takes.

use std::process::Command;

use super::{document, fences, section};
use crate::support::nats_server;

const FILE: &str = "docs/operations.md";

/// The commands in shell blocks, and what may be one in line.
fn commands() -> Vec<String> {
    let text = document(FILE);
    let blocks = fences(&text).into_iter().filter(|(opening, _)| opening == "sh");
    let lines: Vec<String> =
        blocks.flat_map(|(_, block)| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let in_line = text.split('`').skip(1).step_by(2).map(str::to_owned);
    lines.into_iter().chain(in_line).collect()
}

#[test]
fn shell_blocks_are_shell() {
    let blocks = fences(&document(FILE));
    let shell: Vec<&String> = blocks.iter().filter(|(opening, _)| opening == "sh").map(|(_, block)| block).collect();
    assert!(shell.len() >= 10, "{}", shell.len());
    for block in shell {
        let output = Command::new("sh").args(["-nc", block]).output().expect("sh");
        assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_the_binary_is_asked_to_do_it_can() {
    let known: Vec<String> =
        cim_domain_person::cli::command().get_subcommands().map(|one| one.get_name().to_owned()).collect();
    let commands = commands();
    let asked: Vec<&str> = commands.iter().filter_map(|line| line.trim().strip_prefix("person-service ")).collect();
    assert!(!asked.is_empty());
    for command in asked {
        let subcommand = command.split_whitespace().next().unwrap_or_default();
        assert!(known.iter().any(|name| name == subcommand), "person-service {command}");
    }
}

/// As an administrator has them: included by a file beside them, the passwords from the environment.
#[test]
fn the_files_for_nats_server_are_taken_as_they_stand() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["users.conf", "accounts.conf", "hub.conf", "leaf.conf"] {
        std::fs::write(folder.path().join(name), document(&format!("docs/nats/{name}"))).unwrap();
        let is_whole = ["hub.conf", "leaf.conf"].contains(&name);
        let main = if is_whole { String::new() } else { "jetstream {}\n".to_owned() };
        let path = folder.path().join("nats-server.conf");
        std::fs::write(&path, format!("{main}include \"{name}\"\n")).unwrap();
        let output = Command::new(nats_server::binary())
            .args(["-t", "-c"])
            .arg(&path)
            .envs(
                ["SERVICE", "CLIENT", "READER", "OPERATOR", "REGION"]
                    .map(|user| (format!("{user}_PASSWORD"), "secret")),
            )
            .env("HUB_URL", "tls://region:secret@hub.example.com:7422")
            .output()
            .expect("nats-server runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The words that people search the log for are words of the log: they stand in the source.
#[test]
fn the_symptoms_are_words_of_the_service() {
    let source = source();
    let troubles =
        ["It does not start", "Commands are not answered, or refused", "It was restarted, or says odd things"];
    let text = troubles.map(|heading| section(FILE, heading)).concat();
    let mut found = 0;
    for row in text.lines().filter(|line| line.starts_with('|')) {
        let symptom = row.trim_start_matches('|').split('|').next().unwrap_or_default();
        for words in symptom.split('`').skip(1).step_by(2).filter(|words| words.contains(' ')) {
            // What stands for something else is left out.
            for part in words.split("...").map(|part| part.trim_matches([' ', ':'])).filter(|part| part.contains(' ')) {
                let says = |words: &str| source.contains(words);
                let known = says(part) || OTHERS.contains(&part);
                assert!(known, "{words:?}: nothing says {part:?}");
                found += 1;
            }
        }
    }
    assert!(found >= 20, "{found}");
}

/// What systemd, the system and nats-server say, or what the service puts together from parts.
const OTHERS: [&str; 8] = [
    "SSL_CERT_FILE names it, and TLS is spoken",
    "connection refused",
    "Watchdog timeout",
    "nats-server 2.11.11 is too old",
    "missing: stream",
    "subjects overlap",
    "also takes person.events.>",
    "no snapshots, stream KV_",
];

/// All of src, with the line breaks inside strings taken out.
fn source() -> String {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut all = String::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => all.push_str(&std::fs::read_to_string(&path).expect("a file")),
            }
        }
    }
    let mut joined = String::new();
    let mut continued = false;
    for line in all.lines() {
        joined.push_str(if continued { line.trim_start() } else { line });
        continued = line.ends_with('\\');
        match continued {
            true => drop(joined.pop()),
            false => joined.push('\n'),
        }
    }
    joined
}
