//! What people ask: jobs, outputs, usage.

use async_trait::async_trait;
use protocol::head::JobHead;
use protocol::job::{Certificate, ItemCounts, JobState};
use protocol::reply::UsageSummary;
use protocol::usage::Usage;
use protocol::{CustomerName, JobId, MeterId, Micros, PoolName};

use super::StoreError;

/// A job as people see it.
#[derive(Debug, Clone)]
pub struct JobReport {
    /// The job.
    pub id: JobId,
    /// Whose.
    pub customer: CustomerName,
    /// The submission's `message_id`.
    pub submission: String,
    /// The customer's own key.
    pub correlation_id: Option<String>,
    /// Whether it rests.
    pub paused: bool,
    /// Parts of its last stage so far, sent or not.
    pub parts: u32,
    /// When its outputs were dropped.
    pub results_gone_at: Option<Micros>,
    /// What is to be done, but for the items and parameters.
    pub spec: JobHead,
    /// Its state.
    pub state: JobState,
    /// Its items: what is settled so far; cancelled ones appear when the job has ended.
    pub items: ItemCounts,
    /// What was metered so far.
    pub usage: UsageSummary,
    /// The current stage and its items.
    pub stage: (u8, u64),
    /// Whether the current stage is the last.
    pub last_stage: bool,
    /// Items of the current stage that are cut into units.
    pub cut: u64,
    /// Its units.
    pub units: UnitCounts,
    /// The earliest time a waiting replica becomes due, if one waits.
    pub next_due_at: Option<Micros>,
    /// The most recent reason a replica failed or was given back.
    pub last_reason: Option<String>,
    /// When it was admitted.
    pub admitted_at: Micros,
    /// When it ended.
    pub ended_at: Option<Micros>,
    /// When what is left is cancelled.
    pub deadline_at: Option<Micros>,
    /// The proof, once it has ended.
    pub certificate: Option<Certificate>,
}

/// Units and replicas by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnitCounts {
    /// Units not decided.
    pub open: u64,
    /// Their items; zero for a job without a budget.
    pub open_items: u64,
    /// Valid units, all stages.
    pub valid: u64,
    /// Units given up.
    pub failed: u64,
    /// Replicas due now or later.
    pub replicas_due: u64,
    /// Replicas with the broker or a worker.
    pub replicas_sent: u64,
}

/// An item that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedItem {
    /// Its index.
    pub item: u64,
    /// Why.
    pub reason: String,
}

/// Which ledger rows.
#[derive(Debug, Clone, Default)]
pub struct UsageFilter {
    /// Of this customer only.
    pub customer: Option<CustomerName>,
    /// Of this job only.
    pub job: Option<JobId>,
    /// Recorded from this time on.
    pub from: Option<Micros>,
    /// Recorded before this time.
    pub until: Option<Micros>,
}

/// The ledger's sums for one customer, pool and meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerTotals {
    /// The customer.
    pub customer: CustomerName,
    /// The pool.
    pub pool: PoolName,
    /// The meter.
    pub meter: MeterId,
    /// Rows.
    pub units: u64,
    /// Their fuel: exact, though the sum may be beyond 63 bits.
    pub fuel: u128,
    /// Their bytes, likewise.
    pub bytes: u128,
}

/// A page of output frames: first item, end, frame.
pub type OutputPage = Vec<(u64, u64, Vec<u8>)>;

/// The reports' transactions; all only read.
#[async_trait]
pub trait ReportStore: Send + Sync {
    /// One job.
    async fn job(&self, job: JobId) -> Result<Option<JobReport>, StoreError>;

    /// The job a submission became.
    async fn job_of_submission(&self, customer: &CustomerName, submission: &str) -> Result<Option<JobId>, StoreError>;

    /// The youngest jobs first, at most `limit`.
    async fn jobs(&self, customer: Option<&CustomerName>, limit: u32) -> Result<Vec<JobReport>, StoreError>;

    /// Failed items of stage 0 in order, from item `from`, at most `limit`; of a job whose outputs were dropped only those of
    /// units that were given up.
    async fn failed_items(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<FailedItem>, StoreError>;

    /// Output frames of the last stage in item order from item `from`, a page of about 4 MiB; empty at the end,
    /// and where they were dropped.
    async fn outputs(&self, job: JobId, from: u64) -> Result<OutputPage, StoreError>;

    /// Ledger rows in order of recording, a page of at most `limit` after the row number `after`; each with its row number.
    async fn usage(&self, filter: &UsageFilter, after: i64, limit: u32) -> Result<Vec<(i64, Usage)>, StoreError>;

    /// Sums of the ledger's rows per customer, pool and meter.
    async fn usage_totals(&self, filter: &UsageFilter) -> Result<Vec<CustomerTotals>, StoreError>;
}
