//! `docs/tour.md` is run, as one shell would, and what it shows is compared with what comes out.
//!
//! A block of shell may be followed by a block without a language: what the reader sees then. In it a line `...` stands for
//! any lines, `...` in a line for anything; ids, times and figures differ each time and are not compared.
//! `UPDATE_DOCS=1 cargo test docs::tour` writes what came out where that differs.

use std::path::Path;

use super::shell::Shell;
use super::{document, fences};
use crate::support::ports::free_ports;
use crate::support::{nats_cli, past_the_capture, skip};

const FILE: &str = "docs/tour.md";
/// The ports that the document names; the test takes free ones.
const PORTS: [&str; 2] = ["4222", "9464"];
/// Where the real `nats` cannot be had. It has no tables: the block with them is not compared then.
const STAND_IN: &str = "tests/it/docs/nats";
const TABLES: &str = "nats micro ls";
/// What separates the output of blocks.
const MARK: &str = "@@@ block ";

/// The blocks of shell, each with what is shown behind it.
fn blocks() -> Vec<(String, Option<String>)> {
    let mut blocks: Vec<(String, Option<String>)> = Vec::new();
    for (opening, text) in fences(&document(FILE)) {
        match opening.as_str() {
            "sh" => blocks.push((text, None)),
            "" => blocks.last_mut().expect("a block of shell before it").1 = Some(text),
            other => panic!("{FILE}: nobody checks a block of {other}"),
        }
    }
    blocks
}

/// What each block wrote.
fn run(blocks: &[(String, Option<String>)]) -> Vec<String> {
    let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join(STAND_IN);
    let nats = nats_cli::binary().unwrap_or_else(|| {
        past_the_capture("SKIPPED: the tour with the real nats, which cannot be had here: a script stands in for it");
        &stand_in
    });
    let ports = std::iter::zip(PORTS, free_ports::<2>().map(|port| port.to_string()));
    let ports: Vec<(&str, String)> = ports.collect();
    let mut script = String::new();
    for (number, (block, _)) in blocks.iter().enumerate() {
        script.push_str(&format!("printf '{MARK}{number}\\n'\n{block}\n"));
    }
    for (port, free) in &ports {
        script = script.replace(port, free);
    }
    let shell = Shell::new(nats);
    let (success, mut text) = shell.run(&script);
    for (port, free) in &ports {
        text = text.replace(free.as_str(), port);
    }
    let logs = ["nats.log", "a.log", "b.log", "c.log"].map(|name| std::fs::read_to_string(shell.folder().join(name)));
    let logs: Vec<String> = logs.into_iter().flatten().collect();
    assert!(success, "it failed, or took too long\n{text}\n--- logs ---\n{}", logs.join("---\n"));
    let parts = text.split(MARK).skip(1);
    parts.map(|part| part.split_once('\n').expect("a number").1.trim_end().to_owned()).collect()
}

/// Without what differs each time: runs of blanks, ids, times, and figures with their unit.
fn masked(line: &str) -> String {
    let is_of_id = |c: char| c.is_ascii_hexdigit() || c == '-';
    let mask = |word: &str| -> String {
        let mut masked = String::new();
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            let id = rest.find(|c| !is_of_id(c)).unwrap_or(rest.len());
            let figure = rest.find(|c: char| !c.is_ascii_digit() && !".,:TZ-".contains(c)).unwrap_or(rest.len());
            let (length, sign) = match first {
                _ if id >= 20 && rest[..id].contains(|c: char| c.is_ascii_digit()) => (id, "ID"),
                '0'..='9' => (rest[..figure].trim_end_matches(['.', ',', ':', '-', 'T']).len(), "N"),
                _ => (first.len_utf8(), ""),
            };
            masked.push_str(if sign.is_empty() { &rest[..length] } else { sign });
            rest = &rest[length..];
        }
        masked
    };
    let words: Vec<String> = line.split_whitespace().map(mask).collect();
    let is_unit = |word: &str| ["B", "KiB", "MiB", "ms", "s", "µs"].contains(&word.trim_end_matches([',', ';', ':']));
    let mut kept: Vec<String> = Vec::new();
    for word in words {
        // In one word: 12ms.
        if word.strip_prefix('N').is_some_and(is_unit) {
            kept.extend(["N".to_owned(), "unit".to_owned()]);
            continue;
        }
        let follows_a_figure = kept.last().is_some_and(|last| last == "N");
        kept.push(if follows_a_figure && is_unit(&word) { "unit".to_owned() } else { word });
    }
    // A table's lines are as long as what stands in it. Two clocks of one machine: which of them is ahead is chance.
    let mut masked = kept.join(" ").replace("ahead of the server", "behind the server");
    while masked.contains("──") {
        masked = masked.replace("──", "─");
    }
    masked
}

/// Whether this text, in which `...` is anything, is this other one.
fn fits(shown: &str, is: &str) -> bool {
    let mut parts = shown.split("...");
    let Some(mut rest) = parts.next().and_then(|first| is.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The same of lines, where a line `...` is any number of lines.
fn all_fit(shown: &[String], is: &[String]) -> bool {
    match shown.split_first() {
        None => is.is_empty(),
        Some((dots, rest)) if dots == "..." => (0..=is.len()).any(|from| all_fit(rest, &is[from..])),
        Some((line, rest)) => {
            is.split_first().is_some_and(|(first, others)| fits(line, first) && all_fit(rest, others))
        }
    }
}

#[test]
fn the_tour_shows_what_a_reader_sees() {
    let blocks = blocks();
    assert!(blocks.len() >= 15, "{}", blocks.len());
    let path = std::env::var("PATH").unwrap_or_default();
    for tool in ["curl", "jq", "awk", "bash"] {
        if !std::env::split_paths(&path).any(|place| place.join(tool).is_file()) {
            return skip("the_tour_shows_what_a_reader_sees", &format!("there is no {tool}"));
        }
    }
    let outputs = run(&blocks);
    assert_eq!(outputs.len(), blocks.len());
    let mut wrong = String::new();
    let mut text = document(FILE);
    for ((block, shown), output) in blocks.iter().zip(&outputs) {
        let Some(shown) = shown else { continue };
        if block.contains(TABLES) && nats_cli::binary().is_none() {
            continue;
        }
        let lines = |text: &str| text.lines().map(masked).collect::<Vec<_>>();
        if all_fit(&lines(shown), &lines(output)) {
            continue;
        }
        wrong.push_str(&format!("--- {block}\n--- shows\n{shown}\n--- and is\n{output}\n"));
        let gap = if shown.is_empty() { "" } else { "\n" };
        let old = format!("```sh\n{block}\n```\n\n```\n{shown}{gap}```");
        assert!(text.contains(&old), "{old}");
        text = text.replacen(&old, &format!("```sh\n{block}\n```\n\n```\n{output}\n```"), 1);
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE), text).expect("it can be written");
    } else {
        assert!(wrong.is_empty(), "{FILE} is out of date (UPDATE_DOCS=1 cargo test docs::tour):\n{wrong}");
    }
}

#[test]
fn what_differs_each_time_is_masked_and_nothing_else() {
    for (one, other, same) in [
        ("at version 3, command 0197c5a3-aaaa-7d3e-9a52-6f7d0c1b2a30", "at version 12, command tour-1", false),
        ("id 0197c5a3-aaaa-7d3e-9a52-6f7d0c1b2a30", "id 0197c5a3-bbbb-7d3e-9a52-6f7d0c1b2a30", true),
        ("977 B stored,  in 0.1 s", "1.20 KiB stored, in 12,000.5 ms", true),
        ("│ 3ms  │ 1.5s │", "│ 12ms │ 0s │", true),
        ("├────┼──┤", "├──┼───┤", true),
        ("├────┼──┤", "├──────┤", false),
        ("2026-01-31T12:00:00Z  PersonCreated", "2027-01-31T12:00:00.5Z PersonCreated", true),
        ("accepted 3", "rejected 3", false),
        ("serving 3 s", "serving three s", false),
        ("damaged", "", false),
    ] {
        assert_eq!(masked(one) == masked(other), same, "{one} / {other}: {} / {}", masked(one), masked(other));
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(all_fit(&lines("a\n...\nb ... d"), &lines("a\nx\ny\nb c d")));
    assert!(!all_fit(&lines("a\n...\nb ... d"), &lines("a\nx\ny\nb c")));
    assert!(!all_fit(&lines("a"), &lines("a\nb")) && !all_fit(&lines("a\nb"), &lines("a")));
}
