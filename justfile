# Short names for what is done often. Everything else is cargo.

import 'complement/complement.just'

# List the recipes
default:
    @just --list

# Build the release binary and run it on 127.0.0.1:8008
run *ARGS:
    scripts/run {{ ARGS }}

# Run every test
test *ARGS:
    scripts/test {{ ARGS }}

# Everything that needs no running code: format, lints, licences, docs, and the rules of the house
check: check-format check-lints check-dependencies check-docs tidy

[private]
check-format:
    cargo fmt --all --check

[private]
check-lints:
    cargo clippy --workspace --all-targets --locked -- -D warnings

[private]
check-dependencies:
    cargo deny --locked --log-level error check licenses bans sources

[private]
check-docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Crate edges, lengths of files and functions, every option documented
tidy:
    cargo test --workspace --locked --test tidy

# Format the code
fmt:
    cargo fmt --all

# Measure a suite and print its table: `just bench spine`
bench SUITE *ARGS: release
    cargo run --release --locked -p harness --bin harness -- bench {{ SUITE }} {{ ARGS }}

# Kill the server N times under load; nothing acknowledged may be lost or be there twice
crash N *ARGS: release
    cargo run --release --locked -p harness --bin harness -- crash {{ N }} {{ ARGS }}

# The same, and every file is cut back to its last completed sync
power-cut N *ARGS: release
    cargo run --release --locked -p harness --bin harness -- power-cut {{ N }} {{ ARGS }}

# Start a server and run real clients against it (needs Node and Python)
clients: release
    tests/clients/run

# MatrixRTC with real parts: members of a call are killed, and leaves are delegated (needs Node)
matrixrtc: release
    tests/clients/run "${CARGO_TARGET_DIR:-target}/release/sundial" matrixrtc delegation

# Two Sundials and a Synapse share rooms on loopback (needs Python; Synapse comes from PyPI)
federate *VERSIONS: release
    tests/federate/run "${CARGO_TARGET_DIR:-target}/release/sundial" {{ VERSIONS }}

# Run the fuzz targets whose name contains TARGET with many cases (docs/testing.md)
fuzz TARGET CASES='100000':
    PROPTEST_CASES={{ CASES }} cargo test --release --locked -p federation --test fuzz -- {{ TARGET }}

# Resolve random forks of rooms of every version, and compare with the algorithms on whole states (docs/testing.md)
forks FORKS='10000':
    FORKS={{ FORKS }} cargo test --release --locked -p rooms --lib -- forks_resolve

# Play SEEDS seeds of servers on a bad network; SIMULATE_FROM says at which to begin (docs/testing.md)
simulate SEEDS='1000':
    SIMULATE_SEEDS={{ SEEDS }} cargo test --release --locked -p federation --test simulate -- --nocapture

# What the continuous integration runs
ci:
    .ci/run

[private]
release:
    cargo build --release --locked -p sundial
