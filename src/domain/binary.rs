//! The compact binary form of domain values: what snapshots hold and digests are made of.
//!
//! It is not self-describing. An enum is written as the index of its variant and a struct as its fields in order, so
//! variants of a type that is encoded are only ever appended, and another change of shape is another snapshot format.

use bincode::config::{self, Configuration};
use bincode::enc::write::SizeWriter;
use bincode::enc::{Encode, EncoderImpl};

/// How values are encoded: little endian, integers in as few bytes as they need.
pub const CONFIG: Configuration = config::standard();

/// How many bytes the value has in its binary form, counted without writing it.
pub fn encoded_bytes(value: &impl Encode) -> usize {
    let mut counter = EncoderImpl::new(SizeWriter::default(), CONFIG);
    match value.encode(&mut counter) {
        Ok(()) => counter.into_writer().bytes_written,
        // No value of ours refuses to be encoded; one that did would be too large for every limit.
        Err(_) => usize::MAX,
    }
}
