//! Usage: what billing reads, one row per valid unit.

use serde::{Deserialize, Serialize};

use crate::{CustomerName, Digest, Fuel, MeterId, Micros, PoolName, UnitKey};

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
