//! What customers ask about their jobs beyond submitting them, and do to them.

use async_trait::async_trait;
use protocol::job::JobState;
use protocol::query::FailureCount;
use protocol::{CustomerName, Digest, Fuel, JobId, Micros};

use super::{JobReport, JobSums, OutboxMessage, StoreError};

/// What became of a wish to give a job's outputs up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultsRelease {
    /// They are given up, now or before.
    Done,
    /// The job has not ended, and keeps them.
    Running,
    /// The customer has no such job.
    Unknown,
}

/// What is counted when someone asks why a job is not done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WaitFacts {
    /// Jobs of the same customer and pool that have work to send and come before it: of higher priority, or older. Of
    /// a customer with more than 1,000 jobs that have work, the oldest so many are looked at.
    pub ahead: u64,
    /// Why its replicas failed, were lost or given back, most frequent first, at most 20; of more than 100,000 such replicas
    /// so many are counted. A unit that was given up for a reason that none of its replicas has counts as one.
    pub failures: Vec<FailureCount>,
}

/// What an app took in a customer's ended jobs, the youngest hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppExperience {
    /// Items that were computed; in jobs of which units were given up, those that succeeded.
    pub items: u64,
    /// Their fuel.
    pub fuel: u128,
    /// The least fuel per item of any of those jobs.
    pub least_per_item: Fuel,
    /// The most.
    pub most_per_item: Fuel,
    /// Computing time of it all, as if each unit had been computed once: that of a unit's replicas is averaged.
    pub compute_us: u64,
}

impl AppExperience {
    /// Adds an ended job by its sums and the number of its units that were given up; one of which nothing was computed tells
    /// nothing.
    pub fn add(&mut self, sums: &JobSums, failed_units: u64) {
        // Items of units that were given up have no fuel, so they are no part of what an item takes.
        let failed = if failed_units == 0 { sums.items_failed } else { 0 };
        let (items, usage) = (sums.items_succeeded.saturating_add(failed), &sums.usage);
        let fuel = usage.fuel.get();
        let Some(each) = fuel.checked_div(items) else { return };
        let share = |fuel| Fuel::new(fuel).unwrap_or(Fuel::MAX);
        let (least, most) = (share(each), share(fuel.div_ceil(items)));
        self.least_per_item = if self.items == 0 { least } else { self.least_per_item.min(least) };
        self.most_per_item = self.most_per_item.max(most);
        self.items = self.items.saturating_add(items);
        self.fuel = self.fuel.saturating_add(fuel.into());
        // The time that the units would have taken, each computed once.
        let replicas = usage.replicas.max(usage.units).max(1);
        let once = u128::from(usage.compute_us) * u128::from(usage.units) / u128::from(replicas);
        self.compute_us = self.compute_us.saturating_add(u64::try_from(once).unwrap_or(u64::MAX));
    }
}

/// A unit's output with its place among the job's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedOutput {
    /// The number of the unit's first part.
    pub part: u32,
    /// Its first item.
    pub first: u64,
    /// Its output frame.
    pub frame: Vec<u8>,
}

/// The requests' transactions.
#[async_trait]
pub trait RequestStore: Send + Sync {
    /// Lets a customer's job rest or go on: none of its replicas is claimed while it rests. Those on their way go on, and so
    /// does its deadline. The state it is in, since one that has ended stays as it is; `None` if the customer has no such job.
    ///
    /// A customer's message, by its id, does so once: delivered again it changes nothing, whatever the job was told since.
    async fn pause_job(
        &self,
        customer: &CustomerName,
        job: JobId,
        paused: bool,
        message: Option<&str>,
    ) -> Result<Option<JobState>, StoreError>;

    /// The youngest of a customer's jobs in that state (or in any) admitted before `before`, at most `limit`.
    async fn own_jobs(
        &self,
        customer: &CustomerName,
        state: Option<JobState>,
        before: Option<JobId>,
        limit: u32,
    ) -> Result<Vec<JobReport>, StoreError>;

    /// What is counted when someone asks why a job is not done.
    async fn wait_facts(&self, job: JobId) -> Result<WaitFacts, StoreError>;

    /// What an app took in a customer's ended jobs.
    async fn app_experience(&self, customer: &CustomerName, app: Digest) -> Result<AppExperience, StoreError>;

    /// Assembled outputs of the last stage, from the unit that has part `part`, in item order: at least one unit
    /// if there is one, about 16 MiB at most. Empty beyond the last part so far, and where outputs were dropped.
    ///
    /// Units that a service of the version before assembled have no numbers: they get them here, one page further than asked
    /// for. Only then is [`JobReport::parts`] right, so it is to be read after this.
    async fn numbered_outputs(&self, job: JobId, part: u32) -> Result<Vec<NumberedOutput>, StoreError>;

    /// Drops the outputs of a customer's job that has ended. Rows that are more than one call may delete go with
    /// [`expire_results`](super::SettlementStore::expire_results).
    ///
    /// A customer's message, by its id, that came while the job ran is refused for good
    /// ([`ResultsRelease::Running`]): delivered again after the job's end it drops nothing.
    async fn release_results(
        &self,
        customer: &CustomerName,
        job: JobId,
        message: Option<&str>,
        now: Micros,
    ) -> Result<ResultsRelease, StoreError>;

    /// Writes several replies in one transaction.
    async fn reply_all(&self, replies: Vec<OutboxMessage>) -> Result<(), StoreError>;
}
