//! Bytes to types and back: total functions, no input or output, nothing panics whatever the bytes.
//!
//! In the order in which a command meets them: [`request`] (what a client sent), [`commit`] (what is stored), [`upcast`]
//! (what older releases stored), [`reply`] (what the client gets), [`snapshot`] (what is cached), [`query`] (asking
//! instead of commanding), [`service`] (who serves here), [`beacon`] and [`parcel`] (what replicas say and hand to each
//! other), with [`subject`] for the names of all subjects, [`digest`]
//! for the hashes in them and [`salt`] for what is mixed into one kind of them.

pub mod beacon;
pub mod commit;
pub mod digest;
pub mod parcel;
pub mod query;
pub mod reply;
pub mod request;
pub mod salt;
pub mod service;
pub mod snapshot;
pub mod subject;
pub mod upcast;
