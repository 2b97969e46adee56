//! The figures in a file, for node_exporter's textfile collector: replaced as a whole, so that nobody reads half of one.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::daemon::figures;
use crate::daemon::monitor::Monitor;
use crate::daemon::threads;
use crate::log_limit::RateLimited;

/// How often it is written. Prometheus asks node_exporter every 15 to 60 seconds.
const PERIOD: Duration = Duration::from_secs(10);
/// How long the start waits to see whether it can be written at all. A disk that hangs is a warning, as it is later on.
const FIRST_WRITE_WAIT: Duration = Duration::from_secs(2);
/// Whoever is to read the file need not be the service's own user; there are no secrets in it.
const MODE: u32 = 0o644;

static NOT_WRITTEN: RateLimited = RateLimited::new(Duration::from_secs(60));

/// The thread that writes the file. A disk that hangs holds up nothing but this thread.
pub struct MetricsFile {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl MetricsFile {
    /// Starts the thread, and waits to see whether the file can be written.
    ///
    /// # Errors
    /// It cannot be written, or the thread not be started.
    pub fn start(path: &Path, monitor: Arc<Monitor>) -> io::Result<Self> {
        let (stop, stopped) = bounded(1);
        let (first, written) = bounded(1);
        let file = path.to_owned();
        let poison = monitor.poison.clone();
        let thread = threads::start("metrics-file", &poison, move || {
            let outcome = write(&file, &monitor);
            let is_written = outcome.is_ok();
            // Nobody waits for it any more where the disk took too long.
            let late = first.send(outcome).err().and_then(|unheard| unheard.0.err());
            if let Some(error) = late {
                not_written(&file, &error);
            } else if !is_written {
                return;
            }
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = write(&file, &monitor) {
                    not_written(&file, &error);
                }
            }
            // A process that has ended has no figures. Where it cannot be removed, its age tells.
            let _ = std::fs::remove_file(&file);
        })?;
        match written.recv_timeout(FIRST_WRITE_WAIT) {
            Ok(outcome) => outcome?,
            Err(_) => not_written(path, &ErrorKind::TimedOut.into()),
        }
        Ok(Self { stop, thread })
    }

    /// Takes the file away, if that takes no longer than this.
    pub fn end(self, deadline: std::time::Instant) {
        drop(self.stop);
        threads::join_until(deadline, vec![self.thread]);
    }
}

fn not_written(path: &Path, error: &io::Error) {
    NOT_WRITTEN.warn(format_args!("METRICS_FILE {} could not be written: {error}", path.display()));
}

fn write(path: &Path, monitor: &Monitor) -> io::Result<()> {
    let replica = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let text = figures::text(&monitor.read(), replica.as_deref());
    // The collector reads *.prom alone.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = write_new(&beside, &text).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    // The unit's umask lets nobody else read what the service makes.
    file.set_permissions(Permissions::from_mode(MODE))
}
