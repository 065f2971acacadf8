//! Settling: the port's methods, and the transaction that reads, lets decide, and writes.

use async_trait::async_trait;
use ports::store::{Assemble, Outbox, OutboxKey, Settle, SettlementStore, SettlementView, StoreError};
use protocol::{JobId, Micros, ReplicaKey};

use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::settlement::Writer;
use crate::sql::values;
use crate::{attempt, facts};

#[async_trait]
impl SettlementStore for SqlStore {
    async fn settle(&self, keys: &[ReplicaKey], decide: Settle) -> Result<(), StoreError> {
        let mut decide = Some(decide);
        attempt!("settle", self.try_settle(keys, &mut decide), decide.is_some())
    }

    async fn assemble(&self, job: JobId, max_units: u32, decide: Assemble) -> Result<Option<bool>, StoreError> {
        let mut decide = Some(decide);
        attempt!("assemble", self.try_assemble(job, max_units, &mut decide), decide.is_some())
    }

    async fn jobs_to_assemble(&self, now: Micros, limit: u32) -> Result<Vec<JobId>, StoreError> {
        attempt!("find jobs to assemble", self.try_jobs_to_assemble(now, limit))
    }

    async fn claim_outbox(&self, now: Micros, until: Micros, limit: u32) -> Result<Vec<Outbox>, StoreError> {
        attempt!("claim outbox", self.try_claim_outbox(now, until, limit))
    }

    async fn expire_results(&self, ended_before: Micros, now: Micros, limit: u32) -> Result<u32, StoreError> {
        attempt!("expire results", self.try_expire_results(ended_before, now, limit))
    }

    async fn settle_outbox(&self, sent: &[OutboxKey], refused: &[OutboxKey], again: Micros) -> Result<(), StoreError> {
        attempt!("settle outbox", self.try_settle_outbox(sent, refused, again))
    }
}

impl SqlStore {
    async fn try_settle(&self, keys: &[ReplicaKey], decide: &mut Option<Settle>) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        let jobs = facts::jobs(&mut tx, &self.specs, &keys.iter().map(|key| key.job).collect()).await?;
        let (jobs, tallies): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .map(|(facts, tally)| {
                let id = facts.id;
                (facts, (id, tally))
            })
            .unzip();
        let (units, due) = facts::units(&mut tx, keys).await?;
        let view = SettlementView { units, jobs, due };
        let decide = decide.take().ok_or_else(|| Fault::data("the decision was already taken"))?;
        let settlement = decide(&view);
        Writer::new(&view, tallies.into_iter().collect()).write(&mut tx, settlement).await?;
        tx.commit().await
    }

    async fn try_jobs_to_assemble(&self, now: Micros, limit: u32) -> Result<Vec<JobId>, Fault> {
        let mut tx = self.read().await?;
        let sql = "SELECT id FROM (
                SELECT * FROM (SELECT id FROM jobs WHERE state = 'running' AND to_assemble = 1 ORDER BY id LIMIT $2) AS changed
                UNION
                SELECT * FROM (SELECT id FROM jobs WHERE state = 'running' AND deadline_at <= $1 LIMIT $2) AS late
            ) AS jobs ORDER BY id LIMIT $2";
        tx.all(sql, values![now, limit]).await?.iter().map(|row| row.job(0)).collect()
    }
}
