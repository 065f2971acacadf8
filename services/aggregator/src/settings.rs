//! The aggregator's settings.

use std::sync::Arc;

use rules::pricing::RateCard;
use serde::Deserialize;

/// How the aggregator works; the key names are the configuration file's.
#[derive(Debug, Clone, Deserialize)]
pub struct AggregatorSettings {
    /// Outcomes settled in one transaction at most.
    pub batch: u16,
    /// How often jobs are looked for that have ended, expired or were cancelled without an outcome telling.
    pub sweep_ms: u64,
    /// How often the outbox is looked at when nothing tells of a message.
    pub relay_ms: u64,
    /// How often the metrics' mirror of the ledger is brought up to date.
    pub mirror_ms: u64,
    /// The grid's prices; `None` if it has none.
    #[serde(skip)]
    pub rates: Option<Arc<RateCard>>,
    /// Days from a job's end until its results are dropped; 0 keeps them.
    #[serde(skip)]
    pub results_days: u32,
}
