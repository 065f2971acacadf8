//! `offpeak pause` and `offpeak resume`: lets a job rest or go on.

use anyhow::Result;
use ports::Store;
use ports::store::JobReport;
use protocol::JobId;
use protocol::job::JobState;

use super::connect;
use crate::args::StoreArgs;
use crate::client::ask;
use crate::exit::{self, Refused};
use crate::terminal;

/// Lets a job rest, or go on, in the database: who may use that needs nobody's leave, and no broker.
pub(super) async fn pause(job: JobId, paused: bool, store: StoreArgs) -> Result<u8> {
    let store = connect::store(&store).await?;
    let told = wished(store.as_ref(), job, paused).await?;
    terminal::print(&told)?;
    Ok(exit::SUCCESS)
}

async fn wished(store: &dyn Store, job: JobId, paused: bool) -> Result<String> {
    let before = report(store, job).await?;
    if before.state.is_terminal() {
        return Ok(format!("job {job} has ended already\n"));
    }
    let wish = || store.pause_job(&before.customer, job, paused, None);
    match ask("pause or resume the job", wish).await? {
        Some(JobState::Running) => {}
        Some(JobState::Completed | JobState::Cancelled | JobState::Expired | JobState::Exhausted) => {
            return Ok(format!("job {job} has ended meanwhile\n"));
        }
        None => return Err(Refused::UnknownJob(job).into()),
    }
    if !paused {
        return Ok(format!("job {job} goes on\n"));
    }
    let sent = report(store, job).await?.units.replicas_sent;
    Ok(format!("job {job} rests: {} replicas that were sent before are still computed\n", terminal::grouped(&sent)))
}

async fn report(store: &dyn Store, job: JobId) -> Result<JobReport> {
    Ok(ask("look at the job", || store.job(job)).await?.ok_or(Refused::UnknownJob(job))?)
}
