//! A cluster of three, with three copies of everything.

use std::sync::Barrier;
use std::time::Duration;

use cim_domain_person::config::Config;
use cim_domain_person::domain::PersonId;
use cim_domain_person::engine::ports::{
    Append, Appended, AppendedTogether, Consistency, EventLog, Page, Read, Tip, Unavailable,
};
use cim_domain_person::nats::{ProvisionError, prepare};
use serde_json::json;

use super::{impatient_log, log, open, snapshots};
use crate::port_contract::{append, check_event_log, check_snapshot_store, read, store};
use crate::support::nats_server::NatsServer;
use crate::support::raw::Raw;
use crate::support::{cluster, config, eventually, somebody, streams};

/// The servers, and a configuration that names them all.
pub struct Cluster {
    pub servers: Vec<NatsServer>,
    pub config: Config,
}

impl Cluster {
    pub fn start() -> Self {
        let servers = cluster::start();
        let mut config = config("");
        config.nats.urls = servers.iter().map(NatsServer::url).collect();
        config.store.replicas = 3;
        let cluster = Self { servers, config };
        eventually("the cluster has a leader", || prepare(&open(&cluster.config), &cluster.config).is_ok());
        cluster
    }

    /// The configuration of a service that knows this server alone.
    fn seen_from(&self, server: usize) -> Config {
        let mut config = self.config.clone();
        config.nats.urls = vec![self.servers[server].url()];
        config
    }
}

/// Asks a copy that lags again, until it shows what the leader has: a copy may lag, and the contract's tests look at once.
struct CaughtUp<L>(L);

impl<L: EventLog> EventLog for CaughtUp<L> {
    fn payload_bytes_max(&self) -> usize {
        self.0.payload_bytes_max()
    }

    fn read(&mut self, reads: &[Read], bytes_max: usize) -> Vec<Result<Page, Unavailable>> {
        let persons: Vec<PersonId> = reads.iter().map(|read| read.person).collect();
        let newest: Vec<u64> =
            self.0.tips(&persons).into_iter().map(|tip| tip.unwrap().map_or(0, |tip| tip.sequence)).collect();
        let mut pages = Vec::new();
        eventually("the copies have caught up", || {
            pages = self.0.read(reads, bytes_max);
            std::iter::zip(&pages, reads).zip(&newest).all(|((page, read), newest)| match page {
                Ok(page) if !page.more && read.newest.is_none() && (1..=*newest).contains(&read.start.max(1)) => {
                    page.commits.last().is_some_and(|commit| commit.sequence >= *newest)
                }
                _ => true,
            })
        });
        pages
    }

    fn tips(&mut self, persons: &[PersonId]) -> Vec<Result<Option<Tip>, Unavailable>> {
        self.0.tips(persons)
    }

    fn append(&mut self, appends: &[Append]) -> Vec<Appended> {
        self.0.append(appends)
    }

    fn append_together(&mut self, appends: &[Append]) -> AppendedTogether {
        self.0.append_together(appends)
    }
}

#[test]
fn the_contract_holds_with_three_copies() {
    let cluster = Cluster::start();
    for server in 0..3 {
        let config = cluster.seen_from(server);
        let store = open(&config);
        check_event_log(&mut CaughtUp(log(&store, &config)));
        check_snapshot_store(&mut snapshots(&store, &config));
    }
}

/// Replicas that start together each make a salt of their own. In a cluster the server that is asked may not have heard of
/// the stream yet that another one has just made: the start ended with 69, "name already in use".
#[test]
fn replicas_that_start_together_agree_on_the_salt() {
    let servers = cluster::start();
    let replicas = 6;
    let barrier = Barrier::new(replicas);
    let start = |replica: usize| {
        let mut config = config(&servers[replica % 3].url());
        config.store.replicas = 3;
        let store = open(&config);
        barrier.wait();
        // As the start does: what is away is tried again, nothing else.
        loop {
            match prepare(&store, &config) {
                Ok(prepared) => break prepared.salt.to_string(),
                Err(ProvisionError::Away(_)) => std::thread::sleep(Duration::from_millis(100)),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let salts: Vec<String> = std::thread::scope(|scope| {
        let start = &start;
        let threads: Vec<_> = (0..replicas).map(|number| scope.spawn(move || start(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let config = streams::configuration(servers[0].port(), "PERSON_EVENTS");
    let salt = config["metadata"]["person-service.identifier-salt"].as_str().unwrap();
    assert!(salts.iter().all(|one| one == salt), "{salt}: {salts:?}");
}

/// Eight writers who all believe that they are first: one is.
#[test]
fn of_rivals_one_wins() {
    let cluster = Cluster::start();
    let (rounds, rivals) = (20, 8);
    let persons: Vec<PersonId> = (0..rounds).map(|_| somebody()).collect();
    let barrier = Barrier::new(rivals);
    let outcomes: Vec<Vec<Appended>> = std::thread::scope(|scope| {
        let (persons, barrier, cluster) = (&persons, &barrier, &cluster);
        let rival = |rival: usize| {
            let config = cluster.seen_from(rival % 3);
            let mut log = log(&open(&config), &config);
            let attempt = |person: &PersonId| {
                barrier.wait();
                log.append(&[append(*person, 0, rival.to_string().into_bytes())]).remove(0)
            };
            persons.iter().map(attempt).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..rivals).map(|number| scope.spawn(move || rival(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut log = log(&open(&cluster.config), &cluster.config);
    for (round, person) in persons.iter().enumerate() {
        let commits = read(&mut log, *person, 1, Consistency::Leader).commits;
        let winners: Vec<&Appended> = outcomes
            .iter()
            .map(|rival| &rival[round])
            .filter(|outcome| matches!(outcome, Appended::Stored(_)))
            .collect();
        assert_eq!(winners, [&Appended::Stored(commits[0].sequence)]);
        assert_eq!(commits.len(), 1);
        assert!(outcomes.iter().all(|rival| matches!(rival[round], Appended::Stored(_) | Appended::Conflict(_))));
    }
}

/// The leader always shows what was acknowledged, whichever server is asked.
#[test]
fn what_is_stored_is_read_from_the_leader_at_once() {
    let cluster = Cluster::start();
    let (near, far) = (cluster.seen_from(0), cluster.seen_from(1));
    let (mut near, mut far) = (log(&open(&near), &near), log(&open(&far), &far));
    let (person, mut expected) = (somebody(), 0);
    for number in 1..=200 {
        expected = store(&mut near, person, expected, b"x");
        assert_eq!(far.tips(&[person])[0].as_ref().unwrap().as_ref().unwrap().sequence, expected);
        assert_eq!(read(&mut far, person, 1, Consistency::Leader).commits.len(), number);
    }
}

#[test]
fn a_leader_that_is_killed_is_replaced() {
    let mut cluster = Cluster::start();
    let connection = open(&cluster.config);
    let mut log = log(&connection, &cluster.config);
    let person = somebody();
    let first = store(&mut log, person, 0, b"1");
    let mut leader = None;
    eventually("the leader is named", || {
        let info = Raw::connect(cluster.servers[0].port()).api("STREAM.INFO.PERSON_EVENTS", &json!(null));
        leader = cluster::NAMES.iter().position(|name| info["cluster"]["leader"] == *name);
        leader.is_some()
    });
    cluster.servers[leader.unwrap()].kill();
    let mut outcome = Appended::Unknown;
    // Impatient: what is sent while there is no leader gets no answer at all.
    let mut impatient = impatient_log(&connection, &cluster.config, Duration::from_secs(1));
    eventually("there is a leader again", || {
        outcome = impatient.append(&[append(person, first, *b"2")]).remove(0);
        matches!(outcome, Appended::Stored(_) | Appended::Conflict(Some(_)))
    });
    let (consistency, commits_max) = (Consistency::Leader, usize::MAX);
    let question = Read { person, start: 1, consistency, newest: None, commits_max };
    eventually(&format!("it shows both, {outcome:?}"), || {
        log.read(&[question], usize::MAX).remove(0).is_ok_and(|page| page.commits.len() == 2)
    });
}
