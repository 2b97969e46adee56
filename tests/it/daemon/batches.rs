//! Commits in atomic batches: those who wait for their answers share them.

use super::client::{Client, Command};
use super::flood::Flood;
use super::process::Service;
use super::{create, rename, somebody};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;

const PERSONS: usize = 64;
const ROUNDS: usize = 8;

/// They used to fall into two halves, each waiting while the other was stored, and no batch held more than 32 of 64. Where
/// others take the processor for a while clients come back too late to be waited for, and then it is tried again.
#[test]
fn clients_who_wait_for_each_answer_share_one_batch() {
    let server = NatsServer::with_jetstream("sync_interval: always", "");
    let service = Service::start(&server.url(), &[("STREAM_BATCH", "1000")]);
    let mut client = Client::connect(server.port());
    let persons: Vec<String> = (0..PERSONS).map(|_| somebody()).collect();
    let creations: Vec<Command> = persons.iter().map(|person| Command::new(person, &create(person))).collect();
    client.flood(&creations, Flood::careful(PERSONS), |_| {}).all_accepted();
    let mut tries = 0;
    eventually("most of them share a batch", || {
        tries += 1;
        let renaming = |round| {
            persons.iter().map(move |person| Command::new(person, &rename(person, &format!("Ada {tries} {round}"))))
        };
        let renamings: Vec<Command> = (0..ROUNDS).flat_map(renaming).collect();
        let before = stored(&mut client);
        client.flood(&renamings, Flood::careful(PERSONS), |_| {}).all_accepted();
        let after = stored(&mut client);
        let (commits, appends) = (after.0 - before.0, after.1 - before.1);
        assert_eq!(commits, (PERSONS * ROUNDS) as u64);
        println!("{commits} commits in {appends} turns");
        commits > appends * 3 / 4 * PERSONS as u64
    });
    drop(service);
}

/// How many commits were stored, and in how many turns.
fn stored(client: &mut Client) -> (u64, u64) {
    let told = client.ask("$SRV.STATS.person-service", &[], b"", crate::support::PATIENCE).expect("an answer").json();
    let data = told["endpoints"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "commands"));
    let data = &data.expect("the endpoint of commands")["data"];
    let number = |path: &str| data.pointer(path).and_then(serde_json::Value::as_u64).expect("a number");
    (number("/commits"), number("/stage_duration_seconds/append/count"))
}
