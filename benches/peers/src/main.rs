//! What person-service is measured against.
//!
//! *Ceilings* are loops that receive, store and answer messages of the service's sizes and do nothing in between: nobody
//! who stores each command in JetStream before answering it can be faster than them, except by storing less. *Rivals* are
//! other ways to keep events that do the service's work. All of them speak as much of the service's protocol as
//! `person-service bench` needs, so one load generator measures all.

mod ceilings;
mod compare;
#[cfg(feature = "rivals")]
mod instructions;
#[cfg(feature = "rivals")]
mod rivals;
#[cfg(feature = "rivals")]
mod steps;

use std::process::ExitCode;

use clap::Parser;

/// The service's allocator, for everybody alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What to be.
#[derive(Parser)]
enum Peer {
    /// A ceiling: receives, stores and answers, and does nothing in between
    Loop(ceilings::Loop),
    /// A ceiling: stores messages without being asked, and prints how many a second
    Publish(ceilings::Publish),
    /// A rival: another way to keep events, made into a person service
    #[cfg(feature = "rivals")]
    Rival(rivals::Rival),
    /// The instructions of the steps of a command, counted by valgrind's callgrind
    #[cfg(feature = "rivals")]
    Instructions(instructions::Instructions),
    /// Measures service, ceilings and rivals in turn, and writes tables and plots
    Compare(compare::Compare),
}

fn main() -> ExitCode {
    let done = match Peer::parse() {
        Peer::Loop(it) => it.run(),
        Peer::Publish(it) => it.run(),
        #[cfg(feature = "rivals")]
        Peer::Rival(it) => it.run(),
        #[cfg(feature = "rivals")]
        Peer::Instructions(it) => it.run(),
        Peer::Compare(it) => it.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
