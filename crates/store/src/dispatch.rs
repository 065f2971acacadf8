//! Dispatch: cutting, assigning, sending and losing replicas.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use ports::store::{Assignment, ClaimedJob, Cursor, Dispatch, DispatchStore, DueReplica, NewUnit, StoreError};
use protocol::{JobId, Micros, ReplicaKey, UnitKey};

use crate::attempt;
use crate::connect::SqlStore;
use crate::facts::{lock_jobs, locked};
use crate::fault::Fault;
use crate::sql::{Tx, values};

#[async_trait]
impl DispatchStore for SqlStore {
    async fn claim_jobs(&self, owner: &str, now: Micros, until: Micros, limit: u32) -> Result<Vec<ClaimedJob>, StoreError> {
        attempt!("claim jobs", self.try_claim_jobs(owner, now, until, limit))
    }

    async fn release_jobs(&self, owner: &str) -> Result<(), StoreError> {
        attempt!("release jobs", self.try_release_jobs(owner))
    }

    async fn due_replicas(&self, job: JobId, now: Micros, limit: u32) -> Result<Vec<DueReplica>, StoreError> {
        attempt!("read due replicas", self.try_due_replicas(job, now, limit))
    }

    async fn dispatch(&self, step: Dispatch) -> Result<bool, StoreError> {
        attempt!("dispatch", self.try_dispatch(&step))
    }

    async fn mark_sent(&self, keys: &[ReplicaKey], deadline: Micros) -> Result<(), StoreError> {
        attempt!("mark replicas sent", self.try_mark_sent(keys, deadline))
    }

    async fn expire_replicas(&self, now: Micros, limit: u32, everything: bool) -> Result<u32, StoreError> {
        attempt!("expire replicas", self.try_expire_replicas(now, limit, everything))
    }

    async fn stage_outputs(&self, job: JobId, stage: u8, first: u64, end: u64) -> Result<Vec<(u64, u64, Vec<u8>)>, StoreError> {
        attempt!("read stage outputs", self.try_stage_outputs(job, stage, first, end))
    }
}

/// Why a replica is lost: nothing came of it.
const SILENT: &str = "no answer by its deadline";
/// Why a replica is lost: all that the broker held is.
const FORGOTTEN: &str = "lost with the broker's queues";

impl SqlStore {
    async fn try_dispatch(&self, step: &Dispatch) -> Result<bool, Fault> {
        let mut tx = self.write().await?;
        let cut = step.cursors.iter().map(|(job, _, _)| *job).chain(step.cuts.iter().map(|unit| unit.key.job));
        let jobs: BTreeSet<JobId> = cut.chain(step.assignments.iter().map(|a| a.key.job)).collect();
        let stored = stored_cursors(&mut tx, &jobs).await?;
        let moved = |(job, unit, cursor): &(JobId, u32, Cursor)| {
            let item = step.cut_from(*job).unwrap_or(cursor.item);
            stored.get(job) != Some(&(*unit, cursor.stage, item))
        };
        if step.cursors.iter().any(moved) {
            return Ok(false);
        }
        let mut dispatched = assign(&mut tx, &step.assignments).await?;
        insert_units(&mut tx, &step.cuts, step.at).await?;
        for unit in &step.cuts {
            *dispatched.entry(unit.key.job).or_default() += u64::try_from(unit.lanes.len()).unwrap_or(u64::MAX);
        }
        move_cursors(&mut tx, step, &dispatched).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn try_mark_sent(&self, keys: &[ReplicaKey], deadline: Micros) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        lock_jobs(&mut tx, keys.iter().map(|key| key.job)).await?;
        let rows = keys.iter().map(|key| values![key.job, key.unit, key.replica, deadline]).collect();
        tx.run_many(
            "WITH k (job, unit, replica, deadline) AS (VALUES",
            rows,
            ") UPDATE replicas SET state = 'sent', deadline = k.deadline FROM k
            WHERE replicas.job = k.job AND replicas.unit = k.unit AND replicas.replica = k.replica AND replicas.state = 'due'",
        )
        .await?;
        tx.commit().await
    }

    async fn try_expire_replicas(&self, now: Micros, limit: u32, everything: bool) -> Result<u32, Fault> {
        let mut tx = self.write().await?;
        let overdue = if everything { Micros(i64::MAX) } else { now };
        // A row whose numbers are damaged stays as it is until it is mended, and keeps no other from being found.
        let sql = "SELECT r.job, r.unit, r.replica FROM jobs j JOIN replicas r ON r.job = j.id
            WHERE j.state = 'running' AND r.state = 'sent' AND r.deadline < $1
            AND r.unit BETWEEN 0 AND 4294967295 AND r.replica BETWEEN 0 AND 65535 LIMIT $2";
        let rows = tx.all(sql, values![overdue, limit]).await?;
        let keys = rows.iter().map(|row| Ok((row.job(0)?, row.number(1)?, row.number(2)?)));
        let keys = keys.collect::<Result<Vec<(JobId, u32, u16)>, Fault>>()?;
        if keys.is_empty() {
            return Ok(0);
        }
        lock_jobs(&mut tx, keys.iter().map(|(job, _, _)| *job)).await?;
        let reason = if everything { FORGOTTEN } else { SILENT };
        let lost = lose(&mut tx, &keys, reason).await?;
        let further = further_replicas(&mut tx, &lost).await?;
        insert_due(&mut tx, further.into_iter().map(|key| (key, now)).collect()).await?;
        tx.commit().await?;
        Ok(u32::try_from(lost.len()).unwrap_or(u32::MAX))
    }
}

/// The number of the next unit, the stage and its next item of each of these jobs that runs, locked.
async fn stored_cursors(tx: &mut Tx, jobs: &BTreeSet<JobId>) -> Result<BTreeMap<JobId, (u32, u8, u64)>, Fault> {
    let mut stored = BTreeMap::new();
    for row in &locked(tx, "SELECT id, next_unit, stage, cursor_item, state, ending FROM jobs", jobs).await? {
        if row.text(4)? == "running" && row.opt_text(5)?.is_none() {
            stored.insert(row.job(0)?, (row.number(1)?, row.number(2)?, row.number(3)?));
        }
    }
    Ok(stored)
}

/// Gives due replicas their lanes; how many of each job got one for the first time.
async fn assign(tx: &mut Tx, assignments: &[Assignment]) -> Result<BTreeMap<JobId, u64>, Fault> {
    let rows: Vec<_> = assignments.iter().map(|a| values![a.key.job, a.key.unit, a.key.replica, a.lane]).collect();
    let keys = "WITH k (job, unit, replica, lane) AS (VALUES";
    let first_time = ") SELECT r.job FROM k CROSS JOIN replicas r
        WHERE r.job = k.job AND r.unit = k.unit AND r.replica = k.replica AND r.state = 'due' AND r.lane IS NULL";
    let mut counts = BTreeMap::new();
    for row in tx.all_many(keys, rows.clone(), first_time).await? {
        *counts.entry(row.job(0)?).or_default() += 1;
    }
    let update = ") UPDATE replicas SET lane = k.lane FROM k
        WHERE replicas.job = k.job AND replicas.unit = k.unit AND replicas.replica = k.replica AND replicas.state = 'due'";
    tx.run_many(keys, rows, update).await?;
    Ok(counts)
}

/// Writes units with their first replicas, which are due since that time.
async fn insert_units(tx: &mut Tx, units: &[NewUnit], at: Micros) -> Result<(), Fault> {
    let rows = units
        .iter()
        .map(|unit| values![unit.key.job, unit.key.unit, unit.stage, unit.first, unit.end, unit.bytes.0, unit.bytes.1]);
    let insert = "INSERT INTO units (job, unit, stage, first_item, end_item, byte_from, byte_to) VALUES";
    tx.run_many(insert, rows.collect(), "").await?;
    let mut replicas = Vec::new();
    for unit in units {
        for (number, lane) in (0_u16..).zip(&unit.lanes) {
            replicas.push(values![unit.key.job, unit.key.unit, number, *lane, at]);
        }
    }
    tx.run_many("INSERT INTO replicas (job, unit, replica, lane, not_before) VALUES", replicas, "").await?;
    Ok(())
}

/// Moves cursors, and counts what was dispatched of each job.
async fn move_cursors(tx: &mut Tx, step: &Dispatch, dispatched: &BTreeMap<JobId, u64>) -> Result<(), Fault> {
    let cursors = step.cursors.iter().map(|(job, _, cursor)| values![*job, cursor.item, cursor.byte, cursor.unit]);
    tx.run_many(
        "WITH k (id, item, byte, unit) AS (VALUES",
        cursors.collect(),
        ") UPDATE jobs SET cursor_item = k.item, cursor_byte = k.byte, next_unit = k.unit FROM k WHERE jobs.id = k.id",
    )
    .await?;
    tx.run_many(
        "WITH k (id, replicas) AS (VALUES",
        dispatched.iter().map(|(job, count)| values![*job, *count]).collect(),
        ") UPDATE jobs SET replicas = jobs.replicas + k.replicas FROM k WHERE jobs.id = k.id",
    )
    .await?;
    Ok(())
}

/// Marks those that are still sent as lost; which they were.
async fn lose(tx: &mut Tx, keys: &[(JobId, u32, u16)], reason: &str) -> Result<Vec<ReplicaKey>, Fault> {
    let rows = tx
        .all_many(
            "WITH k (job, unit, replica, reason) AS (VALUES",
            keys.iter().map(|(job, unit, replica)| values![*job, *unit, *replica, reason]).collect(),
            ") UPDATE replicas SET state = 'lost', reason = k.reason FROM k
            WHERE replicas.job = k.job AND replicas.unit = k.unit AND replicas.replica = k.replica AND replicas.state = 'sent'
            RETURNING replicas.job, replicas.unit, replicas.replica",
        )
        .await?;
    let keys = rows.iter().map(|row| Ok(UnitKey { job: row.job(0)?, unit: row.number(1)? }.replica(row.number(2)?)));
    keys.collect()
}

/// A further replica of the unit of each of these, where it is open. Numbers that no replica has are of damaged rows.
async fn further_replicas(tx: &mut Tx, lost: &[ReplicaKey]) -> Result<Vec<ReplicaKey>, Fault> {
    let mut counts: BTreeMap<UnitKey, u16> = BTreeMap::new();
    for key in lost {
        *counts.entry(key.unit_key()).or_default() += 1;
    }
    let rows = tx
        .all_many(
            "WITH k (job, unit) AS (VALUES",
            counts.keys().map(|key| values![key.job, key.unit]).collect(),
            ") SELECT u.job, u.unit,
                (SELECT MAX(r.replica) FROM replicas r WHERE r.job = u.job AND r.unit = u.unit AND r.replica BETWEEN 0 AND 65535)
            FROM k CROSS JOIN units u WHERE u.job = k.job AND u.unit = k.unit AND u.state = 'open'",
        )
        .await?;
    let mut further = Vec::new();
    for row in &rows {
        let unit = UnitKey { job: row.job(0)?, unit: row.number(1)? };
        let highest: u16 = row.number(2)?;
        let count = counts.get(&unit).copied().unwrap_or_default();
        further.extend((1..=count).filter_map(|n| highest.checked_add(n)).map(|number| unit.replica(number)));
    }
    Ok(further)
}

/// Writes replicas that become due at their times.
pub(crate) async fn insert_due(tx: &mut Tx, replicas: Vec<(ReplicaKey, Micros)>) -> Result<(), Fault> {
    let rows = replicas.iter().map(|(key, at)| values![key.job, key.unit, key.replica, *at]).collect();
    let insert = "INSERT INTO replicas (job, unit, replica, not_before) VALUES";
    tx.run_many(insert, rows, "ON CONFLICT DO NOTHING").await?;
    Ok(())
}
