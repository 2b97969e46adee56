//! What is measured, and in which order.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Suite;
use super::children::{self, Binaries, Durability, NatsServers, Postgres, Process};
use super::machine::fsync_probe;
use super::measure::{Load, Sample, measure, prepare};

/// Persons of the loads, where their number is not what is varied.
const PERSONS: &str = "--persons 10000";
/// How long an idle service is watched.
const IDLE: Duration = Duration::from_secs(10);
/// Commits in a batch, at most: more than a turn has.
const BATCH: u64 = 1000;
/// Messages in the stream from which cold persons are loaded.
const COLD_MESSAGES: u64 = 1_000_000;
/// Cold persons that are met.
const COLD_PERSONS: u64 = 300;

/// Replicas that share one server.
pub const REPLICAS: [usize; 4] = [1, 2, 3, 5];
/// What an earlier build is called.
pub const EARLIER: &str = "earlier build";

/// Who is measured.
#[derive(Clone, Copy)]
enum Who {
    /// So many replicas of the service.
    Service(usize),
    /// So many replicas of an earlier build.
    Earlier(usize),
    /// The service, with so many commits in an atomic batch.
    Batched(u64),
    /// A loop on this client.
    Loop(&'static str),
    /// Raw publish, with so many messages in an atomic batch.
    Publish(u64),
    /// A rival by its name.
    Rival(&'static str),
}

impl Who {
    fn name(self) -> String {
        match self {
            Self::Service(1) => "person-service".to_owned(),
            Self::Service(replicas) => format!("person-service × {replicas}"),
            Self::Earlier(replicas) => format!("{EARLIER} × {replicas}"),
            Self::Batched(batch) => format!("person-service, batches of {batch}"),
            Self::Loop("nats") => "bare loop".to_owned(),
            Self::Loop("queued") => "bare loop behind a queue".to_owned(),
            Self::Loop("async") => "async-nats loop".to_owned(),
            Self::Loop(client) => format!("{client} loop"),
            Self::Publish(1) => "raw publish".to_owned(),
            Self::Publish(batch) => format!("raw publish, batches of {batch}"),
            Self::Rival(name) => name.to_owned(),
        }
    }
}

/// Where it is measured.
pub struct Field {
    pub binaries: Binaries,
    pub data: PathBuf,
    pub rounds: usize,
    pub seconds: f64,
    pub suite: String,
    pub samples: Vec<Sample>,
    /// Milliseconds that a write to the disk took, one for each round.
    pub probes: Vec<f64>,
}

/// What the contestants of a suite meet.
struct Ground {
    durability: Durability,
    servers: usize,
    prepared: Vec<String>,
    loads: Vec<Load>,
}

impl Field {
    /// Measures a suite.
    pub fn run(&mut self, suite: Suite) -> Result<(), Box<dyn Error>> {
        let clients = ["nats", "queued", "async", "raw"].map(Who::Loop);
        let loops = [&[Who::Service(1)], &clients[..], &[Who::Publish(1)]].concat();
        let later = Durability::Later;
        match suite {
            Suite::Ceilings => {
                let mut loads = self.over_in_flight(&[1, 8, 64, 512, 4096]);
                loads.push(self.load("zipf, 4096 in flight", "--distribution zipf --in-flight 4096"));
                loads.push(self.load("one person, 512 in flight", "--distribution one --in-flight 512"));
                self.interleaved(&loops, &ground(later, 1, loads))
            }
            Suite::Rivals => {
                let load = |name: &str| vec![self.load(name, "--in-flight 64")];
                let (later, before) =
                    (load("written later, 64 in flight"), load("on disk before the reply, 64 in flight"));
                let rivals = ["eventsourced", "cqrs-es", "evented", "sql"].map(Who::Rival);
                let service = Who::Service(1);
                self.interleaved(&[&[service], &rivals[..]].concat(), &ground(Durability::Later, 1, later))?;
                // Batches are for disks that are synced.
                let all = [&[service, Who::Batched(BATCH)], &rivals[..]].concat();
                self.interleaved(&all, &ground(Durability::Before, 1, before))
            }
            Suite::Always => {
                let loads = self.over_in_flight(&[1, 64, 512, 4096]);
                let batches = [1, 50, 500].map(Who::Publish);
                let everybody = [&[Who::Service(1), Who::Batched(BATCH), Who::Loop("nats")], &batches[..]].concat();
                self.interleaved(&everybody, &ground(Durability::Before, 1, loads))
            }
            Suite::Cluster => {
                let loads = self.over_in_flight(&[1, 64, 512, 4096]);
                self.interleaved(&[Who::Service(1), Who::Loop("nats")], &ground(later, 3, loads))
            }
            Suite::Replicas => {
                let loads = vec![
                    self.load("uniform, 512 in flight", "--in-flight 512"),
                    self.load("one person, 512 in flight", "--distribution one --in-flight 512"),
                ];
                let earlier = self.binaries.earlier.as_ref().map(|_| REPLICAS.map(Who::Earlier));
                let replicas: Vec<Who> =
                    REPLICAS.map(Who::Service).into_iter().chain(earlier.into_iter().flatten()).collect();
                self.interleaved(&replicas, &ground(later, 1, loads))
            }
            Suite::Persons => self.persons(),
            Suite::Cold => self.cold(),
            Suite::Start => self.start(),
        }
    }

    fn load(&self, name: &str, args: &str) -> Load {
        Load::new(name, &format!("{PERSONS} {args} --duration {}ms", (self.seconds * 1000.0).round()))
    }

    fn over_in_flight(&self, counts: &[u64]) -> Vec<Load> {
        let load = |count| self.load(&format!("uniform, {count} in flight"), &format!("--in-flight {count}"));
        counts.iter().map(load).collect()
    }

    /// Everybody in turn, beginning with another one in each round.
    fn interleaved(&mut self, everybody: &[Who], ground: &Ground) -> Result<(), Box<dyn Error>> {
        for round in 0..self.rounds {
            self.probe()?;
            for at in 0..everybody.len() {
                self.turn(everybody[(at + round) % everybody.len()], ground, round)?;
            }
        }
        Ok(())
    }

    fn turn(&mut self, who: Who, ground: &Ground, round: usize) -> Result<(), Box<dyn Error>> {
        if let Who::Publish(batch) = who {
            return self.publish(batch, ground, round);
        }
        let servers = NatsServers::start(&self.binaries, &self.data, ground.durability, ground.servers)?;
        let (contestant, postgres) = self.contestant(who, &servers, ground)?;
        let pids: Vec<u32> = contestant.iter().map(Process::pid).collect();
        prepare(&self.binaries, &servers, &ground.prepared)?;
        for load in &ground.loads {
            let before = told(&contestant);
            // The connections of the contestant, each a process there, have been made while the persons were written.
            let database = postgres.as_ref().map_or_else(|| Ok(Vec::new()), Postgres::pids)?;
            let mut figures = measure(&self.binaries, &servers, &pids, &database, load)?;
            figures.extend(each(&before, &told(&contestant)));
            self.note(&load.name, &who.name(), round, figures);
        }
        Ok(())
    }

    fn contestant(
        &self,
        who: Who,
        servers: &NatsServers,
        ground: &Ground,
    ) -> Result<(Vec<Process>, Option<Postgres>), Box<dyn Error>> {
        let copies = ground.servers.to_string();
        Ok(match who {
            Who::Service(replicas) => {
                let settings = [("STREAM_REPLICAS", copies.as_str())];
                let start = |_| children::service(&self.binaries, servers, &settings).map(|(process, _)| process);
                ((0..replicas).map(start).collect::<Result<_, _>>()?, None)
            }
            Who::Earlier(replicas) => {
                let service = self.binaries.earlier.clone().ok_or("no earlier build is named")?;
                let binaries = Binaries { service, ..self.binaries.clone() };
                let start = |_| children::service(&binaries, servers, &[]).map(|(process, _)| process);
                ((0..replicas).map(start).collect::<Result<_, _>>()?, None)
            }
            Who::Batched(batch) => {
                let settings = [("STREAM_REPLICAS", copies.as_str()), ("STREAM_BATCH", &batch.to_string())];
                (vec![children::service(&self.binaries, servers, &settings)?.0], None)
            }
            Who::Loop(client) => {
                let address = servers.address();
                let args = ["loop", client, "--server", &address, "--replicas", &copies];
                (vec![children::peer(&who.name(), &args)?], None)
            }
            Who::Rival(name) => {
                let needs = name != "eventsourced";
                let postgres = needs.then(|| Postgres::start(&self.binaries, &self.data, ground.durability));
                let postgres = postgres.transpose()?;
                let url = postgres.as_ref().map(Postgres::url).unwrap_or_default();
                let address = servers.address();
                (vec![children::peer(name, &["rival", name, "--server", &address, "--database", &url])?], postgres)
            }
            Who::Publish(_) => (Vec::new(), None),
        })
    }

    /// Raw publish measures itself.
    fn publish(&mut self, batch: u64, ground: &Ground, round: usize) -> Result<(), Box<dyn Error>> {
        for in_flight in ["512", "4096"] {
            let servers = NatsServers::start(&self.binaries, &self.data, ground.durability, ground.servers)?;
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["publish", "--server", &servers.address(), "--in-flight", in_flight]);
            command.args(["--batch", &batch.to_string()]);
            let output = command.args(["--seconds", &self.seconds.to_string()]).output()?;
            let found: BTreeMap<String, f64> = serde_json::from_slice(&output.stdout)
                .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
            self.note(&format!("uniform, {in_flight} in flight"), &Who::Publish(batch).name(), round, found);
        }
        Ok(())
    }

    /// The same load on streams with ever more persons.
    fn persons(&mut self) -> Result<(), Box<dyn Error>> {
        for round in 0..self.rounds {
            self.probe()?;
            for count in [1_000_u64, 10_000, 100_000, 1_000_000] {
                for who in [Who::Service(1), Who::Loop("nats")] {
                    let persons = format!("--persons {count} --in-flight 512");
                    let duration = format!("--duration {}ms", (self.seconds * 1000.0).round());
                    let loads = vec![Load::new(&format!("{count} persons"), &format!("{persons} {duration}"))];
                    let prepared = words(&persons);
                    self.turn(who, &Ground { durability: Durability::Later, servers: 1, prepared, loads }, round)?;
                }
            }
        }
        Ok(())
    }

    /// Histories that lie scattered all over the stream, without snapshots, met by a service that was started just now.
    fn cold(&mut self) -> Result<(), Box<dyn Error>> {
        for round in 0..self.rounds {
            self.probe()?;
            for commits in [10, 100, 1_000] {
                let servers = NatsServers::start(&self.binaries, &self.data, Durability::Later, 1)?;
                let settings = [("SNAPSHOT_FREQ", "0")];
                let persons = format!("--persons {} --history {commits}", COLD_MESSAGES / commits);
                // Who writes the histories is not to read them again and again meanwhile.
                let roomy = [settings[0], ("CACHE_BYTES", "4GiB")];
                let (writer, _) = children::service(&self.binaries, &servers, &roomy)?;
                prepare(&self.binaries, &servers, &words(&format!("{persons} --in-flight 512")))?;
                drop(writer);
                let (service, _) = children::service(&self.binaries, &servers, &settings)?;
                let load = Load::new(
                    &format!("{commits} commits"),
                    &format!("{persons} --cold --in-flight 1 --commands {COLD_PERSONS}"),
                );
                let figures = measure(&self.binaries, &servers, &[service.pid()], &[], &load)?;
                self.note(&load.name, &Who::Service(1).name(), round, figures);
            }
        }
        Ok(())
    }

    /// From the start to READY with NATS up, and what a service takes that has nothing to do.
    fn start(&mut self) -> Result<(), Box<dyn Error>> {
        let size = std::fs::metadata(&self.binaries.service)?.len();
        for round in 0..self.rounds {
            self.probe()?;
            let servers = NatsServers::start(&self.binaries, &self.data, Durability::Later, 1)?;
            let (first, took) = children::service(&self.binaries, &servers, &[])?;
            drop(first);
            let (service, again) = children::service(&self.binaries, &servers, &[])?;
            let began = Instant::now();
            let before = cpu_seconds(service.pid())?;
            std::thread::sleep(IDLE);
            let used = (cpu_seconds(service.pid())? - before) / began.elapsed().as_secs_f64();
            let figures = [
                ("first_start_ms", took.as_secs_f64() * 1000.0),
                ("start_ms", again.as_secs_f64() * 1000.0),
                ("idle_mib", resident_mib(service.pid())?),
                ("idle_cpu_percent", used * 100.0),
                ("binary_mib", size as f64 / 1048576.0),
            ];
            let figures = figures.map(|(name, value)| (name.to_owned(), value)).into();
            self.note("idle", &Who::Service(1).name(), round, figures);
        }
        Ok(())
    }

    fn probe(&mut self) -> Result<(), Box<dyn Error>> {
        self.probes.push(fsync_probe(&self.data)?.as_secs_f64() * 1000.0);
        Ok(())
    }

    fn note(&mut self, load: &str, who: &str, round: usize, figures: BTreeMap<String, f64>) {
        let rate = figures.get("per_second").map_or_else(String::new, |rate| format!(": {rate:.0} a second"));
        eprintln!("{} round {round}: {load}: {who}{rate}", self.suite);
        let (suite, load, who) = (self.suite.clone(), load.to_owned(), who.to_owned());
        self.samples.push(Sample { suite, load, who, round, figures });
    }
}

fn ground(durability: Durability, servers: usize, loads: Vec<Load>) -> Ground {
    Ground { durability, servers, prepared: words(PERSONS), loads }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// What the service counts of its commits: those accepted, stored, in conflict; over all replicas.
fn told(contestant: &[Process]) -> [f64; 3] {
    ["commands_accepted_total", "commits_total", "conflicts_total"].map(|name| {
        let name = format!("person_service_{name}");
        contestant.iter().filter_map(|process| process.counter(&name)).fold(0.0, |a, b| a + b)
    })
}

/// Commits and conflicts for each accepted command between two looks; nothing of those who do not tell.
fn each(before: &[f64; 3], after: &[f64; 3]) -> Vec<(String, f64)> {
    let [accepted, commits, conflicts] = [0, 1, 2].map(|at| after[at] - before[at]);
    if accepted <= 0.0 {
        return Vec::new();
    }
    vec![("commits_each".to_owned(), commits / accepted), ("conflicts_each".to_owned(), conflicts / accepted)]
}

/// CPU that a process has used, to the nanosecond, over all its threads.
fn cpu_seconds(pid: u32) -> Result<f64, Box<dyn Error>> {
    let mut nanos = 0_u64;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        nanos += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(nanos as f64 / 1e9)
}

fn resident_mib(pid: u32) -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().next().ok_or("no number")?.parse::<f64>()? / 1024.0)
}
