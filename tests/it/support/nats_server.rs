//! A real nats-server for a test: started on a free loopback port, harmed as the test likes, gone with it.
//!
//! The binary is the one that the script `tests/nats-server` prints: what `NATS_SERVER_BIN` names, or what is on the
//! `PATH` when it is new enough, or what it installs. Without any the test fails: it would test nothing.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::raw::Raw;
use super::{PATIENCE, skip};

/// Lines of a server's log that are shown when a test fails.
const LOG_LINES_SHOWN: usize = 30;

/// A running server. It is killed when dropped.
pub struct NatsServer {
    binary: PathBuf,
    process: Child,
    port: u16,
    directory: TempDir,
}

impl NatsServer {
    /// One with JetStream and nothing special.
    pub fn start() -> Self {
        Self::with("")
    }

    /// One with more configuration, in the server's own language.
    pub fn with(extra: &str) -> Self {
        Self::with_jetstream("", extra)
    }

    /// One with settings inside its `jetstream` block too.
    pub fn with_jetstream(jetstream: &str, extra: &str) -> Self {
        Self::configured(&format!("jetstream {{ store_dir: \"$DIR/store\"\n{jetstream} }}\n{extra}"))
    }

    /// One with this configuration alone; `$DIR` stands for its directory.
    pub fn configured(configuration: &str) -> Self {
        Self::of(binary(), configuration)
    }

    /// One of another binary.
    pub fn of(binary: &Path, configuration: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().display().to_string();
        let text = format!("listen: \"127.0.0.1:-1\"\n{}", configuration.replace("$DIR", &path));
        std::fs::write(directory.path().join("server.conf"), text).expect("the configuration is written");
        let process = launch(binary, directory.path(), None);
        let mut server = Self { binary: binary.to_owned(), process, port: 0, directory };
        server.port = server.wait_for_port();
        // One that wants TLS first greets nobody who does not begin it.
        if !configuration.contains("handshake_first: true") {
            server.wait_for_greeting();
        }
        server
    }

    /// The port that clients connect to; a restart keeps it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port for leaf nodes, when its configuration has one.
    pub fn leaf_port(&self) -> u16 {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("Listening for leafnode connections on"));
        line.and_then(|line| line.rsplit_once(':')?.1.parse().ok()).expect("a port for leaf nodes")
    }

    /// Its directory, for files that its configuration names.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again on the same port, with what it had stored.
    pub fn restart(&mut self) {
        self.kill();
        self.process = launch(&self.binary, self.directory.path(), Some(self.port));
        self.wait_for_greeting();
    }

    /// Gives it another configuration while it runs; `$DIR` stands for its directory.
    pub fn reconfigure(&self, configuration: &str) {
        self.configure(configuration);
        self.signal("HUP");
    }

    /// The same, for when it is started the next time.
    pub fn configure(&self, configuration: &str) {
        let path = self.directory.path().display().to_string();
        let text = format!("listen: \"127.0.0.1:{}\"\n{}", self.port, configuration.replace("$DIR", &path));
        std::fs::write(self.directory.path().join("server.conf"), text).expect("the configuration is written");
    }

    /// Stops it in its tracks: it keeps its connections and says nothing.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Lets it read its configuration again.
    pub fn reload(&self) {
        self.signal("HUP");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    fn wait_for_port(&mut self) -> u16 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(port) = self.port_from_file() {
                return port;
            }
            let ended = self.process.try_wait().expect("the process can be asked");
            assert!(ended.is_none() && Instant::now() < deadline, "nats-server did not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn port_from_file(&self) -> Option<u16> {
        // Named after the binary, whatever that is called.
        let ending = format!("_{}.ports", self.process.id());
        let mut files = std::fs::read_dir(self.directory.path()).ok()?.flatten().map(|entry| entry.path());
        let file = files.find(|path| path.to_string_lossy().ends_with(&ending))?;
        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
    }

    fn wait_for_greeting(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Raw::greeting(self.port).is_none() {
            assert!(Instant::now() < deadline, "nats-server does not listen:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its log so far, of all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let newest: Vec<&str> = log.lines().rev().take(LOG_LINES_SHOWN).collect();
            eprintln!("--- nats-server on port {}, newest line first ---\n{}", self.port, newest.join("\n"));
        }
        self.kill();
    }
}

fn launch(binary: &Path, directory: &Path, port: Option<u16>) -> Child {
    let mut command = Command::new(binary);
    command.arg("--config").arg(directory.join("server.conf")).arg("--ports_file_dir").arg(directory);
    if let Some(port) = port {
        command.arg("--port").arg(port.to_string());
    }
    let log = std::fs::File::options().create(true).append(true).open(directory.join("server.log"));
    command.stderr(log.expect("the log file")).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().expect("nats-server starts")
}

/// The server that `tests/nats-server` finds, or installs once.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nats-server");
        let output = Command::new(&script).stderr(Stdio::inherit()).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        assert!(output.status.success(), "{}: no nats-server, see above", script.display());
        PathBuf::from(String::from_utf8(output.stdout).expect("UTF-8").trim())
    })
}

/// One that is too old for the service: `NATS_SERVER_OLD_BIN` names it, and `tests/nats-server 2.11` prints one. Without
/// it this test is skipped, and says so.
pub fn too_old(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("NATS_SERVER_OLD_BIN").map(PathBuf::from);
    if named.is_none() {
        skip(test, "NATS_SERVER_OLD_BIN does not name a nats-server of 2.11, as `tests/nats-server 2.11` prints one");
    }
    named
}
