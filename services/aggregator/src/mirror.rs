//! The mirror: what the ledger has committed, as metrics for alerting; the ledger alone is the truth.

use std::collections::BTreeMap;
use std::time::Duration;

use ports::store::{CustomerTotals, UsageFilter};
use protocol::{CustomerName, PoolName};
use service::CancellationToken;
use service::metrics::IntCounterVec;
use service::patience::until_done;
use service::scope::TaskError;

use crate::Aggregator;

type Payer = (CustomerName, PoolName);

/// Runs until stopped.
pub(crate) async fn run(aggregator: Aggregator, stopping: CancellationToken) -> Result<(), TaskError> {
    let mut every = tokio::time::interval(Duration::from_millis(aggregator.settings.mirror_ms.max(1)));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            _ = every.tick() => {}
        }
        let everything = UsageFilter::default();
        let read = || aggregator.store.usage_totals(&everything);
        let Some(totals) = until_done("reading the ledger's sums", &stopping, read).await else { return Ok(()) };
        for (payer, (units, fuel, bytes)) in by_payer(totals) {
            raise(&aggregator.metrics.ledger_units, &payer, units);
            raise(&aggregator.metrics.ledger_fuel, &payer, fuel);
            raise(&aggregator.metrics.ledger_bytes, &payer, bytes);
        }
    }
}

/// Sums over meters: what a customer used in a pool.
fn by_payer(totals: Vec<CustomerTotals>) -> BTreeMap<Payer, (u128, u128, u128)> {
    let mut sums: BTreeMap<Payer, (u128, u128, u128)> = BTreeMap::new();
    for total in totals {
        let sum = sums.entry((total.customer, total.pool)).or_default();
        sum.0 = sum.0.saturating_add(total.units.into());
        sum.1 = sum.1.saturating_add(total.fuel);
        sum.2 = sum.2.saturating_add(total.bytes);
    }
    sums
}

/// Raises a counter to that value; committed sums never fall.
fn raise(counter: &IntCounterVec, (customer, pool): &Payer, value: u128) {
    let counter = counter.with_label_values(&[customer.as_str(), pool.as_str()]);
    let value = u64::try_from(value).unwrap_or(u64::MAX);
    counter.inc_by(value.saturating_sub(counter.get()));
}
