//! Follows a job to its end: the store says how far it is, the person sees it.

mod progress;
mod summary;

use std::time::Duration;

use ports::store::JobReport;
use protocol::JobId;

pub use progress::Progress;
pub use summary::{Failure, Summary};

use crate::client::{Client, ClientError, Mailbox, ask};

/// How often the store is asked: as often as a person sees a difference.
const ASK_EVERY: Duration = Duration::from_millis(200);

impl Client {
    /// The job as it stands.
    pub async fn report(&self, job: JobId) -> Result<JobReport, ClientError> {
        let report = ask("look at the job", || self.store.job(job)).await?;
        report.ok_or(ClientError::UnknownJob(job))
    }

    /// Waits for the job's end; replies that come meanwhile are taken off the queue, since they are this command's own.
    pub async fn follow(
        &self,
        job: JobId,
        mut mailbox: Option<&mut Mailbox>,
        progress: &mut Progress,
    ) -> Result<JobReport, ClientError> {
        let mut poll = tokio::time::interval(ASK_EVERY);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = poll.tick() => {
                    let report = self.report(job).await?;
                    progress.show(&report, self.clock.as_ref());
                    if report.state.is_terminal() {
                        progress.finish();
                        return Ok(report);
                    }
                }
                replies = replies_of(&mut mailbox) => {
                    if let Err(error) = replies {
                        tracing::warn!("replies are no longer read, the database is asked instead: {error}");
                        mailbox = None;
                    }
                }
            }
        }
    }
}

async fn replies_of(mailbox: &mut Option<&mut Mailbox>) -> Result<(), ClientError> {
    match mailbox {
        Some(mailbox) => mailbox.next().await.map(|_replies| ()),
        None => std::future::pending().await,
    }
}
