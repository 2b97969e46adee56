//! The binary: parse, run, exit status.

use cim_domain_person::exit::ExitStatus;

/// A turn takes from and gives back to the heap what other threads gave and will take, thousands of small pieces at a
/// time. The system's allocator spends a third of the service's processor time on that, this one a small part of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitStatus {
    cim_domain_person::cli::run(std::env::args_os())
}
