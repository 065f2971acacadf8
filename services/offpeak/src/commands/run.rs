//! `offpeak run`: the whole grid in this process, one job, from file to outputs.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use ports::clock::SystemClock;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::finish::{check_folder, default_folder, finish};
use crate::args::RunArgs;
use crate::client::{Client, Submission};
use crate::data::DataFolder;
use crate::exit::{self, Refused};
use crate::follow::Progress;
use crate::grid::{self, Grid, Options};
use crate::jobfile::{self, JobFile};
use crate::terminal;

/// How a run ended.
enum Ended {
    /// The job ended, and its outputs are written: the exit code.
    Done(u8),
    /// A signal came first: its exit code.
    Interrupted(u8),
}

/// Runs a job.
pub(super) async fn run(args: RunArgs) -> Result<u8> {
    let mut signals = Signals::install()?;
    let job = jobfile::read(&args.job).map_err(Refused::JobFile)?;
    check_folder(&args.job, &job, args.out.as_deref())?;
    let workers = workers(&args, &job)?;
    let data = DataFolder::open(args.data.as_deref())?;
    let options = Options {
        data: data.path().to_owned(),
        pool: job.spec.pool.clone(),
        workers,
        executor_bytes: executor_bytes(&job),
        amqp: args.broker.amqp.clone(),
        database: args.database.clone(),
    };
    let grid = tokio::select! {
        grid = Grid::start(options) => grid.context("cannot start the grid")?,
        code = signals.next() => return Ok(interrupted(code, data)),
    };
    let ended = tokio::select! {
        ended = job_on(&grid, &args, &job) => ended.map(Ended::Done),
        error = grid.failed() => Err(error.context("the grid stopped")),
        code = signals.next() => Ok(Ended::Interrupted(code)),
    };
    if let Ok(Ended::Interrupted(_)) = &ended {
        terminal::note("interrupted: handing back what is being computed; once more stops at once");
    }
    let drained = tokio::select! {
        drained = grid.drain() => drained,
        code = signals.next() => return Ok(interrupted(code, data)),
    };
    if let Err(error) = drained {
        tracing::warn!("the grid did not end well: {}", exit::told(&error));
    }
    match ended {
        Ok(Ended::Done(code)) => {
            data.close();
            Ok(code)
        }
        Ok(Ended::Interrupted(code)) => Ok(interrupted(code, data)),
        Err(error) if exit::code_of(&error) == exit::REFUSED => {
            data.close();
            Err(error)
        }
        Err(error) => Err(anyhow!("{}\n{}", exit::told(&error), data.keep())),
    }
}

/// As many as asked for, or as there are cores; a unit's replicas go to different ones.
fn workers(args: &RunArgs, job: &JobFile) -> Result<usize, Refused> {
    let quorum = usize::from(job.spec.quorum);
    match args.workers.map(NonZeroUsize::get) {
        Some(workers) if workers < quorum => {
            let way_out = format!("give --workers {quorum} or more, or leave it out");
            Err(Refused::Usage(format!("the job's quorum is {quorum}, and {workers} workers cannot agree on a unit: {way_out}")))
        }
        Some(workers) => Ok(workers),
        None => Ok(grid::cores().max(quorum)),
    }
}

/// What an executor takes beside the app's own memory and what it is handed: its code, which is larger than the module.
const EXECUTOR_BYTES: u64 = 512 << 20;

/// What an executor needs for the job: the app's memory, and twice what is handed to it.
fn executor_bytes(job: &JobFile) -> u64 {
    let handed = job.uploads.iter().filter(|upload| upload.role != "input").map(|upload| upload.bytes);
    let handed = handed.fold(0, u64::saturating_add);
    job.spec.limits.memory_bytes.saturating_add(handed.saturating_mul(2)).saturating_add(EXECUTOR_BYTES)
}

/// Everything between start and drain.
async fn job_on(grid: &Grid, args: &RunArgs, job: &JobFile) -> Result<u8> {
    let client = Client {
        store: grid.store(),
        broker: grid.broker(),
        customer: args.customer.customer.clone(),
        clock: Arc::new(SystemClock),
        user_id: None,
    };
    let mut progress = Progress::new(args.json);
    let submission = Submission::of_content(&job.spec)?;
    let uploaded = client.upload(&job.uploads, &mut |upload, bytes| progress.says(&uploading(upload, bytes))).await;
    uploaded.map_err(Refused::or_error)?;
    progress.says("waiting for the app to be compiled and the job to be admitted");
    let mut admitted = client.submit(&submission).await.map_err(Refused::or_error)?;
    let report = client.follow(admitted.job, Some(&mut admitted.mailbox), &mut progress).await;
    admitted.mailbox.close().await?;
    let report = report?;
    let folder = args.out.clone().unwrap_or_else(|| default_folder(&args.job));
    finish(client.store.as_ref(), &report, &folder, args.json).await
}

/// What is said of an upload.
pub(super) fn uploading(upload: &jobfile::Upload, bytes: u64) -> String {
    let (done, all) = (terminal::grouped(&bytes), terminal::grouped(&upload.bytes));
    format!("uploading the {} {}: {done} of {all} bytes", upload.role, Path::new(&upload.path).display())
}

fn interrupted(code: u8, data: DataFolder) -> u8 {
    terminal::note(&data.keep());
    code
}

/// The stop signals, each with its exit code.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn install() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The exit code for the next of them.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => exit::INTERRUPTED,
            _ = self.terminate.recv() => exit::TERMINATED,
        }
    }
}
