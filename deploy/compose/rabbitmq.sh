#!/bin/sh
# Puts the definitions where the node reads them at its start, with the passwords of the environment and a customer who may
# submit with the command line; then becomes the command given. For a trial: see docker-compose.yml.
set -eu
from=${DEFINITIONS_FROM:-/etc/offpeak}
to=${DEFINITIONS_TO:-/etc/rabbitmq/definitions.d}

for password in "$PRODUCER_PASSWORD" "$AGGREGATOR_PASSWORD" "$WORKER_PASSWORD" "$OPERATOR_PASSWORD" "$CUSTOMER_PASSWORD"; do
    case $password in
    '' | *[!A-Za-z0-9]*)
        echo "rabbitmq.sh: passwords are of letters and digits, since they stand in URLs and in JSON: mend .env" >&2
        exit 1
        ;;
    esac
done

cp "$from"/*.json "$to"/
# Read after the others, in order of name. `offpeak submit` declares and binds its customer's results queue.
cat >"$to/30-passwords.json" <<JSON
{
  "users": [
    {"name": "offpeak-producer", "password": "$PRODUCER_PASSWORD", "tags": ["monitoring"]},
    {"name": "offpeak-aggregator", "password": "$AGGREGATOR_PASSWORD", "tags": []},
    {"name": "offpeak-worker", "password": "$WORKER_PASSWORD", "tags": []},
    {"name": "offpeak-operator", "password": "$OPERATOR_PASSWORD", "tags": ["monitoring"]},
    {"name": "$CUSTOMER", "password": "$CUSTOMER_PASSWORD", "tags": []}
  ],
  "permissions": [
    {
      "user": "$CUSTOMER",
      "vhost": "/",
      "configure": "^offpeak\\\\.customer\\\\.$CUSTOMER\\\\.",
      "write": "^offpeak\\\\.(submit|customer\\\\.$CUSTOMER\\\\..*)$",
      "read": "^offpeak\\\\.customer(\\\\.$CUSTOMER\\\\..*)?$"
    }
  ],
  "topic_permissions": [
    {"user": "$CUSTOMER", "vhost": "/", "exchange": "offpeak.submit", "write": "^$CUSTOMER$", "read": "^$"}
  ]
}
JSON
exec "$@"
