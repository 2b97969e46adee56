//! The two processes of the demo: where they live, how they start, and that they end with it.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cim_domain_person::cli;

use crate::Result;
use crate::show::Show;

/// How long either of them may take to start, or the service to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Programs, addresses and files of one run.
pub struct Place {
    pub url: String,
    pub service: PathBuf,
    server: PathBuf,
    port: u16,
    folder: tempfile::TempDir,
}

impl Place {
    /// Finds the server, builds the service, and chooses a port that is free.
    pub fn prepare(show: &Show) -> Result<Self> {
        show.progress("finding a nats-server (tests/nats-server)");
        let server = PathBuf::from(output(Command::new(root().join("tests/nats-server")))?);
        show.progress("building person-service");
        let service = built()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let url = format!("nats://127.0.0.1:{port}");
        Ok(Self { url, service, server, port, folder: tempfile::tempdir()? })
    }

    /// Where the service's log goes.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("person-service.log")
    }
}

/// Both processes.
pub struct Children {
    service: Running,
    /// Held so that it runs as long.
    _server: Running,
}

/// A process that ends with the demo, however the story ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Children {
    /// Starts both and waits until a command would be answered.
    pub fn start(place: &Place, show: &Show) -> Result<Self> {
        show.progress(&format!("starting nats-server on port {}", place.port));
        let server = Running(start_server(place)?);
        wait_for_server(place)?;
        show.progress("starting person-service, and waiting until it says that it is ready");
        let socket_path = place.folder.path().join("notify");
        let socket = UnixDatagram::bind(&socket_path)?;
        let service = Running(start_service(place, &socket_path)?);
        let mut children = Self { service, _server: server };
        children.wait_until_ready(&socket, place)?;
        Ok(children)
    }

    /// Ends the service as a service manager does, then the server.
    pub fn end(&mut self, show: &Show) -> Result<()> {
        show.progress("SIGTERM to person-service: it answers what it took and leaves");
        let mut kill = Command::new("kill");
        kill.args(["-TERM", &self.service.0.id().to_string()]);
        output(kill)?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.service.0.try_wait()? {
                show.progress(&format!("person-service ended: {status}"));
                return if status.success() { Ok(()) } else { Err("the service did not end cleanly".into()) };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("the service did not end".into())
    }

    /// Waits for `READY=1`, as systemd does.
    fn wait_until_ready(&mut self, socket: &UnixDatagram, place: &Place) -> Result<()> {
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let start = Instant::now();
        let mut buffer = [0; 4096];
        while start.elapsed() < PATIENCE {
            let length = socket.recv(&mut buffer).unwrap_or(0);
            let said = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            if said.lines().any(|line| line == "READY=1") {
                return Ok(());
            }
            if self.service.0.try_wait()?.is_some() {
                break;
            }
        }
        let log = std::fs::read_to_string(place.log()).unwrap_or_default();
        Err(format!("person-service did not become ready; its log:\n{log}").into())
    }
}

fn start_server(place: &Place) -> Result<Child> {
    let mut command = Command::new(&place.server);
    command.args(["--addr", "127.0.0.1", "--port", &place.port.to_string(), "--jetstream"]);
    command.arg("--store_dir").arg(place.folder.path().join("jetstream"));
    command.arg("--log").arg(place.folder.path().join("nats-server.log"));
    // In groups of their own: a Ctrl-C at the terminal is for the demo, which then ends them in order.
    Ok(command.process_group(0).stdin(Stdio::null()).spawn()?)
}

fn wait_for_server(place: &Place) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if TcpStream::connect(("127.0.0.1", place.port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("nats-server did not start".into())
}

fn start_service(place: &Place, notify: &Path) -> Result<Child> {
    let mut command = Command::new(&place.service);
    // What the caller has set for a service of theirs is not for this one.
    for variable in cli::command().get_arguments().filter_map(|arg| arg.get_env()) {
        command.env_remove(variable);
    }
    command.env("NATS_URL", &place.url).env("NOTIFY_SOCKET", notify).stderr(std::fs::File::create(place.log())?);
    Ok(command.process_group(0).stdin(Stdio::null()).spawn()?)
}

/// Builds the service in the profile that the demo itself was built in, and says where it is.
fn built() -> Result<PathBuf> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Together with the demo, whose dependencies give some crates more features: the service alone would have cargo build
    // those crates once more.
    build.current_dir(root()).args(["build", "--quiet", "--bin", "person-service", "--example", "story"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    // `cargo run` describes the demo's package in variables, and a build script that looks at them would run again.
    let described = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(described)) {
        build.env_remove(name);
    }
    output(build)?;
    let demo = std::env::current_exe()?;
    let folder = demo.parent().and_then(Path::parent).ok_or("the demo lies in target/<profile>/examples")?;
    Ok(folder.join("person-service"))
}

/// What a command writes to stdout; an error when it fails.
fn output(mut command: Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
