//! `person-service completions`: what shells need to complete the command line, from the definitions that parse it.

use clap::Args;
use clap_complete::Shell;

use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::exit::ExitStatus;

/// The program.
const NAME: &str = "person-service";

const EXAMPLES: &str = "\
Examples:
  person-service completions bash > ~/.local/share/bash-completion/completions/person-service
  person-service completions zsh > ~/.zfunc/_person-service
          In a folder that fpath names, before compinit
  person-service completions fish > ~/.config/fish/completions/person-service.fish
          The Debian package, the Nix package and systemd/install bring these three along";

/// What `completions` is told.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Completions {
    /// For which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    /// Prints them.
    pub fn run(&self) -> Result<ExitStatus, Failure> {
        let mut out = Out::new();
        out.json(script(self.shell).trim_end().as_bytes());
        out.finish()?;
        Ok(ExitStatus::Clean)
    }
}

fn script(shell: Shell) -> String {
    // For bash clap_complete (4.6) calls the subcommands of a program with a hyphen by two names, and completes none.
    let (name, called) = if shell == Shell::Bash { ("person_service", " person_service\n") } else { (NAME, "") };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::cli::command(), name, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if called.is_empty() { script } else { script.replace(called, &format!(" {NAME}\n")) }
}
