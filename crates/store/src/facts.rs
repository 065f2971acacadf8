//! What settling and assembling decide by: jobs and units, read under lock.

use std::collections::{BTreeMap, BTreeSet};

use ports::store::{JobFacts, JobProgress, JobSums, ReplicaFacts, ReplicaState, UnitFacts, UnitState, Vote};
use protocol::head::JobHead;
use protocol::job::JobState;
use protocol::reply::UsageSummary;
use protocol::{Fuel, JobId, MeterId, Micros, ReplicaKey, UnitKey};

use crate::fault::Fault;
use crate::specs::Specs;
use crate::sql::{Row, Tx, Value, values};
use crate::states::Spelled as _;

/// Locks jobs in the order of their ids, as every writer does before anything else.
pub(crate) async fn lock_jobs(tx: &mut Tx, jobs: impl Iterator<Item = JobId>) -> Result<(), Fault> {
    if matches!(tx, Tx::Postgres(_)) {
        locked(tx, "SELECT id FROM jobs", &jobs.collect()).await?;
    }
    Ok(())
}

/// The rows of these jobs, locked.
pub(crate) async fn locked(tx: &mut Tx, select: &str, jobs: &BTreeSet<JobId>) -> Result<Vec<Row>, Fault> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let places: Vec<String> = (1..=jobs.len()).map(|n| format!("${n}")).collect();
    let sql = format!("{select} WHERE id IN ({}) ORDER BY id", places.join(", "));
    tx.all_locked(&sql, jobs.iter().map(|job| Value::from(*job)).collect()).await
}

/// A job's numbers that change as its units settle.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) stage: u8,
    pub(crate) next_unit: u32,
    pub(crate) progress: JobProgress,
    pub(crate) sums: JobSums,
    pub(crate) failed_units: u64,
    pub(crate) last_reason: Option<String>,
}

/// The columns of [`read_job`]; further ones may follow from number [`JOB_COLUMNS`] on.
pub(crate) const JOB: &str = "SELECT id, customer, correlation_id, content_type, traceparent, meter, state, next_unit,
    admitted_at, deadline_at, cancel_requested, stage,
    stage_valid_items, stage_valid_units, stage_fuel, stage_compute_us, stage_output_bytes,
    items_succeeded, items_failed, valid_units, replicas, fuel, bytes, compute_us, wasted_us, failed_units, last_reason, ending";
/// How many columns [`JOB`] has.
pub(crate) const JOB_COLUMNS: usize = 28;

/// Reads jobs under lock, those that are there. One that runs needs its specification; of one that has ended nothing is decided.
pub(crate) async fn jobs(tx: &mut Tx, kept: &Specs, jobs: &BTreeSet<JobId>) -> Result<Vec<(JobFacts, Tally)>, Fault> {
    let rows = locked(tx, &format!("{JOB} FROM jobs"), jobs).await?;
    let there = rows.iter().map(|row| row.job(0)).collect::<Result<Vec<_>, Fault>>()?;
    let heads = kept.heads(tx, &there).await?;
    let read = |(row, job): (&Row, &JobId)| match heads.get(job) {
        Some(head) => Some(read_job(row, JobHead::clone(head))),
        None => match row.text(6).and_then(|state| JobState::of(&state)) {
            Ok(JobState::Running) => Some(Err(Fault::data(format!("the specification of job {job} cannot be read")))),
            Ok(JobState::Completed | JobState::Cancelled | JobState::Expired | JobState::Exhausted) => None,
            Err(fault) => Some(Err(fault)),
        },
    };
    rows.iter().zip(&there).filter_map(read).collect()
}

/// A job of the columns [`JOB`].
pub(crate) fn read_job(row: &Row, spec: JobHead) -> Result<(JobFacts, Tally), Fault> {
    let facts = JobFacts {
        id: row.job(0)?,
        customer: row.parsed(1)?,
        correlation_id: row.opt_text(2)?,
        content_type: row.text(3)?,
        traceparent: row.opt_text(4)?,
        spec,
        meter: row.parsed(5)?,
        state: JobState::of(&row.text(6)?)?,
        next_unit: row.number(7)?,
        admitted_at: row.time(8)?,
        deadline_at: row.opt_time(9)?,
        cancel_requested: row.flag(10)?,
        ending: row.opt_text(27)?.map(|text| JobState::of(&text)).transpose()?,
    };
    let tally = Tally {
        stage: row.number(11)?,
        next_unit: facts.next_unit,
        progress: read_progress(row, 12)?,
        sums: JobSums {
            items_succeeded: row.number(17)?,
            items_failed: row.number(18)?,
            usage: UsageSummary {
                units: row.number(19)?,
                replicas: row.number(20)?,
                fuel: row.fuel(21)?,
                bytes: row.number(22)?,
                compute_us: row.number(23)?,
                wasted_us: row.number(24)?,
            },
        },
        failed_units: row.number(25)?,
        last_reason: row.opt_text(26)?,
    };
    Ok((facts, tally))
}

/// How many items of the units of a job `j` are not decided. The condition on items is always true; it leads the planners to the
/// index of the few units that are open.
macro_rules! open_items {
    () => {
        "(SELECT CAST(COALESCE(SUM(u.end_item - u.first_item), 0) AS BIGINT) FROM units u
            WHERE u.job = j.id AND u.state = 'open' AND u.first_item >= 0)"
    };
}
pub(crate) use open_items;

/// The same, and zero for a job without a budget.
pub(crate) const OPEN_ITEMS: &str = concat!("CASE WHEN j.budget IS NULL THEN 0 ELSE ", open_items!(), " END");

/// What was measured of a job's stage, in five columns from that one on.
pub(crate) fn read_progress(row: &Row, from: usize) -> Result<JobProgress, Fault> {
    Ok(JobProgress {
        items: row.number(from)?,
        units: row.number(from + 1)?,
        fuel: row.fuel(from + 2)?,
        compute_us: row.number(from + 3)?,
        output_bytes: row.number(from + 4)?,
    })
}

/// Units with all their replicas, and since when each of these was due, where that is known.
pub(crate) type Units = (Vec<UnitFacts>, Vec<(ReplicaKey, Micros)>);

/// Reads the units of these replicas; unknown ones are missing.
pub(crate) async fn units(tx: &mut Tx, keys: &[ReplicaKey]) -> Result<Units, Fault> {
    let keys: BTreeSet<UnitKey> = keys.iter().map(ReplicaKey::unit_key).collect();
    let rows: Vec<_> = keys.iter().map(|key| values![key.job, key.unit]).collect();
    let with = "WITH k (job, unit) AS (VALUES";
    let select_units = ") SELECT u.job, u.unit, u.stage, u.first_item, u.end_item, u.byte_from, u.byte_to, u.state
        FROM k CROSS JOIN units u WHERE u.job = k.job AND u.unit = k.unit";
    let select_replicas =
        format!(") SELECT {REPLICA}, r.not_before FROM k CROSS JOIN replicas r WHERE r.job = k.job AND r.unit = k.unit");
    let (mut units, mut due) = (BTreeMap::new(), Vec::new());
    for row in &tx.all_many(with, rows.clone(), select_units).await? {
        let unit = read_unit(row)?;
        units.insert(unit.key, unit);
    }
    for row in &tx.all_many(with, rows, &select_replicas).await? {
        let key = UnitKey { job: row.job(0)?, unit: row.number(1)? };
        if let Some(unit) = units.get_mut(&key) {
            let replica = read_replica(row)?;
            let since = row.time(10)?;
            if since > Micros(0) {
                due.push((key.replica(replica.replica), since));
            }
            unit.replicas.push(replica);
        }
    }
    let mut units: Vec<UnitFacts> = units.into_values().collect();
    for unit in &mut units {
        unit.replicas.sort_by_key(|replica| replica.replica);
    }
    Ok((units, due))
}

fn read_unit(row: &Row) -> Result<UnitFacts, Fault> {
    Ok(UnitFacts {
        key: UnitKey { job: row.job(0)?, unit: row.number(1)? },
        stage: row.number(2)?,
        first: row.number(3)?,
        end: row.number(4)?,
        bytes: (row.number(5)?, row.number(6)?),
        state: UnitState::of(&row.text(7)?)?,
        replicas: Vec::new(),
    })
}

/// The columns of a replica, as they are read.
pub(crate) const REPLICA: &str = "r.job, r.unit, r.replica, r.lane, r.state, r.host, r.meter, r.fuel, r.output, r.input_bytes";

/// Reads a replica from its columns.
pub(crate) fn read_replica(row: &Row) -> Result<ReplicaFacts, Fault> {
    let meter: Option<MeterId> = row.opt_parsed(6)?;
    let fuel: Option<Fuel> = if row.opt_int(7)?.is_some() { Some(row.fuel(7)?) } else { None };
    let input_bytes = row.opt_number(9)?.unwrap_or_default();
    let vote = match (meter, fuel, row.opt_digest(8)?) {
        (Some(meter), Some(fuel), Some(output)) => Some(Vote { meter, fuel, input_bytes, output }),
        _ => None,
    };
    Ok(ReplicaFacts {
        replica: row.number(2)?,
        lane: row.opt_number(3)?,
        state: ReplicaState::of(&row.text(4)?)?,
        host: row.opt_parsed(5)?,
        vote,
    })
}
