//! The Person domain as an event-sourced NATS microservice.

pub mod config;
pub mod domain;
pub mod engine;
pub mod nats;
