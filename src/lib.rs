//! The Person domain as an event-sourced NATS microservice.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod domain;
pub mod engine;
pub mod exit;
