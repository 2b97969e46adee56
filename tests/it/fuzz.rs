//! What the fuzzer looks for, on the stable compiler: its seeds, and whatever it found once, go through the same
//! functions as in a fuzzing run. `docs/testing.md` says how to fuzz.

#[path = "../fuzz/properties/mod.rs"]
mod properties;

use std::path::Path;

use crate::domain::arbitrary;

/// What holds of an input.
type Property = fn(&[u8]);

/// Each target with its property.
const TARGETS: &[(&str, Property)] = &[
    ("answer", properties::answer::hold),
    ("beacon", properties::beacon::hold),
    ("command", properties::command::hold),
    ("commit", properties::commit::hold),
    ("import", properties::import::hold),
    ("parcel", properties::parcel::hold),
    ("query", properties::query::hold),
    ("snapshot", properties::snapshot::hold),
    ("story", properties::story::hold),
];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz"))
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder().join("corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read = |path: std::path::PathBuf| (path.display().to_string(), std::fs::read(&path).unwrap());
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

#[test]
fn what_is_in_the_corpus_keeps_its_properties() {
    for (target, hold) in TARGETS {
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "{target} has no seed");
        for (path, input) in corpus {
            // Which one it was stands before the panic's own message.
            println!("{path}");
            hold(&input);
        }
    }
}

/// A corpus grows by whole runs if nobody looks; then every clone pays for it.
#[test]
fn the_corpus_is_small() {
    for (target, _) in TARGETS {
        let bytes: usize = corpus(target).iter().map(|(_, input)| input.len()).sum();
        assert!(bytes <= 64 * 1024, "{target}: {bytes} bytes");
    }
}

#[test]
fn every_target_is_declared_everywhere() {
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let script = std::fs::read_to_string(folder().join("run")).unwrap();
    let document = std::fs::read_to_string(folder().join("../../docs/testing.md")).unwrap();
    let mut files: Vec<String> = std::fs::read_dir(folder().join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect::<Vec<_>>());
    for (target, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "tests/fuzz/Cargo.toml lacks {target}");
        assert!(script.contains(&format!(" {target}")), "tests/fuzz/run lacks {target}");
        assert!(document.contains(&format!("\n| `{target}` | ")), "docs/testing.md lacks {target}");
    }
}
