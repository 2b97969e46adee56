//! The documentation says what the code does: tables that are made from the code itself.
//!
//! `UPDATE_DOCS=1 cargo test docs::` writes the tables anew; without it a difference is a failure.

use std::fmt::Write as _;
use std::path::Path;

use cim_domain_person::cli;
use cim_domain_person::exit::ExitStatus;
use clap::Arg;

const FILE: &str = "docs/configuration.md";

/// Compares the part of the document between the two markers with what it should be, or writes it.
fn check(marker: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let text = std::fs::read_to_string(&path).expect("the document");
    let (begin, end) =
        (format!("<!-- {marker}: made by tests/it/docs.rs -->\n"), format!("<!-- end of {marker} -->\n"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{FILE} has no {begin}"));
    let (found, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{FILE} has no {end}"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{expected}{end}{after}")).expect("it can be written");
    } else {
        assert_eq!(found, expected, "{FILE} is out of date: UPDATE_DOCS=1 cargo test docs::");
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
}
