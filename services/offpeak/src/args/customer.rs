//! The arguments of the commands about customers and the grid's own users at the broker.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::{CustomerName, PoolName};

use super::LimitValues;
use super::url::Url;

/// Arguments of `customer`.
#[derive(Debug, Args)]
pub struct CustomersArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CustomerCommand,
}

/// What to do with customers.
#[derive(Debug, Subcommand)]
pub enum CustomerCommand {
    /// Give a customer a user, its rights, limits and results queue at the broker
    Add(AddArgs),
    /// List the customers, and whether each has exactly what it should
    List(CustomersListArgs),
    /// Show what the broker grants a customer, and what of it is not as it should be
    Show(CustomerShowArgs),
    /// Show or change what a customer may use at most, and its weight
    Limits(LimitsArgs),
    /// Give a customer a new password
    Rotate(RotateArgs),
    /// Take a customer's user away
    Remove(RemoveArgs),
}

/// Where customers are made.
#[derive(Debug, Clone, Args)]
pub struct ManagementArgs {
    /// RabbitMQ's management side, as http://user:password@host:15672, with the user's tag administrator
    #[arg(long, value_name = "URL", env = "OFFPEAK__AMQP__MANAGEMENT_URL", hide_env_values = true)]
    pub management: Option<String>,
    /// The grid's virtual host
    #[arg(long, value_name = "NAME", default_value = "/")]
    pub vhost: String,
}

/// Where limits and weights are kept.
#[derive(Debug, Clone, Args)]
pub struct RecordArgs {
    /// The grid's PostgreSQL or SQLite, for what the grid itself limits
    #[arg(long, value_name = "URL", env = "OFFPEAK__DATABASE__URL", hide_env_values = true, value_parser = Url::Database)]
    pub database: Option<String>,
}

/// Where a chosen password comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct PasswordArgs {
    /// Take the password from a file's first line instead of making one
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Take the password from standard input instead of making one
    #[arg(long, conflicts_with = "password_file")]
    pub password_stdin: bool,
}

/// Arguments of `customer add`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak customer add acme --management http://admin:secret@rabbit:15672
  offpeak customer add acme --max-connections 5 --weight 3 --jobs 100 --database URL
  offpeak customer add acme --json | jq -r .password
  offpeak customer add acme --definitions > acme.json && rabbitmqctl import_definitions acme.json

The user may declare nothing, publish to offpeak.submit under its own name only,
and read its own results, whose queue is there at once. The password is printed
once and kept nowhere. The same again makes what is missing and sets its rights,
and changes neither password nor limits, unless they are named; it is safe after
a command that was killed. What it does not mend is in `offpeak customer show
--help`. With --definitions nothing is changed: what would be done is printed
for an operator to import (RabbitMQ 3.10 to 4.3), and the password goes to
stderr.")]
pub struct AddArgs {
    /// The customer's name, which is its user's: a-z, 0-9 and '-'
    #[arg(value_name = "NAME")]
    pub name: CustomerName,
    /// The password.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Its limits.
    #[command(flatten)]
    pub limits: LimitValues,
    /// Print definitions to be imported instead
    #[arg(long)]
    pub definitions: bool,
    /// The broker.
    #[command(flatten)]
    pub management: ManagementArgs,
    /// The database.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `customer list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak customer list --management http://admin:secret@rabbit:15672
  offpeak customer list --json | jq -r '.[] | select(.differences != []) | .customer'

Customers are the users that may submit or read results, the owners of results
queues, and with --database those the grid has seen. The exit code is 1 if one
of them has not exactly what it should.")]
pub struct CustomersListArgs {
    /// The broker.
    #[command(flatten)]
    pub management: ManagementArgs,
    /// The database.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Print one JSON list
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `customer show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak customer show acme --management http://admin:secret@rabbit:15672
  offpeak customer show acme --json | jq .differences

The exit code is 0 if all is as it should be, and 1 if something differs.
`offpeak customer add NAME` makes what is missing (user, password, right, limit,
queue, binding) and sets its own rights and its topic permission on
offpeak.submit to what they should be. By hand, with --vhost where it is not /:
  a tag of its user
    rabbitmqctl set_user_tags NAME
  a topic permission on another exchange
    rabbitmqctl clear_topic_permissions NAME EXCHANGE
  a queue that is also bound elsewhere, here at the virtual host /
    curl -u USER -X DELETE http://HOST:15672/api/bindings/%2F/e/EXCHANGE/q/QUEUE/KEY
  a queue that is no durable quorum queue, once it is read
    rabbitmqctl delete_queue --if-empty QUEUE && offpeak customer add NAME")]
pub struct CustomerShowArgs {
    /// The customer
    #[arg(value_name = "NAME")]
    pub name: CustomerName,
    /// The broker.
    #[command(flatten)]
    pub management: ManagementArgs,
    /// The database.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `customer limits`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak customer limits acme --database URL             what it may use, and uses now
  offpeak customer limits acme --weight 3 --jobs 500 --stored-bytes 2TiB --database URL
  offpeak customer limits acme --fuel-per-month none --database URL
  offpeak customer limits acme --max-connections 50 --management URL

Connections and channels are the broker's to limit, and need --management; all
else is the grid's, and needs --database. Each change is in force at once for
what comes next: nothing that runs is ended.")]
pub struct LimitsArgs {
    /// The customer
    #[arg(value_name = "NAME")]
    pub name: CustomerName,
    /// Its limits.
    #[command(flatten)]
    pub limits: LimitValues,
    /// The broker.
    #[command(flatten)]
    pub management: ManagementArgs,
    /// The database.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `customer rotate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak customer rotate acme --management http://admin:secret@rabbit:15672
  offpeak customer rotate acme --keep-connections --json | jq -r .password
  printf %s \"$NEW\" | offpeak customer rotate acme --password-stdin

From then on only the new password lets anyone in. Connections that were made
with the old one would go on until they end, so they are closed; what they held
and did not acknowledge is delivered again. --keep-connections leaves them, for
a customer who is to change over by itself.")]
pub struct RotateArgs {
    /// The customer
    #[arg(value_name = "NAME")]
    pub name: CustomerName,
    /// The password.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Leave connections that were made with the old password
    #[arg(long)]
    pub keep_connections: bool,
    /// The broker.
    #[command(flatten)]
    pub management: ManagementArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `customer remove`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak customer remove acme --database URL --management http://admin:secret@rabbit:15672
  offpeak customer remove acme --queue --force --database URL

The user goes with its rights, and its connections are closed; with --database
its uploads, weight and limits go as well, unless jobs of it run. The queue
stays unless --queue is given. Nothing is done while results are unread, or, as
--database alone tells, jobs run or replies are under way, unless --force is
given. Jobs that run go on and are billed: cancel them first. Jobs that have
ended and the ledger are never changed. The same again is harmless, and goes on
after a command that was killed.")]
pub struct RemoveArgs {
    /// The customer
    #[arg(value_name = "NAME")]
    pub name: CustomerName,
    /// Remove the results queue too
    #[arg(long)]
    pub queue: bool,
    /// Also while results are unread, which with --queue are lost to the customer, or while jobs run
    #[arg(long)]
    pub force: bool,
    /// The broker.
    #[command(flatten)]
    pub management: ManagementArgs,
    /// The database.
    #[command(flatten)]
    pub record: RecordArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `definitions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak definitions --pools open,trusted > users.json && rabbitmqctl import_definitions users.json
  offpeak definitions --pools night | jq -r '.users[].name'

Users come without a password, so nobody comes in as one of them until
`rabbitmqctl change_password USER`. For each pool there is a user of its own,
offpeak-worker-POOL, that reads the lanes of that pool only. The file imports on
RabbitMQ 3.10 to 4.3; policies are in deploy/rabbitmq. Customers come with
`offpeak customer add`.")]
pub struct DefinitionsArgs {
    /// The pools of machines, with commas between them
    #[arg(long, value_name = "POOLS", value_delimiter = ',', default_value = "open,trusted")]
    pub pools: Vec<PoolName>,
    /// The grid's virtual host
    #[arg(long, value_name = "NAME", default_value = "/")]
    pub vhost: String,
}
