//! The Person domain as an event-sourced NATS microservice.
//!
//! The way that a command takes, and where to find it:
//!
//! ```text
//! P.commands.> ─► nats::intake ─► wire::request ─► daemon::pool ─► engine::worker ─► nats::event_log ─► stream
//!                 the client      decode, check    hash of the     a turn: load,     append with the
//!                                 (or refuse)      person's id     decide, append,   expected sequence
//!                                                                  confirm, answer ─► wire::reply ─► client
//! ```
//!
//! `domain` decides and is pure; `wire` turns bytes into types and back; `engine` orders the steps and sees the world
//! through two small ports; `nats` and `memory` implement those; `daemon` has the threads, the time and the signals.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod engine;
pub mod exit;
pub mod log_limit;
pub mod memory;
pub mod nats;
pub mod wire;
