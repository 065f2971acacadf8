#!/bin/sh
# Puts the definitions where the node reads them at its start, with the passwords of the environment, a customer who may submit and
# read its results, and an administrator for `offpeak customer`; then becomes the command given. For a trial: see docker-compose.yml.
set -eu
from=${DEFINITIONS_FROM:-/etc/offpeak}
to=${DEFINITIONS_TO:-/etc/rabbitmq/definitions.d}

for password in "$PRODUCER_PASSWORD" "$AGGREGATOR_PASSWORD" "$WORKER_PASSWORD" "$OPERATOR_PASSWORD" "$ADMIN_PASSWORD" \
    "$CUSTOMER_PASSWORD"; do
    case $password in
    '' | *[!A-Za-z0-9]*)
        echo "rabbitmq.sh: passwords are of letters and digits, since they stand in URLs and in JSON: mend .env" >&2
        exit 1
        ;;
    esac
done
case $CUSTOMER in
'' | -* | *[!a-z0-9-]* | offpeak-* | guest)
    echo "rabbitmq.sh: OFFPEAK_CUSTOMER is of a-z, 0-9 and -, and no user of the grid or of RabbitMQ: mend .env" >&2
    exit 1
    ;;
esac

cp "$from"/*.json "$to"/
# As `offpeak customer add` makes it.
sed "s/acme/$CUSTOMER/g" "$from/customer/acme.json" >"$to/30-customer.json"
# Read after the others, in order of name.
cat >"$to/40-passwords.json" <<JSON
{
  "users": [
    {"name": "offpeak-producer", "password": "$PRODUCER_PASSWORD", "tags": ["monitoring"]},
    {"name": "offpeak-aggregator", "password": "$AGGREGATOR_PASSWORD", "tags": []},
    {"name": "offpeak-worker-open", "password": "$WORKER_PASSWORD", "tags": []},
    {"name": "offpeak-operator", "password": "$OPERATOR_PASSWORD", "tags": ["monitoring"]},
    {"name": "offpeak-admin", "password": "$ADMIN_PASSWORD", "tags": ["administrator"]},
    {"name": "$CUSTOMER", "password": "$CUSTOMER_PASSWORD", "tags": []}
  ],
  "permissions": [
    {"user": "offpeak-admin", "vhost": "/", "configure": "^offpeak\\\\.", "write": "^offpeak\\\\.", "read": "^offpeak\\\\."}
  ]
}
JSON
exec "$@"
