//! The real `nats`, the tool that the documents tell operators to use: what `tests/nats-cli` finds or builds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Once, OnceLock};

use super::past_the_capture;

/// How the script ends where the tool cannot be had.
const CANNOT_BE_HAD: i32 = 77;

/// The tool; `None` where this machine neither has it nor can build it, which the script has said.
pub fn binary() -> Option<&'static Path> {
    static BINARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = BINARY.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nats-cli");
        let output = Command::new(&script).stderr(Stdio::inherit()).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        if output.status.code() == Some(CANNOT_BE_HAD) {
            return None;
        }
        assert!(output.status.success(), "{}: {}, see above", script.display(), output.status);
        Some(PathBuf::from(String::from_utf8(output.stdout).expect("UTF-8").trim()))
    });
    found.as_deref()
}

/// Types a command that the service printed, as somebody does who agrees to what it asks, with this configuration in FILE.
/// Where there is no tool that is said once, and false returned: what the command does is to be done another way.
#[track_caller]
pub fn typed(command: &str, configuration: &str, environment: &[(&str, &str)]) -> bool {
    let Some(nats) = binary() else {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            past_the_capture("SKIPPED: the real nats cannot be had, so nobody types what the start prints")
        });
        return false;
    };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("FILE"), configuration).expect("it is written");
    let command = if command.contains(" stream edit ") { format!("{command} --force") } else { command.to_owned() };
    let mut shell = Command::new("sh");
    shell.args(["-euc", &format!("nats() {{ {} \"$@\"; }}; {command}", nats.display())]);
    shell.env_clear().envs(environment.iter().copied()).env("XDG_CONFIG_HOME", folder.path());
    let output = shell.current_dir(folder.path()).stdin(Stdio::null()).output().expect("sh runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && !said.contains("\"error\""), "{command}\n{said}");
    true
}
