//! Who dispatches which job: leases, and what is due under them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ports::store::{ClaimedJob, Cursor, DueReplica};
use protocol::customer::CustomerLimits;
use protocol::job::JobSpec;
use protocol::{CustomerName, JobId, Micros, UnitKey};

use crate::connect::SqlStore;
use crate::facts::{OPEN_ITEMS, open_items, read_progress};
use crate::fault::Fault;
use crate::sql::{Lock, Row, Tx, Value, values};
use crate::turns::{self, Claim};

/// What makes a job worth claiming at the time $1: it has something to cut, and a budget that suffices for an item more than is under
/// way, or something to send. The budget is divided, as products of fuel may be beyond 64 bits.
pub(crate) const WORTH: &str = concat!(
    "j.state = 'running' AND j.ending IS NULL AND j.cancel_requested = 0 AND j.paused = 0 AND (j.deadline_at IS NULL OR j.deadline_at > $1)
    AND ((j.cursor_item < j.stage_items AND (j.budget IS NULL OR (j.budget - j.fuel) / j.budget_item > ",
    open_items!(),
    "))
        OR EXISTS (SELECT 1 FROM replicas r WHERE r.job = j.id AND r.state = 'due' AND r.not_before <= $1))"
);

/// A claimed job's columns, before its open items. Due replicas are counted up to a bound that is beyond any dispatch window.
const CLAIMED: &str = "SELECT j.id, j.customer, COALESCE(c.weight, 1), j.brief, j.traceparent, j.stage_items, j.last_stage,
        j.stage, j.cursor_item, j.cursor_byte, j.next_unit,
        j.stage_valid_items, j.stage_valid_units, j.stage_fuel, j.stage_compute_us, j.stage_output_bytes, j.admitted_at,
        (SELECT COUNT(*) FROM (SELECT 1 FROM replicas r
            WHERE r.job = j.id AND r.state = 'due' AND r.not_before <= $1 LIMIT 10000) AS due),
        j.items, c.units, j.fuel";

impl SqlStore {
    pub(crate) async fn try_claim_jobs(
        &self,
        owner: &str,
        now: Micros,
        until: Micros,
        limit: u32,
    ) -> Result<Vec<ClaimedJob>, Fault> {
        let mut tx = self.write().await?;
        tx.lock(Lock::Claims).await?;
        let chosen = turns::choose(&mut tx, Claim { owner, now, until, limit }).await?;
        let full = chosen.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let (jobs, put_off) = self.specs.that_fit(&mut tx, chosen, turns::turn(now, until)).await?;
        let mut held = leases(&mut tx, owner).await?;
        // A lease is renewed when half of it is gone, so that polling does not write each time.
        let renew_before = Micros(now.0.saturating_add(until.0.saturating_sub(now.0) / 2));
        let stands = |job: &JobId| held.get(job).is_some_and(|ends| *ends >= renew_before);
        let leases: Vec<_> = jobs.iter().filter(|job| !stands(job)).map(|job| values![*job, owner, until]).collect();
        tx.run_many(
            "INSERT INTO leases (job, owner, until) VALUES",
            leases,
            "ON CONFLICT (job) DO UPDATE SET owner = excluded.owner, until = excluded.until",
        )
        .await?;
        held.retain(|job, _| put_off.contains(job) || (full && !jobs.contains(job)));
        let given_back = held.into_keys().map(|job| values![job]).collect();
        tx.run_many("DELETE FROM leases WHERE job IN (VALUES", given_back, ")").await?;
        let claimed = self.read_claimed(&mut tx, &jobs, now).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn read_claimed(&self, tx: &mut Tx, jobs: &[JobId], now: Micros) -> Result<Vec<ClaimedJob>, Fault> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let specs = self.specs.whole(tx, jobs).await?;
        let places: Vec<String> = (0..jobs.len()).map(|n| format!("${}", n + 2)).collect();
        let sql = format!(
            "{CLAIMED}, {OPEN_ITEMS} FROM jobs j LEFT JOIN customers c ON c.name = j.customer
            WHERE j.id IN ({}) ORDER BY j.id",
            places.join(", ")
        );
        let mut values = values![now];
        values.extend(jobs.iter().map(|job| Value::from(*job)));
        let rows = tx.composed(sql, values).await?;
        let sent = sent(tx).await?;
        let read = |row: &Row| -> Result<Option<ClaimedJob>, Fault> {
            let Some(spec) = specs.get(&row.job(0)?) else { return Ok(None) };
            let mut job = read_claimed_job(row, Arc::clone(spec))?;
            let sent = sent.get(&job.customer).copied().unwrap_or_default();
            let left = u64::from(job.customer_units_left).saturating_sub(sent);
            job.customer_units_left = u32::try_from(left).unwrap_or(u32::MAX);
            Ok(Some(job))
        };
        rows.iter().filter_map(|row| read(row).transpose()).collect()
    }

    pub(crate) async fn try_release_jobs(&self, owner: &str) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        tx.lock(Lock::Claims).await?;
        tx.run("DELETE FROM leases WHERE owner = $1", values![owner]).await?;
        tx.commit().await
    }

    pub(crate) async fn try_due_replicas(&self, job: JobId, now: Micros, limit: u32) -> Result<Vec<DueReplica>, Fault> {
        let mut tx = self.read().await?;
        // `+` keeps the planners from walking all replicas in the order of the primary key.
        let sql = "SELECT r.unit, r.replica, r.lane, u.stage, u.first_item, u.end_item, u.byte_from, u.byte_to
            FROM replicas r JOIN units u ON u.job = r.job AND u.unit = r.unit
            WHERE r.job = $1 AND r.state = 'due' AND r.not_before <= $2
            ORDER BY +r.unit, +r.replica LIMIT $3";
        let rows = tx.all(sql, values![job, now, limit]).await?;
        let mut due = rows.iter().map(|row| read_due(job, row)).collect::<Result<Vec<_>, Fault>>()?;
        let taken = taken_lanes(&mut tx, job, &due).await?;
        for replica in &mut due {
            let others = taken.get(&replica.key.unit).into_iter().flatten();
            for other in others.filter(|other| other.replica != replica.key.replica) {
                replica.taken.push(other.lane);
                if other.is_computing {
                    replica.computing.push(other.lane);
                }
            }
        }
        Ok(due)
    }
}

/// The owner's leases, and when each ends.
async fn leases(tx: &mut Tx, owner: &str) -> Result<BTreeMap<JobId, Micros>, Fault> {
    let rows = tx.all("SELECT job, until FROM leases WHERE owner = $1", values![owner]).await?;
    rows.iter().map(|row| Ok((row.job(0)?, row.time(1)?))).collect()
}

/// How many replicas of each customer are with the broker or a worker.
async fn sent(tx: &mut Tx) -> Result<BTreeMap<CustomerName, u64>, Fault> {
    // The condition on times is always true; it leads the planners to the index of the few that are sent.
    let sql = "SELECT j.customer, CAST(SUM(s.replicas) AS BIGINT)
        FROM (SELECT r.job, COUNT(*) AS replicas FROM replicas r WHERE r.state = 'sent' AND r.deadline > -1 GROUP BY r.job) AS s
        JOIN jobs j ON j.id = s.job WHERE j.state = 'running' GROUP BY j.customer";
    tx.all(sql, Vec::new()).await?.iter().map(|row| Ok((row.parsed(0)?, row.number(1)?))).collect()
}

/// A claimed job, of whose customer's replicas none are counted yet.
fn read_claimed_job(row: &Row, spec: Arc<JobSpec>) -> Result<ClaimedJob, Fault> {
    Ok(ClaimedJob {
        id: row.job(0)?,
        customer: row.parsed(1)?,
        weight: row.number(2)?,
        spec,
        brief: row.digest(3)?,
        traceparent: row.opt_text(4)?,
        items: row.number(18)?,
        stage_items: row.number(5)?,
        last_stage: row.flag(6)?,
        cursor: Cursor { stage: row.number(7)?, item: row.number(8)?, byte: row.number(9)?, unit: row.number(10)? },
        progress: read_progress(row, 11)?,
        spent: row.fuel(20)?,
        open_items: row.number(21)?,
        admitted_at: row.time(16)?,
        due: row.number(17)?,
        customer_units_left: row.opt_number(19)?.unwrap_or(CustomerLimits::default().units),
    })
}

fn read_due(job: JobId, row: &Row) -> Result<DueReplica, Fault> {
    Ok(DueReplica {
        key: UnitKey { job, unit: row.number(0)? }.replica(row.number(1)?),
        lane: row.opt_number(2)?,
        stage: row.number(3)?,
        first: row.number(4)?,
        end: row.number(5)?,
        bytes: (row.number(6)?, row.number(7)?),
        taken: Vec::new(),
        computing: Vec::new(),
    })
}

/// A replica that has taken a lane.
struct Taken {
    replica: u16,
    lane: u16,
    is_computing: bool,
}

/// For each unit its replicas that are on their way, computing or answered, with their lanes.
async fn taken_lanes(tx: &mut Tx, job: JobId, due: &[DueReplica]) -> Result<BTreeMap<u32, Vec<Taken>>, Fault> {
    let units: BTreeSet<u32> = due.iter().map(|replica| replica.key.unit).collect();
    let rows = tx
        .all_many(
            "WITH k (job, unit) AS (VALUES",
            units.into_iter().map(|unit| values![job, unit]).collect(),
            ") SELECT r.unit, r.replica, r.lane, CAST(CASE WHEN r.state = 'computed' THEN 0 ELSE 1 END AS BIGINT) FROM k CROSS JOIN replicas r
            WHERE r.job = k.job AND r.unit = k.unit AND r.lane IS NOT NULL AND r.state IN ('due', 'sent', 'computed') ORDER BY r.unit, r.replica",
        )
        .await?;
    let mut taken: BTreeMap<u32, Vec<Taken>> = BTreeMap::new();
    for row in &rows {
        let (replica, lane, is_computing) = (row.number(1)?, row.number(2)?, row.flag(3)?);
        taken.entry(row.number(0)?).or_default().push(Taken { replica, lane, is_computing });
    }
    Ok(taken)
}
