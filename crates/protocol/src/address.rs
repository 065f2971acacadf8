//! Names of exchanges, queues and routing keys: one place, because a name spelled twice is a lost message.

use crate::{CustomerName, HostId, JobId, PoolName};

/// Customers publish here; the routing key is their name.
pub const SUBMIT_EXCHANGE: &str = "offpeak.submit";
/// What customers submitted, read by producers.
pub const SUBMIT_QUEUE: &str = "offpeak.submit";
/// Producers publish units here; the routing key is `<pool>.<lane>`.
pub const WORK_EXCHANGE: &str = "offpeak.work";
/// Workers publish outcomes here; the routing key is the shard.
pub const OUTCOMES_EXCHANGE: &str = "offpeak.outcomes";
/// Workers ask producers for blobs here.
pub const FETCH_EXCHANGE: &str = "offpeak.fetch";
/// The requests for blobs.
pub const FETCH_QUEUE: &str = "offpeak.fetch";
/// Announcements to every worker (fanout).
pub const CONTROL_EXCHANGE: &str = "offpeak.control";
/// Parts of blobs go back to one worker; the routing key is the host.
pub const WORKER_EXCHANGE: &str = "offpeak.worker";
/// Replies to customers; the routing key is the customer's name.
pub const CUSTOMER_EXCHANGE: &str = "offpeak.customer";
/// Dead letters; the routing key is the origin.
pub const DEAD_EXCHANGE: &str = "offpeak.dead";

/// A second copy of the dead letters of work, read by aggregators, which settle them as dead; the first stays parked.
pub const DEAD_WORK_QUEUE: &str = "offpeak.outcomes.dead";

/// Where a queue's dead letters are parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// Submissions that cannot be decoded.
    Submit,
    /// Units whose replicas killed their workers, or that no worker could decode.
    Work,
    /// Outcomes that cannot be decoded.
    Outcomes,
    /// Requests for blobs that cannot be decoded.
    Fetch,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 4] = [Self::Submit, Self::Work, Self::Outcomes, Self::Fetch];

    /// The routing key on the dead-letter exchange.
    pub fn key(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Work => "work",
            Self::Outcomes => "outcomes",
            Self::Fetch => "fetch",
        }
    }

    /// The queue its dead letters are parked in.
    pub fn queue(self) -> String {
        format!("{DEAD_EXCHANGE}.{}", self.key())
    }
}

/// One of a pool's work queues.
pub fn work_queue(pool: &PoolName, lane: u16) -> String {
    format!("{WORK_EXCHANGE}.{pool}.{lane}")
}

/// The routing key of a pool's lane.
pub fn work_key(pool: &PoolName, lane: u16) -> String {
    format!("{pool}.{lane}")
}

/// One shard of the outcomes.
pub fn outcomes_queue(shard: u16) -> String {
    format!("{OUTCOMES_EXCHANGE}.{shard}")
}

/// The shard that a job's outcomes go to, so that one consumer sees all of a job.
pub fn shard_of(job: JobId, shards: u16) -> u16 {
    let low = job.0.as_u128() % u128::from(shards.max(1));
    u16::try_from(low).unwrap_or(0)
}

/// A customer's results.
pub fn results_queue(customer: &CustomerName) -> String {
    format!("{CUSTOMER_EXCHANGE}.{customer}.results")
}

/// A worker's own queue, for parts of blobs and announcements.
pub fn worker_queue(host: &HostId) -> String {
    format!("{WORKER_EXCHANGE}.{host}")
}
