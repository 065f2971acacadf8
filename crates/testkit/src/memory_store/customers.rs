//! Customers: weight and limits of each, and what it uses of them now.

use std::ops::Bound;

use async_trait::async_trait;
use ports::store::{CustomerStore, CustomerUse, StoreError};
use protocol::customer::{CustomerLimits, CustomerRecord};
use protocol::{CustomerName, Micros};

use super::MemoryStore;
use super::fault::Refused;
use super::state::{State, held, rows};

/// Every customer's weight, until it is given another.
const WEIGHT: u32 = 1;

#[async_trait]
impl CustomerStore for MemoryStore {
    async fn customer(&self, name: &CustomerName) -> Result<Option<CustomerRecord>, StoreError> {
        self.run("read customer", |state| Ok(state.customers.get(name).cloned()))
    }

    async fn customers(&self, after: Option<&CustomerName>, limit: u32) -> Result<Vec<CustomerRecord>, StoreError> {
        self.run("read customers", |state| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let records = state.customers.range((from, Bound::Unbounded)).map(|(_, record)| record.clone());
            Ok(records.take(rows(limit)).collect())
        })
    }

    async fn put_customer(&self, record: CustomerRecord) -> Result<(), StoreError> {
        self.run("write customer", |state| state.put_customer(record))
    }

    async fn remove_customer(&self, name: &CustomerName) -> Result<bool, StoreError> {
        let now = self.shared.clock.now();
        self.run("remove customer", |state| {
            let idle = !state.running().any(|(_, job)| job.admitted.customer == *name);
            if idle {
                state.release_all(name, now);
                state.customers.remove(name);
            }
            Ok(idle)
        })
    }

    async fn customer_use(&self, name: &CustomerName, since: Micros) -> Result<CustomerUse, StoreError> {
        self.run("read a customer's use", |state| Ok(state.customer_use(name, since)))
    }
}

impl State {
    /// A job of this customer is admitted.
    pub(super) fn see_customer(&mut self, name: &CustomerName, at: Micros) {
        self.customers.entry(name.clone()).or_insert_with(|| CustomerRecord {
            name: name.clone(),
            weight: WEIGHT,
            limits: CustomerLimits::default(),
            created_at: at,
        });
    }

    /// A customer's weight and limits, or the grid's.
    pub(super) fn terms(&self, name: &CustomerName) -> (u32, CustomerLimits) {
        self.customers.get(name).map_or((WEIGHT, CustomerLimits::default()), |record| (record.weight, record.limits))
    }

    fn put_customer(&mut self, mut record: CustomerRecord) -> Result<(), Refused> {
        if record.weight == 0 {
            return Err(Refused(format!("customer {} cannot have no weight", record.name)));
        }
        record.limits.stored_bytes = held(record.limits.stored_bytes);
        if let Some(known) = self.customers.get(&record.name) {
            record.created_at = known.created_at;
        }
        self.customers.insert(record.name.clone(), record);
        Ok(())
    }

    fn customer_use(&self, name: &CustomerName, since: Micros) -> CustomerUse {
        let jobs = self.running().filter(|(_, job)| job.admitted.customer == *name).count();
        let metered = self.ledger.iter().filter(|usage| usage.customer == *name && usage.recorded_at >= since);
        let unsent = self.outbox.unsent(name);
        CustomerUse {
            jobs: u64::try_from(jobs).unwrap_or(u64::MAX),
            stored_bytes: self.taken(name).bytes,
            fuel: metered.map(|usage| u128::from(usage.fuel.get())).sum(),
            unsent_messages: unsent.messages,
            unsent_bytes: unsent.bytes,
        }
    }
}
