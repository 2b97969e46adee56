//! cqrs-es with postgres-es: each command loads the person's events, and appends behind them.

use std::error::Error;

use cim_domain_person::domain::{Command, Event, PersonId, Refusal};
use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, AggregateError, DomainEvent};
use postgres_es::{PostgresCqrs, postgres_cqrs};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

use super::{CONNECTIONS, Problem, State};

/// The table, as the library's documentation has it.
const TABLE: &str = "CREATE TABLE events (
    aggregate_type text NOT NULL,
    aggregate_id text NOT NULL,
    sequence bigint CHECK (sequence >= 0) NOT NULL,
    event_type text NOT NULL,
    event_version text NOT NULL,
    payload json NOT NULL,
    metadata json NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence)
)";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stored(Event);

impl DomainEvent for Stored {
    fn event_type(&self) -> String {
        self.0.kind().as_str().to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for State {
    const TYPE: &'static str = "person";
    type Command = Command;
    type Event = Stored;
    type Error = Refusal;
    type Services = ();

    async fn handle(&mut self, command: Command, (): &(), sink: &EventSink<Self>) -> Result<(), Refusal> {
        if let Some(event) = self.decide(&command)? {
            sink.write(Stored(event), self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: Stored) {
        State::apply(self, &event.0);
    }
}

/// The framework.
pub struct Store(PostgresCqrs<State>);

impl Store {
    /// Makes the table.
    pub async fn open(database: &str) -> Result<Self, Box<dyn Error>> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(database).await?;
        sqlx::query(TABLE).execute(&pool).await?;
        Ok(Self(postgres_cqrs(pool, Vec::new(), ())))
    }
}

impl super::Store for Store {
    async fn carry_out(&self, person: PersonId, command: Command) -> Result<(), Problem> {
        self.0.execute(&person.to_string(), command).await.map_err(|error| match error {
            AggregateError::UserError(refusal) => Problem::Refused(refusal),
            AggregateError::AggregateConflict => Problem::Conflict,
            other => Problem::Failed(other.to_string()),
        })
    }
}
