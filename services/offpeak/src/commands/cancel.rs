//! `offpeak cancel`: asks for a job's end and waits until it has come.

use std::time::Duration;

use anyhow::{Result, bail};

use super::connect::{self, Connected};
use crate::args::CancelArgs;
use crate::client::{Client, ClientError};
use crate::exit;
use crate::follow::Progress;
use crate::terminal;

/// How long the grid may take to end a job.
const PATIENCE: Duration = Duration::from_mins(1);

/// Cancels.
pub(super) async fn cancel(args: CancelArgs) -> Result<u8> {
    let store = connect::store(&args.store).await?;
    let report = store.job(args.job).await?.ok_or(ClientError::UnknownJob(args.job))?;
    if report.state.is_terminal() {
        terminal::print(&format!("job {} has ended already\n", args.job))?;
        return Ok(exit::SUCCESS);
    }
    let connected = Connected::open(&args.broker, &args.store, report.customer).await?;
    let code = cancelled(&connected.client, &args).await;
    connected.close().await;
    code
}

async fn cancelled(client: &Client, args: &CancelArgs) -> Result<u8> {
    client.cancel(args.job).await?;
    let mut progress = Progress::Silent;
    let end = client.follow(args.job, None, &mut progress);
    let Ok(report) = tokio::time::timeout(PATIENCE, end).await else {
        bail!("job {} has not ended after {} s: see that a producer and an aggregator are running", args.job, PATIENCE.as_secs());
    };
    let items = report?.items;
    let (computed, rest) = (items.succeeded + items.failed, items.cancelled);
    terminal::print(&format!(
        "job {} is cancelled: {} items were computed, {} were not\n",
        args.job,
        terminal::grouped(&computed),
        terminal::grouped(&rest)
    ))?;
    Ok(exit::SUCCESS)
}
