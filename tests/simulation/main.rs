//! The deterministic simulation.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what fails here is to fail the test, and what is printed is for who reads it"
)]

#[path = "../checkers/mod.rs"]
#[allow(dead_code, reason = "used once the simulation records")]
mod checkers;

#[test]
fn an_empty_record_breaks_no_promise() {
    assert!(checkers::judge(&checkers::record::Record::default()).is_empty());
}
