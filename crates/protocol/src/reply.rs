//! What a customer is told about a job.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::{Certificate, ItemCounts, JobState};
use crate::money::Money;
use crate::{Fuel, JobId};

/// The job was admitted (`offpeak.job.accepted.v1`); said again, with the same job, to a submission that comes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The job's id.
    pub job: JobId,
    /// How many items it has.
    pub items: u64,
}

/// How far the job is (`offpeak.job.progress.v1`); at most one a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The job.
    pub job: JobId,
    /// Its items so far.
    pub items: ItemCounts,
    /// Valid units so far.
    pub units: u64,
    /// Seconds to the end at the rate so far; `None` while that is unknown.
    pub eta_s: Option<u64>,
}

/// Validated outputs in item order (`offpeak.job.part.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// The job.
    pub job: JobId,
    /// The part's number, from 0 without a gap.
    pub part: u32,
    /// Index of the first item.
    pub first: u64,
    /// A frame: a count, then for each item its status and its output.
    #[serde(with = "crate::codec::base64_bytes")]
    #[schemars(with = "crate::schema::Bytes")]
    pub output: Vec<u8>,
}

/// The job ended (`offpeak.job.completed.v1`): said once for every accepted job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Completed {
    /// The job.
    pub job: JobId,
    /// How it ended.
    pub state: JobState,
    /// What became of each item.
    pub certificate: Certificate,
    /// What was metered.
    pub usage: UsageSummary,
    /// How many parts were sent.
    pub parts: u32,
    /// Whether outputs were held back because the customer did not read, or because those of a whole delivery have more than
    /// 4 MiB: fetch them with `offpeak.job.fetch.v1`, from part `parts` on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
    /// What it costs by the grid's prices, where it has any; invoices alone bind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
}

/// A job's use of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UsageSummary {
    /// Valid units: the ledger's rows.
    pub units: u64,
    /// Dispatches of them.
    pub replicas: u64,
    /// Billed fuel.
    pub fuel: Fuel,
    /// Billed bytes.
    pub bytes: u64,
    /// Computing time of all replicas; shown, never priced.
    pub compute_us: u64,
    /// Of that, time spent on outcomes that were not needed: failed, late, interrupted; never priced.
    pub wasted_us: u64,
}
