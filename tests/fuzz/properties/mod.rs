//! What holds whatever the bytes. Each file is one fuzz target: `hold` panics when a property does not hold.
//!
//! The ordinary tests run the committed corpus through the same functions (`tests/it/fuzz.rs`).

pub mod answer;
pub mod beacon;
pub mod command;
pub mod commit;
pub mod import;
pub mod marker;
pub mod parcel;
pub mod query;
pub mod snapshot;
pub mod story;

use super::arbitrary;

/// The input up to the first line break, and what comes after it.
fn first_line(input: &[u8]) -> (&str, &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    (std::str::from_utf8(&input[..end]).unwrap_or("?"), input.get(end + 1..).unwrap_or_default())
}

/// A number that depends on every byte of the input.
fn choice(input: &[u8]) -> usize {
    usize::from_le_bytes(*cim_domain_person::wire::digest::Digest::of(input).to_bytes().first_chunk().unwrap())
}
