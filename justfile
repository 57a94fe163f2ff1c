# Shortcuts; .ci/run is what has to pass.

_default:
    @just --list

# Formats the code.
fmt:
    cargo fmt

# Formatting, lints, documentation; licences and bans if cargo-deny is installed.
lint:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
    if command -v cargo-deny >/dev/null; then cargo deny check; fi

# The whole suite; installs the components that it needs. `just test provision` runs part of it.
test *args:
    tests/run {{args}}

# Opens the documentation, this house's map first.
doc:
    cargo doc --locked --no-deps --document-private-items --open

# Mirrors a batch between two registries of the process, and prints what it cost.
bench *args:
    cargo bench --locked --bench mirror {{args}}

# What CI runs.
ci:
    .ci/run
