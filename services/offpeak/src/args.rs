//! The arguments of every command, with examples in the help.
#![expect(clippy::doc_markdown, reason = "these texts are the help that people read, not Markdown")]

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::{CustomerName, JobId};

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

/// People are told what matters to them; that a part of a run's own grid is not ready yet, or no longer, is not.
const QUIET: &str = "warn,service::health=error";

const AFTER_HELP: &str = "\
Examples:
  offpeak run job.toml                   compute a job on this machine, all cores
  offpeak submit job.toml --amqp URL --database URL      hand a job to a grid
  offpeak status --database URL          how the jobs are

Exit codes:
  0  done; of a job: every item succeeded
  1  some items failed or were cancelled
  2  bad usage, bad job file, or a job that the grid rejects
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
    /// Show what was metered, from the ledger
    Usage(UsageArgs),
    /// Look at apps
    App(AppArgs),
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
    #[arg(long, value_name = "URL", env = "OFFPEAK__AMQP__URL", hide_env_values = true)]
    pub amqp: Option<String>,
}

/// The database, by URL or by the folder of an `offpeak run`.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// PostgreSQL or SQLite, as postgres://user:password@host/name or sqlite://FILE
    #[arg(long, value_name = "URL", env = "OFFPEAK__DATABASE__URL", hide_env_values = true)]
    pub database: Option<String>,
    /// The data folder of `offpeak run --data DIR`, instead of --database
    #[arg(long, value_name = "DIR", conflicts_with = "database")]
    pub data: Option<PathBuf>,
}

/// Who asks.
#[derive(Debug, Clone, Args)]
pub struct CustomerArgs {
    /// The customer who submits and pays
    #[arg(long, value_name = "NAME", default_value = "local", env = "OFFPEAK_CUSTOMER", hide_env_values = true)]
    pub customer: CustomerName,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak run examples/signal-search/job.toml
  offpeak run job.toml --workers 4 --out results
  offpeak run job.toml --json | jq .output_digest
  offpeak run job.toml --data ./work

With --data the same job again resumes after an interruption (Ctrl-C) and
computes nothing twice. Without it a temporary folder is used, which is removed
when the job has ended, and kept and named when the run was interrupted.
The job file is explained in docs/job-file.md.")]
pub struct RunArgs {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// Units computed at the same time [default: number of cores]
    #[arg(long, value_name = "N", value_parser = workers)]
    pub workers: Option<NonZeroUsize>,
    /// Where the outputs go [default: ./NAME-out, NAME being the job file's folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Keep everything here, so that the same command resumes
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// PostgreSQL or SQLite instead of the file in the data folder
    #[arg(long, value_name = "URL", env = "OFFPEAK__DATABASE__URL", hide_env_values = true)]
    pub database: Option<String>,
    /// Who asks.
    #[command(flatten)]
    pub customer: CustomerArgs,
    /// Print the summary as one JSON object, and no progress
    #[arg(long)]
    pub json: bool,
}

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

/// Arguments of `submit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak submit job.toml --amqp URL --database URL
  offpeak submit job.toml --wait --out results
  offpeak submit job.toml --id nightly-2026-07-01

The same id again has no second effect. The replies to other submissions of this
customer are left in its results queue.")]
pub struct SubmitArgs {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// Follow the job to its end and write its outputs
    #[arg(long)]
    pub wait: bool,
    /// Where the outputs go, with --wait [default: ./NAME-out, NAME being the job file's folder]
    #[arg(long, value_name = "DIR", requires = "wait")]
    pub out: Option<PathBuf>,
    /// The submission's id, the key by which a second arrival is known [default: a new one]
    #[arg(long, value_name = "ID", value_parser = submission_id)]
    pub id: Option<String>,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Who asks.
    #[command(flatten)]
    pub customer: CustomerArgs,
    /// Print one JSON object, and no progress
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak status --data ./work
  offpeak status 01980f3c-7b1e-7c55-8d42-0123456789ab --database URL

With --amqp it also sees whether workers listen.")]
pub struct StatusArgs {
    /// The job; without it the youngest jobs are listed
    #[arg(value_name = "JOB")]
    pub job: Option<JobId>,
    /// Only jobs of this customer
    #[arg(long, value_name = "NAME")]
    pub customer: Option<CustomerName>,
    /// How many jobs are listed
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `result`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak result 01980f3c-7b1e-7c55-8d42-0123456789ab --data ./work")]
pub struct ResultArgs {
    /// The job
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// Where the outputs go [default: ./JOB-out]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `cancel`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak cancel 01980f3c-7b1e-7c55-8d42-0123456789ab --amqp URL --database URL")]
pub struct CancelArgs {
    /// The job
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
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
    pub period: Option<crate::months::Month>,
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
same sizes, no logic. It leaves two empty queues of bench-relay behind.")]
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
    #[arg(long, value_name = "URL", env = "OFFPEAK__DATABASE__URL", hide_env_values = true)]
    pub database: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// More slots than any machine has cores are a slip of the finger.
const MAX_WORKERS: usize = 4_096;

fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse::<NonZeroUsize>().ok().filter(|number| number.get() <= MAX_WORKERS);
    number.ok_or_else(|| format!("give a whole number from 1 to {MAX_WORKERS}"))
}

/// AMQP carries a `message_id` of at most 255 bytes.
fn submission_id(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && text.chars().all(|c| !c.is_control());
    if fits { Ok(text.to_owned()) } else { Err("give 1 to 255 bytes without control characters".to_owned()) }
}
