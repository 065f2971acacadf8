#!/bin/sh
# Builds the example apps: app.wasm beside each source.
#
#   examples/build.sh           builds them, and writes digests.txt
#   examples/build.sh --check   builds them elsewhere, and compares with digests.txt; says so if the compilers are others
#
# Needs Rust with the sources of its standard library (`rustup component add rust-src`), which is built with the apps, and for
# the apps in C a clang with WebAssembly and wasi-libc. OFFPEAK_GUEST_TOOLCHAIN names a folder with an env.sh that puts both on
# the path. Without clang the apps in C are left as they are. One compiler gives the same bytes wherever it, cargo's folder and
# our sources lie, and none of these places is in them.
set -eu
cd "$(dirname "$0")"
here=$(pwd -P)
target=wasm32-unknown-unknown
rust_apps="drift-search mandelbrot monte-carlo signal-search"

check=no
case "${1-}" in
  --check) check=yes ;;
  "") ;;
  *) echo "usage: $0 [--check]" >&2; exit 2 ;;
esac

if [ -n "${OFFPEAK_GUEST_TOOLCHAIN-}" ]; then
  . "$OFFPEAK_GUEST_TOOLCHAIN/env.sh"
fi

missing() {
  if [ $check = yes ]; then echo "skip: $1"; exit 0; fi
  echo "$1" >&2
  exit 1
}
std=$(rustc --print sysroot 2>/dev/null || :)/lib/rustlib/src/rust
[ -f "$std/library/std/Cargo.toml" ] ||
  missing "no sources of Rust's standard library in $std: rustup component add rust-src, or set OFFPEAK_GUEST_TOOLCHAIN"
rust=$(rustc --version)

clang=
for candidate in "${OFFPEAK_CLANG-clang-22}" clang; do
  if command -v "$candidate" >/dev/null && "$candidate" --print-targets 2>/dev/null | grep -q wasm32; then clang=$candidate; break; fi
done
c_version=none
if [ -n "$clang" ]; then c_version=$("$clang" --version | head -n 1); fi
# Debian keeps wasi-libc under usr, in folders with the target's older name, wasm32-wasi.
sysroot=${OFFPEAK_WASI_SYSROOT-${R196-}/usr}

recorded() { sed -n "s/^# $1: //p" digests.txt; }
if [ $check = yes ] && [ "$(recorded rust)" != "$rust" ]; then
  missing "digests.txt is of $(recorded rust), this is $rust: other bytes are to be expected"
fi

out=$here
if [ $check = yes ]; then
  checked=$(mktemp -d)
  out=$checked
fi

# Built in a workspace of its own that has the SDK inside: cargo hashes a path outside the workspace into every symbol.
stage=$(mktemp -d)
trap 'rm -rf "$stage" "${checked-}"' EXIT
cp -R Cargo.lock $rust_apps "$stage"
cp -R ../crates/guest "$stage/guest"
sed -e 's#"\.\./crates/guest"#"guest"#' -e 's#^members = \[#&"guest", #' Cargo.toml > "$stage/Cargo.toml"
# A prebuilt standard library may carry the paths of the machine that built it, which no flag of ours can change. So it is built
# here, as `cargo +nightly -Zbuild-std` does; RUSTC_BOOTSTRAP lets a stable compiler do it too.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Ctarget-feature=+simd128 --remap-path-prefix=${CARGO_HOME-$HOME/.cargo}=/cargo --remap-path-prefix=$std=/rust"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR-$here/target}/guest"
(cd "$stage" && cargo build --quiet --locked --release --lib --target $target -Zbuild-std=std,panic_abort)
for app in $rust_apps; do
  mkdir -p "$out/$app"
  cp "$CARGO_TARGET_DIR/$target/release/$(echo "$app" | tr - _).wasm" "$out/$app/app.wasm"
done

apps=$rust_apps
if [ -n "$clang" ] && { [ $check = no ] || [ "$(recorded c)" = "$c_version" ]; }; then
  mkdir -p "$out/c-sum" "$out/wc-command"
  flags="-O2 -ffp-contract=off -Wall -Wextra -Werror -Wl,--strip-all"
  "$clang" --target=$target -nostdlib -ffreestanding $flags -I../crates/guest/include -Wl,--no-entry -o "$out/c-sum/app.wasm" c-sum/sum.c
  "$clang" --target=wasm32-wasi -Wno-deprecated --sysroot="$sysroot" $flags -o "$out/wc-command/app.wasm" wc-command/wc.c
  apps="$apps c-sum wc-command"
elif [ $check = yes ]; then
  echo "skip: the apps in C are of $(recorded c), this is $c_version"
else
  c_version=$(recorded c)
  echo "no clang for WebAssembly: c-sum and wc-command are left as they are"
fi

if [ $check = no ]; then
  chmod 644 -- */app.wasm
  {
    echo "# rust: $rust"
    echo "# c: $c_version"
    sha256sum -- */app.wasm
  } > digests.new
  mv digests.new digests.txt
  cat digests.txt
  exit 0
fi
wrong=0
for app in $apps; do
  built=$(sha256sum < "$out/$app/app.wasm" | cut -d ' ' -f 1)
  if grep -q "^$built  $app/app.wasm\$" digests.txt && [ "$built" = "$(sha256sum < "$app/app.wasm" | cut -d ' ' -f 1)" ]; then
    echo "same: $app"
  else
    echo "differs: $app (built $built)" >&2
    wrong=1
  fi
done
exit $wrong
