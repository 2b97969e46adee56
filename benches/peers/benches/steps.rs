//! The steps of a command by themselves, timed by criterion: `cargo bench --manifest-path benches/peers/Cargo.toml`.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

#[path = "../src/steps.rs"]
mod steps;

/// The service's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn command(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("command");
    // A step takes some microseconds: so many samples are enough, and all steps are done in half a minute.
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    for (name, step) in steps::all().expect("a person with a history") {
        group.bench_function(name, |bencher| bencher.iter(&step));
    }
    group.finish();
}

criterion_group!(steps_of, command);
criterion_main!(steps_of);
