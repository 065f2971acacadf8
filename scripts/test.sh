#!/bin/sh
# Every check of the repository, cheapest first; `make test` runs it. Each step says its name and its seconds.
set -eu
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
begun=$(date +%s)
step() {
    now=$(date +%s)
    echo "== $1 (after $((now - begun)) s)"
}

step "format"
cargo fmt --all --check
(cd examples && cargo fmt --all --check)

step "the version before"
scripts/previous.sh

step "build"
# Binaries, tests and examples in one go: one set of features, so every library is compiled once.
cargo build --workspace --all-targets --locked

step "lint"
scripts/lint.sh

step "example apps"
(cd examples && cargo test --locked --quiet)

# From here on there are servers, which with-servers starts once and stops whatever happens.
step "servers"
exec "$target/debug/examples/with-servers" scripts/test-with-servers.sh
