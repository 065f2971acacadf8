//! What was computed just now, from the ledger's youngest rows.

use async_trait::async_trait;
use ports::store::{Activity, ActivityStore, HostActivity, JobActivity, JobReport, StoreError};
use protocol::Micros;

use crate::attempt;
use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::ledger::{halves, whole};
use crate::sql::{Row, values};

/// The rows that are counted: in the order of time, whose index ends the search.
const YOUNGEST: &str =
    "(SELECT job, unit, fuel, recorded_at FROM ledger WHERE recorded_at >= $1 ORDER BY recorded_at DESC LIMIT $2) AS youngest";

#[async_trait]
impl ActivityStore for SqlStore {
    async fn running(&self, limit: u32) -> Result<Vec<JobReport>, StoreError> {
        attempt!("read running jobs", self.try_reports("WHERE state = 'running' ORDER BY id LIMIT $1", values![limit]))
    }

    async fn activity(&self, since: Micros, limit: u32) -> Result<Activity, StoreError> {
        attempt!("read activity", self.try_activity(since, limit))
    }
}

impl SqlStore {
    async fn try_activity(&self, since: Micros, limit: u32) -> Result<Activity, Fault> {
        let mut tx = self.read().await?;
        let counted = format!("SELECT COUNT(*), MIN(recorded_at) FROM {YOUNGEST}");
        let counted = tx.composed(counted, values![since, limit]).await?;
        let oldest = match counted.first() {
            Some(row) if row.number::<u64>(0)? >= u64::from(limit) => row.opt_time(1)?,
            Some(_) | None => None,
        };
        let fuel = halves!("youngest.fuel");
        let jobs = format!(
            "SELECT youngest.job, units.stage, COUNT(*), CAST(SUM(units.end_item - units.first_item) AS BIGINT), {fuel}
            FROM {YOUNGEST} CROSS JOIN units WHERE units.job = youngest.job AND units.unit = youngest.unit
            GROUP BY youngest.job, units.stage ORDER BY youngest.job, units.stage"
        );
        let jobs = tx.composed(jobs, values![since, limit]).await?;
        let hosts = format!(
            "SELECT replicas.host, COUNT(*), MAX(youngest.recorded_at), {fuel}
            FROM {YOUNGEST} CROSS JOIN replicas WHERE replicas.job = youngest.job AND replicas.unit = youngest.unit
                AND replicas.state = 'computed' AND replicas.host IS NOT NULL
            GROUP BY replicas.host ORDER BY replicas.host"
        );
        let hosts = tx.composed(hosts, values![since, limit]).await?;
        Ok(Activity {
            since: oldest.unwrap_or(since),
            jobs: jobs.iter().map(read_job).collect::<Result<_, _>>()?,
            hosts: hosts.iter().map(read_host).collect::<Result<_, _>>()?,
        })
    }
}

fn read_job(row: &Row) -> Result<JobActivity, Fault> {
    Ok(JobActivity {
        job: row.job(0)?,
        stage: row.number(1)?,
        units: row.number(2)?,
        items: row.number(3)?,
        fuel: whole(row, 4)?,
    })
}

fn read_host(row: &Row) -> Result<HostActivity, Fault> {
    Ok(HostActivity { host: row.parsed(0)?, units: row.number(1)?, last_at: row.time(2)?, fuel: whole(row, 3)? })
}
