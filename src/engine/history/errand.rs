//! What is read outside of a turn, since it is more than a turn may read.

use crate::domain::PersonId;
use crate::engine::history::{History, Loading, Search};
use crate::engine::ports::{Page, Read, Unavailable};

/// A history to be read on, outside of the turn, and to be given back to the worker that owns the person.
#[derive(Debug)]
pub struct Errand {
    /// For whom: its worker takes it back.
    pub owner: PersonId,
    /// What.
    pub what: What,
}

/// What is read.
#[derive(Debug)]
pub enum What {
    /// The owner.
    Load(Box<Loading>),
    /// Old commands of the owner.
    Search(Box<Search>),
    /// Somebody else, on whom what is decided for the owner depends.
    Other(Box<Loading>),
}

impl Errand {
    fn history(&self) -> &dyn History {
        match &self.what {
            What::Load(loading) | What::Other(loading) => loading.as_ref(),
            What::Search(search) => search.as_ref(),
        }
    }

    fn history_mut(&mut self) -> &mut dyn History {
        match &mut self.what {
            What::Load(loading) | What::Other(loading) => loading.as_mut(),
            What::Search(search) => search.as_mut(),
        }
    }
}

impl History for Errand {
    fn is_over(&self) -> bool {
        self.history().is_over()
    }

    fn wants_snapshot(&self) -> Option<PersonId> {
        self.history().wants_snapshot()
    }

    fn take_snapshot(&mut self, bytes: Option<&[u8]>) {
        self.history_mut().take_snapshot(bytes);
    }

    fn commits_read(&self) -> usize {
        self.history().commits_read()
    }

    fn next_read(&self, commits_max: usize) -> Read {
        self.history().next_read(commits_max)
    }

    fn take(&mut self, page: Result<Page, Unavailable>) {
        self.history_mut().take(page);
    }
}
