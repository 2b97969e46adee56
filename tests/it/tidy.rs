//! The project's manners, as tests: who may import whom, how large a file may be, what may not stand in the source.
//!
//! A manner that is only a remark is forgotten; one that is a test is kept by whoever never heard of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Lines of a source file, its tests included.
const SOURCE_LINES_MAX: usize = 400;

/// Who may import whom. `domain` is pure; the engine knows neither NATS nor threads; `nats` is the only folder that
/// names the client.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("wire", &["domain"]),
    ("engine", &["domain", "wire"]),
    ("memory", &["domain", "wire", "engine"]),
    ("log_limit", &[]),
    ("nats", &["domain", "wire", "engine", "config", "exit", "log_limit"]),
    ("config", &[]),
    ("exit", &[]),
    ("daemon", &["domain", "wire", "engine", "nats", "memory", "config", "exit", "log_limit"]),
    ("cli", &["domain", "wire", "engine", "nats", "memory", "config", "exit", "daemon"]),
];

/// What a shipped line may not have in it, and why.
const NOT_IN_SOURCE: &[(&str, &str)] = &[
    (".unwrap()", "say why it cannot fail: expect(\"...\"), or return the error"),
    ("async fn", "the service is synchronous"),
    ("tokio", "the service is synchronous"),
    ("std::process::exit", "an end is an ExitStatus that main returns"),
    ("set_var(", "the environment is not ours to change with threads running"),
    ("remove_var(", "the environment is not ours to change with threads running"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files with this ending under a folder, as (path from the root, text).
pub fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let name = path.strip_prefix(root()).expect("under the root").to_string_lossy().into_owned();
                found.push((name, read(&path)));
            }
        }
    }
    found.sort();
    found
}

/// The lines that ship, with their numbers: no comments, and nothing from the file's test module on.
fn shipped(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with("mod tests {"));
    let all = lines.into_iter().enumerate().take(tests.unwrap_or(usize::MAX));
    all.map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//")).collect()
}

/// The names that follow `crate::` in a line, those of `crate::{a, b::c}` included.
fn imported(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let whole = at == 0 || !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group.trim_end_matches(['}', ';']).split(", ").map(name)),
            None if whole => names.push(name(rest)),
            None => {}
        }
    }
    names.retain(|name| name.starts_with(char::is_lowercase));
    names
}

#[test]
fn everyone_imports_only_whom_they_may() {
    let mut wrong = Vec::new();
    for (file, text) in files("src", ".rs") {
        let module = file["src/".len()..].split(['/', '.']).next().expect("a name");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let rule = MAY_IMPORT.iter().find(|(name, _)| *name == module);
        let (_, may) = rule.unwrap_or_else(|| panic!("{file}: say in tests/it/tidy.rs whom {module} may import"));
        for (number, line) in shipped(&text) {
            let others = imported(line).into_iter().filter(|name| name != module && !may.contains(&name.as_str()));
            wrong.extend(others.map(|name| format!("{file}:{number}: {module} may not import {name}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_one_folder_names_the_client() {
    let mut wrong = Vec::new();
    for (file, text) in files("src", ".rs").into_iter().filter(|(file, _)| !file.starts_with("src/nats")) {
        for (number, line) in shipped(&text) {
            let alone =
                |at: usize| at == 0 || !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if line.match_indices("nats::").any(|(at, _)| alone(at)) {
                wrong.push(format!("{file}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "the client is named outside of src/nats:\n{}", wrong.join("\n"));
}

#[test]
fn nothing_unwanted_stands_in_the_source() {
    let mut wrong = Vec::new();
    for (file, text) in files("src", ".rs") {
        for (number, line) in shipped(&text) {
            let found = NOT_IN_SOURCE.iter().filter(|(unwanted, _)| line.contains(unwanted));
            wrong.extend(found.map(|(unwanted, why)| format!("{file}:{number}: {unwanted}: {why}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_is_of_readable_size() {
    for folder in ["src", "tests", "benches/peers/src"] {
        for (file, text) in files(folder, ".rs") {
            assert!(text.starts_with("//! "), "{file} does not begin with //! and what it is");
            let lines = text.lines().count();
            assert!(
                folder != "src" || lines <= SOURCE_LINES_MAX,
                "{file} has {lines} lines, {SOURCE_LINES_MAX} are allowed"
            );
        }
    }
}

#[test]
fn no_test_file_is_forgotten() {
    let declared = read(&root().join("tests/it/main.rs"));
    for entry in std::fs::read_dir(root().join("tests/it")).expect("the folder") {
        let name = entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(
            name == "main" || declared.contains(&format!("mod {name};")),
            "tests/it/main.rs does not declare {name}"
        );
    }
}

#[test]
fn every_folder_of_tests_has_its_row_in_the_documentation() {
    let document = read(&root().join("docs/testing.md"));
    let (_, table) = document.split_once("## Where what is tested").expect("the table");
    let (table, _) = table.split_once("\n## ").expect("what follows it");
    for folder in ["tests", "tests/it"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("the folder") {
            let path = entry.expect("an entry").path();
            let name = format!("{folder}/{}", path.file_name().expect("a name").to_string_lossy());
            // What is under it has rows of its own.
            if path.is_dir() && name != "tests/it" {
                // `tests/it/docs*` is the folder and the file beside it.
                let row = |line: &&str| {
                    let first = line.split('|').nth(1).unwrap_or_default();
                    [format!("`{name}`"), format!("`{name}*`")].iter().any(|quoted| first.contains(quoted))
                };
                assert_eq!(table.lines().filter(row).count(), 1, "rows of docs/testing.md for {name}");
            }
        }
    }
}

#[test]
fn the_version_is_in_the_changelog() {
    let version = env!("CARGO_PKG_VERSION");
    let changelog = read(&root().join("CHANGELOG.md"));
    assert!(
        changelog.lines().any(|line| line.starts_with(&format!("## {version}"))),
        "CHANGELOG.md has no ## {version}"
    );
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read(&root().join("Cargo.toml"));
    let dependencies = manifest
        .split("\n[")
        .filter(|section| section.starts_with("dependencies]") || section.starts_with("dev-dependencies]"))
        .flat_map(|section| section.lines().skip(1))
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| format!("`{name}`")));
    let dependencies: BTreeSet<String> = dependencies.collect();
    let decision = read(&root().join("docs/decisions/002-dependencies.md"));
    let rows = decision.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let explained: BTreeSet<String> = rows.map(|(name, _)| format!("`{name}`")).collect();
    assert_eq!(dependencies, explained, "Cargo.toml and docs/decisions/002-dependencies.md");
}

#[test]
fn what_is_run_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    for script in [
        ".ci/run",
        "benches/run",
        "tests/run",
        "tests/nats-server",
        "tests/versions",
        "tests/lxc",
        "systemd/install",
        "systemd/package",
    ] {
        let mode =
            std::fs::metadata(root().join(script)).unwrap_or_else(|error| panic!("{script}: {error}")).permissions();
        assert_eq!(mode.mode() & 0o111, 0o111, "{script} is not executable");
    }
}

#[test]
fn the_table_of_imports_in_the_documentation_is_the_one_that_is_checked() {
    let document = read(&root().join("docs/ARCHITECTURE.md"));
    for (module, may) in MAY_IMPORT {
        let names: Vec<String> = may.iter().map(|name| format!("`{name}`")).collect();
        let names = if names.is_empty() { "nothing of ours".to_owned() } else { names.join(", ") };
        let row = format!("| `{module}` | {names} |");
        assert!(document.lines().any(|line| line == row), "docs/ARCHITECTURE.md lacks the row {row}");
    }
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut documents = files("docs", ".md");
    documents.extend(["README.md", "CHANGELOG.md"].map(|name| (name.to_owned(), read(&root().join(name)))));
    let mut wrong = Vec::new();
    for (file, text) in &documents {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if !link.contains("://") && !leads_somewhere(file, text, link) {
                wrong.push(format!("{file}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

fn leads_somewhere(file: &str, text: &str, link: &str) -> bool {
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target: PathBuf = root().join(file).parent().expect("a folder").join(path);
    let text = match path {
        "" => text.to_owned(),
        _ if heading.is_empty() => return target.exists(),
        _ => std::fs::read_to_string(target).unwrap_or_default(),
    };
    text.lines().filter(|line| line.starts_with('#')).any(|line| slug(line) == heading)
}

/// The name that a heading is linked by.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
