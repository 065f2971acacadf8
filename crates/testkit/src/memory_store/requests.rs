//! What customers ask about their jobs, and do to them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use ports::store::{
    AppExperience, JobReport, NumberedOutput, OutboxMessage, ReplicaState, RequestStore, ResultsRelease, StoreError, UnitState,
    WaitFacts,
};
use protocol::job::JobState;
use protocol::query::FailureCount;
use protocol::{CustomerName, Digest, JobId, Micros};

use super::MemoryStore;
use super::fault::Refused;
use super::inbox::{Effect, effect, refused};
use super::outputs::within;
use super::rows::{Job, Unit};
use super::state::{State, rows};

/// Jobs of the same customer that are compared with the one asked about.
const MAX_COMPARED: usize = 1_000;
/// Failed replicas that are counted.
const MAX_FAILURES: usize = 100_000;
/// Reasons that are told.
const MAX_REASONS: usize = 20;
/// Ended jobs whose experience counts.
const MAX_EXPERIENCE: usize = 100;
/// About how many bytes of frames a page of numbered outputs holds, and how many units at most.
const PAGE_BYTES: u64 = 16 << 20;
const PAGE_UNITS: usize = 256;

#[async_trait]
impl RequestStore for MemoryStore {
    async fn pause_job(
        &self,
        customer: &CustomerName,
        job: JobId,
        paused: bool,
        message: Option<&str>,
    ) -> Result<Option<JobState>, StoreError> {
        let now = self.shared.clock.now();
        let effect = effect(customer, message, format!("{} {job}", if paused { "pause" } else { "resume" }));
        self.run("pause job", |state| Ok(state.pause_job(customer, job, paused, (effect, now))))
    }

    async fn own_jobs(
        &self,
        customer: &CustomerName,
        state: Option<JobState>,
        before: Option<JobId>,
        limit: u32,
    ) -> Result<Vec<JobReport>, StoreError> {
        let wanted = |job: &&Job| job.admitted.customer == *customer && state.is_none_or(|state| job.state == state);
        self.run("read own jobs", |state| {
            let older = state.jobs.iter().rev().filter(|(id, _)| before.is_none_or(|before| **id < before));
            Ok(older.map(|(_, job)| job).filter(wanted).take(rows(limit)).map(Job::report).collect())
        })
    }

    async fn wait_facts(&self, job: JobId) -> Result<WaitFacts, StoreError> {
        let now = self.shared.clock.now();
        self.run("read wait facts", |state| Ok(WaitFacts { ahead: state.ahead(job, now), failures: state.failures(job) }))
    }

    async fn app_experience(&self, customer: &CustomerName, app: Digest) -> Result<AppExperience, StoreError> {
        self.run("read app experience", |state| Ok(state.app_experience(customer, app)))
    }

    async fn numbered_outputs(&self, job: JobId, part: u32) -> Result<Vec<NumberedOutput>, StoreError> {
        self.run("read numbered outputs", |state| state.numbered_outputs(job, part))
    }

    async fn release_results(
        &self,
        customer: &CustomerName,
        job: JobId,
        message: Option<&str>,
        now: Micros,
    ) -> Result<ResultsRelease, StoreError> {
        let handled_at = self.shared.clock.now();
        let refused = refused(effect(customer, message, format!("release {job}")).as_ref());
        self.run("release results", |state| Ok(state.release_results(customer, job, now, (refused, handled_at))))
    }

    async fn reply_all(&self, replies: Vec<OutboxMessage>) -> Result<(), StoreError> {
        self.run("write replies", |state| {
            for reply in replies {
                state.outbox.write(reply);
            }
            Ok(())
        })
    }
}

impl State {
    fn own_job(&mut self, customer: &CustomerName, job: JobId) -> Option<&mut Job> {
        self.jobs.get_mut(&job).filter(|job| job.admitted.customer == *customer)
    }

    fn pause_job(
        &mut self,
        customer: &CustomerName,
        job: JobId,
        paused: bool,
        (effect, now): (Option<Effect>, Micros),
    ) -> Option<JobState> {
        let job = self.jobs.get_mut(&job).filter(|job| job.admitted.customer == *customer)?;
        if job.state == JobState::Running && self.inbox.note(effect, 0, now) {
            job.paused = paused;
        }
        Some(job.state)
    }

    /// How many of its customer's jobs with work to send for the same pool come before a job that runs.
    fn ahead(&self, id: JobId, now: Micros) -> u64 {
        let Some(own) = self.jobs.get(&id).filter(|job| job.state == JobState::Running).map(|job| &job.admitted) else {
            return 0;
        };
        let others = self.running().filter(|(other, job)| *other != id && job.admitted.customer == own.customer);
        let waiting = others.filter(|(_, job)| job.is_worth_claiming(now)).take(MAX_COMPARED);
        let before = waiting.filter(|(other, job)| {
            let (theirs, ours) = (&job.admitted.spec, &own.spec);
            theirs.pool == ours.pool && (Reverse(theirs.priority), *other) < (Reverse(ours.priority), id)
        });
        u64::try_from(before.count()).unwrap_or(u64::MAX)
    }

    fn failures(&self, job: JobId) -> Vec<FailureCount> {
        let units = self.jobs.get(&job).into_iter().flat_map(|job| &job.units);
        let mut counts: BTreeMap<&str, (u64, u32)> = BTreeMap::new();
        for (reason, unit) in units.flat_map(|(number, unit)| unit.reasons().map(|reason| (reason, *number))).take(MAX_FAILURES) {
            counts.entry(reason).or_insert((0, unit)).0 += 1;
        }
        let mut counted: Vec<_> = counts.into_iter().map(|(reason, (count, unit))| (Reverse(count), unit, reason)).collect();
        counted.sort_unstable();
        let told = counted.into_iter().take(MAX_REASONS);
        told.map(|(replicas, _, reason)| FailureCount { reason: reason.to_owned(), replicas: replicas.0 }).collect()
    }

    fn app_experience(&self, customer: &CustomerName, app: Digest) -> AppExperience {
        let own = |job: &&Job| job.admitted.customer == *customer && job.admitted.spec.app == app && job.ended.is_some();
        let mut experience = AppExperience::default();
        for job in self.jobs.values().rev().filter(own).take(MAX_EXPERIENCE) {
            experience.add(&job.tally.sums, job.tally.failed_units);
        }
        experience
    }

    fn numbered_outputs(&self, job: JobId, part: u32) -> Result<Vec<NumberedOutput>, Refused> {
        let kept = |job: &&Job| job.last_stage && job.results_gone_at.is_none() && part < job.parts;
        let Some(job) = self.jobs.get(&job).filter(kept) else { return Ok(Vec::new()) };
        let numbered: Vec<&Unit> = job.units_from(job.tally.stage, 0).filter(|unit| unit.part.is_some()).collect();
        let start = numbered.partition_point(|unit| unit.part <= Some(part)).saturating_sub(1);
        let page: Vec<&Unit> = numbered.into_iter().skip(start).take(PAGE_UNITS).collect();
        let fits = within(&page, PAGE_BYTES);
        let row =
            |unit: &Unit| Ok(NumberedOutput { part: unit.part.unwrap_or_default(), first: unit.first, frame: unit.frame()? });
        page.into_iter().take(fits).map(row).collect()
    }

    pub(super) fn expire_results(&mut self, ended_before: Micros, now: Micros, limit: u32) -> u32 {
        let ended = |job: &Job| job.ended.as_ref().map(|(at, _)| *at).filter(|at| *at < ended_before);
        let kept = self.jobs.iter().filter(|(_, job)| job.results_gone_at.is_none());
        let mut old: Vec<(Micros, JobId)> = kept.filter_map(|(id, job)| Some((ended(job)?, *id))).collect();
        old.sort_unstable();
        old.truncate(rows(limit));
        for (_, id) in &old {
            if let Some(job) = self.jobs.get_mut(id) {
                job.drop_results(now);
            }
        }
        u32::try_from(old.len()).unwrap_or(u32::MAX)
    }

    fn release_results(
        &mut self,
        customer: &CustomerName,
        job: JobId,
        now: Micros,
        (refused, handled_at): (Option<Effect>, Micros),
    ) -> ResultsRelease {
        let known = self.inbox.freed(refused.as_ref()).is_some();
        let Some(job) = self.own_job(customer, job) else { return ResultsRelease::Unknown };
        match job.state {
            JobState::Running => {
                self.inbox.note(refused, 0, handled_at);
                ResultsRelease::Running
            }
            JobState::Completed | JobState::Cancelled | JobState::Expired | JobState::Exhausted => {
                if known {
                    return ResultsRelease::Running;
                }
                job.drop_results(now);
                ResultsRelease::Done
            }
        }
    }
}

impl Job {
    /// Its outputs are gone, from the first time on that this is said.
    fn drop_results(&mut self, now: Micros) {
        if self.results_gone_at.is_none() {
            self.results_gone_at = Some(now);
            self.units.values_mut().for_each(|unit| unit.result.frame = Arc::default());
        }
    }
}

impl Unit {
    /// Why its replicas failed, were lost or given back, and why it was given up if none of them says so.
    fn reasons(&self) -> impl Iterator<Item = &str> {
        let failed = self.replicas.values().filter(|replica| match replica.facts.state {
            ReplicaState::Failed | ReplicaState::Interrupted | ReplicaState::Lost => true,
            ReplicaState::Due | ReplicaState::Sent | ReplicaState::Computed => false,
        });
        let given_up = self.result.reason.as_deref().filter(|_| self.result.state == UnitState::Failed);
        let unsaid = given_up.filter(|why| !self.replicas.values().any(|replica| replica.reason.as_deref() == Some(why)));
        failed.filter_map(|replica| replica.reason.as_deref()).chain(unsaid)
    }
}
