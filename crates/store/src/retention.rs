//! Outputs that are no longer kept: readers lose them at once, their rows are deleted step by step.

use std::collections::BTreeSet;

use ports::store::ResultsRelease;
use protocol::job::JobState;
use protocol::{CustomerName, JobId, Micros};

use crate::connect::SqlStore;
use crate::facts::lock_jobs;
use crate::fault::Fault;
use crate::inbox::{self, Effect};
use crate::sql::{Tx, values};
use crate::states::Spelled as _;

/// Outputs deleted in one transaction: as many as are assembled in one, and so few that others' writes wait for
/// some ten milliseconds only, however large the outputs are.
const BATCH_UNITS: u32 = 256;
/// Batches of one call: outputs of about 100,000 units. What is left is deleted by the next call.
const MAX_BATCHES: u32 = 400;

impl SqlStore {
    /// Drops outputs of jobs that ended before that time, and those left over from calls before. How many jobs are done with.
    pub(crate) async fn try_expire_results(&self, ended_before: Micros, now: Micros, limit: u32) -> Result<u32, Fault> {
        self.give_up(ended_before, now, limit).await?;
        let mut tx = self.read().await?;
        let rows = tx.all("SELECT id FROM jobs WHERE dropping = 1 ORDER BY id LIMIT $1", values![limit]).await?;
        drop(tx);
        let (mut batches, mut done) = (MAX_BATCHES, 0);
        for row in &rows {
            if !self.delete_outputs(row.job(0)?, &mut batches).await? {
                break;
            }
            done += 1;
        }
        Ok(done)
    }

    /// From now on nobody reads the outputs of jobs that ended before that time.
    async fn give_up(&self, ended_before: Micros, now: Micros, limit: u32) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        let sql = "SELECT id FROM jobs WHERE ended_at < $1 AND results_gone_at IS NULL ORDER BY ended_at, id LIMIT $2";
        let rows = tx.all(sql, values![ended_before, limit]).await?;
        let jobs = rows.iter().map(|row| row.job(0)).collect::<Result<BTreeSet<_>, Fault>>()?;
        if jobs.is_empty() {
            return Ok(());
        }
        lock_jobs(&mut tx, jobs.iter().copied()).await?;
        for job in jobs {
            let sql = "UPDATE jobs SET results_gone_at = $2, dropping = 1 WHERE id = $1 AND results_gone_at IS NULL";
            tx.run(sql, values![job, now]).await?;
        }
        tx.commit().await
    }

    /// Deletes a job's outputs that nobody reads any more; `false` if some are left when the batches are used up.
    async fn delete_outputs(&self, job: JobId, batches: &mut u32) -> Result<bool, Fault> {
        while *batches > 0 {
            *batches -= 1;
            let mut tx = self.write().await?;
            lock_jobs(&mut tx, std::iter::once(job)).await?;
            let sql = "DELETE FROM outputs WHERE job = $1
                AND unit IN (SELECT unit FROM outputs WHERE job = $1 ORDER BY unit LIMIT $2)";
            let over = tx.run(sql, values![job, BATCH_UNITS]).await? < u64::from(BATCH_UNITS);
            if over {
                tx.run("UPDATE jobs SET dropping = 0 WHERE id = $1", values![job]).await?;
            }
            tx.commit().await?;
            if over {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Drops the outputs of a customer's ended job: nobody reads them any more, and as many as one call may delete are deleted.
    /// A message that came before the end is refused for good: delivered again it would drop what its customer has not asked for.
    pub(crate) async fn try_release_results(
        &self,
        customer: &CustomerName,
        job: JobId,
        message: Option<&str>,
        now: Micros,
    ) -> Result<ResultsRelease, Fault> {
        let refused = Effect { customer, message, act: format!("release {job}") }.refused();
        let mut tx = self.write().await?;
        match own_state(&mut tx, customer, job).await? {
            None => return Ok(ResultsRelease::Unknown),
            Some(JobState::Running) => {
                inbox::note(&mut tx, &refused, 0, self.clock.now()).await?;
                tx.commit().await?;
                return Ok(ResultsRelease::Running);
            }
            Some(JobState::Completed | JobState::Cancelled | JobState::Expired | JobState::Exhausted) => {}
        }
        if inbox::freed(&mut tx, &refused).await?.is_some() {
            return Ok(ResultsRelease::Running);
        }
        let sql = "UPDATE jobs SET results_gone_at = $2, dropping = 1 WHERE id = $1 AND results_gone_at IS NULL";
        let released = tx.run(sql, values![job, now]).await? > 0;
        tx.commit().await?;
        if released {
            let mut batches = MAX_BATCHES;
            self.delete_outputs(job, &mut batches).await?;
        }
        Ok(ResultsRelease::Done)
    }
}

/// The state of a customer's job, locked; nothing if it has no such job.
pub(crate) async fn own_state(tx: &mut Tx, customer: &CustomerName, job: JobId) -> Result<Option<JobState>, Fault> {
    let rows = tx.all_locked("SELECT state FROM jobs WHERE id = $1 AND customer = $2", values![job, customer]).await?;
    rows.first().map(|row| JobState::of(&row.text(0)?)).transpose()
}
