#!/bin/sh
# Installs what the tests need and this machine lacks: RabbitMQ, PostgreSQL, Prometheus, openssl, Python's venv; Java's AMQP
# client for a JDK.
# Quiet when nothing is missing. Servers named in OFFPEAK_TEST_AMQP_URL and OFFPEAK_TEST_DATABASE_URL are used
# instead of installed ones. The packages' own services are not started, and services that run are not touched.
set -eu

missing=
need() { # PACKAGE, and a test whether it is there
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
any_exists() { for path in "$@"; do [ -e "$path" ] && return 0; done; return 1; }

if [ -z "${OFFPEAK_TEST_AMQP_URL:-}" ]; then
    need rabbitmq-server any_exists /usr/lib/rabbitmq/bin/rabbitmq-server /opt/rabbitmq/sbin/rabbitmq-server
fi
if [ -z "${OFFPEAK_TEST_DATABASE_URL:-}" ]; then
    need postgresql any_exists /usr/lib/postgresql/*/bin/postgres /usr/pgsql/*/bin/postgres
fi
need postgresql-client command -v psql
need prometheus command -v promtool
need openssl command -v openssl
need python3-venv python3 -c 'import venv, ensurepip'
# The Java client is tried where there is a Java to try it with (4 MB); a JDK of 250 MB is not installed for it.
if command -v javac >/dev/null 2>&1; then
    need librabbitmq-client-java any_exists /usr/share/java/amqp-client.jar
    need libjackson2-databind-java any_exists /usr/share/java/jackson-databind.jar
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: these are missing and there is no apt-get to install them:$missing" >&2
    echo "setup: install them by hand, or name servers in OFFPEAK_TEST_AMQP_URL and OFFPEAK_TEST_DATABASE_URL" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "setup: run as root (there is no sudo): apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi

echo "setup: installing$missing"
# A policy of 101 keeps the packages from starting their services on the default ports.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
wrote_policy=
clean() {
    [ -z "$wrote_policy" ] || $as_root rm -f "$policy"
    rm -f "$log"
}
trap clean EXIT
trap 'exit 1' INT TERM
if [ ! -e "$policy" ]; then
    wrote_policy=yes
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
install() {
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >"$log" 2>&1
}
# The package lists may be old or absent: fetch them only when the first try fails.
if ! install; then
    $as_root apt-get update -qq >"$log" 2>&1 && install || {
        cat "$log" >&2
        echo "setup: cannot install$missing" >&2
        exit 1
    }
fi
