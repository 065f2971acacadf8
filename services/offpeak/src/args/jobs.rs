//! The arguments of the commands about jobs: run, submit, status, result, cancel, pause, resume.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use protocol::{CustomerName, JobId};

use super::url::Url;
use super::{BrokerArgs, CustomerArgs, StoreArgs, workers};

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
--amqp, --database or both make it a grid on servers of your own: where one
runs already, `offpeak submit` hands it the job.
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
    #[arg(long, value_name = "URL", env = "OFFPEAK__DATABASE__URL", hide_env_values = true, value_parser = Url::Database)]
    pub database: Option<String>,
    /// Who asks.
    #[command(flatten)]
    pub customer: CustomerArgs,
    /// Print the summary as one JSON object, and no progress
    #[arg(long)]
    pub json: bool,
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
  offpeak cancel 01980f3c-7b1e-7c55-8d42-0123456789ab --database URL")]
pub struct CancelArgs {
    /// The job
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// Taken and not used, so that scripts may go on to name it: the database is enough
    #[arg(long, value_name = "URL", hide = true)]
    pub amqp: Option<String>,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak pause 01980f3c-7b1e-7c55-8d42-0123456789ab --database URL

What was sent before is still computed, and the job's deadline stays.")]
pub struct PauseArgs {
    /// The job
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// Taken and not used, so that scripts may go on to name it: the database is enough
    #[arg(long, value_name = "URL", hide = true)]
    pub amqp: Option<String>,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak resume 01980f3c-7b1e-7c55-8d42-0123456789ab --database URL")]
pub struct ResumeArgs {
    /// The job
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// Taken and not used, so that scripts may go on to name it: the database is enough
    #[arg(long, value_name = "URL", hide = true)]
    pub amqp: Option<String>,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// AMQP carries a `message_id` of at most 255 bytes.
fn submission_id(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && text.chars().all(|c| !c.is_control());
    if fits { Ok(text.to_owned()) } else { Err("give 1 to 255 bytes without control characters".to_owned()) }
}
