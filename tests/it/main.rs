//! The tests of the whole, one binary.

#![allow(clippy::indexing_slicing, reason = "a test may fail by a panic")]

mod binary;
mod config;
mod config_refused;
mod docs;
mod domain;
mod logging;
mod notify;
mod tidy;
