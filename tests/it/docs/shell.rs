//! A shell as a reader of the documents has it: the binary, nats-server and `nats` on its `PATH`, an empty folder, and
//! nothing of whoever runs the tests.

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::nats_server;

/// For one script, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A place for scripts.
pub struct Shell {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

/// Processes of one group.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // What a script left in the background goes with it.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

impl Shell {
    /// One with this `nats`.
    pub fn new(nats: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tools: [(&str, PathBuf); 4] = [
            ("person-service", env!("CARGO_BIN_EXE_person-service").into()),
            ("nats-server", nats_server::binary().into()),
            ("nats", nats.into()),
            ("terminal", root.join("tests/it/docs/terminal")),
        ];
        for name in ["bin", "work"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        for (name, tool) in tools {
            symlink(tool, folder.path().join("bin").join(name)).expect("a link");
        }
        let path = format!("{}:{}", folder.path().join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let home = folder.path().join("work").display().to_string();
        // Where `nats` has its contexts, and would else find those of whoever runs the tests, whatever HOME is.
        let contexts = format!("{home}/.config");
        let environment = [("PATH", path), ("HOME", home), ("XDG_CONFIG_HOME", contexts)];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { folder, environment }
    }

    /// Another variable for all that is run from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The folder in which scripts run.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Runs it, up to the first command that fails: whether all went well, and what was written, errors among it.
    pub fn run(&self, script: &str) -> (bool, String) {
        let output = self.folder.path().join("output");
        let file = std::fs::File::create(&output).expect("a file");
        let mut command = Command::new("sh");
        command.args(["-eu", "-c", &format!("exec 2>&1\n{script}")]).env_clear().envs(self.environment.iter().cloned());
        command.current_dir(self.folder()).stdin(Stdio::null()).stdout(file).process_group(0);
        let mut group = Group(command.spawn().expect("sh starts"));
        let deadline = Instant::now() + PATIENCE;
        let mut status = None;
        while status.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            status = group.0.try_wait().expect("it can be asked");
        }
        (status.is_some_and(|status| status.success()), std::fs::read_to_string(&output).expect("UTF-8"))
    }
}
