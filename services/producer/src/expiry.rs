//! Lost replicas: one that is not answered in time is due again, unless it is the grid itself that is slow to answer.

use std::time::Duration;

use ports::broker::{BrokerError, Link};
use protocol::{Micros, address};

use crate::Producer;
use crate::trouble::DispatchError;

/// How often lost replicas are looked for.
const EVERY: Duration = Duration::from_secs(1);
/// A producer that did not look for so long was itself away: stopped, or without its database.
const AWAY: Duration = Duration::from_secs(10);
/// No replica is given up until the grid has been well for so long, in which late outcomes are settled.
const CALM: Duration = Duration::from_secs(10);
/// So many outcomes that wait in one shard are more than aggregators read in a moment.
const BUSY: u32 = 1_000;
/// Replicas given up in one step.
const MAX_EXPIRED: u32 = 1_000;

/// Finds lost replicas.
#[derive(Default)]
pub(crate) struct Expiry {
    looked_at: Option<Micros>,
    calm_since: Option<Micros>,
}

impl Expiry {
    /// Makes replicas due again whose deadline has passed.
    pub(crate) async fn look(&mut self, producer: &Producer, now: Micros) -> Result<(), DispatchError> {
        if self.looked_at.is_some_and(|at| now.since(at) < EVERY) {
            return Ok(());
        }
        let away = self.looked_at.replace(now).is_some_and(|at| now.since(at) > AWAY);
        let unrest = if away { Some("this producer was away".to_owned()) } else { unrest(producer).await? };
        producer.metrics.expiry_held.set(unrest.is_some().into());
        if let Some(reason) = unrest {
            if self.calm_since.take().is_some() {
                tracing::warn!("no replica is taken for lost for now: {reason}");
            }
            return Ok(());
        }
        if now.since(*self.calm_since.get_or_insert(now)) < CALM {
            return Ok(());
        }
        let lost = producer.store.expire_replicas(now, MAX_EXPIRED, false).await?;
        if lost > 0 {
            tracing::warn!("{lost} replicas were not answered in time and are due again");
            producer.metrics.replicas_lost.inc_by(lost.into());
        }
        Ok(())
    }
}

/// Why outcomes may exist that are not settled yet, if they may.
async fn unrest(producer: &Producer) -> Result<Option<String>, BrokerError> {
    match producer.broker.link() {
        Link::Up => {}
        Link::Blocked(reason) | Link::Down(reason) => return Ok(Some(format!("the broker is away: {reason}"))),
    }
    for shard in 0..producer.settings.shards {
        let queue = address::outcomes_queue(shard);
        let depth = producer.broker.depth(&queue).await?.unwrap_or_default();
        if depth.consumers == 0 {
            return Ok(Some(format!("no aggregator reads {queue}")));
        }
        if depth.ready > BUSY {
            return Ok(Some(format!("{} outcomes wait in {queue}", depth.ready)));
        }
    }
    Ok(None)
}
