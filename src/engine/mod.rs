//! The order of the steps that a command takes. No thread, no clock, no socket.

pub mod ports;
