//! Other ways to keep events, each made into a person service as its documentation says: receive a command over NATS,
//! load, decide, append with optimistic concurrency, answer.
//!
//! All have the same front (async-nats on tokio, a task for each command) and decide by the service's own domain, so that
//! what differs is the library and its store. None of them has what the service does besides: commands recognised when
//! they come again, refusals confirmed by the leader, chained commits, snapshots. Where a library lets an entity stay in
//! memory it stays there, for good, which is the best case for it.

mod cqrs;
mod evented;
mod eventsourced;
mod sql;

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use cim_domain_person::domain::{
    Command, Context, Decision, Event, Person, PersonId, Refusal, Timestamp, decide, evolve,
};
use cim_domain_person::wire::request::decode_commands;
use clap::{Args, ValueEnum};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

/// Connections to PostgreSQL, where the library lets one choose: more brought nothing on two cores.
const CONNECTIONS: u32 = 16;
/// How often a command is tried again that met another one.
const CONFLICTS_MAX: usize = 100;

/// A rival.
#[derive(Args)]
pub struct Rival {
    /// Which
    backend: Backend,
    /// The server, as host:port
    #[arg(long, default_value = "127.0.0.1:4222")]
    server: String,
    /// PostgreSQL's URL, for those that keep their events there
    #[arg(long, default_value = "")]
    database: String,
}

/// What keeps the events.
#[derive(Clone, Copy, ValueEnum)]
enum Backend {
    /// eventsourced with eventsourced-nats, on JetStream
    Eventsourced,
    /// cqrs-es with postgres-es
    CqrsEs,
    /// evented, on PostgreSQL
    Evented,
    /// No library: one INSERT for each command, with the state in memory; what PostgreSQL can do
    Sql,
}

impl Rival {
    /// Answers until it is killed.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            match self.backend {
                Backend::Eventsourced => serve(&self.server, eventsourced::Store::open(&self.server).await?).await,
                Backend::CqrsEs => serve(&self.server, cqrs::Store::open(&self.database).await?).await,
                Backend::Evented => serve(&self.server, evented::Store::open(&self.database).await?).await,
                Backend::Sql => serve(&self.server, sql::Store::open(&self.database).await?).await,
            }
        })
    }
}

/// Where a command is carried out.
trait Store: Send + Sync + 'static {
    /// Loads, decides, appends.
    fn carry_out(&self, person: PersonId, command: Command) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// Why a command was not carried out.
enum Problem {
    /// The domain refused it.
    Refused(Refusal),
    /// Another one was quicker.
    Conflict,
    /// The store could not.
    Failed(String),
}

/// A person as it is kept in memory. Nothing of it is serialised: no rival writes snapshots here.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    #[serde(skip)]
    person: Option<Person>,
}

impl State {
    fn decide(&self, command: &Command) -> Result<Option<Event>, Refusal> {
        let context = Context { now: Timestamp::now(), merge_target: None };
        match decide(self.person.as_ref(), command, &context)? {
            Decision::Happened(event) => Ok(Some(event)),
            Decision::Unchanged => Ok(None),
        }
    }

    fn apply(&mut self, event: &Event) {
        evolve(&mut self.person, event);
    }
}

/// Things by their keys, made at the first use.
struct Kept<K, V>(Mutex<HashMap<K, Arc<V>>>);

impl<K: Eq + Hash, V: Default> Kept<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: K) -> Arc<V> {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    fn forget(&self, key: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

async fn serve(server: &str, store: impl Store) -> Result<(), Box<dyn Error>> {
    let client = async_nats::connect(server).await?;
    let mut commands = client.queue_subscribe("bench.commands.>", "person-service".to_owned()).await?;
    client.flush().await?;
    println!("ready");
    let store = Arc::new(store);
    while let Some(message) = commands.next().await {
        let (client, store) = (client.clone(), Arc::clone(&store));
        tokio::spawn(async move {
            let answer = answer(&*store, &message.payload).await;
            if let Some(reply) = message.reply {
                // Whoever asked has gone where this fails.
                let _ = client.publish(reply, answer.into()).await;
            }
        });
    }
    Ok(())
}

async fn answer(store: &impl Store, payload: &[u8]) -> String {
    let Ok((commands, _)) = decode_commands(payload) else { return problem("rejected", "malformed", "") };
    let mut id = None;
    for command in commands {
        let person = command.person_id();
        id = Some(person);
        let mut conflicts = 0;
        loop {
            match store.carry_out(person, command.clone()).await {
                Ok(()) => break,
                Err(Problem::Conflict) if conflicts < CONFLICTS_MAX => conflicts += 1,
                Err(Problem::Conflict) => return problem("failed", "conflict", ""),
                Err(Problem::Refused(Refusal::AlreadyExists)) => return problem("rejected", "already_exists", ""),
                Err(Problem::Refused(refusal)) => return problem("rejected", "refused", &refusal.to_string()),
                Err(Problem::Failed(why)) => return problem("failed", "store", &why),
            }
        }
    }
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    format!(
        r#"{{"status":"accepted","command_id":"{id}","aggregate_id":"{id}","version":1234,"events_generated":1,"events":["NameUpdated"],"sequence":123456,"duplicate":false}}"#
    )
}

fn problem(status: &str, code: &str, message: &str) -> String {
    serde_json::json!({"status": status, "error": {"code": code, "message": message, "retryable": false}}).to_string()
}
