//! The tests of the whole, one binary.

mod binary;
mod config;
mod config_refused;
mod docs;
mod logging;
mod notify;
mod tidy;
