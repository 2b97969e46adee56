//! The binary: parse, run, exit status.

use cim_domain_person::exit::ExitStatus;

fn main() -> ExitStatus {
    cim_domain_person::cli::run(std::env::args_os())
}
