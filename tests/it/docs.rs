//! The documentation says what the code does: tables that are made from the code itself, examples that the code reads.
//!
//! `UPDATE_DOCS=1 cargo test docs::` writes the tables of the configuration anew; without it a difference is a failure.

mod bounds;
mod commands;
mod monitoring;
mod nats_cli;
mod protocol;
mod shell;
mod tour;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use cim_domain_person::cli;
use cim_domain_person::exit::ExitStatus;
use cim_domain_person::nats::{Cause, Consequence};
use clap::Arg;

const FILE: &str = "docs/configuration.md";

/// The text of a file of the project.
fn document(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The blocks between fences: what stands behind the opening one, and the text.
fn fences(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(opening) = lines.by_ref().find_map(|line| line.strip_prefix("```")) {
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((opening.to_owned(), block.join("\n")));
    }
    blocks
}

/// The JSON examples of one kind, which stands behind the fence: "```json command".
fn examples(file: &str, kind: &str) -> Vec<String> {
    let of_kind = |(opening, text): (String, String)| (opening == format!("json {kind}")).then_some(text);
    fences(&document(file)).into_iter().filter_map(of_kind).collect()
}

/// What stands under a heading, up to the next one of any level.
fn section(file: &str, heading: &str) -> String {
    let text = document(file);
    let lines = text.lines().skip_while(|line| line.trim_start_matches('#') != format!(" {heading}")).skip(1);
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with('#')).collect();
    assert!(!lines.is_empty(), "{file} has nothing under {heading}");
    lines.join("\n")
}

/// The cells of the first table in a text, without its head.
fn cells(text: &str) -> Vec<Vec<String>> {
    let table = text.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let row = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    table.skip(2).map(row).collect()
}

/// 4,096
fn in_thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// 256 KiB
fn in_bytes(number: usize) -> String {
    match number {
        _ if number.is_multiple_of(1 << 20) => format!("{} MiB", number >> 20),
        _ if number.is_multiple_of(1 << 10) => format!("{} KiB", number >> 10),
        _ => format!("{} bytes", in_thousands(number)),
    }
}

/// Compares the part of the document between the two markers with what it should be, or writes it.
fn check(marker: &str, expected: &str) {
    check_in(FILE, marker, expected);
}

/// The same, in any document.
fn check_in(file: &str, marker: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).expect("the document");
    let (begin, end) =
        (format!("<!-- {marker}: made by tests/it/docs.rs -->\n"), format!("<!-- end of {marker} -->\n"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file} has no {begin}"));
    let (found, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{file} has no {end}"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{expected}{end}{after}")).expect("it can be written");
    } else {
        assert_eq!(found, expected, "{file} is out of date: UPDATE_DOCS=1 cargo test docs::");
    }
}

fn row(arg: &Arg) -> String {
    let variable = arg.get_env().and_then(|name| name.to_str()).expect("every option has a variable");
    let flag = arg.get_long().expect("every option has a flag");
    let value = arg.get_value_names().and_then(|names| names.first()).expect("every option has a value");
    let default = arg.get_default_values().first().and_then(|value| value.to_str());
    let default = default.map_or_else(|| "none".to_owned(), |default| format!("`{default}`"));
    let help = arg.get_help().expect("every option has help").to_string();
    format!("| `{variable}` | `--{flag} <{value}>` | {default} | {} |\n", help.replace('|', "\\|"))
}

/// One function, since both tables stand in one file and would be written at the same time.
#[test]
fn the_tables_of_options_and_exit_statuses_are_those_of_the_binary() {
    let command = cli::command();
    let mut options = String::new();
    let mut heading = None;
    for arg in command.get_arguments().filter(|arg| arg.get_env().is_some()) {
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            let title = heading.expect("every option stands under a heading");
            // Writing to a string cannot fail.
            let _ = writeln!(options, "\n### {title}\n\n| variable | flag | default | meaning |\n|---|---|---|---|");
        }
        options.push_str(&row(arg));
    }
    check("options", &format!("{options}\n"));

    let mut statuses = "\n| status | meaning |\n|---|---|\n".to_owned();
    for status in ExitStatus::ALL {
        let _ = writeln!(statuses, "| {} | {} |", status.code(), status.meaning());
    }
    check("exit statuses", &format!("{statuses}\n"));

    let mut obstacles = "\n| what it is | the start | what helps |\n|---|---|---|\n".to_owned();
    for cause in Cause::ALL {
        let does = match cause.consequence() {
            Consequence::Ends(status) => format!("ends with {}", status.code()),
            Consequence::Waits => "waits".to_owned(),
            Consequence::GoesOn => "goes on, and says so as an error".to_owned(),
        };
        let _ = writeln!(obstacles, "| {} | {does} | {} |", cause.meaning(), cause.advice());
    }
    check("obstacles", &format!("{obstacles}\n"));
}

#[test]
fn every_subcommand_has_its_row() {
    let command = cli::command();
    let known: BTreeSet<String> =
        command.get_subcommands().map(|command| format!("`{}`", command.get_name())).collect();
    let rows = cells(&document("docs/cli.md")).into_iter().map(|row| row[0].clone());
    assert_eq!(rows.collect::<BTreeSet<_>>(), known, "docs/cli.md, the table of subcommands");
}
