//! The tests of the whole, one binary.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what fails here is to fail the test, and what is printed is for who reads it"
)]

mod nats;
mod port_contract;
mod support;
