#!/bin/sh
# The tests that may need servers; called by test.sh with their addresses in the environment.
set -eu
failed=0

if [ -d tests/python ]; then
    echo "== python"
    [ -x .venv/bin/python ] || python3 -m venv .venv
    if [ -f tests/python/requirements.txt ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt
    fi
    # Node comes with the requirements, as Debian's is too old for these tools.
    if [ -f tests/node/package.json ] && [ ! tests/node/node_modules/.package-lock.json -nt tests/node/package-lock.json ]; then
        PATH="$PWD/.venv/bin:$PATH" .venv/bin/npm ci --prefix tests/node --silent --no-audit --no-fund --ignore-scripts
    fi
    .venv/bin/python -m unittest discover --quiet --start-directory tests/python || failed=1
fi

echo "== cargo test"
cargo test --workspace --locked --no-fail-fast || failed=1
exit $failed
