//! The processes that are measured: servers, the service, loops and rivals, each ended with what it wrote.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

/// Long enough for any of them to start.
const START_MAX: Duration = Duration::from_secs(30);
/// How often to look.
const LOOK: Duration = Duration::from_millis(2);

/// Whether a signal has asked for the end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM end what was started, at once. Whoever waits for one of them fails then; what is dropped
/// on the way out stops PostgreSQL, which is nobody's child, and takes the folders away.
pub fn end_at_signals() -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            let children = children_of(std::process::id()).unwrap_or_default();
            let _ = Command::new("kill").args(children.iter().map(u32::to_string)).status();
        }
    });
    Ok(())
}

/// What is to be run.
#[derive(Clone)]
pub struct Binaries {
    /// person-service
    pub service: PathBuf,
    /// person-service as it was
    pub earlier: Option<PathBuf>,
    /// nats-server
    pub nats_server: PathBuf,
    /// The folder with postgres, initdb and pg_ctl
    pub postgres: PathBuf,
}

/// A process that is killed when it is no longer needed.
pub struct Process {
    child: Child,
    /// What it is called.
    pub name: String,
    /// Where it tells its figures, if it does.
    metrics: Option<u16>,
}

impl Process {
    fn spawn(name: &str, command: &mut Command) -> Result<Self, Box<dyn Error>> {
        if INTERRUPTED.load(Ordering::SeqCst) {
            return Err("interrupted".into());
        }
        let child = command.stdin(Stdio::null()).spawn().map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { child, name: name.to_owned(), metrics: None })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The sum of a counter over all its labels, for whoever tells figures.
    pub fn counter(&self, name: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics?)).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let of = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            (series.split('{').next() == Some(name)).then(|| value.trim().parse::<f64>().ok())?
        };
        text.lines().filter_map(of).reduce(|a, b| a + b)
    }

    /// An error if it has ended.
    fn check(&mut self) -> Result<(), Box<dyn Error>> {
        match self.child.try_wait()? {
            Some(status) => Err(format!("{} ended: {status}", self.name).into()),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// When a file's data is on the disk before anything is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The operating system writes it when it likes (NATS: every two minutes; PostgreSQL: `synchronous_commit = off`).
    Later,
    /// Before the acknowledgement (NATS: `sync_interval: always`; PostgreSQL: `synchronous_commit = on`).
    Before,
}

/// One nats-server, or a cluster of several.
pub struct NatsServers {
    processes: Vec<Process>,
    ports: Vec<u16>,
    folder: TempDir,
}

impl NatsServers {
    /// Starts so many, in a folder of their own below `under`.
    pub fn start(
        binaries: &Binaries,
        under: &Path,
        durability: Durability,
        count: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::Builder::new().prefix("nats").tempdir_in(under)?;
        let ports = free_ports(count * 2)?;
        let (clients, routes) = ports.split_at(count);
        let route_list = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect::<Vec<_>>().join(", ");
        let mut processes = Vec::new();
        for (number, (client, route)) in clients.iter().zip(routes).enumerate() {
            let store = folder.path().join(format!("store{number}"));
            let sync = if durability == Durability::Before { "sync_interval: always" } else { "" };
            let cluster = match count {
                1 => String::new(),
                _ => format!("cluster {{ name: bench, listen: \"127.0.0.1:{route}\", routes: [{route_list}] }}"),
            };
            let text = format!(
                "server_name: s{number}\nlisten: \"127.0.0.1:{client}\"\n\
                 jetstream {{ store_dir: \"{}\"\n{sync} }}\n{cluster}\n",
                store.display()
            );
            let file = folder.path().join(format!("server{number}.conf"));
            std::fs::write(&file, text)?;
            let log = File::create(folder.path().join(format!("server{number}.log")))?;
            let mut command = Command::new(&binaries.nats_server);
            processes
                .push(Process::spawn("nats-server", command.arg("-c").arg(&file).stdout(Stdio::null()).stderr(log))?);
        }
        let mut servers = Self { processes, ports: clients.to_vec(), folder };
        servers.wait()?;
        Ok(servers)
    }

    /// Waits until all listen and, in a cluster, JetStream has a leader.
    fn wait(&mut self) -> Result<(), Box<dyn Error>> {
        let is_ready = |log: &String| match self.ports.len() {
            1 => log.contains("Server is ready"),
            // "JetStream cluster new metadata leader: s1", and of itself "Self is new JetStream cluster metadata leader".
            _ => log.lines().any(|line| line.contains("new ") && line.contains("metadata leader")),
        };
        let ends = Instant::now() + START_MAX;
        loop {
            let logs: Vec<String> = (0..self.ports.len()).map(|number| self.log(number)).collect();
            let listen = self.ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
            if listen && logs.iter().all(is_ready) {
                return Ok(());
            }
            self.processes.iter_mut().try_for_each(Process::check)?;
            if Instant::now() > ends {
                return Err(format!("nats-server did not start:\n{}", logs.join("\n")).into());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn log(&self, number: usize) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("server{number}.log"))).unwrap_or_default()
    }

    /// host:port of each, with commas.
    pub fn addresses(&self) -> String {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// host:port of the first.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// Their ids.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::pid).collect()
    }
}

/// A free port each. Another process may take one before it is used, which then fails loudly.
fn free_ports(count: usize) -> Result<Vec<u16>, Box<dyn Error>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    Ok(listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()?)
}

/// Starts the service and waits until it says that it is ready; also how long that took.
pub fn service(
    binaries: &Binaries,
    servers: &NatsServers,
    settings: &[(&str, &str)],
) -> Result<(Process, Duration), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut command = Command::new(&binaries.service);
    command.env_clear().env("NATS_URL", servers.addresses()).env("NOTIFY_SOCKET", &path);
    command.env("SUBJECT_PREFIX", "bench").env("STREAM_NAME", "BENCH").env("LOG_LEVEL", "warn");
    let metrics = free_ports(1)?[0];
    command.env("METRICS_ADDR", format!("127.0.0.1:{metrics}")).envs(settings.iter().copied());
    let began = Instant::now();
    let mut process = Process::spawn("person-service", command.stdout(Stdio::null()))?;
    process.metrics = Some(metrics);
    loop {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap_or(0);
        if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1") {
            return Ok((process, began.elapsed()));
        }
        process.check()?;
        if began.elapsed() > START_MAX {
            return Err("the service did not get ready".into());
        }
    }
}

/// Starts this program as a loop or a rival and waits until it says `ready`.
pub fn peer(name: &str, args: &[&str]) -> Result<Process, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut process = Process::spawn(name, command.args(args).stdout(Stdio::piped()))?;
    let stdout = process.child.stdout.take().ok_or("no stdout")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    match line.trim() {
        "ready" => Ok(process),
        said => Err(format!("{name} said {said:?} instead of ready").into()),
    }
}

/// The processes that this one has started and that are still there.
fn children_of(parent: u32) -> Result<Vec<u32>, Box<dyn Error>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile is none.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name stands in brackets and may have any character in it; state and parent come behind it.
        let its = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if its == Some(parent) {
            children.push(pid);
        }
    }
    Ok(children)
}

fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// A PostgreSQL with a data folder of its own.
pub struct Postgres {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Postgres {
    /// Makes the database and starts the server. It refuses to run as root: then it runs as the user `postgres`.
    pub fn start(binaries: &Binaries, under: &Path, durability: Durability) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::Builder::new().prefix("postgres").tempdir_in(under)?;
        let port = free_ports(1)?[0];
        let postgres = Self { bin: binaries.postgres.clone(), folder, port };
        let place = postgres.folder.path().to_owned();
        if is_root()? {
            run(Command::new("chown").arg("postgres").arg(&place))?;
        }
        let data = place.join("data");
        run(postgres.command("initdb").arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "--no-sync"]))?;
        let commit = if durability == Durability::Before { "on" } else { "off" };
        let options = format!(
            "-p {port} -h 127.0.0.1 -k {} -c synchronous_commit={commit} -c max_connections=100 -c shared_buffers=256MB",
            place.display()
        );
        let log = place.join("log");
        run(postgres.command("pg_ctl").arg("-D").arg(&data).arg("-l").arg(&log).args(["-w", "-o", &options, "start"]))?;
        Ok(postgres)
    }

    /// The ids of its processes that are there now, to stay: the postmaster and those that it has started.
    pub fn pids(&self) -> Result<Vec<u32>, Box<dyn Error>> {
        let text = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid"))?;
        let postmaster = text.lines().next().ok_or("no postmaster")?.trim().parse()?;
        // A worker of autovacuum may be gone before anybody looks at it.
        let stays = |pid: &u32| !command_line(*pid).contains("worker");
        Ok([postmaster].into_iter().chain(children_of(postmaster)?.into_iter().filter(stays)).collect())
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = match is_root() {
            Ok(true) => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(program);
                command
            }
            _ => Command::new(program),
        };
        command.current_dir(self.folder.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        let _ = run(self.command("pg_ctl").arg("-D").arg(data).args(["-m", "immediate", "-w", "stop"]));
    }
}

fn is_root() -> Result<bool, Box<dyn Error>> {
    let output = Command::new("id").arg("-u").output()?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// Runs a program to its end, without output unless it fails.
fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    // A file takes the output: a pipe would be held open by the server that pg_ctl leaves behind.
    let mut said = tempfile::tempfile()?;
    let status = command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said.try_clone()?).status()?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    std::io::Seek::rewind(&mut said)?;
    said.read_to_string(&mut text)?;
    Err(format!("{command:?}: {status}\n{text}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_children_of_a_process_are_found_until_they_end() {
        let mut command = Command::new("sleep");
        let mut process = Process::spawn("sleep", command.arg("600")).expect("it starts");
        let ours = std::process::id();
        assert!(children_of(ours).expect("they are listed").contains(&process.pid()));
        assert!(command_line(process.pid()).contains("sleep"));
        process.child.kill().expect("it is killed");
        process.child.wait().expect("it ends");
        assert!(!children_of(ours).expect("they are listed").contains(&process.pid()));
    }

    #[test]
    fn the_processes_of_postgresql_are_those_of_its_connections_too() {
        let postgres = PathBuf::from("/usr/lib/postgresql/15/bin");
        if !postgres.join("initdb").exists() {
            return println!("SKIPPED: there is no PostgreSQL 15 in {}", postgres.display());
        }
        let binaries = Binaries { service: PathBuf::new(), earlier: None, nats_server: PathBuf::new(), postgres };
        let server = Postgres::start(&binaries, Path::new("/var/tmp"), Durability::Later).expect("it starts");
        let named = |name: &str| {
            let lines = server.pids().expect("they are listed").into_iter().map(command_line);
            lines.filter(|line| line.contains(name)).count()
        };
        assert_eq!((named("-D"), named("walwriter"), named("idle")), (1, 1, 0));
        let mut client = Command::new(server.bin.join("psql"));
        client.arg(server.url()).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut client = client.spawn().expect("it starts");
        let ends = Instant::now() + START_MAX;
        while named("idle") == 0 && Instant::now() < ends {
            std::thread::sleep(LOOK);
        }
        assert_eq!(named("idle"), 1);
        drop(client.stdin.take());
        client.wait().expect("it ends");
    }
}
