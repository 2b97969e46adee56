//! Bytes to types and back: what stands in the wire contract, as files and tables.

mod commit;
mod reply;
mod request;
mod snapshot;
mod subject;

use std::path::PathBuf;

use cim_domain_person::domain::{Attribute, Temporal, Timestamp};

/// A file that holds what is promised to the outside. It changes only by adding; to write one anew, remove it and run
/// the tests with `WRITE_GOLDEN=1`.
pub fn golden(name: &str, made: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/wire/golden").join(name);
    if !path.exists() && std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The same, of one line of text.
pub fn check_golden_text(name: &str, made: &[u8]) {
    let made = String::from_utf8([made, b"\n"].concat()).unwrap();
    assert_eq!(String::from_utf8(golden(name, made.as_bytes())).unwrap(), made, "{name}");
}

/// The attribute as an event of this time has it.
pub fn recorded(attribute: &Attribute, at: Timestamp) -> Attribute {
    let temporal = Temporal { recorded_at: Some(at), ..attribute.temporal };
    Attribute { temporal, ..attribute.clone() }
}
