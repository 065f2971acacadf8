#!/bin/sh
# clippy over everything, warnings are errors.
set -eu
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
(cd examples && cargo clippy --all-targets --locked --quiet -- -D warnings)
