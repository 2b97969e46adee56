//! evented on PostgreSQL: an entity is loaded once and then handles commands from memory, in a transaction each.

use std::error::Error;

use cim_domain_person::domain::{self, Event, PersonId, Refusal};
use evented::entity::{
    Command, Entity, EntityExt, Error as EntityError, EventSourcedEntity, EventWithMetadata, NoOpEventListener,
};
use evented::pool::{Config, Pool};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Kept, Problem, State};

/// The table, as the library has it.
const TABLE: &str = "CREATE TABLE event (
    seq_no bigserial PRIMARY KEY,
    entity_id uuid NOT NULL,
    version bigint NOT NULL,
    type_name text NOT NULL,
    event jsonb NOT NULL,
    metadata jsonb NOT NULL,
    UNIQUE (entity_id, type_name, version)
)";

impl Entity for State {
    type Id = Uuid;
    type Event = Event;
    type Metadata = ();
    const TYPE_NAME: &'static str = "person";

    fn handle_event(&mut self, event: Event) {
        self.apply(&event);
    }
}

struct Asked(domain::Command);

impl Command for Asked {
    type Entity = State;
    type Rejection = Refusal;

    async fn handle(self, _: &Uuid, state: &State) -> Result<Vec<impl Into<EventWithMetadata<Event, ()>>>, Refusal> {
        Ok(state.decide(&self.0)?.into_iter().collect::<Vec<Event>>())
    }
}

type Loaded = EventSourcedEntity<State, NoOpEventListener>;

/// The entities that were met, and the database. The library chooses the number of connections itself.
pub struct Store {
    pool: Pool,
    entities: Kept<PersonId, Mutex<Option<Loaded>>>,
}

impl Store {
    /// Makes the table.
    pub async fn open(database: &str) -> Result<Self, Box<dyn Error>> {
        let options: PgConnectOptions = database.parse()?;
        let config: Config = serde_json::from_value(serde_json::json!({
            "host": options.get_host(), "port": options.get_port(), "user": options.get_username(), "password": "",
            "dbname": "postgres", "sslmode": "disable",
        }))?;
        let pool = Pool::new(config).await?;
        sqlx::query(TABLE).execute(&*pool).await?;
        Ok(Self { pool, entities: Kept::new() })
    }
}

impl super::Store for Store {
    async fn carry_out(&self, person: PersonId, command: domain::Command) -> Result<(), Problem> {
        let kept = self.entities.get(person);
        let mut entity = kept.lock().await;
        if entity.is_none() {
            let built = State::default().entity().build(person.uuid(), self.pool.clone()).await;
            *entity = Some(built.map_err(|error| Problem::Failed(error.to_string()))?);
        }
        let Some(loaded) = entity.as_mut() else { return Err(Problem::Conflict) };
        match loaded.handle_command(Asked(command)).await {
            Ok(result) => result.map(|_| ()).map_err(Problem::Refused),
            Err(error) => {
                *entity = None;
                match error {
                    EntityError::UnexpectedVersion(..) => Err(Problem::Conflict),
                    other => Err(Problem::Failed(other.to_string())),
                }
            }
        }
    }
}
