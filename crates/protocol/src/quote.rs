//! What a job would take, before it is submitted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Fuel;
use crate::job::JobSpec;
use crate::money::Money;

/// A customer asks what a job would take (`offpeak.job.quote.v1`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuoteJob {
    /// The job as it would be submitted.
    pub job: JobSpec,
}

/// A number that is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "EstimateOf{T}")]
pub struct Estimate<T> {
    /// Hardly less.
    pub low: T,
    /// The likeliest.
    pub likely: T,
    /// Hardly more.
    pub high: T,
}

/// What an estimate is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// What the same app took in this customer's jobs.
    EarlierJobs,
    /// The job's own limits, which it cannot exceed: nothing is known of the app yet.
    Limits,
}

/// The answer (`offpeak.job.quoted.v1`): it binds nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quoted {
    /// The app.
    pub app: crate::Digest,
    /// How many items the job has.
    pub items: u64,
    /// What would be metered.
    pub fuel: Estimate<Fuel>,
    /// What that costs, where the grid has prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Estimate<Money>>,
    /// Seconds until it would be done, with the workers and the work there are now; `None` if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<Estimate<u64>>,
    /// What it is made from.
    pub basis: Basis,
    /// How many items of earlier jobs that is.
    pub basis_items: u64,
}
