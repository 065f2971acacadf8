//! `offpeak cancel`: asks for a job's end and waits until it has come.

use std::time::Duration;

use anyhow::{Result, bail};
use ports::Store;
use ports::store::JobReport;
use protocol::JobId;

use super::connect;
use crate::args::CancelArgs;
use crate::client::{ClientError, POLL_EVERY, ask};
use crate::exit::{self, Refused};
use crate::terminal;

/// How long the grid may take to end a job.
const PATIENCE: Duration = Duration::from_mins(1);

/// Cancels, in the database: who may use that needs nobody's leave, and no broker.
pub(super) async fn cancel(args: CancelArgs) -> Result<u8> {
    let (store, job) = (connect::store(&args.store).await?, args.job);
    let report = store.job(job).await?.ok_or(Refused::UnknownJob(job))?;
    if report.state.is_terminal() {
        terminal::print(&format!("job {job} has ended already\n"))?;
        return Ok(exit::SUCCESS);
    }
    // False if it has ended meanwhile: then that end is told.
    ask("cancel the job", || store.request_cancel(&report.customer, job)).await?;
    let Ok(report) = tokio::time::timeout(PATIENCE, ended(store.as_ref(), job)).await else {
        bail!(
            "job {job} has not ended after {} s: see that an aggregator is running, which ends it; the request stays",
            PATIENCE.as_secs()
        );
    };
    terminal::print(&told(&report?))?;
    Ok(exit::SUCCESS)
}

/// Waits for the job's end.
async fn ended(store: &dyn Store, job: JobId) -> Result<JobReport, ClientError> {
    loop {
        let report = ask("look at the job", || store.job(job)).await?.ok_or(ClientError::UnknownJob(job))?;
        if report.state.is_terminal() {
            return Ok(report);
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// How it ended, which need not be by the request.
fn told(report: &JobReport) -> String {
    let (computed, rest) = (report.items.succeeded + report.items.failed, report.items.cancelled);
    let [computed, rest] = [computed, rest].map(|items| terminal::grouped(&items));
    format!("job {} is {}: {computed} items were computed, {rest} were not\n", report.id, report.state.word())
}
