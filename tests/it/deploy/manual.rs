//! The man pages and the completions, read by the programs that they are for.

use std::collections::BTreeSet;
use std::path::Path;

use cim_domain_person::cli;
use clap::Command as Definition;

use super::{output_of, text};
use crate::binary::person_service;
use crate::support::skip;

/// All pages, in a folder.
fn pages() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let written = person_service(&["man", "--out", &folder.path().join("man1").display().to_string()], &[]);
    let written = { written }.output().expect("it runs");
    assert!(written.status.success() && text(&written).is_empty(), "{}", text(&written));
    folder
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder.join("man1")).expect("the pages").map(|entry| entry.expect("a page").path()).collect()
}

/// `send` → `person-service-send`, and what stands below it.
fn names(command: &Definition, name: String, found: &mut BTreeSet<String>) {
    for command in command.get_subcommands() {
        names(command, format!("{name}-{}", command.get_name()), found);
    }
    found.insert(format!("{name}.1"));
}

#[test]
fn there_is_a_page_for_the_program_and_for_every_subcommand() {
    let folder = pages();
    let mut expected = BTreeSet::new();
    names(&cli::command(), "person-service".to_owned(), &mut expected);
    let name = |path: std::path::PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!(files(folder.path()).into_iter().map(name).collect::<BTreeSet<_>>(), expected);

    let printed = person_service(&["man", "send", "create"], &[]).output().expect("it runs");
    let written = std::fs::read_to_string(folder.path().join("man1/person-service-send-create.1")).expect("the page");
    assert_eq!(String::from_utf8_lossy(&printed.stdout).trim_end(), written.trim_end());
    let unknown = person_service(&["man", "create"], &[]).output().expect("it runs");
    assert_eq!(unknown.status.code(), Some(64), "{}", text(&unknown));
}

#[test]
fn the_page_of_the_program_has_every_option_variable_and_exit_status() {
    // An empty variable counts as not set; it is an option all the same.
    let page = person_service(&["man"], &[("NATS_URL", "")]).output().expect("it runs");
    let page = text(&page).replace("\\-", "-");
    for option in cli::command().get_arguments().filter(|option| option.get_env().is_some()) {
        let (flag, variable) = (option.get_long().expect("a flag"), option.get_env().expect("a variable"));
        assert!(page.contains(&format!("--{flag}")), "no {flag} in\n{page}");
        assert!(page.contains(&format!("\\fB{}\\fR environment variable", variable.display())), "no {variable:?}");
    }
    for status in cim_domain_person::exit::ExitStatus::ALL {
        assert!(page.contains(&format!(".TP\n\\fB{}\\fR\n", status.code())), "no status {status:?}");
    }
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
        let heading = |line: &&str| line.strip_prefix(".SH ").is_some_and(|name| name.trim_matches('"') == section);
        assert_eq!(page.lines().filter(heading).count(), 1, "{section}");
    }
}

#[test]
fn the_readers_of_man_pages_have_nothing_to_say_against_them() {
    let folder = pages();
    let readers: [(&str, &[&str]); 2] =
        [("groff", &["-ww", "-man", "-Tutf8", "-z"]), ("mandoc", &["-Tlint", "-Wwarning"])];
    for (reader, args) in readers {
        for page in files(folder.path()) {
            let page = page.display().to_string();
            let Some(read) = output_of(reader, &[args, &[page.as_str()]].concat()) else {
                skip("the_readers_of_man_pages_have_nothing_to_say_against_them", &format!("there is no {reader}"));
                break;
            };
            assert!(read.status.success() && text(&read).is_empty(), "{reader} {page}: {}", text(&read));
        }
    }
}

/// What a shell with the completions offers for the last of these words.
fn bash_offers(script: &str, words: &[&str]) -> Option<BTreeSet<String>> {
    let program = format!(
        r#"source "$1"; shift
        complete -p person-service >/dev/null || exit 9
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        {} person-service "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
        printf '%s\n' "${{COMPREPLY[@]}}""#,
        script.lines().find_map(|line| line.strip_suffix("() {")).expect("a function")
    );
    // As a file: it is too long for an argument.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), script).expect("it is written");
    let path = file.path().display().to_string();
    let args = [&["--norc", "--noprofile", "-c", &program, "bash", &path], words].concat();
    let offered = output_of("bash", &args)?;
    assert!(offered.status.success() && offered.stderr.is_empty(), "{}", text(&offered));
    Some(text(&offered).lines().map(str::to_owned).collect())
}

#[test]
fn bash_completes_subcommands_options_and_values() {
    let script = person_service(&["completions", "bash"], &[]).output().expect("it runs");
    let script = text(&script);
    for (words, offered) in [
        (&["person-service", "che"][..], "check"),
        (&["person-service", "send", "cre"], "create"),
        (&["person-service", "history", "--from"], "--from-version"),
        (&["person-service", "--stream-re"], "--stream-replicas"),
        (&["person-service", "completions", "z"], "zsh"),
    ] {
        let Some(found) = bash_offers(&script, words) else {
            return skip("bash_completes_subcommands_options_and_values", "there is no bash");
        };
        assert_eq!(found, BTreeSet::from([offered.to_owned()]), "{words:?}");
    }
}

#[test]
fn the_shells_take_their_completions() {
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = person_service(&["completions", shell], &[]).output().expect("it runs");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &script.stdout).expect("it is written");
        assert!(script.status.success() && !script.stdout.is_empty(), "{}", text(&script));
        match output_of(shell, &[check, &file.path().display().to_string()]) {
            Some(read) => assert!(read.status.success() && text(&read).is_empty(), "{shell}: {}", text(&read)),
            None => skip("the_shells_take_their_completions", &format!("there is no {shell}")),
        }
    }
}
