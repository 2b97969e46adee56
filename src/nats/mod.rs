//! NATS: the one folder that names the client crate, so that replacing the client is one folder's work.
//!
//! The blocking `nats` crate is deprecated upstream and gets security fixes only; `docs/decisions` says why it is used
//! all the same. It is fast when it is fed and flushed in its own way, and it has traps: each file here says on top
//! which of them it keeps away from the rest of the service.
//!
//! ```text
//!  probe ── sign_in ──► dial ──► session ── health, flusher
//!                        │        (one client; a connection has one after the other)
//!                    connection
//!                        │        │
//!               store ◄──┘        └──► intake        two connections: strangers' messages can break
//!                 │                    (commands,    the one that receives them, never the store's
//!               inbox                   queries)
//!                 │
//!   provision, event_log (+ pages, steps), snapshots       raw JetStream JSON, shapes in `api`, names in `layout`
//! ```
#![expect(deprecated, reason = "the user asked for this client; nothing outside this folder names it")]

mod account;
mod answers;
pub mod api;
mod bucket_checkup;
mod caller;
mod checkup;
mod clock_offset;
mod conflicts;
mod connection;
mod definitions;
mod dial;
mod drift;
mod event_log;
mod examiner;
mod fault;
mod flusher;
mod health;
mod in_flight;
mod inbox;
mod intake;
mod layout;
mod leader;
mod mend;
mod message;
mod obstacle;
mod pages;
mod place;
mod probe;
mod provision;
mod replies;
mod scan;
mod session;
mod shunned;
mod sign_in;
mod snapshots;
mod steps;
mod store;
mod stream_rules;
mod trial;

pub use account::{Account, Share};
pub use answers::StreamState;
pub use bucket_checkup::{BucketCheckup, BucketSeen};
pub use caller::{Answer, Caller};
pub use checkup::{CheckError, Checkup, Seen};
pub use clock_offset::{ClockOffset, ClockVerdict};
pub use conflicts::{Conflict, Conflicts, NotListed, listing, listings, read_page};
pub use connection::{Connection, OpenError, check_files};
pub use definitions::Definition;
pub use drift::{Drift, Judgement, Kept, expected, judge};
pub use event_log::{BATCH_LEN_MIN, NatsLog};
pub use examiner::{Examiner, Question, Said};
pub use fault::Fault;
pub use health::Health;
pub use inbox::{Exchanged, Inbox, Post};
pub use intake::{Arrivals, Group, Intake, Left};
pub use layout::Layout;
pub use mend::{Ground, Mend};
pub use message::Incoming;
pub use obstacle::{Cause, Consequence, Obstacle};
pub use probe::greetings;
pub use provision::{API_LEVEL_MIN, Prepared, ProvisionError, SERVER_MIN, prepare};
pub use replies::ReplyRule;
pub use scan::{Extent, Scan, Scanned};
pub use snapshots::{BucketGate, NatsSnapshots};
pub use store::{NotSent, Store};
pub use trial::{Need, Outcome, There, Trial, stand};
