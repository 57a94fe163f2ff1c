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

# Times what needs no request, for 500 to 4,000 images: reading files, planning.
steps *args:
    cargo bench --locked --bench steps -- {{args}}

# Mirrors 2,000 images (or so many) while one in twenty requests fails, and looks for leaks; ten minutes at most.
soak images="2000":
    cargo bench --locked --bench soak -- {{images}}

# The whole fault table; some of it is part of the test suite. `just faults 'kind: Mount'` runs the cells so described.
faults cells="all":
    TRANSSHIP_FAULT_TABLE={{quote(cells)}} cargo test --locked --test it every_fault_costs -- --nocapture

# What CI runs.
ci:
    .ci/run
