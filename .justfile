# The commands of the project by short names. CI runs `tests/run`, as `just test` does.

# List the commands
default:
    @just --list

# A nats-server, the service, and a short story told to them
demo:
    cargo demo

# Everything that must hold
test:
    tests/run

# Break the service on purpose, and see that the simulation's checkers find out
mutations:
    cargo test --test simulation -- --ignored --nocapture

# The simulation for as many seconds
simulation seconds="600":
    CARGO_PROFILE_DEV_OPT_LEVEL=1 SIMULATION_SECONDS={{seconds}} cargo test --test simulation -- --nocapture

# Whatever happens, for this many seconds, to one server and to a cluster
chaos seconds="600":
    CHAOS_SECONDS={{seconds}} cargo test --test it chaos:: -- --nocapture

# What depends on the server, on every series of nats-server that is supported, or on these
versions *series:
    tests/versions {{series}}

# Compile and check style, without running anything
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings

# Service, ceilings and rivals side by side: `just bench ceilings --rounds 5`; docs/performance.md says more
bench *args:
    benches/run {{args}}

# Compile and check the style of what the service is measured against; `protoc` is needed
check-benches:
    cargo fmt --check --manifest-path benches/peers/Cargo.toml
    cargo clippy --all-targets --manifest-path benches/peers/Cargo.toml -- -D warnings

# Look for bytes that break a reader, so many seconds for each target; needs nightly and cargo-fuzz
fuzz seconds="60" *targets:
    tests/fuzz/run {{seconds}} {{targets}}

# Write the tables in docs/ anew from the code
docs:
    UPDATE_DOCS=1 cargo test --test it docs::
    cargo doc --no-deps --document-private-items --open

# Known vulnerabilities of the dependencies; needs the advisory database
advisories:
    cargo deny --config .deny.toml check advisories

# Binary, units and settings, as root and after `cargo build --release --locked`; docs/deployment.md says how to go on
install:
    systemd/install
