//! The properties, for the fuzz targets. The ordinary tests include the same files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a finding")]

#[path = "../it/domain/arbitrary.rs"]
#[allow(dead_code, reason = "the ordinary tests need the rest")]
mod arbitrary;
pub mod properties;
