//! Rescue: units that wait in a lane whose last worker has gone are moved to a lane that has one; what lanes hold, as metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use ports::broker::{BrokerError, Confirm, Outgoing, Verdict};
use protocol::PoolName;
use protocol::address::{self, WORK_EXCHANGE};
use service::CancellationToken;
use service::scope::TaskError;

use crate::Producer;

/// How often lanes are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// A lane without workers at so many looks in a row is given up: a worker that restarts is back sooner.
const LOOKS: u32 = 4;
/// Units moved at a time.
const BATCH: u16 = 64;
/// A lane is empty when it gives nothing for so long.
const EMPTY: Duration = Duration::from_secs(1);
/// The other lane takes them within this time, or they stay.
const SEND_PATIENCE: Duration = Duration::from_secs(10);

/// Runs until stopped.
pub(crate) async fn run(producer: Producer, stopping: CancellationToken) -> Result<(), TaskError> {
    let mut orphaned = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
        for (pool, settings) in &producer.settings.pools {
            if let Err(error) = look(&producer, pool, settings.lanes, &mut orphaned).await {
                tracing::debug!("lanes of pool {pool} were not looked at: {error}");
            }
        }
    }
}

/// Looks at a pool's lanes, and empties those that had no worker for a while into the emptiest that has one.
async fn look(producer: &Producer, pool: &PoolName, lanes: u16, orphaned: &mut BTreeMap<String, u32>) -> Result<(), BrokerError> {
    let (mut orphans, mut living) = (Vec::new(), Vec::new());
    let (mut waiting, mut listening) = (0_i64, 0_i64);
    for lane in 0..lanes {
        let queue = address::work_queue(pool, lane);
        let depth = producer.broker.depth(&queue).await?.unwrap_or_default();
        waiting = waiting.saturating_add(depth.ready.into());
        listening = listening.saturating_add(depth.consumers.into());
        if depth.consumers > 0 {
            living.push((depth.ready, lane));
        }
        if depth.consumers == 0 && depth.ready > 0 {
            let looks = orphaned.entry(queue.clone()).or_insert(0);
            *looks += 1;
            if *looks >= LOOKS {
                orphans.push((queue, depth.ready));
            }
        } else {
            orphaned.remove(&queue);
        }
    }
    producer.metrics.lane_depth.with_label_values(&[pool.as_str()]).set(waiting);
    producer.metrics.lane_consumers.with_label_values(&[pool.as_str()]).set(listening);
    let Some((_, lane)) = living.into_iter().min() else { return Ok(()) };
    for (queue, ready) in orphans {
        let moved = empty(producer, &queue, ready, &address::work_key(pool, lane)).await?;
        tracing::warn!("{moved} units waited in {queue}, which no worker serves: they are moved to lane {lane}");
        orphaned.remove(&queue);
    }
    Ok(())
}

/// Moves a lane's units; a unit is acknowledged only when the other lane has it.
async fn empty(producer: &Producer, queue: &str, ready: u32, routing_key: &str) -> Result<u32, BrokerError> {
    let consumer = producer.broker.consume(queue, BATCH).await?;
    let mut moved = 0;
    while moved < ready {
        let Ok(batch) = tokio::time::timeout(EMPTY, consumer.next(usize::from(BATCH))).await else { break };
        let batch = batch?;
        if batch.is_empty() {
            break;
        }
        let tags: Vec<_> = batch.iter().map(|delivery| delivery.tag).collect();
        let outgoing = batch.into_iter().map(|delivery| Outgoing {
            exchange: WORK_EXCHANGE.to_owned(),
            routing_key: routing_key.to_owned(),
            properties: delivery.properties,
            body: delivery.body,
        });
        let confirms = producer.broker.publish(outgoing.collect(), SEND_PATIENCE).await?;
        let verdict = |confirm: &Confirm| if *confirm == Confirm::Stored { Verdict::Ack } else { Verdict::Requeue };
        let verdicts: Vec<_> = tags.into_iter().zip(confirms.iter().map(verdict)).collect();
        consumer.settle(&verdicts).await?;
        let stored = verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Ack).count();
        if stored == 0 {
            break;
        }
        moved = moved.saturating_add(u32::try_from(stored).unwrap_or(u32::MAX));
    }
    consumer.cancel().await?;
    Ok(moved)
}
