//! A pool as the broker sees it: what its lanes hold, and who listens on them.

use ports::broker::BrokerError;
use protocol::query::LaneDepth;
use protocol::{PoolName, address};

use crate::Producer;

/// The pool's lanes that have a queue; none of a pool that is not in the settings.
pub(crate) async fn lanes(producer: &Producer, pool: &PoolName) -> Result<Vec<LaneDepth>, BrokerError> {
    let lanes = producer.settings.pools.get(pool).map_or(0, |settings| settings.lanes);
    let mut depths = Vec::with_capacity(usize::from(lanes));
    for lane in 0..lanes {
        let depth = producer.broker.depth(&address::work_queue(pool, lane)).await?;
        depths.extend(depth.map(|depth| LaneDepth { lane, ready: depth.ready, workers: depth.consumers }));
    }
    Ok(depths)
}

/// The same for an answer that need not wait for a broker that cannot tell now.
pub(crate) async fn lanes_if_known(producer: &Producer, pool: &PoolName) -> Option<Vec<LaneDepth>> {
    match lanes(producer, pool).await {
        Ok(lanes) => Some(lanes),
        Err(error) => {
            tracing::warn!("lanes of pool {pool} were not looked at: {error}");
            None
        }
    }
}
