//! Usage: what billing reads, one row per valid unit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::money::Money;
use crate::quantity::Total;
use crate::{CustomerName, Digest, Fuel, JobId, MeterId, Micros, PoolName, UnitKey};

/// One row of the ledger: written in the transaction that marks its unit valid, never changed after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The unit that was computed and found valid.
    pub unit: UnitKey,
    /// Who pays.
    pub customer: CustomerName,
    /// The machines' trust level, part of the price.
    pub pool: PoolName,
    /// Scheme and version of the count.
    pub meter: MeterId,
    /// What the agreeing replicas reported, once.
    pub fuel: Fuel,
    /// Input plus output bytes of the unit, in their canonical frames.
    pub bytes: u64,
    /// The agreed digest of the unit's output frame.
    pub output: Digest,
    /// When the row was appended; decides the billing period.
    pub recorded_at: Micros,
}

/// A customer asks for its rows of the ledger in a month (`offpeak.usage.report.v1`), in the order of recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportUsage {
    /// The month, UTC, as `2026-11`.
    #[schemars(regex(pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$"))]
    pub period: String,
    /// Only rows after this one: the last of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How many rows at most; 1 to 10,000.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 10000))]
    pub limit: u32,
}

fn thousand() -> u32 {
    1_000
}

/// The answer (`offpeak.usage.reported.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageReported {
    /// The month.
    pub period: String,
    /// Rows, one for each valid unit.
    pub rows: Vec<UsageRow>,
    /// The last of these rows, if there are more: `after` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<u64>,
    /// Sums over the whole month so far.
    pub totals: Vec<UsageTotal>,
}

/// A row of the ledger as its customer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageRow {
    /// The job.
    pub job: JobId,
    /// The unit's number within the job.
    pub unit: u32,
    /// The machines' trust level.
    pub pool: PoolName,
    /// How its fuel was counted.
    pub meter: MeterId,
    /// Its fuel.
    pub fuel: Fuel,
    /// Its bytes.
    pub bytes: u64,
    /// The digest of its output frame.
    pub output: Digest,
    /// When it was recorded, in microseconds since 1970.
    pub recorded_at_us: Micros,
}

/// A customer's sums for one pool and meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageTotal {
    /// The pool.
    pub pool: PoolName,
    /// The meter.
    pub meter: MeterId,
    /// Rows.
    pub units: u64,
    /// Their fuel.
    pub fuel: Total,
    /// Their bytes.
    pub bytes: Total,
    /// What they cost by the grid's prices of today, where it has any; invoices alone bind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
}
