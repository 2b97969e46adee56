//! The real binary, run with exactly the environment that a test gives it.

use std::process::{Command, Output};

/// `person-service` with these arguments and these variables, and no others of the caller's.
pub fn person_service(args: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_person-service"));
    command.args(args).env_clear().envs(environment.iter().copied());
    command
}

/// Its exit status, after it ended by itself.
pub fn status(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

/// What it said last on stderr.
pub fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}
