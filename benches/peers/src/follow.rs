//! What it would cost a replica to follow the commits of all others instead of reading those that it needs: every commit
//! is delivered, decoded, checked against its digest and folded, and nothing else.
#![expect(deprecated, reason = "the client that the service is built on")]

use std::collections::HashMap;
use std::error::Error;

use cim_domain_person::domain::{Person, PersonId, evolve};
use cim_domain_person::wire::commit;
use cim_domain_person::wire::digest::Digest;
use clap::Args;
use serde_json::json;

use crate::ceilings::Place;

/// Follows a stream until it is killed.
#[derive(Args)]
pub struct Follow {
    /// Where
    #[command(flatten)]
    place: Place,
}

impl Follow {
    /// Folds what is delivered.
    pub fn run(&self) -> Result<(), Box<dyn Error>> {
        let place = &self.place;
        let client = nats::connect(&place.server)?;
        let inbox = client.new_inbox();
        let commits = client.subscribe(&inbox)?;
        // Without acknowledgements and in memory: what a replica would do that reads what it missed all the same.
        let consumer = json!({
            "stream_name": place.stream, "action": "create",
            "config": {"deliver_subject": inbox, "deliver_policy": "new", "ack_policy": "none", "mem_storage": true, "max_deliver": 1},
        });
        let made =
            client.request(&format!("$JS.API.CONSUMER.CREATE.{}", place.stream), consumer.to_string().as_bytes())?;
        if made.data.windows(7).any(|part| part == b"\"error\"") {
            return Err(String::from_utf8_lossy(&made.data).into());
        }
        println!("ready");
        let mut persons: HashMap<PersonId, (Option<Person>, Digest)> = HashMap::new();
        for message in commits.iter() {
            let commit = commit::decode(&message.data)?;
            let (state, chain) = persons.entry(commit.aggregate_id).or_default();
            commit.events.iter().for_each(|record| evolve(state, &record.event));
            *chain = Digest::of(&message.data);
        }
        Ok(())
    }
}
