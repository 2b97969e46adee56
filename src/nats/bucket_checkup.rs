//! Asking how the bucket of snapshots is, and making it where it is gone.

use std::time::{Duration, Instant};

use super::answers::{Trouble, read_config};
use super::api::STREAM_NOT_FOUND;
use super::definitions::bucket;
use super::fault::Fault;
use super::inbox::{Exchanged, Inbox};
use super::layout::Layout;
use super::store::{NotSent, Store};
use super::stream_rules::judge_bucket;
use crate::config;
use crate::engine::ports::Unavailable;

/// How long after an attempt to make it the next one is made: the right may be missing.
const MAKE_PERIOD: Duration = Duration::from_secs(60);

/// What was found of the bucket.
#[derive(Debug, Clone, PartialEq)]
pub enum BucketSeen {
    /// It can be used.
    Usable,
    /// It was gone and was made anew, to be looked at again.
    Made,
    /// It is not there.
    Missing,
    /// It is there and cannot be used.
    Unusable(Vec<Fault>),
}

/// Asks, by an inbox of its own.
#[derive(Debug)]
pub struct BucketCheckup {
    inbox: Inbox,
    layout: Layout,
    replicas: u8,
    may_make: bool,
    tried_at: Option<Instant>,
}

impl BucketCheckup {
    /// Over this connection.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn new(store: &Store, layout: &Layout, wanted: &config::Store) -> Result<Self, NotSent> {
        let (inbox, layout) = (store.inbox()?, layout.clone());
        Ok(Self { inbox, layout, replicas: wanted.replicas, may_make: wanted.create, tried_at: None })
    }

    /// Asks once, and waits for each answer no longer than this.
    ///
    /// # Errors
    /// There is no answer, or none that tells.
    pub fn run(&mut self, wait: Duration) -> Result<BucketSeen, Unavailable> {
        let name = self.layout.bucket_stream();
        let answer = self.inbox.request(&self.layout.api(&format!("STREAM.INFO.{name}")), b"", wait);
        let config = match answer {
            Exchanged::Answered(answer) => read_config(&answer),
            Exchanged::NotSent(why) => return Err(Unavailable(why.to_string())),
            Exchanged::Silent => return Err(Unavailable("there is no answer".to_owned())),
        };
        match config {
            Ok(config) => Ok(match judge_bucket(&config, &self.layout) {
                faults if faults.is_empty() => BucketSeen::Usable,
                faults => BucketSeen::Unusable(faults),
            }),
            Err(Trouble::Refused(error)) if error.err_code == STREAM_NOT_FOUND => Ok(self.make(&name, wait)),
            Err(Trouble::Refused(error)) => Err(Unavailable(error.to_string())),
            Err(Trouble::Away(why)) => Err(Unavailable(why)),
        }
    }

    fn make(&mut self, name: &str, wait: Duration) -> BucketSeen {
        if !self.may_make || self.tried_at.is_some_and(|at| at.elapsed() < MAKE_PERIOD) {
            return BucketSeen::Missing;
        }
        self.tried_at = Some(Instant::now());
        let create = self.layout.api(&format!("STREAM.CREATE.{name}"));
        let config = bucket(&self.layout, self.replicas).to_string();
        match self.inbox.request(&create, config.as_bytes(), wait) {
            Exchanged::Answered(answer) if read_config(&answer).is_ok() => BucketSeen::Made,
            Exchanged::Answered(_) | Exchanged::NotSent(_) | Exchanged::Silent => BucketSeen::Missing,
        }
    }
}
