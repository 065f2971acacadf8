//! Writing a batch: one transaction, and further ones for units whose halves are not known yet.

use std::sync::{Arc, Mutex, PoisonError};

use ports::store::{StoreError, UnitFacts};
use protocol::{ReplicaKey, UnitKey};
use rules::invariants::Invariant;
use service::patience::until_done;

use super::Settler;
use crate::damage::{Damage, told_apart};
use crate::decide::{self, Arrived, Middles};
use crate::tally::Tally;
use crate::{AggregatorMetrics, halve};

/// A batch is written at most so often for units that are to be halved; each round learns where.
const MAX_ROUNDS: usize = 4;

impl Settler {
    /// Writes what is decided on these outcomes; `None` if the aggregator is stopping and it could not be done.
    ///
    /// With damage some of it may be written. Written again, that has no effect (invariant I4).
    pub(super) async fn write(&self, batch: &Arc<Vec<Arrived>>) -> Option<Result<(), Damage>> {
        let mut arrivals = Arc::clone(batch);
        let mut middles = Middles::default();
        for _ in 0..MAX_ROUNDS {
            let lacking = Arc::new(Mutex::new(Vec::new()));
            let attempt = || told_apart(&self.aggregator, self.once(&arrivals, &middles, &lacking));
            if let Err(damage) = until_done("settling outcomes", &self.stopping, attempt).await? {
                return Some(Err(damage));
            }
            let lacking: Vec<(UnitFacts, _)> = std::mem::take(&mut lacking.lock().unwrap_or_else(PoisonError::into_inner));
            if lacking.is_empty() {
                break;
            }
            let units: Vec<UnitKey> = lacking.iter().map(|(unit, _)| unit.key).collect();
            middles = match halve::middles(&self.aggregator, lacking, &self.stopping).await? {
                Ok(middles) => middles,
                Err(damage) => return Some(Err(damage)),
            };
            let again = arrivals.iter().filter(|arrival| units.contains(&arrival.key.unit_key())).cloned();
            arrivals = Arc::new(again.collect());
        }
        self.touched.add(batch.iter().map(|arrival| arrival.key.job));
        Some(Ok(()))
    }

    async fn once(&self, arrivals: &Arc<Vec<Arrived>>, middles: &Middles, lacking: &decide::Lacking) -> Result<(), StoreError> {
        let aggregator = &self.aggregator;
        let keys: Vec<ReplicaKey> = arrivals.iter().map(|arrival| arrival.key).collect();
        let now = aggregator.clock.now();
        let tally = Arc::new(Mutex::new(Tally::default()));
        let decision = decide::Decision {
            arrivals: Arc::clone(arrivals),
            middles: middles.clone(),
            lacking: Arc::clone(lacking),
            tally: Arc::clone(&tally),
            touched: Arc::clone(&self.touched),
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
