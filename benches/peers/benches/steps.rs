//! The steps of a command by themselves, timed by criterion: `cargo bench --manifest-path benches/peers/Cargo.toml`.

use criterion::{Criterion, criterion_group, criterion_main};

#[path = "../src/steps.rs"]
mod steps;

/// The service's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn command(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("command");
    for (name, step) in steps::all().expect("a person with a history") {
        group.bench_function(name, |bencher| bencher.iter(&step));
    }
    group.finish();
}

criterion_group!(steps_of, command);
criterion_main!(steps_of);
