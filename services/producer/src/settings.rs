//! The producer's settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::PoolName;
use rules::pricing::RateCard;
use serde::Deserialize;

/// How the producer works; the key names are the configuration file's.
#[derive(Debug, Clone, Deserialize)]
pub struct ProducerSettings {
    /// How long a job stays claimed by a producer that has fallen silent.
    pub lease_ms: u64,
    /// A unit that computes longer is given back and cut in two.
    pub max_unit_ms: u32,
    /// A replica is taken for lost so long after it was sent, or sooner where units are known to be short.
    pub replica_deadline_ms: u64,
    /// How long the dispatcher rests when there is nothing to dispatch.
    pub idle_ms: u64,
    /// Whether a message without the property `user_id`, which the broker checks, is refused.
    pub require_user_id: bool,
    /// The broker's user who may send dead submissions again in their customers' names.
    pub operator: String,
    /// The pools and how many lanes each has.
    #[serde(skip)]
    pub pools: BTreeMap<PoolName, PoolSettings>,
    /// Over how many queues outcomes are spread.
    #[serde(skip)]
    pub shards: u16,
    /// The grid's prices; `None` if it has none.
    #[serde(skip)]
    pub rates: Option<Arc<RateCard>>,
    /// Days from a job's end until its results are dropped; 0 keeps them.
    #[serde(skip)]
    pub results_days: u32,
}

/// One pool.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct PoolSettings {
    /// How many work queues it has; a job's quorum is at most that.
    pub lanes: u16,
}
