//! The properties, for the fuzz targets. The ordinary tests include the same files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what fails here is a finding")]

#[path = "../it/domain/arbitrary.rs"]
mod arbitrary;
pub mod properties;
