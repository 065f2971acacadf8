//! Weight and limits of customers in the grid's database.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use ports::Clock as _;
use ports::clock::SystemClock;
use ports::store::{CustomerStore, CustomerUse};
use protocol::customer::{CustomerLimits, CustomerRecord};
use protocol::{CustomerName, Micros};
use rules::month::Month;

use crate::args::{FuelLimit, LimitValues};

/// Records read at once.
const PAGE: u32 = 1_000;

/// The customers' records.
pub struct Records {
    store: Arc<dyn CustomerStore>,
}

/// The names of the limits given that the database keeps, as people typed them.
pub fn grid_limits_named(values: &LimitValues) -> Vec<&'static str> {
    let LimitValues { weight, jobs, units, stored_bytes, fuel_per_month, requests_per_second, message_bytes, .. } = values;
    let named = [
        ("--weight", weight.is_some()),
        ("--jobs", jobs.is_some()),
        ("--units", units.is_some()),
        ("--stored-bytes", stored_bytes.is_some()),
        ("--fuel-per-month", fuel_per_month.is_some()),
        ("--requests-per-second", requests_per_second.is_some()),
        ("--message-bytes", message_bytes.is_some()),
    ];
    named.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
}

impl Records {
    /// Over a store.
    pub fn new(store: Arc<dyn CustomerStore>) -> Self {
        Self { store }
    }

    /// A customer's record, if the grid has seen it.
    pub async fn find(&self, name: &CustomerName) -> Result<Option<CustomerRecord>> {
        self.store.customer(name).await.with_context(|| format!("cannot read the record of customer {name}"))
    }

    /// All of them.
    pub async fn all(&self) -> Result<Vec<CustomerRecord>> {
        let mut all: Vec<CustomerRecord> = Vec::new();
        loop {
            let after = all.last().map(|record| record.name.clone());
            let page = self.store.customers(after.as_ref(), PAGE).await.context("cannot read the customers' records")?;
            let is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Writes what is named over what is there, or over the defaults of a new customer.
    pub async fn put(&self, name: &CustomerName, values: &LimitValues) -> Result<CustomerRecord> {
        let record = changed(self.find(name).await?, name, values, SystemClock.now());
        let written = self.store.put_customer(record.clone()).await;
        written.with_context(|| format!("cannot write the limits of customer {name}"))?;
        Ok(record)
    }

    /// What a customer uses now; its fuel is this month's.
    pub async fn used(&self, name: &CustomerName) -> Result<CustomerUse> {
        let since = Month::of(SystemClock.now()).begin();
        self.store.customer_use(name, since).await.with_context(|| format!("cannot read what customer {name} uses"))
    }

    /// Gives up a customer's uploads and forgets its record; whether it could be: not while jobs run.
    pub async fn remove(&self, name: &CustomerName) -> Result<bool> {
        self.store
            .remove_customer(name)
            .await
            .with_context(|| format!("cannot remove uploads and record of customer {name}: the same again goes on"))
    }
}

fn changed(found: Option<CustomerRecord>, name: &CustomerName, values: &LimitValues, now: Micros) -> CustomerRecord {
    let new = || CustomerRecord { name: name.clone(), weight: 1, limits: CustomerLimits::default(), created_at: now };
    let before = found.unwrap_or_else(new);
    let limits = CustomerLimits {
        message_bytes: values.message_bytes.unwrap_or(before.limits.message_bytes),
        requests_per_second: values.requests_per_second.unwrap_or(before.limits.requests_per_second),
        jobs: values.jobs.unwrap_or(before.limits.jobs),
        units: values.units.unwrap_or(before.limits.units),
        stored_bytes: values.stored_bytes.unwrap_or(before.limits.stored_bytes),
        fuel_per_month: values.fuel_per_month.map_or(before.limits.fuel_per_month, |FuelLimit(fuel)| fuel),
    };
    CustomerRecord { weight: values.weight.unwrap_or(before.weight), limits, ..before }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let name = CustomerName::new("acme").unwrap();
        let values = LimitValues { weight: Some(3), jobs: Some(7), ..LimitValues::default() };
        let new = changed(None, &name, &values, Micros(5));
        let expected = CustomerLimits { jobs: 7, ..CustomerLimits::default() };
        assert_eq!((new.weight, new.limits, new.created_at), (3, expected, Micros(5)));
        let fuel = FuelLimit(Some(protocol::Fuel::new(9).unwrap()));
        let values = LimitValues { fuel_per_month: Some(fuel), ..LimitValues::default() };
        let again = changed(Some(new), &name, &values, Micros(8));
        assert_eq!((again.weight, again.limits.jobs, again.limits.fuel_per_month), (3, 7, fuel.0));
        assert_eq!(again.created_at, Micros(5));
        let values = LimitValues { fuel_per_month: Some(FuelLimit(None)), ..LimitValues::default() };
        assert_eq!(changed(Some(again), &name, &values, Micros(8)).limits.fuel_per_month, None);
    }

    #[test]
    fn what_needs_the_database_is_known_by_its_flag() {
        let values = LimitValues { max_channels: Some(1), units: Some(1), weight: Some(1), ..LimitValues::default() };
        assert_eq!(grid_limits_named(&values), ["--weight", "--units"]);
    }
}
