//! The arguments of the commands about the grid: services, migrate, usage, app, bench.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use protocol::CustomerName;

use super::url::Url;
use super::{BrokerArgs, StoreArgs, workers};

/// Arguments of the services.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak producer --config /etc/offpeak/producer.toml
  OFFPEAK__AMQP__URL=amqp://grid:secret@rabbit:5672 offpeak worker

Settings come from the built-in defaults, then the file, then variables OFFPEAK__SECTION__KEY.")]
pub struct ServiceArgs {
    /// The settings file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `migrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak migrate --database postgres://offpeak:secret@db/offpeak
  OFFPEAK__DATABASE__URL=sqlite://grid.db offpeak migrate

Run it once before the services of a new version start; doing it again is harmless.")]
pub struct MigrateArgs {
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `usage`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak usage --data ./work
  offpeak usage --customer acme --period 2026-07 --format csv --database URL

A period is a month, UTC: from its first instant to before the next month's.
Fuel and bytes are exact sums over the ledger; in JSON they are texts, since they
may be beyond what JSON's readers keep exactly.")]
pub struct UsageArgs {
    /// Only this customer
    #[arg(long, value_name = "NAME")]
    pub customer: Option<CustomerName>,
    /// Only this month
    #[arg(long, value_name = "YYYY-MM")]
    pub period: Option<rules::month::Month>,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: UsageFormat,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// How usage is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UsageFormat {
    /// For people
    Table,
    /// For programs
    Json,
    /// For spreadsheets
    Csv,
}

/// Arguments of `app`.
#[derive(Debug, Args)]
pub struct AppArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: AppCommand,
}

/// What to do with an app.
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Show a module's imports and exports, whether the grid would accept it, and why not
    Inspect(InspectArgs),
}

/// Arguments of `app inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak app inspect examples/mandelbrot/app.wasm
  offpeak app inspect app.wasm --json | jq .accepted

The exit code is 2 if the module would not be accepted. How to write an app: docs/apps.md.")]
pub struct InspectArgs {
    /// The module
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  offpeak bench
  offpeak bench --jobs 4 --units 5000 --amqp URL --database URL

With --amqp the raw two-hop relay is measured in the same run: publish confirmed,
consume, publish confirmed, consume, multiple acknowledgement, messages of the
same sizes, no logic. It leaves two empty queues of bench-relay behind.
--amqp and --database go together, and no grid may run on that broker.")]
pub struct BenchArgs {
    /// Jobs of no-op units
    #[arg(long, value_name = "J", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub jobs: u32,
    /// Units of each
    #[arg(long, value_name = "U", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub units: u32,
    /// Items of the job of tiny items
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub items: u64,
    /// One-item jobs for the latency
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub samples: u32,
    /// Units computed at the same time [default: number of cores]
    #[arg(long, value_name = "N", value_parser = workers)]
    pub workers: Option<NonZeroUsize>,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// PostgreSQL or SQLite instead of a temporary SQLite file
    #[arg(long, value_name = "URL", env = "OFFPEAK__DATABASE__URL", hide_env_values = true, value_parser = Url::Database)]
    pub database: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `contract`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak contract > asyncapi.yaml
  offpeak contract --json | jq '.\"x-problems\"[] | .code'

It is the contract of this version of the program, made from the same types that
the grid reads and writes messages with. docs/customers.md is the guide to it.")]
pub struct ContractArgs {
    /// Print it as JSON instead of YAML
    #[arg(long)]
    pub json: bool,
}
