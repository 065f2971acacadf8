//! The arguments of every command, with examples in the help.
#![expect(clippy::doc_markdown, reason = "these texts are the help that people read, not Markdown")]

mod customer;
mod dead;
mod jobs;
mod limits;
mod operate;
mod url;
mod watch;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use protocol::CustomerName;

pub use customer::{
    AddArgs, CustomerCommand, CustomerShowArgs, CustomersArgs, CustomersListArgs, DefinitionsArgs, LimitsArgs, ManagementArgs,
    PasswordArgs, RecordArgs, RemoveArgs, RotateArgs,
};
pub use dead::{ChangeArgs, DeadArgs, DeadCommand, DropArgs, FilterArgs, ListArgs, OriginArg, ReplayArgs, ShowArgs};
pub use jobs::{CancelArgs, PauseArgs, ResultArgs, ResumeArgs, RunArgs, StatusArgs, SubmitArgs};
pub use limits::{FuelLimit, LimitValues};
pub use operate::{AppArgs, AppCommand, BenchArgs, ContractArgs, InspectArgs, MigrateArgs, ServiceArgs, UsageArgs, UsageFormat};
pub use watch::{DoctorArgs, HealthArgs, ServiceArg, TopArgs};

use url::Url;

/// Work split over idle computers, checked, put together and metered.
#[derive(Debug, Parser)]
#[command(name = "offpeak", version, about, after_help = AFTER_HELP, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// What goes to the log on stderr: a level, or a list such as info,lapin=warn
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = QUIET,
        env = "OFFPEAK__LOG__FILTER",
        hide_env_values = true
    )]
    pub log: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// People are told what matters to them: not how ready the parts of their own run are, nor which statement took long.
const QUIET: &str = "warn,service::health=error,sqlx=error";

const AFTER_HELP: &str = "\
Examples:
  offpeak run job.toml                   compute a job on this machine, all cores
  offpeak submit job.toml --amqp URL --database URL      hand a job to a grid
  offpeak status --database URL          how the jobs are

Exit codes:
  0  done; of a job: every item succeeded
  1  some items failed or were cancelled
  2  bad usage, bad job file, a job that the grid rejects, or outputs no longer kept
  3  broker, database, disk or grid failed: try again
  130, 143  interrupted";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compute a job with the whole grid in this process
    Run(RunArgs),
    /// Run a producer: admits, splits and dispatches jobs
    Producer(ServiceArgs),
    /// Run a worker: computes units in the sandbox
    Worker(ServiceArgs),
    /// Run an aggregator: checks, meters and puts together what was computed
    Aggregator(ServiceArgs),
    /// Create or update the database's tables
    Migrate(MigrateArgs),
    /// Hand a job to a grid
    Submit(SubmitArgs),
    /// Show how jobs stand, and why one is not done yet
    Status(StatusArgs),
    /// Write the outputs of a job that has ended
    Result(ResultArgs),
    /// End a job; what is not yet computed is cancelled
    Cancel(CancelArgs),
    /// Let a job rest: nothing more of it is sent until it is resumed
    Pause(PauseArgs),
    /// Let a job that rests go on
    Resume(ResumeArgs),
    /// Show what was metered, from the ledger
    Usage(UsageArgs),
    /// Look at apps
    App(AppArgs),
    /// Provision customers: users, rights, limits and queues at the broker
    Customer(CustomersArgs),
    /// Print the customers' contract: every message, as an AsyncAPI document
    Contract(ContractArgs),
    /// Print the grid's own users and their rights as definitions for RabbitMQ
    Definitions(DefinitionsArgs),
    /// Look at messages that could not be used, send them again, remove them
    Dead(DeadArgs),
    /// Watch jobs, lanes, hosts, rates, dead letters and alarms, live
    Top(TopArgs),
    /// Examine broker, database and services: what is wrong, and what to do
    Doctor(DoctorArgs),
    /// Ask a service whether it is alive or ready, for health checks
    Health(HealthArgs),
    /// Measure the grid: rates of submitting, dispatching, settling and reading back, and latencies
    Bench(BenchArgs),
    /// A worker's child that computes; speaks frames on stdin and stdout
    #[command(hide = true)]
    Executor,
    /// A publisher's child that compiles; speaks frames on stdin and stdout
    #[command(hide = true)]
    Compiler,
}

/// The broker.
#[derive(Debug, Clone, Args)]
pub struct BrokerArgs {
    /// RabbitMQ, as amqp://user:password@host:5672/vhost
    #[arg(long, value_name = "URL", env = "OFFPEAK__AMQP__URL", hide_env_values = true, value_parser = Url::Broker)]
    pub amqp: Option<String>,
}

impl BrokerArgs {
    /// The broker's URL, if one is named: a variable that is set to nothing names none.
    pub fn url(&self) -> Option<&str> {
        self.amqp.as_deref().filter(|url| !url.is_empty())
    }
}

/// The database, by URL or by the folder of an `offpeak run`.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// PostgreSQL or SQLite, as postgres://user:password@host/name or sqlite://FILE
    #[arg(long, value_name = "URL", env = "OFFPEAK__DATABASE__URL", hide_env_values = true, value_parser = Url::Database)]
    pub database: Option<String>,
    /// The data folder of `offpeak run --data DIR`; a database that is named as well does not count
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl StoreArgs {
    /// The database's URL, if one is named: a variable that is set to nothing names none.
    pub fn url(&self) -> Option<&str> {
        self.database.as_deref().filter(|url| !url.is_empty())
    }
}

/// Who asks.
#[derive(Debug, Clone, Args)]
pub struct CustomerArgs {
    /// The customer who submits and pays
    #[arg(long, value_name = "NAME", default_value = "local", env = "OFFPEAK_CUSTOMER", hide_env_values = true)]
    pub customer: CustomerName,
}

/// More slots than any machine has cores are a slip of the finger.
const MAX_WORKERS: usize = 4_096;

pub(super) fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse::<NonZeroUsize>().ok().filter(|number| number.get() <= MAX_WORKERS);
    number.ok_or_else(|| format!("give a whole number from 1 to {MAX_WORKERS}"))
}
