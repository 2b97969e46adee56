//! The service as a process of its own, with a service manager's socket that writes down what it is told.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{PATIENCE, eventually};

/// A running `person-service`. It is killed when dropped.
pub struct Service {
    child: Child,
    directory: TempDir,
    told: Arc<Mutex<Vec<(Instant, String)>>>,
    stderr: Arc<Mutex<Vec<String>>>,
    stdout: Arc<Mutex<String>>,
    /// They end when all that it wrote is read.
    readers: [JoinHandle<()>; 2],
}

/// What the tests themselves tell the manager, behind all that the process told it.
const ENDED: &str = "TESTS_HAVE_SEEN_ITS_END=1";

impl Service {
    /// Starts it for the server at this URL, with more of its variables, and does not wait.
    pub fn launch(url: &str, environment: &[(&str, &str)]) -> Self {
        Self::launch_with(url, environment, Stdio::piped())
    }

    /// The same, with its log going elsewhere than to [`log`](Self::log).
    pub fn launch_with(url: &str, environment: &[(&str, &str)], stderr: impl Into<Stdio>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        // Another build than the tests' own can be measured.
        let binary = std::env::var_os("PERSON_SERVICE_BIN");
        let mut child = Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_person-service").into()))
            .env_clear()
            .env("NATS_URL", url)
            .env("NOTIFY_SOCKET", &path)
            .env("LOG_LEVEL", "debug")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the service starts");
        let told = Arc::new(Mutex::new(Vec::new()));
        let (stderr, stdout) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(String::new())));
        listen(socket, Arc::downgrade(&told));
        let (lines, text) = (Arc::clone(&stderr), Arc::clone(&stdout));
        let (errors, mut output) = (child.stderr.take(), child.stdout.take().expect("a pipe"));
        let of_stderr = std::thread::spawn(move || {
            let lines_of = errors.into_iter().flat_map(|errors| BufReader::new(errors).lines());
            lines_of.map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        let of_stdout = std::thread::spawn(move || {
            let mut all = String::new();
            let _ = output.read_to_string(&mut all);
            text.lock().unwrap().push_str(&all);
        });
        Self { child, directory, told, stderr, stdout, readers: [of_stderr, of_stdout] }
    }

    /// Starts it and waits until it is ready.
    pub fn start(url: &str, environment: &[(&str, &str)]) -> Self {
        let mut service = Self::launch(url, environment);
        service.wait_for("READY=1");
        service
    }

    /// Everything that its manager was told so far.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().iter().map(|(_, words)| words.clone()).collect()
    }

    /// What its manager was told since this moment.
    pub fn told_since(&self, moment: Instant) -> Vec<String> {
        self.told.lock().unwrap().iter().filter(|(at, _)| *at >= moment).map(|(_, words)| words.clone()).collect()
    }

    pub fn is_ready(&self) -> bool {
        self.told().iter().any(|words| words == "READY=1")
    }

    /// Waits until its manager was told something that begins so.
    #[track_caller]
    pub fn wait_for(&mut self, beginning: &str) {
        self.wait_since(None, beginning);
    }

    /// The same, told after this moment.
    #[track_caller]
    pub fn wait_since(&mut self, moment: Option<Instant>, beginning: &str) {
        let deadline = Instant::now() + PATIENCE;
        let has = |service: &Self| {
            let told = moment.map_or_else(|| service.told(), |moment| service.told_since(moment));
            told.iter().any(|words| words.starts_with(beginning))
        };
        while !has(self) {
            let ended = self.child.try_wait().expect("it can be asked");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "no {beginning}: {ended:?}, told {:?}\n{}",
                self.told(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its process id, for what the system knows about it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.stderr.lock().unwrap().join("\n")
    }

    #[track_caller]
    pub fn wait_for_log(&self, words: &str) {
        eventually(&format!("{words:?} in the log"), || self.log().contains(words));
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for its end: its exit status and how long that took.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> (i32, Duration) {
        let start = Instant::now();
        let status = self.ended(within).unwrap_or_else(|| panic!("it did not end:\n{}", self.log()));
        let took = start.elapsed();
        self.read_to_the_end();
        (status.code().expect("it ended by itself"), took)
    }

    /// All that the process wrote and told has been read, by threads that see its end later than this one.
    fn read_to_the_end(&self) {
        eventually("its output is read", || self.readers.iter().all(JoinHandle::is_finished));
        let socket = UnixDatagram::unbound().expect("a socket");
        socket.send_to(ENDED.as_bytes(), self.directory.path().join("notify")).expect("somebody listens");
        eventually("what it told is read", || self.told.lock().unwrap().iter().any(|(_, words)| words == ENDED));
        self.told.lock().unwrap().retain(|(_, words)| words != ENDED);
    }

    /// How it ended, if it has.
    pub fn end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it can be asked")
    }

    fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            match self.child.try_wait().expect("it can be asked") {
                Some(status) => return Some(status),
                None if Instant::now() >= deadline => return None,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Asks it to stop; it must do so cleanly.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal("TERM");
        let (status, _) = self.wait(PATIENCE);
        assert_eq!(status, 0, "{}", self.log());
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub fn last_line(&self) -> String {
        self.stderr.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(8_000);
            eprintln!("--- the service's log ---\n{}\n--- told: {:?}", log.get(from..).unwrap_or(&log), self.told());
        }
    }
}

/// Writes down what the socket brings, as long as anybody is interested.
fn listen(socket: UnixDatagram, told: std::sync::Weak<Mutex<Vec<(Instant, String)>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Some(told) = told.upgrade() {
            if let Ok(length) = socket.recv(&mut buffer) {
                let words = String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned();
                told.lock().unwrap().push((Instant::now(), words));
            }
        }
    });
}
