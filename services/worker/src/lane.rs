//! Which lane a worker serves: a set one, or the one that needs it most, also when others have come and gone since.

use std::cmp::Reverse;
use std::time::Duration;

use ports::Broker;
use ports::broker::BrokerError;
use protocol::{Digest, HostId, PoolName, address};
use service::patience::random;

/// Lanes are compared so often, and up to half as often again: workers that started together do not move together.
const LOOK_EVERY: Duration = Duration::from_secs(8);

/// A worker's lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// This one.
    Fixed(u16),
    /// Of so many the one with the fewest workers; it moves when lanes become uneven, since replicas of a unit go to
    /// different lanes and wait where there are too few with workers.
    Free {
        /// How many lanes the pool has.
        lanes: u16,
    },
}

impl Lane {
    /// The lane to begin with.
    pub(crate) async fn first(self, broker: &dyn Broker, pool: &PoolName, host: &HostId) -> Result<u16, BrokerError> {
        match self {
            Self::Fixed(lane) => Ok(lane),
            Self::Free { lanes } => Ok(emptiest(broker, pool, lanes, host).await?.1),
        }
    }

    /// Waits until another lane needs the worker more than its own does; for ever if its lane is set.
    pub(crate) async fn better(self, broker: &dyn Broker, pool: &PoolName, host: &HostId, own: u16) -> u16 {
        let Self::Free { lanes } = self else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK_EVERY.mul_f64(1.0 + random() / 2.0)).await;
            match uneven(broker, pool, lanes, host, own).await {
                Ok(Some(lane)) => return lane,
                Ok(None) => {}
                Err(error) => tracing::debug!("lanes were not compared: {error}"),
            }
        }
    }
}

/// A lane with at least two workers fewer than the own one, for about one of the workers that see it.
async fn uneven(broker: &dyn Broker, pool: &PoolName, lanes: u16, host: &HostId, own: u16) -> Result<Option<u16>, BrokerError> {
    let here = broker.depth(&address::work_queue(pool, own)).await?.unwrap_or_default().consumers;
    let (there, lane) = emptiest(broker, pool, lanes, host).await?;
    let moves = here >= there.saturating_add(2) && random() * f64::from(here) < 1.0;
    Ok(moves.then_some(lane))
}

/// The lane with the fewest workers, and how many; among equals one by the host's name, so that hosts spread.
async fn emptiest(broker: &dyn Broker, pool: &PoolName, lanes: u16, host: &HostId) -> Result<(u32, u16), BrokerError> {
    let start = Digest::of(host.as_str().as_bytes()).0[0];
    // Among those, one in which units wait: its last worker may just have died.
    let mut best = ((u32::MAX, Reverse(0)), 0);
    for offset in 0..lanes {
        let lane = (u16::from(start) + offset) % lanes;
        let depth = broker.depth(&address::work_queue(pool, lane)).await?.unwrap_or_default();
        let rank = (depth.consumers, Reverse(depth.ready));
        if rank < best.0 {
            best = (rank, lane);
        }
    }
    Ok((best.0.0, best.1))
}
