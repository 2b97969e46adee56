//! The Person domain, pure: no clock, no randomness, no input or output.

mod value;

pub use value::{Date, NotADate, NotATime, NotAUuid, PersonId, Timestamp};
