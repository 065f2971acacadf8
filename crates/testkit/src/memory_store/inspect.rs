//! What the simulation's invariants are checked against: read beside the plan of faults, which never sees it.

use std::sync::Arc;

use ports::store::{JobReport, OutboxMessage, UnitFacts, UnitState};
use protocol::usage::Usage;
use protocol::{JobId, UnitKey};

use super::MemoryStore;
use super::rows::Job;

impl MemoryStore {
    /// All rows of the ledger, in order of recording.
    pub fn ledger(&self) -> Vec<Usage> {
        self.lock().ledger.clone()
    }

    /// All jobs, in the order of their ids.
    pub fn all_jobs(&self) -> Vec<JobReport> {
        self.lock().jobs.values().map(Job::report).collect()
    }

    /// All units of a job with their replicas, in the order they were numbered.
    pub fn units_of(&self, job: JobId) -> Vec<UnitFacts> {
        let state = self.lock();
        let row = state.jobs.get(&job);
        row.into_iter().flat_map(|row| units(job, row)).collect()
    }

    /// The units of all jobs that are not decided, with their replicas.
    pub fn open_units(&self) -> Vec<UnitFacts> {
        let state = self.lock();
        let open = state.running().flat_map(|(id, job)| units(id, job)).filter(|unit| unit.state == UnitState::Open);
        open.collect()
    }

    /// How many messages wait to be sent.
    pub fn outbox_len(&self) -> usize {
        self.lock().outbox.len()
    }

    /// All messages that were ever written, in order; one whose id waited already was not.
    pub fn messages_written(&self) -> Vec<Arc<OutboxMessage>> {
        self.lock().outbox.written.clone()
    }
}

fn units(id: JobId, job: &Job) -> impl Iterator<Item = UnitFacts> {
    job.units.iter().map(move |(number, unit)| unit.facts(UnitKey { job: id, unit: *number }))
}
