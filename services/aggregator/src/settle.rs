//! Settling: reads outcomes in batches, decides each batch in one transaction, then acknowledges it as one.
//!
//! Where the store meets damage in a batch, the batch is halved until only those outcomes are left that alone meet it. They
//! are parked as dead letters, and all others are settled.

mod batch;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use ports::broker::{Delivery, Properties, Tag, Verdict};
use ports::dead::{self, Death};
use protocol::address::{DEAD_WORK_QUEUE, Origin};
use protocol::outcome::{Outcome, bounded_reason};
use protocol::unit::Work;
use protocol::{CodecError, Format, HostId, JobId, Message, ReplicaKey};
use rules::invariants::Invariant;
use service::patience::until_done;
use service::scope::TaskError;
use service::{CancellationToken, Seen};
use tokio::task::JoinSet;

use crate::Aggregator;
use crate::assemble::Touched;
use crate::damage::Damage;
use crate::decide::Arrived;
use batch::Batch;

/// Outcomes delivered and not yet settled: two batches, so that one is read while the other is written.
const BATCHES_AHEAD: u16 = 2;
/// So many bytes of outputs are written in one transaction, and one output more: a statement has a bound, and a time limit.
const MAX_BYTES: usize = 32 << 20;
/// Jobs that meet damage are remembered to this number; one that is forgotten is said again.
const MAX_DAMAGED: usize = 1_000;

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
        let Properties { kind, content_type, message_id, .. } = &delivery.properties;
        let format = Format::from_content_type(content_type.as_deref());
        match self {
            Self::Outcomes(_) => Ok(Arrived::new(Outcome::from_typed(kind, &delivery.body, format?)?)),
            Self::DeadWork => {
                let work = format.and_then(|format| Work::from_typed(kind, &delivery.body, format));
                match (work, dead::replica(Origin::Work, message_id)) {
                    (Ok(work), _) => Ok(Arrived::dead(work.replica, Some(work.slice), nobody(), cause(delivery))),
                    // A unit's message has the replica for its id, so a body that cannot be read does not matter.
                    (Err(_unreadable), Some(replica)) => Ok(Arrived::dead(replica, None, nobody(), cause(delivery))),
                    (Err(error), None) => Err(error),
                }
            }
        }
    }

    /// Whether a message is a copy of one that is parked: only what comes through the exchange of dead letters is.
    fn is_parked(&self, delivery: &Delivery) -> bool {
        match self {
            Self::Outcomes(_) => false,
            Self::DeadWork => delivery.routing_key == Origin::Work.key(),
        }
    }

    /// Says what becomes of a message that cannot be read.
    fn unreadable(&self, delivery: &Delivery, error: &CodecError) {
        let id = &delivery.properties.message_id;
        if self.is_parked(delivery) {
            tracing::warn!(message = id, "a dead letter names no unit, it stays parked: {error}");
        } else {
            tracing::warn!(message = id, "a message of {} is parked as a dead letter: {error}", self.queue());
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
    let settler = Settler { aggregator, source, touched, stopping, damaged: Seen::new(MAX_DAMAGED) };
    let mut cancelled = false;
    loop {
        let deliveries = tokio::select! {
            biased;
            () = settler.stopping.cancelled(), if !cancelled => {
                consumer.cancel().await?;
                cancelled = true;
                continue;
            }
            deliveries = consumer.next(usize::from(batch)) => deliveries?,
        };
        if cancelled && deliveries.is_empty() {
            break;
        }
        let mut verdicts = Vec::with_capacity(deliveries.len());
        let done = settler.settle_all(deliveries, &mut verdicts).await;
        consumer.settle(&verdicts).await?;
        if done.is_none() {
            break;
        }
    }
    Ok(())
}

/// A message that can have no effect, and why, for operators.
type Useless = (Delivery, String);

/// Settles what one queue has.
struct Settler {
    aggregator: Aggregator,
    source: Source,
    touched: Arc<Touched>,
    stopping: CancellationToken,
    /// Jobs of which it was said that they meet damage.
    damaged: Seen<JobId>,
}

impl Settler {
    /// Settles deliveries in their order, and parks those that can have no effect. `None` if the aggregator is stopping and
    /// not all could be done: those without a verdict are left to whoever reads the queue next.
    async fn settle_all(&self, deliveries: Vec<Delivery>, verdicts: &mut Vec<(Tag, Verdict)>) -> Option<()> {
        let (mut deliveries, mut useless) = (deliveries.into_iter(), Vec::new());
        loop {
            let batch = self.read(&mut deliveries, &mut useless);
            if batch.is_empty() {
                break;
            }
            self.settle(batch, verdicts, &mut useless).await?;
        }
        verdicts.extend(self.park(useless).await);
        Some(())
    }

    /// Reads on, as far as the outputs go into one transaction: messages are kept beside what is read of them, and no more than
    /// that is held twice.
    fn read(&self, deliveries: impl Iterator<Item = Delivery>, useless: &mut Vec<Useless>) -> Batch {
        let (mut read, mut bytes) = (Vec::new(), 0_usize);
        for delivery in deliveries {
            match self.source.read(&delivery) {
                Ok(arrived) => {
                    self.aggregator.metrics.outcomes.with_label_values(&[arrived.kind()]).inc();
                    bytes = bytes.saturating_add(arrived.bytes());
                    read.push((delivery, arrived));
                }
                Err(error) => {
                    self.source.unreadable(&delivery, &error);
                    useless.push((delivery, error.to_string()));
                }
            }
            if bytes >= MAX_BYTES {
                break;
            }
        }
        Batch::new(read)
    }

    /// Settles a batch, halved where it meets damage: one row of a unit or all of a job may be damaged, and halving finds either.
    /// It takes twice as many transactions as there are outcomes at most, a look at the database after each that met damage, and few
    /// where little is damaged.
    async fn settle(&self, batch: Batch, verdicts: &mut Vec<(Tag, Verdict)>, useless: &mut Vec<Useless>) -> Option<()> {
        // The last one is next, so that outcomes are settled in their order.
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let written = self.write(&part.arrivals).await?;
            match written {
                Ok(()) => verdicts.extend(part.tags().map(|tag| (tag, Verdict::Ack))),
                Err(damage) if part.is_single() => {
                    let told = |(message, key)| (message, self.tell(key, &damage));
                    useless.extend(part.into_messages().into_iter().map(told));
                }
                Err(_) => parts.extend(part.halves().into_iter().rev()),
            }
        }
        Some(())
    }

    /// Why an outcome that meets damage is of no use; of its job that is said once.
    fn tell(&self, key: ReplicaKey, Damage(error): &Damage) -> String {
        let job = key.job;
        if self.damaged.is_new(job) {
            let what = format!("outcomes of job {job} cannot be settled and are dead letters until it is mended: {error}");
            self.aggregator.metrics.broken(Invariant::Assembly, &what);
        }
        format!("the outcome of {key} cannot be settled: {error}")
    }

    /// Parks messages that can have no effect, all at the same time: a broker that takes none is waited for once. What is parked
    /// already is done with.
    async fn park(&self, useless: Vec<Useless>) -> Vec<(Tag, Verdict)> {
        let (parked, useless): (Vec<_>, Vec<_>) = useless.into_iter().partition(|(message, _)| self.source.is_parked(message));
        let mut parking = JoinSet::new();
        for (message, cause) in useless {
            let (broker, at) = (Arc::clone(&self.aggregator.broker), self.aggregator.clock.now());
            let queue = self.source.queue().to_owned();
            parking.spawn(async move {
                let death = Death { origin: Origin::Outcomes, queue: &queue, cause: &cause, at };
                (message.tag, dead::park(broker.as_ref(), message, death).await)
            });
        }
        let mut verdicts = parking.join_all().await;
        let letters = self.aggregator.metrics.dead_letters.with_label_values(&[Origin::Outcomes.key()]);
        verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Ack).for_each(|_| letters.inc());
        verdicts.extend(parked.into_iter().map(|(message, _)| (message.tag, Verdict::Ack)));
        verdicts
    }
}

#[cfg(test)]
mod tests;
