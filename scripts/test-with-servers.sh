#!/bin/sh
# The tests that may need servers; called by test.sh with their addresses in the environment. Those in Python run beside those
# in Rust, since both mostly wait for servers; what they say comes after.
set -eu
failed=0
said=${CARGO_TARGET_DIR:-target}/python-tests.txt

[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt
# Node comes with the requirements, as Debian's is too old for these tools.
if [ ! tests/node/node_modules/.package-lock.json -nt tests/node/package-lock.json ]; then
    PATH="$PWD/.venv/bin:$PATH" .venv/bin/npm ci --prefix tests/node --silent --no-audit --no-fund --ignore-scripts
fi

echo "== python, into $said, and cargo test"
# A shell's background is deaf to SIGINT, which tests send; and it ends with this shell, however that ends.
env --default-signal=INT setpriv --pdeathsig=KILL -- \
    .venv/bin/python -m unittest discover --quiet --start-directory tests/python >"$said" 2>&1 &
python=$!
cargo test --workspace --locked --no-fail-fast || failed=1
echo "== python"
wait "$python" || failed=1
cat "$said"
exit $failed
