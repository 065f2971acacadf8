//! What those who watch the grid ask: what was computed just now, of which jobs and by which hosts.

use async_trait::async_trait;
use protocol::{HostId, JobId, Micros};

use super::{JobReport, StoreError};

/// What the youngest rows of the ledger say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// From when on everything is counted: as asked, or later if there was more than the limit.
    pub since: Micros,
    /// By job and stage, in their order.
    pub jobs: Vec<JobActivity>,
    /// By host, in the order of their names; a unit counts for each host whose result agreed.
    pub hosts: Vec<HostActivity>,
}

/// What became valid of a job's stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobActivity {
    /// The job.
    pub job: JobId,
    /// The stage.
    pub stage: u8,
    /// Units.
    pub units: u64,
    /// Their items.
    pub items: u64,
    /// Their fuel.
    pub fuel: u128,
}

/// What became valid of a host's results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostActivity {
    /// The host.
    pub host: HostId,
    /// Units.
    pub units: u64,
    /// Their fuel.
    pub fuel: u128,
    /// When the youngest of them became valid.
    pub last_at: Micros,
}

/// The watchers' transactions; all only read.
#[async_trait]
pub trait ActivityStore: Send + Sync {
    /// Running jobs, the oldest first, at most `limit`.
    async fn running(&self, limit: u32) -> Result<Vec<JobReport>, StoreError>;

    /// What was recorded from `since` on, of the `limit` youngest rows at most.
    async fn activity(&self, since: Micros, limit: u32) -> Result<Activity, StoreError>;
}
