//! What person-service is measured against.
//!
//! *Ceilings* are loops that receive, store and answer messages of the service's sizes and do nothing in between: nobody
//! who stores each command in JetStream before answering it can be faster than them, except by storing less. *Rivals* are
//! other ways to keep events that do the service's work. All of them speak as much of the service's protocol as
//! `person-service bench` needs, so one load generator measures all.

mod ceilings;

use std::process::ExitCode;

use clap::Parser;

/// What to be.
#[derive(Parser)]
enum Peer {
    /// A ceiling: receives, stores and answers, and does nothing in between
    Loop(ceilings::Loop),
    /// A ceiling: stores messages without being asked, and prints how many a second
    Publish(ceilings::Publish),
}

fn main() -> ExitCode {
    let done = match Peer::parse() {
        Peer::Loop(it) => it.run(),
        Peer::Publish(it) => it.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
