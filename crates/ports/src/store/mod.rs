//! The store, the truth of the grid: one small trait for each who uses it, every method one transaction.

mod activity;
mod admission;
mod blobs;
mod customers;
mod dispatch;
mod report;
mod requests;
mod settlement;
mod turns;
mod uploads;

pub use activity::{Activity, ActivityStore, HostActivity, JobActivity};
pub use admission::{Admission, AdmissionStore, AppRecord, AppVerdict, NewJob};
pub use blobs::BlobStore;
pub use customers::{CustomerStore, CustomerUse};
pub use dispatch::{Assignment, ClaimedJob, Cursor, Dispatch, DispatchStore, DueReplica, JobProgress, NewUnit};
pub use report::{CustomerTotals, FailedItem, JobReport, OutputPage, ReportStore, UnitCounts, UsageFilter};
pub use requests::{AppExperience, NumberedOutput, RequestStore, ResultsRelease, WaitFacts};
pub use settlement::{
    Assemble, Assembly, AssemblyView, JobFacts, JobSums, Outbox, OutboxKey, OutboxMessage, ReplicaEnd, ReplicaFacts,
    ReplicaState, Settle, Settlement, SettlementStore, SettlementView, StageStep, UnitEnd, UnitFacts, UnitSettled, UnitState,
    Unsent, Vote,
};
pub use turns::{in_turn, take_turns};
pub use uploads::{BlobRelease, MAX_PART_MESSAGES, PartPut, Sender, UploadRoom, UploadStore};

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, too slow, or the transaction lost a race: try again later, nothing was changed.
    #[error("{operation}: database is not available")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// The driver's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk or the database is full: nothing was changed, free space and go on.
    #[error("{operation}: storage is full")]
    Full {
        /// What was asked.
        operation: &'static str,
        /// The driver's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The schema or this service's rights are not those expected, whatever is asked: an operator is to mend that.
    #[error("{operation}: database is not as expected: {detail}")]
    Unfit {
        /// What was asked.
        operation: &'static str,
        /// What the database says.
        detail: String,
    },
    /// What is stored, or was to be, cannot be understood: asking again does not help, and asking for something else may.
    #[error("{operation}: database is not as expected: {detail}")]
    Corrupt {
        /// What was asked.
        operation: &'static str,
        /// What was found, and the way out.
        detail: String,
    },
}

/// All of the store, for those who compose the grid.
pub trait Store:
    AdmissionStore
    + BlobStore
    + DispatchStore
    + SettlementStore
    + ReportStore
    + ActivityStore
    + RequestStore
    + CustomerStore
    + UploadStore
{
}

impl<T> Store for T where
    T: AdmissionStore
        + BlobStore
        + DispatchStore
        + SettlementStore
        + ReportStore
        + ActivityStore
        + RequestStore
        + CustomerStore
        + UploadStore
{
}
