//! The command line for people, as they use it: the real binary as a child, against a real service and a real server.

mod agreement;
mod bench;
mod check;
mod cures;
mod doctor;
mod documentation;
mod ends;
mod import;
mod many;
mod repair;
mod round_trips;
mod verify;

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binary::{person_service, status};
use crate::support::nats_server::NatsServer;
use crate::support::ports::free_ports;
use crate::support::{PATIENCE, eventually};

/// A service with a server of its own.
struct Place {
    service: Option<Child>,
    server: NatsServer,
    folder: TempDir,
}

impl Place {
    /// Both, running.
    fn start() -> Self {
        let mut place = Self::without_service();
        place.start_service();
        place
    }

    /// The server alone.
    fn without_service() -> Self {
        Self { service: None, server: NatsServer::start(), folder: tempfile::tempdir().expect("a folder") }
    }

    /// Starts the service and waits until a command would be answered.
    fn start_service(&mut self) {
        self.start_service_with(&[]);
    }

    /// The same, with more of its variables.
    fn start_service_with(&mut self, environment: &[(&str, &str)]) {
        let path = self.folder.path().join("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let log = std::fs::File::create(self.folder.path().join("service.log")).expect("a log");
        let mut command = self.command(&[]);
        command
            .envs(environment.iter().copied())
            .env("NOTIFY_SOCKET", &path)
            .stderr(log)
            .stdout(Stdio::null())
            .stdin(Stdio::null());
        self.service = Some(command.spawn().expect("the service starts"));
        eventually("the service is ready", || {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).unwrap_or(0);
            String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1")
        });
    }

    /// Ends the service without letting it finish anything.
    fn kill_service(&mut self) {
        let mut service = self.service.take().expect("a running service");
        service.kill().expect("it is killed");
        service.wait().expect("it ends");
    }

    /// The binary with the options that lead to this place.
    fn command(&self, args: &[&str]) -> Command {
        person_service(args, &[("NATS_URL", &self.server.url()), ("COMMAND_TIMEOUT", "5s"), ("LOG_LEVEL", "debug")])
    }

    /// Runs a client to its end.
    fn run(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args).stdin(Stdio::null()).output().expect("it runs"))
    }

    /// Runs a client to its end, with this on stdin.
    fn run_with(&self, stdin: &str, args: &[&str]) -> Ended {
        let mut command = self.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        // Beside the reading of what it says: neither waits for the other. One that has ended needs no more.
        std::thread::scope(|scope| {
            scope.spawn(move || drop(pipe.write_all(stdin.as_bytes())));
            Ended::of(child.wait_with_output().expect("it ends"))
        })
    }

    /// A file with this text.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("it is written");
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Creates a person by flags and returns the id.
    fn create(&self, given: &str) -> String {
        let reply = self.run(&["send", "create", "--given", given, "--source", "test", "--json"]).done().json();
        reply["aggregate_id"].as_str().expect("an id").to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(service) = &mut self.service {
            let _ = service.kill();
            let _ = service.wait();
        }
        let log = std::fs::read_to_string(self.folder.path().join("service.log")).unwrap_or_default();
        if std::thread::panicking() {
            eprintln!("--- the log of the service ---\n{log}");
        }
    }
}

/// A client that has ended.
#[derive(Debug)]
struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let ended = Self { status: status(&output), stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ended
    }

    /// It did all that was asked for, and said nothing about it on stderr.
    #[track_caller]
    fn done(self) -> Self {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self
    }

    /// It ended with this status, and the last line on stderr says this.
    #[track_caller]
    fn ended(self, status: i32, said: &str) -> Self {
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(self.status == status && last.contains(said), "expected {status} and {said:?}: {self:?}");
        self
    }

    /// What it wrote, as one JSON value.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// What it wrote, as JSON lines.
    #[track_caller]
    fn json_lines(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }
}

#[track_caller]
fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

/// A JSON line that creates a person.
fn create_line(person: &str, given: &str) -> String {
    json!({"CreatePerson": {"person_id": person, "name": {"components": {"given_names": [given]}}, "source": "t"}})
        .to_string()
}

/// A JSON line that renames a person.
fn rename_line(person: &str, given: &str) -> String {
    json!({"UpdateName": {"person_id": person, "name": {"components": {"given_names": [given]}}}}).to_string()
}

/// A loopback port on which nobody listens.
fn deserted_url() -> String {
    let [port] = free_ports();
    format!("nats://127.0.0.1:{port}")
}

/// Waits until a child has ended by itself.
fn end_of(mut child: Child) -> Ended {
    eventually("the client ends", || child.try_wait().expect("it can be asked").is_some());
    Ended::of(child.wait_with_output().expect("its output"))
}

/// Where the binary lies.
fn binary_folder() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_person-service")).parent().expect("a folder")
}
