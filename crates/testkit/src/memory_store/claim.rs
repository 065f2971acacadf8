//! Who dispatches which job: leases, and what is due under them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ports::store::{ClaimedJob, Cursor, DueReplica, in_turn, take_turns};
use protocol::job::JobSpec;
use protocol::{CustomerName, JobId, Micros, UnitKey};
use rules::budget::Budget;

use super::rows::{Job, Replica, Unit};
use super::state::{State, rows};

/// Up to how many due replicas of a job are counted: beyond any dispatch window.
const MAX_DUE: usize = 10_000;

impl State {
    pub(super) fn claim_jobs(&mut self, owner: &str, now: Micros, until: Micros, limit: u32) -> Vec<ClaimedJob> {
        let chosen = self.choose(owner, now, until, limit);
        // A lease is renewed when half of it is gone.
        let renew_before = Micros(now.0.saturating_add(until.0.saturating_sub(now.0) / 2));
        let full = chosen.len() >= rows(limit);
        for (id, job) in &mut self.jobs {
            let held = job.lease.as_ref().filter(|(holder, _)| holder == owner);
            match (chosen.contains(id), held) {
                (true, Some((_, ends))) if *ends >= renew_before => {}
                (true, _) => job.lease = Some((owner.to_owned(), until)),
                (false, Some(_)) if full => job.lease = None,
                (false, _) => {}
            }
        }
        chosen.iter().filter_map(|id| self.jobs.get(id)).map(|job| self.claimed(job, now)).collect()
    }

    /// The jobs that it is the owner's turn to hold.
    fn choose(&self, owner: &str, now: Micros, until: Micros, limit: u32) -> BTreeSet<JobId> {
        let mut worth: BTreeMap<&CustomerName, Vec<(Reverse<i8>, JobId)>> = BTreeMap::new();
        for (id, job) in self.running() {
            let own = worth.entry(&job.admitted.customer).or_default();
            let others = job.lease.as_ref().is_some_and(|(holder, ends)| holder != owner && *ends > now);
            if job.is_worth_claiming(now) && !others {
                own.push((Reverse(job.admitted.spec.priority), id));
            }
        }
        let mut found: Vec<Vec<JobId>> = Vec::new();
        for group in in_turn(worth.into_values().collect(), limit, now, until).chunks_mut(rows(limit).max(1)) {
            for own in group {
                own.sort_unstable();
                found.push(own.iter().map(|(_, id)| *id).collect());
            }
            if found.iter().map(Vec::len).sum::<usize>() >= rows(limit) {
                break;
            }
        }
        take_turns(&found, limit).into_iter().collect()
    }

    /// A job as who dispatches it sees it.
    fn claimed(&self, job: &Job, now: Micros) -> ClaimedJob {
        let claimed = job.claimed(now);
        let (weight, limits) = self.terms(&claimed.customer);
        let of_customer = self.running().filter(|(_, job)| job.admitted.customer == claimed.customer);
        let sent = u32::try_from(of_customer.map(|(_, job)| job.sent.len()).sum::<usize>()).unwrap_or(u32::MAX);
        ClaimedJob { weight, customer_units_left: limits.units.saturating_sub(sent), ..claimed }
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
    pub(super) fn is_worth_claiming(&self, now: Micros) -> bool {
        let late = self.admitted.deadline_at.is_some_and(|deadline| deadline <= now);
        let cuts = self.cursor.0 < self.stage_items && self.may_cut();
        let work = cuts || self.due_by(now).next().is_some();
        self.ending.is_none() && !self.cancel_requested && !self.paused && !late && work
    }

    /// Whether its budget, if it has one, suffices for an item more than is under way.
    fn may_cut(&self) -> bool {
        let JobSpec { budget_fuel, limits, .. } = &self.admitted.spec;
        let budget = Budget::of(*budget_fuel, limits, self.tally.sums.usage.fuel, self.open_items());
        budget.is_none_or(|budget| budget.room() > 0)
    }

    /// Replicas that are due at that time.
    fn due_by(&self, now: Micros) -> impl Iterator<Item = &(Micros, u32, u16)> {
        self.due.range(..=(now, u32::MAX, u16::MAX))
    }

    /// The job without what its customer's other jobs and terms add.
    fn claimed(&self, now: Micros) -> ClaimedJob {
        let admitted = &*self.admitted;
        let (item, byte) = self.cursor;
        ClaimedJob {
            id: admitted.id,
            customer: admitted.customer.clone(),
            weight: 1,
            spec: Arc::new(admitted.spec.clone()),
            brief: admitted.brief,
            traceparent: admitted.traceparent.clone(),
            items: admitted.items,
            stage_items: self.stage_items,
            last_stage: self.last_stage,
            cursor: Cursor { stage: self.tally.stage, item, byte, unit: self.tally.next_unit },
            progress: self.tally.progress,
            spent: self.tally.sums.usage.fuel,
            open_items: self.reserved_items(),
            due: u32::try_from(self.due_by(now).take(MAX_DUE).count()).unwrap_or(u32::MAX),
            customer_units_left: 0,
            admitted_at: admitted.admitted_at,
        }
    }
}

fn read_due(key: UnitKey, unit: &Unit, replica: &Replica) -> DueReplica {
    let number = replica.facts.replica;
    let replicas: Vec<_> = unit.replicas.values().map(|other| &other.facts).collect();
    let due = DueReplica {
        key: key.replica(number),
        stage: unit.stage,
        first: unit.first,
        end: unit.end,
        bytes: unit.bytes,
        lane: replica.facts.lane,
        taken: Vec::new(),
        computing: Vec::new(),
        disputed: Vec::new(),
    };
    due.beside(&replicas)
}
