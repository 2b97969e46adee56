//! No library: the state in memory, and one INSERT for each command, which a unique key guards.

use std::error::Error;

use cim_domain_person::domain::{Command, Event, PersonId};
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::sync::Mutex;

use super::{CONNECTIONS, Kept, Problem, State};

const TABLE: &str =
    "CREATE TABLE commit (person uuid, version bigint, event text NOT NULL, PRIMARY KEY (person, version))";
const APPEND: &str = "INSERT INTO commit (person, version, event) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
const LOAD: &str = "SELECT event FROM commit WHERE person = $1 ORDER BY version";

#[derive(Default)]
struct Loaded {
    state: State,
    version: i64,
    known: bool,
}

/// The persons that were met, and the database.
pub struct Store {
    pool: PgPool,
    persons: Kept<PersonId, Mutex<Loaded>>,
}

impl Store {
    /// Makes the table.
    pub async fn open(database: &str) -> Result<Self, Box<dyn Error>> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(database).await?;
        sqlx::query(TABLE).execute(&pool).await?;
        Ok(Self { pool, persons: Kept::new() })
    }

    async fn load(&self, person: PersonId) -> Result<Loaded, Box<dyn Error>> {
        let rows: Vec<(String,)> = sqlx::query_as(LOAD).bind(person.uuid()).fetch_all(&self.pool).await?;
        let mut loaded = Loaded { known: true, ..Loaded::default() };
        for (event,) in rows {
            loaded.state.apply(&serde_json::from_str::<Event>(&event)?);
            loaded.version += 1;
        }
        Ok(loaded)
    }
}

impl super::Store for Store {
    async fn carry_out(&self, person: PersonId, command: Command) -> Result<(), Problem> {
        let failed = |error: String| Problem::Failed(error);
        let kept = self.persons.get(person);
        let mut loaded = kept.lock().await;
        if !loaded.known {
            *loaded = self.load(person).await.map_err(|error| failed(error.to_string()))?;
        }
        let Some(event) = loaded.state.decide(&command).map_err(Problem::Refused)? else { return Ok(()) };
        let text = serde_json::to_string(&event).map_err(|error| failed(error.to_string()))?;
        let append = sqlx::query(APPEND).bind(person.uuid()).bind(loaded.version + 1).bind(text);
        let stored = append.execute(&self.pool).await.map_err(|error| failed(error.to_string()))?;
        if stored.rows_affected() == 0 {
            loaded.known = false;
            return Err(Problem::Conflict);
        }
        loaded.version += 1;
        loaded.state.apply(&event);
        Ok(())
    }
}
