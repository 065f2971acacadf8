//! The mirror: what the ledger has committed, as metrics for alerting; the ledger alone is the truth.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ports::store::{CustomerTotals, UsageFilter};
use protocol::{CustomerName, PoolName};
use service::CancellationToken;
use service::metrics::IntCounterVec;
use service::patience::until_done;
use service::scope::TaskError;

use crate::Aggregator;

/// Customers with series of their own; those who come later share [`OTHER`], so that no number of them overwhelms who scrapes.
const MAX_CUSTOMERS: usize = 100;
/// The label of all other customers; no customer's name begins like this.
const OTHER: &str = "_other";

/// The customer's label, and the pool.
type Payer = (String, PoolName);
/// Units, fuel and bytes.
type Sums = (u128, u128, u128);

/// Runs until stopped.
pub(crate) async fn run(aggregator: Aggregator, stopping: CancellationToken) -> Result<(), TaskError> {
    let mut every = tokio::time::interval(Duration::from_millis(aggregator.settings.mirror_ms.max(1)));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut shown = Shown::default();
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            _ = every.tick() => {}
        }
        let everything = UsageFilter::default();
        let read = || aggregator.store.usage_totals(&everything);
        let Some(totals) = until_done("reading the ledger's sums", &stopping, read).await else { return Ok(()) };
        for (payer, (units, fuel, bytes)) in shown.by_payer(totals) {
            raise(&aggregator.metrics.ledger_units, &payer, units);
            raise(&aggregator.metrics.ledger_fuel, &payer, fuel);
            raise(&aggregator.metrics.ledger_bytes, &payer, bytes);
        }
    }
}

/// The customers with series of their own; one that has them keeps them, since a counter must not fall.
#[derive(Default)]
struct Shown(BTreeSet<CustomerName>);

impl Shown {
    /// Sums over meters: what a customer used in a pool.
    fn by_payer(&mut self, totals: Vec<CustomerTotals>) -> BTreeMap<Payer, Sums> {
        self.welcome(&totals);
        let mut sums: BTreeMap<Payer, Sums> = BTreeMap::new();
        for total in totals {
            let label = if self.0.contains(&total.customer) { total.customer.as_str() } else { OTHER };
            let sum = sums.entry((label.to_owned(), total.pool)).or_default();
            sum.0 = sum.0.saturating_add(total.units.into());
            sum.1 = sum.1.saturating_add(total.fuel);
            sum.2 = sum.2.saturating_add(total.bytes);
        }
        sums
    }

    /// Gives series to new customers while there is room, to those with the most fuel first.
    fn welcome(&mut self, totals: &[CustomerTotals]) {
        let mut fuel: BTreeMap<&CustomerName, u128> = BTreeMap::new();
        for total in totals.iter().filter(|total| !self.0.contains(&total.customer)) {
            let sum = fuel.entry(&total.customer).or_default();
            *sum = sum.saturating_add(total.fuel);
        }
        let mut new: Vec<_> = fuel.into_iter().collect();
        new.sort_by_key(|(_, fuel)| Reverse(*fuel));
        let room = MAX_CUSTOMERS.saturating_sub(self.0.len());
        self.0.extend(new.into_iter().take(room).map(|(customer, _)| customer.clone()));
    }
}

/// Raises a counter to that value; committed sums never fall.
fn raise(counter: &IntCounterVec, (customer, pool): &Payer, value: u128) {
    let counter = counter.with_label_values(&[customer.as_str(), pool.as_str()]);
    let value = u64::try_from(value).unwrap_or(u64::MAX);
    counter.inc_by(value.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use protocol::MeterId;

    use super::*;

    fn total(customer: usize, fuel: u128) -> CustomerTotals {
        CustomerTotals {
            customer: CustomerName::new(format!("customer-{customer}")).expect("a name"),
            pool: PoolName::new("open").expect("a name"),
            meter: MeterId::new("meter-1").expect("a meter"),
            units: 1,
            fuel,
            bytes: 2,
        }
    }

    fn names(sums: &BTreeMap<Payer, Sums>) -> BTreeSet<String> {
        sums.keys().map(|(label, _)| label.clone()).collect()
    }

    #[test]
    fn ten_thousand_customers_are_a_hundred_series_and_one() {
        let mut shown = Shown::default();
        let totals: Vec<_> = (0..10_000).map(|n| total(n, u128::try_from(n).expect("small"))).collect();
        let sums = shown.by_payer(totals.clone());
        let labels = names(&sums);
        assert_eq!(labels.len(), MAX_CUSTOMERS + 1);
        assert!(labels.contains(OTHER) && labels.contains("customer-9999") && !labels.contains("customer-9899"));
        let sum = sums.values().fold((0, 0), |(units, fuel), sum| (units + sum.0, fuel + sum.1));
        assert_eq!(sum, (10_000, 9_999 * 10_000 / 2), "nothing is left out");

        // Another customer grows beyond all of them: no series moves, and none falls.
        let grown = totals.into_iter().map(|known| if known.fuel == 5 { total(5, 1 << 40) } else { known });
        let later = shown.by_payer(grown.collect());
        assert_eq!(names(&later), labels);
        assert!(sums.iter().all(|(payer, before)| later[payer].1 >= before.1));
    }

    #[test]
    fn a_customer_who_comes_later_gets_series_while_there_is_room() {
        let mut shown = Shown::default();
        assert_eq!(names(&shown.by_payer(vec![total(1, 5)])).len(), 1);
        let both = shown.by_payer(vec![total(1, 5), total(2, 9), total(2, 1)]);
        let fuel = |name: &str| both.iter().find(|((label, _), _)| label == name).map(|(_, sum)| sum.1);
        assert_eq!((both.len(), fuel("customer-1"), fuel("customer-2")), (2, Some(5), Some(10)));
    }
}
