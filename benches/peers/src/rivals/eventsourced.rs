//! eventsourced with eventsourced-nats: an entity is a task that holds its state, its events lie in JetStream.

use std::error::Error;
use std::num::NonZeroUsize;

use cim_domain_person::domain::{self, Event, PersonId, Refusal};
use eventsourced::binarize::serde_json::SerdeJsonBinarize;
use eventsourced::snapshot_store::noop::NoopSnapshotStore;
use eventsourced::{Command, CommandEffect, EntityRef, EventSourced, EventSourcedExt};
use eventsourced_nats::{NatsEventLog, NatsEventLogConfig};
use tokio::sync::OnceCell;

use super::{Kept, Problem, State};

/// Commands that may wait at an entity.
const BUFFER: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

impl EventSourced for State {
    type Id = PersonId;
    type Event = Event;
    const TYPE_NAME: &'static str = "person";

    fn handle_event(mut self, event: Event) -> Self {
        self.apply(&event);
        self
    }
}

#[derive(Debug)]
struct Asked(domain::Command);

impl Command<State> for Asked {
    type Reply = ();
    type Error = Refusal;

    fn handle_command(self, _: &PersonId, state: &State) -> CommandEffect<State, (), Refusal> {
        match state.decide(&self.0) {
            Ok(Some(event)) => CommandEffect::emit(event),
            Ok(None) => CommandEffect::reply(()),
            Err(refusal) => CommandEffect::reject(refusal),
        }
    }
}

/// The entities that were met, and the log.
pub struct Store {
    log: NatsEventLog<PersonId>,
    entities: Kept<PersonId, OnceCell<EntityRef<State>>>,
}

impl Store {
    /// With a stream of the library's own making.
    pub async fn open(server: &str) -> Result<Self, Box<dyn Error>> {
        let config =
            NatsEventLogConfig { server_addr: server.to_owned(), setup: true, ..NatsEventLogConfig::default() };
        Ok(Self { log: NatsEventLog::new(config).await?, entities: Kept::new() })
    }
}

impl super::Store for Store {
    async fn carry_out(&self, person: PersonId, command: domain::Command) -> Result<(), Problem> {
        let cell = self.entities.get(person);
        let spawn = || {
            let snapshots = NoopSnapshotStore::new();
            State::default().entity().spawn(person, None, BUFFER, self.log.clone(), snapshots, SerdeJsonBinarize)
        };
        let entity = cell.get_or_try_init(spawn).await.map_err(|error| Problem::Failed(error.to_string()))?;
        match entity.handle_command(Asked(command)).await {
            Ok(result) => result.map_err(Problem::Refused),
            // The entity ended, as it does when an event could not be stored: the next command makes a new one.
            Err(_) => {
                self.entities.forget(&person);
                Err(Problem::Conflict)
            }
        }
    }
}
