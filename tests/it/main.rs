//! The tests of the whole, one binary.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what fails here is to fail the test, and what is printed is for who reads it"
)]

mod binary;
mod chaos;
#[allow(dead_code, reason = "the simulation records more than real processes show")]
#[path = "../checkers/mod.rs"]
mod checkers;
mod cli;
mod config;
mod config_refused;
mod daemon;
mod deploy;
mod docs;
mod domain;
mod engine;
mod fuzz;
mod logging;
mod memory;
mod nats;
mod nix;
mod notify;
mod operations;
mod port_contract;
mod queries;
mod snapshots;
mod support;
mod tidy;
mod wire;
