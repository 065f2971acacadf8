//! Settling: the port's methods, and the transaction that reads, lets decide, and writes.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ports::store::{Assemble, Outbox, OutboxKey, Settle, SettlementStore, SettlementView, StoreError};
use protocol::{JobId, Micros, ReplicaKey, UnitKey};

use super::MemoryStore;
use super::fault::Refused;
use super::settlement::Writer;
use super::state::State;

#[async_trait]
impl SettlementStore for MemoryStore {
    async fn settle(&self, keys: &[ReplicaKey], decide: Settle) -> Result<(), StoreError> {
        self.run("settle", |state| self.intact(keys).and_then(|()| state.settle(keys, decide)))
    }

    async fn assemble(&self, job: JobId, max_units: u32, decide: Assemble) -> Result<Option<bool>, StoreError> {
        let now = self.shared.clock.now();
        self.run("assemble", |state| state.assemble(job, max_units, now, decide))
    }

    async fn jobs_to_assemble(&self, now: Micros, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.run("find jobs to assemble", |state| Ok(state.jobs_to_assemble(now, limit)))
    }

    async fn claim_outbox(&self, now: Micros, until: Micros, limit: u32) -> Result<Vec<Outbox>, StoreError> {
        self.run("claim outbox", |state| Ok(state.outbox.claim(now, until, limit)))
    }

    async fn expire_results(&self, ended_before: Micros, now: Micros, limit: u32) -> Result<u32, StoreError> {
        self.run("expire results", |state| Ok(state.expire_results(ended_before, now, limit)))
    }

    async fn settle_outbox(&self, sent: &[OutboxKey], refused: &[OutboxKey], again: Micros) -> Result<(), StoreError> {
        self.run("settle outbox", |state| {
            state.outbox.settle(sent, refused, again);
            Ok(())
        })
    }
}

impl State {
    fn settle(&mut self, keys: &[ReplicaKey], decide: Settle) -> Result<(), Refused> {
        let jobs: BTreeSet<JobId> = keys.iter().map(|key| key.job).collect();
        let units: BTreeSet<UnitKey> = keys.iter().map(ReplicaKey::unit_key).collect();
        let jobs = jobs.iter().filter_map(|id| Some((*id, self.jobs.get(id)?)));
        let (facts, tallies): (Vec<_>, Vec<_>) = jobs.map(|(id, job)| (job.facts(), (id, job.tally.clone()))).unzip();
        let unit = |key: UnitKey| Some(self.jobs.get(&key.job)?.units.get(&key.unit)?.facts(key));
        let due = units.iter().flat_map(|key| self.due_since(*key)).collect();
        let view = SettlementView { units: units.into_iter().filter_map(unit).collect(), jobs: facts, due };
        let settlement = decide(&view);
        let mut writer = Writer::new(&view, tallies.into_iter().collect());
        writer.judge(settlement)?;
        writer.write(self)
    }

    /// Since when a unit's replicas are or were due.
    fn due_since(&self, key: UnitKey) -> Vec<(ReplicaKey, Micros)> {
        let unit = self.jobs.get(&key.job).and_then(|job| job.units.get(&key.unit));
        let replicas = unit.into_iter().flat_map(|unit| &unit.replicas);
        let known = replicas.filter(|(_, replica)| replica.not_before > Micros(0));
        known.map(|(number, replica)| (key.replica(*number), replica.not_before)).collect()
    }
}
