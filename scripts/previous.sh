#!/bin/sh
# Builds the command `offpeak` of the version before, for the test of upgrades, as target/previous/offpeak.
# tests/previous-version names its commit. It is built in the same target folder, so that libraries are compiled once: before
# this version, whose build then puts its own command back, and as another version, since cargo tells packages apart by that.
set -eu
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
commit=$(cat tests/previous-version)
built=$target/previous

if [ "$(cat "$built/commit" 2>/dev/null)" = "$commit" ] && [ -x "$built/offpeak" ]; then
    exit 0
fi
rm -rf "$built"
# Also where the checkout belongs to another user, as in a container.
git() { command git -c safe.directory='*' "$@"; }
if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
    echo "skipped: the history at hand has no commit $commit, so upgrades are not tested"
    exit 0
fi
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
git archive "$commit" | tar -x -C "$source"
sed -i '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/version = "\1-previous"/' "$source/Cargo.toml"
# An example asks for the libraries' features of tests, as the build of everything does. Nothing of it is built again or
# debugged, and it computes little: it is compiled in the fastest way.
CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 cargo build --manifest-path "$source/Cargo.toml" --workspace --bin offpeak --example with-servers
mkdir -p "$built"
cp "$target/debug/offpeak" "$built/offpeak"
echo "$commit" > "$built/commit"
