//! A customer as the grid keeps it: its weight in the fair share, and what it may use at most.

use serde::{Deserialize, Serialize};

use crate::codec::MAX_BODY_BYTES;
use crate::{CustomerName, Fuel, Micros};

/// What a customer may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomerLimits {
    /// Bytes of one message's body; never more than [`MAX_BODY_BYTES`].
    pub message_bytes: u32,
    /// Requests a second; ten seconds' worth may come at once. Parts of blobs do not count: the stored bytes bound them.
    pub requests_per_second: u32,
    /// Jobs that have not ended.
    pub jobs: u32,
    /// Replicas with the broker or a worker: the dispatcher keeps to it.
    pub units: u32,
    /// Bytes of its blobs, those begun included.
    pub stored_bytes: u64,
    /// Fuel metered in a month (UTC): its budget; `None` has no end.
    pub fuel_per_month: Option<Fuel>,
}

impl Default for CustomerLimits {
    fn default() -> Self {
        Self {
            message_bytes: u32::try_from(MAX_BODY_BYTES).unwrap_or(u32::MAX),
            requests_per_second: 1_000,
            jobs: 10_000,
            units: 100_000,
            stored_bytes: 100 << 30,
            fuel_per_month: None,
        }
    }
}

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerRecord {
    /// Its name.
    pub name: CustomerName,
    /// Its weight in the fair share, 1 or more.
    pub weight: u32,
    /// What it may use.
    pub limits: CustomerLimits,
    /// When it was first seen.
    pub created_at: Micros,
}
