//! Who dispatches which job: leases, and what is due under them.

use ports::store::{ClaimedJob, Cursor, DueReplica, ReplicaState};
use protocol::{JobId, Micros, UnitKey};

use super::rows::{Job, Replica, Unit};
use super::state::{State, rows};

/// Every customer's weight, as the databases have it by default.
const WEIGHT: u32 = 1;
/// Up to how many due replicas of a job are counted: beyond any dispatch window.
const MAX_DUE: usize = 10_000;

impl State {
    pub(super) fn claim_jobs(&mut self, owner: &str, now: Micros, until: Micros, limit: u32) -> Vec<ClaimedJob> {
        let (mut held, mut free) = (Vec::new(), Vec::new());
        for (id, job) in self.running().filter(|(_, job)| job.is_worth_claiming(now)) {
            match &job.lease {
                Some((holder, _)) if holder == owner => held.push(id),
                Some((_, ends)) if *ends > now => {}
                Some(_) | None => free.push(id),
            }
        }
        held.truncate(rows(limit));
        free.truncate(rows(limit).saturating_sub(held.len()));
        // A lease is renewed when half of it is gone.
        let renew_before = Micros(now.0.saturating_add(until.0.saturating_sub(now.0) / 2));
        let mut claimed: Vec<JobId> = held.into_iter().chain(free).collect();
        claimed.sort_unstable();
        let mut jobs = Vec::new();
        for id in claimed {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            if job.lease.as_ref().is_none_or(|(holder, ends)| holder != owner || *ends < renew_before) {
                job.lease = Some((owner.to_owned(), until));
            }
            jobs.push(job.claimed(now));
        }
        jobs
    }

    pub(super) fn release_jobs(&mut self, owner: &str) {
        for job in self.jobs.values_mut() {
            job.lease.take_if(|(holder, _)| holder == owner);
        }
    }

    pub(super) fn due_replicas(&self, job: JobId, now: Micros, limit: u32) -> Vec<DueReplica> {
        let Some(row) = self.jobs.get(&job) else { return Vec::new() };
        let mut due: Vec<(u32, u16)> = row.due_by(now).map(|(_, unit, replica)| (*unit, *replica)).collect();
        due.sort_unstable();
        due.truncate(rows(limit));
        let read = |(number, replica): (u32, u16)| {
            let unit = row.units.get(&number)?;
            Some(read_due(UnitKey { job, unit: number }, unit, unit.replicas.get(&replica)?))
        };
        due.into_iter().filter_map(read).collect()
    }
}

impl Job {
    /// Whether there is something to cut or to send.
    fn is_worth_claiming(&self, now: Micros) -> bool {
        let late = self.admitted.deadline_at.is_some_and(|deadline| deadline <= now);
        let work = self.cursor.0 < self.stage_items || self.due_by(now).next().is_some();
        self.ending.is_none() && !self.cancel_requested && !late && work
    }

    /// Replicas that are due at that time.
    fn due_by(&self, now: Micros) -> impl Iterator<Item = &(Micros, u32, u16)> {
        self.due.range(..=(now, u32::MAX, u16::MAX))
    }

    fn claimed(&self, now: Micros) -> ClaimedJob {
        let admitted = &*self.admitted;
        let (item, byte) = self.cursor;
        ClaimedJob {
            id: admitted.id,
            customer: admitted.customer.clone(),
            weight: WEIGHT,
            spec: admitted.spec.clone(),
            brief: admitted.brief,
            traceparent: admitted.traceparent.clone(),
            items: admitted.items,
            stage_items: self.stage_items,
            last_stage: self.last_stage,
            cursor: Cursor { stage: self.tally.stage, item, byte, unit: self.tally.next_unit },
            progress: self.tally.progress,
            due: u32::try_from(self.due_by(now).take(MAX_DUE).count()).unwrap_or(u32::MAX),
            admitted_at: admitted.admitted_at,
        }
    }
}

fn read_due(key: UnitKey, unit: &Unit, replica: &Replica) -> DueReplica {
    let number = replica.facts.replica;
    let others = unit.replicas.values().map(|other| &other.facts).filter(|other| other.replica != number);
    let busy = others.filter(|other| match other.state {
        ReplicaState::Due | ReplicaState::Sent | ReplicaState::Computed => true,
        ReplicaState::Lost | ReplicaState::Failed | ReplicaState::Interrupted => false,
    });
    DueReplica {
        key: key.replica(number),
        stage: unit.stage,
        first: unit.first,
        end: unit.end,
        bytes: unit.bytes,
        lane: replica.facts.lane,
        taken: busy.filter_map(|other| other.lane).collect(),
    }
}
