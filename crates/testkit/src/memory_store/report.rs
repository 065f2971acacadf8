//! What people ask: jobs, their outputs, their usage.

use async_trait::async_trait;
use ports::store::{CustomerTotals, FailedItem, JobReport, OutputPage, ReportStore, StoreError, UnitCounts, UsageFilter};
use protocol::head::JobHead;
use protocol::job::{ItemCounts, JobState};
use protocol::usage::Usage;
use protocol::{CustomerName, JobId};

use super::MemoryStore;
use super::rows::Job;
use super::state::rows;

#[async_trait]
impl ReportStore for MemoryStore {
    async fn job(&self, job: JobId) -> Result<Option<JobReport>, StoreError> {
        self.run("read job", |state| Ok(state.jobs.get(&job).map(Job::report)))
    }

    async fn job_of_submission(&self, customer: &CustomerName, submission: &str) -> Result<Option<JobId>, StoreError> {
        let key = (customer.clone(), submission.to_owned());
        self.run("find job of submission", |state| Ok(state.submissions.get(&key).copied()))
    }

    async fn jobs(&self, customer: Option<&CustomerName>, limit: u32) -> Result<Vec<JobReport>, StoreError> {
        self.run("read jobs", |state| {
            let of = |job: &&Job| customer.is_none_or(|customer| job.admitted.customer == *customer);
            Ok(state.jobs.values().rev().filter(of).take(rows(limit)).map(Job::report).collect())
        })
    }

    async fn failed_items(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<FailedItem>, StoreError> {
        self.run("read failed items", |state| state.failed_items(job, from, limit))
    }

    async fn outputs(&self, job: JobId, from: u64) -> Result<OutputPage, StoreError> {
        self.run("read outputs", |state| state.outputs(job, from))
    }

    async fn usage(&self, filter: &UsageFilter, after: i64, limit: u32) -> Result<Vec<(i64, Usage)>, StoreError> {
        self.run("read usage", |state| Ok(state.usage(filter, after, limit)))
    }

    async fn usage_totals(&self, filter: &UsageFilter) -> Result<Vec<CustomerTotals>, StoreError> {
        self.run("sum usage", |state| Ok(state.usage_totals(filter)))
    }
}

impl Job {
    /// The job as people see it.
    pub(super) fn report(&self) -> JobReport {
        let (admitted, tally) = (&*self.admitted, &self.tally);
        let certificate = self.ended.as_ref().map(|(_, certificate)| certificate.clone());
        let so_far = ItemCounts {
            submitted: admitted.items,
            succeeded: tally.sums.items_succeeded,
            failed: tally.sums.items_failed,
            cancelled: 0,
        };
        // Units are numbered without a gap, and those of an ended job are cancelled if nothing else.
        let decided = tally.sums.usage.units.saturating_add(tally.failed_units);
        let open = if self.state == JobState::Running { u64::from(tally.next_unit).saturating_sub(decided) } else { 0 };
        let count = |replicas: usize| u64::try_from(replicas).unwrap_or(u64::MAX);
        JobReport {
            id: admitted.id,
            customer: admitted.customer.clone(),
            submission: admitted.submission.clone(),
            correlation_id: admitted.correlation_id.clone(),
            paused: self.paused && self.state == JobState::Running,
            parts: self.parts,
            results_gone_at: self.results_gone_at,
            spec: JobHead::from(&admitted.spec),
            state: self.state,
            items: certificate.as_ref().map_or(so_far, |certificate| certificate.items),
            usage: tally.sums.usage,
            stage: (tally.stage, self.stage_items),
            last_stage: self.last_stage,
            cut: self.cursor.0,
            units: UnitCounts {
                open,
                open_items: self.reserved_items(),
                valid: tally.sums.usage.units,
                failed: tally.failed_units,
                replicas_due: count(self.due.len()),
                replicas_sent: count(self.sent.len()),
            },
            next_due_at: self.due.first().map(|(at, _, _)| *at),
            last_reason: tally.last_reason.clone(),
            admitted_at: admitted.admitted_at,
            ended_at: self.ended.as_ref().map(|(at, _)| *at),
            deadline_at: admitted.deadline_at,
            certificate,
        }
    }
}
