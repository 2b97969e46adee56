//! The tests of the whole, one binary.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what fails here is to fail the test, and what is printed is for who reads it"
)]

mod binary;
mod cli;
mod config;
mod config_refused;
mod docs;
mod domain;
mod logging;
mod nats;
mod notify;
mod port_contract;
mod support;
mod tidy;
