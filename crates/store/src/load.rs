//! How loaded the grid is: what each open job still needs, and what waits for customers. Only read, for gauges.

use std::collections::BTreeMap;

use ports::store::{JobProgress, StoreError};
use protocol::{Fuel, JobId, Micros, PoolName};

use crate::attempt;
use crate::connect::SqlStore;
use crate::facts::read_progress;
use crate::fault::Fault;
use crate::sql::{Row, Tx, values};

/// Messages of the outbox are counted up to here.
const MAX_MESSAGES: u32 = 100_000;

/// What an open job still needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobLoad {
    /// The job.
    pub id: JobId,
    /// Its pool.
    pub pool: PoolName,
    /// How many hosts must agree.
    pub quorum: u8,
    /// How long a unit is to compute.
    pub target_ms: u32,
    /// Whether anything of it was ever cut.
    pub begun: bool,
    /// Whether it only waits for its end: cancelled, or past its deadline.
    pub ending: bool,
    /// Items of the current stage that are not cut into units; none while the job rests.
    pub uncut: u64,
    /// The fuel that it may still be metered, if it has a budget.
    pub budget_left: Option<Fuel>,
    /// What was measured of the current stage.
    pub progress: JobProgress,
    /// Replicas of open units that are not answered: due now or later unless the job rests, with the broker or with a worker.
    pub replicas: u64,
    /// The items of these, each as often as a replica has it.
    pub replica_items: u64,
    /// Since when the oldest of them is due, where that is known.
    pub oldest_due: Option<Micros>,
    /// When the job was admitted, or last moved forward.
    pub moved_at: Micros,
}

/// What waits for customers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxLoad {
    /// Messages not sent, counted up to 100,000.
    pub messages: u64,
    /// The numbers of the oldest and of the newest one.
    pub span: Option<(i64, i64)>,
}

impl SqlStore {
    /// What the oldest `limit` open jobs still need.
    pub async fn job_loads(&self, now: Micros, limit: u32) -> Result<Vec<JobLoad>, StoreError> {
        attempt!("read the load", self.try_job_loads(now, limit))
    }

    /// What waits for customers.
    pub async fn outbox_load(&self) -> Result<OutboxLoad, StoreError> {
        attempt!("read the outbox's load", self.try_outbox_load())
    }

    async fn try_job_loads(&self, now: Micros, limit: u32) -> Result<Vec<JobLoad>, Fault> {
        let mut tx = self.read().await?;
        let sql =
            "SELECT id, stage, stage_items, cursor_item, stage_valid_items, stage_valid_units, stage_fuel, stage_compute_us,
                stage_output_bytes, admitted_at, progress_at, deadline_at, cancel_requested, ending, paused, budget, fuel
            FROM jobs WHERE state = 'running' ORDER BY id LIMIT $1";
        let rows = tx.all(sql, values![limit]).await?;
        let ids = rows.iter().map(|row| row.job(0)).collect::<Result<Vec<_>, Fault>>()?;
        let heads = self.specs.heads(&mut tx, &ids).await?;
        let waiting = waiting(&mut tx).await?;
        let mut loads = Vec::with_capacity(rows.len());
        for (row, id) in rows.iter().zip(ids) {
            let Some(head) = heads.get(&id) else { continue };
            let (replicas, replica_items, oldest_due) = waiting.get(&id).copied().unwrap_or_default();
            let (stage, cut): (u8, u64) = (row.number(1)?, row.number(3)?);
            let late = row.opt_time(11)?.is_some_and(|deadline| deadline <= now);
            let admitted_at = row.time(9)?;
            loads.push(JobLoad {
                id,
                pool: head.pool.clone(),
                quorum: head.quorum,
                target_ms: head.unit.target_ms,
                begun: stage > 0 || cut > 0,
                ending: late || row.flag(12)? || row.opt_text(13)?.is_some(),
                uncut: if row.flag(14)? { 0 } else { row.number::<u64>(2)?.saturating_sub(cut) },
                budget_left: budget_left(row)?,
                progress: read_progress(row, 4)?,
                replicas,
                replica_items,
                oldest_due,
                moved_at: row.opt_time(10)?.map_or(admitted_at, |moved| moved.max(admitted_at)),
            });
        }
        Ok(loads)
    }

    async fn try_outbox_load(&self) -> Result<OutboxLoad, Fault> {
        let mut tx = self.read().await?;
        let sql = "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM outbox LIMIT $1) AS few), MIN(number), MAX(number) FROM outbox";
        let Some(row) = tx.first(sql, values![MAX_MESSAGES]).await? else { return Ok(OutboxLoad::default()) };
        Ok(OutboxLoad { messages: row.number(0)?, span: row.opt_int(1)?.zip(row.opt_int(2)?) })
    }
}

fn budget_left(row: &Row) -> Result<Option<Fuel>, Fault> {
    if row.opt_int(15)?.is_none() {
        return Ok(None);
    }
    let left = row.fuel(15)?.get().saturating_sub(row.fuel(16)?.get());
    Ok(Some(Fuel::new(left).unwrap_or(Fuel::MAX)))
}

/// A job's replicas that are not answered: how many, their items, and since when the oldest is due.
type Waiting = (u64, u64, Option<Micros>);

/// The unanswered replicas of open units, by job.
async fn waiting(tx: &mut Tx) -> Result<BTreeMap<JobId, Waiting>, Fault> {
    // The conditions on times are always true; they lead the planners to the indices of the few that are due and sent.
    let sql = "SELECT w.job, COUNT(*), CAST(SUM(u.end_item - u.first_item) AS BIGINT), MIN(NULLIF(w.since, 0))
        FROM (
            SELECT r.job, r.unit, r.not_before AS since FROM jobs j JOIN replicas r ON r.job = j.id
            WHERE j.state = 'running' AND j.paused = 0 AND r.state = 'due' AND r.not_before >= 0
            UNION ALL
            SELECT r.job, r.unit, r.not_before AS since FROM jobs j JOIN replicas r ON r.job = j.id
            WHERE j.state = 'running' AND r.state = 'sent' AND r.deadline > -1
        ) AS w JOIN units u ON u.job = w.job AND u.unit = w.unit
        WHERE u.state = 'open' GROUP BY w.job";
    let rows = tx.all(sql, Vec::new()).await?;
    rows.iter().map(|row| Ok((row.job(0)?, (row.number(1)?, row.number(2)?, row.opt_time(3)?)))).collect()
}
