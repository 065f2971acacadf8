//! Settling: reads outcomes in batches, decides each batch in one transaction, then acknowledges it as one.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ports::broker::{Delivery, Tag, Verdict};
use ports::dead::{self, Death};
use ports::store::{StoreError, UnitFacts};
use protocol::address::{DEAD_WORK_QUEUE, Origin};
use protocol::outcome::{Outcome, bounded_reason};
use protocol::unit::Work;
use protocol::{CodecError, Format, HostId, Message, ReplicaKey, UnitKey};
use rules::invariants::Invariant;
use service::CancellationToken;
use service::patience::until_done;
use service::scope::TaskError;

use crate::assemble::Touched;
use crate::decide::{self, Arrived, Middles};
use crate::tally::Tally;
use crate::{Aggregator, AggregatorMetrics, halve};

/// Outcomes delivered and not yet settled: two batches, so that one is read while the other is written.
const BATCHES_AHEAD: u16 = 2;
/// So many bytes of outputs are written in one transaction, and one output more: a statement has a bound, and a time limit.
const MAX_BYTES: usize = 32 << 20;
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

    fn read(&self, delivery: &Delivery) -> Result<Arrived, CodecError> {
        let format = Format::from_content_type(delivery.properties.content_type.as_deref());
        match self {
            Self::Outcomes(_) => Ok(Arrived::new(Outcome::from_bytes(&delivery.body, format?)?)),
            Self::DeadWork => {
                let work = format.and_then(|format| Work::from_bytes(&delivery.body, format));
                match (work, dead::replica(Origin::Work, &delivery.properties.message_id)) {
                    (Ok(work), _) => Ok(Arrived::dead(work.replica, Some(work.slice), nobody(), cause(delivery))),
                    // A unit's message has the replica for its id, so a body that cannot be read does not matter.
                    (Err(_unreadable), Some(replica)) => Ok(Arrived::dead(replica, None, nobody(), cause(delivery))),
                    (Err(error), None) => Err(error),
                }
            }
        }
    }
}

/// Why a unit was given up, for the customer.
fn cause(delivery: &Delivery) -> String {
    let cause = dead::cause(&delivery.properties).unwrap_or_else(|| "it was parked as a dead letter".to_owned());
    bounded_reason(format!("the unit is dead: {cause}"))
}

/// The host of an outcome that no host sent.
fn nobody() -> HostId {
    // A constant name of the allowed alphabet.
    HostId::new("nobody").unwrap_or_else(|_impossible| unreachable!("a constant name"))
}

/// Runs until stopped; then settles what it was given already, and what the queue has more of stays there.
pub(crate) async fn run(
    aggregator: Aggregator,
    source: Source,
    touched: Arc<Touched>,
    unread: Arc<AtomicU16>,
    stopping: CancellationToken,
) -> Result<(), TaskError> {
    let batch = aggregator.settings.batch;
    let subscribe = || aggregator.broker.consume(source.queue(), batch.saturating_mul(BATCHES_AHEAD));
    let Some(consumer) = until_done("subscribing to outcomes", &stopping, subscribe).await else { return Ok(()) };
    if unread.fetch_sub(1, Ordering::Relaxed) == 1 {
        aggregator.ready.ready();
    }
    let mut cancelled = false;
    'serving: loop {
        let deliveries = tokio::select! {
            biased;
            () = stopping.cancelled(), if !cancelled => {
                consumer.cancel().await?;
                cancelled = true;
                continue;
            }
            deliveries = consumer.next(usize::from(batch)) => deliveries?,
        };
        if cancelled && deliveries.is_empty() {
            break;
        }
        let mut verdicts: Vec<(Tag, Verdict)> = Vec::with_capacity(deliveries.len());
        let mut arrivals = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match source.read(&delivery) {
                Ok(arrived) => arrivals.push((delivery.tag, arrived)),
                Err(error) => verdicts.push((delivery.tag, unreadable(&aggregator, &source, delivery, &error).await)),
            }
        }
        for (tags, arrivals) in in_bounds(arrivals) {
            let Some(verdict) = settle(&aggregator, arrivals, &touched, &stopping).await else {
                consumer.settle(&verdicts).await?;
                break 'serving;
            };
            verdicts.extend(tags.into_iter().map(|tag| (tag, verdict)));
        }
        consumer.settle(&verdicts).await?;
    }
    Ok(())
}

/// Cuts a batch where its outputs are too many bytes for one transaction, in its order.
fn in_bounds(arrivals: Vec<(Tag, Arrived)>) -> Vec<(Vec<Tag>, Vec<Arrived>)> {
    let mut parts: Vec<(Vec<Tag>, Vec<Arrived>)> = Vec::new();
    let mut bytes = 0_usize;
    for (tag, arrived) in arrivals {
        let size = arrived.bytes();
        match parts.last_mut() {
            Some((tags, part)) if bytes < MAX_BYTES => {
                tags.push(tag);
                part.push(arrived);
                bytes = bytes.saturating_add(size);
            }
            _ => {
                parts.push((vec![tag], vec![arrived]));
                bytes = size;
            }
        }
    }
    parts
}

/// Settles a batch: what becomes of its messages; `None` if the aggregator is stopping and it could not be done.
async fn settle(
    aggregator: &Aggregator,
    arrivals: Vec<Arrived>,
    touched: &Arc<Touched>,
    stopping: &CancellationToken,
) -> Option<Verdict> {
    for arrival in &arrivals {
        aggregator.metrics.outcomes.with_label_values(&[arrival.kind()]).inc();
    }
    let jobs: Vec<_> = arrivals.iter().map(|arrival| arrival.key.job).collect();
    let mut arrivals = Arc::new(arrivals);
    let mut middles = Middles::default();
    for _ in 0..MAX_ROUNDS {
        let lacking = Arc::new(Mutex::new(Vec::new()));
        let attempt = || once(aggregator, touched, &arrivals, &middles, &lacking);
        until_done("settling outcomes", stopping, attempt).await?;
        let lacking: Vec<(UnitFacts, _)> = std::mem::take(&mut lacking.lock().unwrap_or_else(PoisonError::into_inner));
        if lacking.is_empty() {
            break;
        }
        let units: Vec<UnitKey> = lacking.iter().map(|(unit, _)| unit.key).collect();
        middles = halve::middles(aggregator, lacking, stopping).await?;
        let again = arrivals.iter().filter(|arrival| units.contains(&arrival.key.unit_key())).cloned();
        arrivals = Arc::new(again.collect());
    }
    touched.add(jobs);
    Some(Verdict::Ack)
}

async fn once(
    aggregator: &Aggregator,
    touched: &Arc<Touched>,
    arrivals: &Arc<Vec<Arrived>>,
    middles: &Middles,
    lacking: &decide::Lacking,
) -> Result<(), StoreError> {
    let keys: Vec<ReplicaKey> = arrivals.iter().map(|arrival| arrival.key).collect();
    let now = aggregator.clock.now();
    let tally = Arc::new(Mutex::new(Tally::default()));
    let decision = decide::Decision {
        arrivals: Arc::clone(arrivals),
        middles: middles.clone(),
        lacking: Arc::clone(lacking),
        tally: Arc::clone(&tally),
        touched: Arc::clone(touched),
        now,
    };
    lacking.lock().unwrap_or_else(PoisonError::into_inner).clear();
    {
        let _timer = aggregator.metrics.settle_seconds.start_timer();
        aggregator.store.settle(&keys, Box::new(move |view| decision.take(view))).await?;
    }
    let tally = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
    tell(&aggregator.metrics, tally);
    Ok(())
}

/// Counts what was written.
fn tell(metrics: &AggregatorMetrics, tally: Tally) {
    metrics.wasted_us.inc_by(tally.wasted_us);
    metrics.units_judged.inc_by(tally.judged);
    metrics.disagreements.inc_by(tally.disagreements);
    for (reason, fuel) in tally.wasted_fuel {
        metrics.wasted_fuel.with_label_values(&[reason]).inc_by(fuel);
    }
    for (end, count) in tally.ends {
        metrics.units_settled.with_label_values(&[end]).inc_by(count);
    }
    for (pool, wait) in tally.waits {
        metrics.unit_wait_seconds.with_label_values(&[pool.as_str()]).observe(wait.as_secs_f64());
    }
    for unit in tally.voted_twice {
        metrics.broken(Invariant::Hosts, &format!("a host voted twice for unit {unit}"));
    }
}

/// An outcome that cannot be read is parked; a dead unit that cannot be read is parked already.
async fn unreadable(aggregator: &Aggregator, source: &Source, delivery: Delivery, error: &CodecError) -> Verdict {
    match source {
        Source::DeadWork => {
            tracing::warn!(message = delivery.properties.message_id, "a dead letter names no unit, it stays parked: {error}");
            Verdict::Ack
        }
        Source::Outcomes(queue) => {
            tracing::warn!(message = delivery.properties.message_id, "an outcome is parked as a dead letter: {error}");
            let cause = error.to_string();
            let death = Death { origin: Origin::Outcomes, queue, cause: &cause, at: aggregator.clock.now() };
            let verdict = dead::park(aggregator.broker.as_ref(), delivery, death).await;
            if verdict == Verdict::Ack {
                aggregator.metrics.dead_letters.with_label_values(&[Origin::Outcomes.key()]).inc();
            }
            verdict
        }
    }
}
