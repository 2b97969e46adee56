//! The order of the steps that a command takes. No thread, no clock, no socket, no randomness.
//!
//! In reading order: [`ports`] (what it needs of the world), [`link`] (where a history stands), [`audit`] and [`repair`] (for
//! the tools), [`aggregate`] (a person as one replica knows it), [`receipts`] (which commands were carried out), [`id_spans`]
//! (which ids those can have that are not in memory), [`trail`] (where earlier commits lie), [`draft`] (deciding requests
//! into a commit), [`history`] (reading histories), [`cache`], [`router`] (which replica is the home of a person, and which
//! worker owns it), [`sharing`] (who the other replicas are, and what is on its way to them), [`turn`] (what goes into a turn
//! and comes out of it), [`worker`], where a batch of requests goes through one turn, and [`inquiry`], which answers
//! questions.

pub mod aggregate;
pub mod audit;
pub mod cache;
pub mod draft;
pub mod history;
pub mod id_spans;
pub mod inquiry;
pub mod link;
pub mod ports;
pub mod receipts;
pub mod repair;
pub mod router;
pub mod sharing;
pub mod trail;
pub mod turn;
pub mod worker;
