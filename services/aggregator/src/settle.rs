//! Settling: reads outcomes in batches, decides each batch in one transaction, then acknowledges it as one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ports::broker::{Confirm, Delivery, Outgoing, Tag, Verdict};
use ports::store::{StoreError, UnitFacts};
use protocol::address::{DEAD_EXCHANGE, DEAD_WORK_QUEUE, Origin};
use protocol::outcome::{Outcome, OutcomeResult, bounded_reason};
use protocol::unit::Work;
use protocol::{CodecError, Format, HostId, Message, ReplicaKey, UnitKey};
use service::CancellationToken;
use service::patience::until_done;
use service::scope::TaskError;

use crate::assemble::Touched;
use crate::decide::{self, Arrived, Middles};
use crate::{Aggregator, halve};

/// Outcomes delivered and not yet settled: two batches, so that one is read while the other is written.
const BATCHES_AHEAD: u16 = 2;
/// A dead letter is offered to the broker so long before its message is given back instead.
const PARK_PATIENCE: Duration = Duration::from_secs(30);
/// A batch is settled at most so often for units that are to be halved; each round learns where.
const MAX_ROUNDS: usize = 4;

/// Where outcomes come from.
pub(crate) enum Source {
    /// A shard of what workers report.
    Outcomes(String),
    /// Units the broker gave up on: each is an outcome of nobody.
    DeadWork,
}

impl Source {
    fn queue(&self) -> &str {
        match self {
            Self::Outcomes(queue) => queue,
            Self::DeadWork => DEAD_WORK_QUEUE,
        }
    }

    fn read(&self, delivery: &Delivery) -> Result<Outcome, CodecError> {
        let format = Format::from_content_type(delivery.properties.content_type.as_deref())?;
        match self {
            Self::Outcomes(_) => Outcome::from_bytes(&delivery.body, format),
            Self::DeadWork => Ok(dead(&Work::from_bytes(&delivery.body, format)?, delivery)),
        }
    }
}

fn dead(work: &Work, delivery: &Delivery) -> Outcome {
    let cause = delivery.properties.headers.iter().find(|(name, _)| name == "offpeak-dead-cause");
    let cause = cause.map_or("the broker gave up on the unit: its workers died under it", |(_, cause)| cause.as_str());
    Outcome {
        replica: work.replica,
        slice: work.slice,
        host: nobody(),
        result: OutcomeResult::Dead { reason: bounded_reason(cause.to_owned()) },
        compute_us: 0,
    }
}

/// The host of an outcome that no host sent.
fn nobody() -> HostId {
    // A constant name of the allowed alphabet.
    HostId::new("nobody").unwrap_or_else(|_impossible| unreachable!("a constant name"))
}

/// Runs until stopped; what is not settled by then stays in the queue.
pub(crate) async fn run(
    aggregator: Aggregator,
    source: Source,
    touched: Arc<Touched>,
    stopping: CancellationToken,
) -> Result<(), TaskError> {
    let batch = aggregator.settings.batch;
    let consumer = aggregator.broker.consume(source.queue(), batch.saturating_mul(BATCHES_AHEAD)).await?;
    loop {
        let deliveries = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            deliveries = consumer.next(usize::from(batch)) => deliveries?,
        };
        let mut verdicts: Vec<(Tag, Verdict)> = Vec::with_capacity(deliveries.len());
        let mut arrivals = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match source.read(&delivery) {
                Ok(outcome) => {
                    verdicts.push((delivery.tag, Verdict::Ack));
                    arrivals.push(Arrived::new(outcome));
                }
                Err(error) => verdicts.push((delivery.tag, unreadable(&aggregator, &source, delivery, &error).await)),
            }
        }
        if !settle(&aggregator, arrivals, &touched, &stopping).await {
            break;
        }
        consumer.settle(&verdicts).await?;
    }
    consumer.cancel().await?;
    Ok(())
}

/// Settles a batch; `false` if the aggregator is stopping and it could not be done.
async fn settle(aggregator: &Aggregator, arrivals: Vec<Arrived>, touched: &Touched, stopping: &CancellationToken) -> bool {
    if arrivals.is_empty() {
        return true;
    }
    for arrival in &arrivals {
        aggregator.metrics.outcomes.with_label_values(&[arrival.kind()]).inc();
    }
    let jobs: Vec<_> = arrivals.iter().map(|arrival| arrival.key.job).collect();
    let mut arrivals = Arc::new(arrivals);
    let mut middles = Middles::default();
    for _ in 0..MAX_ROUNDS {
        let lacking = Arc::new(Mutex::new(Vec::new()));
        let attempt = || once(aggregator, &arrivals, &middles, &lacking);
        if until_done("settling outcomes", stopping, attempt).await.is_none() {
            return false;
        }
        let lacking: Vec<(UnitFacts, _)> = std::mem::take(&mut lacking.lock().unwrap_or_else(PoisonError::into_inner));
        if lacking.is_empty() {
            break;
        }
        let units: Vec<UnitKey> = lacking.iter().map(|(unit, _)| unit.key).collect();
        let Some(found) = halve::middles(aggregator, lacking, stopping).await else { return false };
        middles = found;
        let again = arrivals.iter().filter(|arrival| units.contains(&arrival.key.unit_key())).cloned();
        arrivals = Arc::new(again.collect());
    }
    touched.add(jobs);
    true
}

async fn once(
    aggregator: &Aggregator,
    arrivals: &Arc<Vec<Arrived>>,
    middles: &Middles,
    lacking: &decide::Lacking,
) -> Result<(), StoreError> {
    let keys: Vec<ReplicaKey> = arrivals.iter().map(|arrival| arrival.key).collect();
    let now = aggregator.clock.now();
    let tally = Arc::new(Mutex::new(BTreeMap::new()));
    let decision = decide::Decision {
        arrivals: Arc::clone(arrivals),
        middles: middles.clone(),
        lacking: Arc::clone(lacking),
        tally: Arc::clone(&tally),
        now,
    };
    lacking.lock().unwrap_or_else(PoisonError::into_inner).clear();
    {
        let _timer = aggregator.metrics.settle_seconds.start_timer();
        aggregator.store.settle(&keys, Box::new(move |view| decision.take(view))).await?;
    }
    for (end, count) in tally.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if *end == decide::WASTED_US {
            aggregator.metrics.wasted_us.inc_by(*count);
        } else {
            aggregator.metrics.units_settled.with_label_values(&[*end]).inc_by(*count);
        }
    }
    Ok(())
}

/// An outcome that cannot be read is parked; a dead unit that cannot be read is parked already.
async fn unreadable(aggregator: &Aggregator, source: &Source, delivery: Delivery, error: &CodecError) -> Verdict {
    match source {
        Source::DeadWork => Verdict::Ack,
        Source::Outcomes(_) => {
            tracing::warn!(message = delivery.properties.message_id, "an outcome is parked as a dead letter: {error}");
            let mut properties = delivery.properties;
            properties.headers.push(("offpeak-dead-cause".to_owned(), bounded_reason(error.to_string())));
            properties.headers.push(("offpeak-dead-routing-key".to_owned(), delivery.routing_key));
            let routing_key = Origin::Outcomes.key().to_owned();
            let letter = Outgoing { exchange: DEAD_EXCHANGE.to_owned(), routing_key, properties, body: delivery.body };
            match aggregator.broker.publish(vec![letter], PARK_PATIENCE).await.as_deref() {
                Ok([Confirm::Stored]) => Verdict::Ack,
                Ok(_) | Err(_) => Verdict::Requeue,
            }
        }
    }
}
