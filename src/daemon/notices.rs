//! What a turn noticed, in the log: each damaged history once, not once a command.

use std::mem::{self, Discriminant};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::domain::PersonId;
use crate::engine::turn::Notice;
use crate::log_limit::RateLimited;

/// Persons of whom it is remembered that their history was reported.
const REPORTED_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

static ODD: RateLimited = RateLimited::new(Duration::from_secs(1));
static REPLAY_LOOP: RateLimited = RateLimited::new(Duration::from_secs(10));

/// The log's memory of what was said.
pub struct Notices {
    /// By person and by what was said of it.
    reported: Mutex<LruCache<(PersonId, Discriminant<Notice>), ()>>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { reported: Mutex::new(LruCache::new(REPORTED_MAX)) }
    }
}

impl Notices {
    /// Logs what is new.
    pub fn log(&self, notices: Vec<Notice>) {
        for notice in notices {
            let kind = mem::discriminant(&notice);
            match notice {
                Notice::Odd(person, what) => {
                    if let Some(held_back) = ODD.pass(Instant::now()) {
                        log::warn!(person_id:% = person, error_code = "history_odd"; "{what}{held_back}");
                    }
                }
                Notice::ReplayLoop(person, conflicts) => {
                    if let Some(held_back) = REPLAY_LOOP.pass(Instant::now()) {
                        log::warn!(
                            person_id:% = person, error_code = "replay_loop";
                            "a person's commits met {conflicts} conflicts in a row, and it is loaded again and again: \
                             other replicas write to the same person all the time{held_back}"
                        );
                    }
                }
                Notice::Damaged(person, what) if self.is_new(person, kind) => log::error!(
                    person_id:% = person, error_code = "history_damaged";
                    "the stored history is damaged, {what}; its commands are answered \
                     history_damaged, everybody else is served; compare the stream with a backup"
                ),
                Notice::TooNew(person, what) if self.is_new(person, kind) => log::error!(
                    person_id:% = person, error_code = "history_too_new";
                    "the stored history is too new, {what}; bring this replica to the release \
                     that wrote it"
                ),
                Notice::LostTail(person) if self.is_new(person, kind) => log::error!(
                    person_id:% = person, error_code = "history_shortened";
                    "the stream has less of a person than was acknowledged: it was restored from a \
                     backup, or lost its newest part"
                ),
                Notice::Damaged(..) | Notice::TooNew(..) | Notice::LostTail(_) => {}
            }
        }
    }

    fn is_new(&self, person: PersonId, kind: Discriminant<Notice>) -> bool {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).put((person, kind), ()).is_none()
    }
}
