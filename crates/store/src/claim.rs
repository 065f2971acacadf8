//! Who dispatches which job: leases, and what is due under them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ports::store::{ClaimedJob, Cursor, DueReplica, ReplicaFacts, StoreError};
use protocol::customer::CustomerLimits;
use protocol::job::JobSpec;
use protocol::{JobId, Micros, UnitKey};

use crate::attempt;
use crate::connect::SqlStore;
use crate::facts::{OPEN_ITEMS, REPLICA, open_items, read_progress, read_replica};
use crate::fault::Fault;
use crate::sql::{Lock, Row, Tx, Value, values};
use crate::turns::{self, Claim};

/// What makes a job worth claiming at the time $1: it has something to cut, and a budget that suffices for an item more than is under
/// way, or something to send. The budget is divided, as products of fuel may be beyond 64 bits; a damaged row that divides by zero
/// is worth nothing, and fails no other.
pub(crate) const WORTH: &str = concat!(
    "j.state = 'running' AND j.ending IS NULL AND j.cancel_requested = 0 AND j.paused = 0 AND (j.deadline_at IS NULL OR j.deadline_at > $1)
    AND ((j.cursor_item < j.stage_items AND (j.budget IS NULL OR (j.budget - j.fuel) / NULLIF(j.budget_item, 0) > ",
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
    /// Frees all jobs and messages that are claimed, whoever claimed them: for one who knows that nobody else is at work.
    pub async fn free_claims(&self) -> Result<(), StoreError> {
        attempt!("free claims", self.try_free_claims())
    }

    async fn try_free_claims(&self) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        tx.lock(Lock::Claims).await?;
        tx.lock(Lock::Outbox).await?;
        tx.run("DELETE FROM leases", Vec::new()).await?;
        tx.run("UPDATE outbox SET held_until = 0 WHERE held_until > 0", Vec::new()).await?;
        tx.commit().await
    }

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

    /// Reads jobs that were claimed. One whose row cannot be read is left out, as one whose specification cannot be read is.
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
        let mut claimed = Vec::with_capacity(rows.len());
        for row in &rows {
            let id = row.job(0)?;
            let Some(spec) = specs.get(&id) else { continue };
            match read_claimed_job(row, Arc::clone(spec)) {
                Ok(job) => {
                    let sent = sent.get(job.customer.as_str()).copied().unwrap_or_default();
                    let left = u64::from(job.customer_units_left).saturating_sub(sent);
                    let customer_units_left = u32::try_from(left).unwrap_or(u32::MAX);
                    claimed.push(ClaimedJob { customer_units_left, ..job });
                }
                Err(fault) => self.specs.tell(id, &fault.of("claim jobs")),
            }
        }
        Ok(claimed)
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
        let due = rows.iter().map(|row| read_due(job, row)).collect::<Result<Vec<_>, Fault>>()?;
        let replicas = placed_replicas(&mut tx, job, &due).await?;
        let of = |unit: u32| replicas.get(&unit).into_iter().flatten().collect::<Vec<_>>();
        let beside = |replica: DueReplica| {
            let others = of(replica.key.unit);
            replica.beside(&others)
        };
        Ok(due.into_iter().map(beside).collect())
    }
}

/// The owner's leases, and when each ends.
async fn leases(tx: &mut Tx, owner: &str) -> Result<BTreeMap<JobId, Micros>, Fault> {
    let rows = tx.all("SELECT job, until FROM leases WHERE owner = $1", values![owner]).await?;
    rows.iter().map(|row| Ok((row.job(0)?, row.time(1)?))).collect()
}

/// How many replicas of each customer are with the broker or a worker. Names are read with the jobs that are theirs.
async fn sent(tx: &mut Tx) -> Result<BTreeMap<String, u64>, Fault> {
    // The condition on times is always true; it leads the planners to the index of the few that are sent.
    let sql = "SELECT j.customer, CAST(SUM(s.replicas) AS BIGINT)
        FROM (SELECT r.job, COUNT(*) AS replicas FROM replicas r WHERE r.state = 'sent' AND r.deadline > -1 GROUP BY r.job) AS s
        JOIN jobs j ON j.id = s.job WHERE j.state = 'running' GROUP BY j.customer";
    tx.all(sql, Vec::new()).await?.iter().map(|row| Ok((row.text(0)?, row.number(1)?))).collect()
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
        disputed: Vec::new(),
    })
}

/// For each unit its replicas that were given a lane and are on their way, computing or answered.
async fn placed_replicas(tx: &mut Tx, job: JobId, due: &[DueReplica]) -> Result<BTreeMap<u32, Vec<ReplicaFacts>>, Fault> {
    let units: BTreeSet<u32> = due.iter().map(|replica| replica.key.unit).collect();
    let rows = tx
        .all_many(
            "WITH k (job, unit) AS (VALUES",
            units.into_iter().map(|unit| values![job, unit]).collect(),
            &format!(
                ") SELECT {REPLICA} FROM k CROSS JOIN replicas r WHERE r.job = k.job AND r.unit = k.unit AND r.lane IS NOT NULL
                AND (r.state IN ('due', 'sent', 'computed') OR r.output IS NOT NULL) ORDER BY r.unit, r.replica"
            ),
        )
        .await?;
    let mut replicas: BTreeMap<u32, Vec<ReplicaFacts>> = BTreeMap::new();
    for row in &rows {
        replicas.entry(row.number(1)?).or_default().push(read_replica(row)?);
    }
    Ok(replicas)
}
