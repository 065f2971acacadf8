//! Dispatch: cutting, assigning, sending and losing replicas.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use ports::store::{
    Assignment, ClaimedJob, Cursor, Dispatch, DispatchStore, DueReplica, NewUnit, ReplicaState, StoreError, UnitState,
};
use protocol::{JobId, Micros, ReplicaKey, UnitKey};

use super::MemoryStore;
use super::fault::Refused;
use super::state::{State, rows, sum};

#[async_trait]
impl DispatchStore for MemoryStore {
    async fn claim_jobs(&self, owner: &str, now: Micros, until: Micros, limit: u32) -> Result<Vec<ClaimedJob>, StoreError> {
        self.run("claim jobs", |state| Ok(state.claim_jobs(owner, now, until, limit)))
    }

    async fn release_jobs(&self, owner: &str) -> Result<(), StoreError> {
        self.run("release jobs", |state| {
            state.release_jobs(owner);
            Ok(())
        })
    }

    async fn due_replicas(&self, job: JobId, now: Micros, limit: u32) -> Result<Vec<DueReplica>, StoreError> {
        self.run("read due replicas", |state| Ok(state.due_replicas(job, now, limit)))
    }

    async fn dispatch(&self, step: Dispatch) -> Result<bool, StoreError> {
        self.run("dispatch", |state| state.dispatch(&step))
    }

    async fn mark_sent(&self, keys: &[ReplicaKey], deadline: Micros) -> Result<(), StoreError> {
        self.run("mark replicas sent", |state| {
            state.mark_sent(keys, deadline);
            Ok(())
        })
    }

    async fn expire_replicas(&self, now: Micros, limit: u32, everything: bool) -> Result<u32, StoreError> {
        self.run("expire replicas", |state| Ok(state.expire_replicas(now, limit, everything)))
    }

    async fn stage_outputs(&self, job: JobId, stage: u8, first: u64, end: u64) -> Result<Vec<(u64, u64, Vec<u8>)>, StoreError> {
        self.run("read stage outputs", |state| state.stage_outputs(job, stage, first, end))
    }
}

/// Why a replica is lost: nothing came of it.
const SILENT: &str = "no answer by its deadline";
/// Why a replica is lost: all that the broker held is.
const FORGOTTEN: &str = "lost with the broker's queues";

impl State {
    fn dispatch(&mut self, step: &Dispatch) -> Result<bool, Refused> {
        if step.cursors.iter().any(|cursor| self.has_moved(cursor, step.cut_from(cursor.0))) {
            return Ok(false);
        }
        self.check_cuts(&step.cuts)?;
        let mut dispatched = self.assign(&step.assignments);
        for unit in &step.cuts {
            if let Some(job) = self.jobs.get_mut(&unit.key.job) {
                job.add_unit(unit, step.at);
                *dispatched.entry(unit.key.job).or_default() += u64::try_from(unit.lanes.len()).unwrap_or(u64::MAX);
            }
        }
        for (job, _, cursor) in &step.cursors {
            if let Some(job) = self.jobs.get_mut(job) {
                job.cursor = (cursor.item, cursor.byte);
                job.tally.next_unit = cursor.unit;
            }
        }
        for (job, count) in dispatched {
            if let Some(job) = self.jobs.get_mut(&job) {
                job.tally.sums.usage.replicas = sum(job.tally.sums.usage.replicas, count);
            }
        }
        Ok(true)
    }

    /// Whether the job has ended, or another producer has cut from it meanwhile.
    fn has_moved(&self, (job, unit, cursor): &(JobId, u32, Cursor), cut_from: Option<u64>) -> bool {
        let before = (*unit, cursor.stage, cut_from.unwrap_or(cursor.item));
        let job = self.running.get(job).and_then(|job| self.jobs.get(job));
        job.is_none_or(|job| job.ending.is_some() || (job.tally.next_unit, job.tally.stage, job.cursor.0) != before)
    }

    /// Each unit must be of a job, and new by its number and by its place.
    fn check_cuts(&self, cuts: &[NewUnit]) -> Result<(), Refused> {
        let (mut keys, mut places) = (BTreeSet::new(), BTreeSet::new());
        for NewUnit { key, stage, first, .. } in cuts {
            let job = self.jobs.get(&key.job).ok_or_else(|| Refused(format!("unit {key} has no job")))?;
            let new = keys.insert(key) && places.insert((key.job, stage, first));
            if !new || job.has_unit(key.unit, *stage, *first) {
                return Err(Refused(format!("unit {key}, or one that begins with item {first}, is there already")));
            }
        }
        Ok(())
    }

    /// Gives due replicas their lanes; how many of each job got one for the first time.
    fn assign(&mut self, assignments: &[Assignment]) -> BTreeMap<JobId, u64> {
        let mut counts = BTreeMap::new();
        for Assignment { key, lane } in assignments {
            let Some(job) = self.jobs.get_mut(&key.job) else { continue };
            let Some(replica) = job.replica(key.unit, key.replica) else { continue };
            if replica.facts.state == ReplicaState::Due {
                if replica.facts.lane.is_none() {
                    *counts.entry(key.job).or_default() += 1;
                }
                job.change(key.unit, key.replica, |replica| replica.facts.lane = Some(*lane));
            }
        }
        counts
    }

    fn mark_sent(&mut self, keys: &[ReplicaKey], deadline: Micros) {
        for key in keys {
            let Some(job) = self.jobs.get_mut(&key.job) else { continue };
            job.change(key.unit, key.replica, |replica| {
                if replica.facts.state == ReplicaState::Due {
                    replica.facts.state = ReplicaState::Sent;
                    replica.deadline = deadline;
                }
            });
        }
    }

    fn expire_replicas(&mut self, now: Micros, limit: u32, everything: bool) -> u32 {
        let overdue = if everything { Micros(i64::MAX) } else { now };
        let sent = self.running().flat_map(|(id, job)| {
            let overdue = job.sent.range(..(overdue, 0, 0));
            overdue.map(move |(_, unit, replica)| UnitKey { job: id, unit: *unit }.replica(*replica))
        });
        let lost: Vec<ReplicaKey> = sent.take(rows(limit)).collect();
        for key in &lost {
            self.lose(*key, if everything { FORGOTTEN } else { SILENT });
        }
        for key in &lost {
            self.add_further(key.unit_key(), now);
        }
        u32::try_from(lost.len()).unwrap_or(u32::MAX)
    }

    fn lose(&mut self, key: ReplicaKey, reason: &str) {
        if let Some(job) = self.jobs.get_mut(&key.job) {
            job.change(key.unit, key.replica, |replica| {
                replica.facts.state = ReplicaState::Lost;
                replica.reason = Some(reason.to_owned());
            });
        }
    }

    /// Adds a further due replica of the unit, where it is open and a number is left.
    fn add_further(&mut self, key: UnitKey, now: Micros) {
        let Some(job) = self.jobs.get_mut(&key.job) else { return };
        let open = job.units.get(&key.unit).filter(|unit| unit.result.state == UnitState::Open);
        let highest = open.and_then(|unit| unit.replicas.keys().next_back());
        if let Some(further) = highest.and_then(|highest| highest.checked_add(1)) {
            job.add_due(key.unit, further, now);
        }
    }
}
