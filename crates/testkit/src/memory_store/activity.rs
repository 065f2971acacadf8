//! What was computed just now, from the ledger's youngest rows.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use async_trait::async_trait;
use ports::store::{Activity, ActivityStore, HostActivity, JobActivity, JobReport, ReplicaState, StoreError};
use protocol::Micros;
use protocol::usage::Usage;

use super::MemoryStore;
use super::state::{State, rows};

#[async_trait]
impl ActivityStore for MemoryStore {
    async fn running(&self, limit: u32) -> Result<Vec<JobReport>, StoreError> {
        self.run("read running jobs", |state| Ok(state.running().map(|(_, job)| job.report()).take(rows(limit)).collect()))
    }

    async fn activity(&self, since: Micros, limit: u32) -> Result<Activity, StoreError> {
        self.run("read activity", |state| Ok(state.activity(since, rows(limit))))
    }
}

impl State {
    fn activity(&self, since: Micros, limit: usize) -> Activity {
        let mut youngest: Vec<&Usage> = self.ledger.iter().filter(|usage| usage.recorded_at >= since).collect();
        youngest.sort_by_key(|usage| Reverse(usage.recorded_at));
        youngest.truncate(limit);
        let oldest = youngest.last().filter(|_| youngest.len() >= limit).map(|usage| usage.recorded_at);
        let (mut jobs, mut hosts) = (BTreeMap::new(), BTreeMap::new());
        for usage in youngest {
            let unit = self.jobs.get(&usage.unit.job).and_then(|job| job.units.get(&usage.unit.unit));
            let Some(unit) = unit else { continue };
            let fuel = u128::from(usage.fuel.get());
            let (job, stage) = (usage.unit.job, unit.stage);
            let sums = jobs.entry((job, stage)).or_insert(JobActivity { job, stage, units: 0, items: 0, fuel: 0 });
            sums.units += 1;
            sums.items += unit.end - unit.first;
            sums.fuel += fuel;
            let computed = unit.replicas.values().filter(|replica| replica.facts.state == ReplicaState::Computed);
            for host in computed.filter_map(|replica| replica.facts.host.clone()) {
                let fresh = HostActivity { host: host.clone(), units: 0, fuel: 0, last_at: usage.recorded_at };
                let sums = hosts.entry(host).or_insert(fresh);
                sums.units += 1;
                sums.fuel += fuel;
            }
        }
        Activity { since: oldest.unwrap_or(since), jobs: jobs.into_values().collect(), hosts: hosts.into_values().collect() }
    }
}
