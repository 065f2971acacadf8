//! Why a job is not done, and what its app took before: counted for those who ask.

use ports::store::{AppExperience, JobSums, WaitFacts};
use protocol::query::FailureCount;
use protocol::reply::UsageSummary;
use protocol::{CustomerName, Digest, JobId};

use crate::claim::WORTH;
use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::sql::{Tx, values};

/// Jobs of the same customer that are compared with the one asked about.
const MAX_COMPARED: u32 = 1_000;
/// Failed replicas that are counted: more of them tell no more about why, and would take seconds.
const MAX_FAILURES: u32 = 100_000;
/// Reasons that are told.
const MAX_REASONS: u32 = 20;
/// Ended jobs whose experience counts: an app's customer knows by then what to expect, and apps' inputs change.
const MAX_EXPERIENCE: u32 = 100;

impl SqlStore {
    pub(crate) async fn try_wait_facts(&self, job: JobId) -> Result<WaitFacts, Fault> {
        let mut tx = self.read().await?;
        Ok(WaitFacts { ahead: self.ahead(&mut tx, job).await?, failures: failures(&mut tx, job).await? })
    }

    /// How many of its customer's jobs with work to send for the same pool come before a job that runs.
    async fn ahead(&self, tx: &mut Tx, job: JobId) -> Result<u64, Fault> {
        let sql = "SELECT customer FROM jobs WHERE id = $1 AND state = 'running'";
        let Some(row) = tx.first(sql, values![job]).await? else { return Ok(0) };
        let customer: CustomerName = row.parsed(0)?;
        let sql = format!("SELECT j.id FROM jobs j WHERE {WORTH} AND j.customer = $2 AND j.id <> $3 ORDER BY j.id LIMIT $4");
        let rows = tx.composed(sql, values![self.clock.now(), &customer, job, MAX_COMPARED]).await?;
        let others = rows.iter().map(|row| row.job(0)).collect::<Result<Vec<_>, Fault>>()?;
        let heads = self.specs.heads(tx, &[others.as_slice(), &[job]].concat()).await?;
        let Some(own) = heads.get(&job) else { return Ok(0) };
        let before = |other: &&JobId| {
            let same_pool = heads.get(*other).filter(|head| head.pool == own.pool);
            same_pool.is_some_and(|head| head.priority > own.priority || (head.priority == own.priority && **other < job))
        };
        Ok(u64::try_from(others.iter().filter(before).count()).unwrap_or(u64::MAX))
    }

    pub(crate) async fn try_app_experience(&self, customer: &CustomerName, app: Digest) -> Result<AppExperience, Fault> {
        let mut tx = self.read().await?;
        let sql = "SELECT items_succeeded, items_failed, valid_units, replicas, fuel, compute_us, failed_units
            FROM jobs WHERE customer = $1 AND app = $2 AND ended_at IS NOT NULL ORDER BY id DESC LIMIT $3";
        let mut experience = AppExperience::default();
        for row in tx.all(sql, values![customer, app, MAX_EXPERIENCE]).await? {
            let (units, replicas) = (row.number(2)?, row.number(3)?);
            let (fuel, compute_us) = (row.fuel(4)?, row.number(5)?);
            let usage = UsageSummary { units, replicas, fuel, compute_us, ..UsageSummary::default() };
            let sums = JobSums { items_succeeded: row.number(0)?, items_failed: row.number(1)?, usage };
            experience.add(&sums, row.number(6)?);
        }
        Ok(experience)
    }
}

/// Why replicas of a job failed, the most frequent reasons first, and among equally frequent ones that of the earliest unit.
async fn failures(tx: &mut Tx, job: JobId) -> Result<Vec<FailureCount>, Fault> {
    let sql = "SELECT reason, COUNT(*), MIN(unit) FROM (
            SELECT * FROM (SELECT r.reason, r.unit FROM replicas r
                WHERE r.job = $1 AND r.reason IS NOT NULL AND r.state IN ('failed', 'interrupted', 'lost') LIMIT $2) AS ended
            UNION ALL
            SELECT * FROM (SELECT u.reason, u.unit FROM units u
                WHERE u.job = $1 AND u.failed_items > 0 AND u.state = 'failed' AND u.reason IS NOT NULL AND NOT EXISTS (
                    SELECT 1 FROM replicas o WHERE o.job = u.job AND o.unit = u.unit AND o.reason = u.reason) LIMIT $2) AS given_up
        ) AS failures GROUP BY reason ORDER BY COUNT(*) DESC, MIN(unit), reason LIMIT $3";
    let mut counted = Vec::new();
    for row in tx.all(sql, values![job, MAX_FAILURES, MAX_REASONS]).await? {
        counted.push((std::cmp::Reverse(row.number::<u64>(1)?), row.number::<u32>(2)?, row.text(0)?));
    }
    // The databases may order texts differently.
    counted.sort();
    Ok(counted.into_iter().map(|(replicas, _, reason)| FailureCount { reason, replicas: replicas.0 }).collect())
}
