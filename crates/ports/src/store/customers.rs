//! Customers: weight and limits of each, and what it uses of them now.

use async_trait::async_trait;
use protocol::customer::CustomerRecord;
use protocol::{CustomerName, Micros};

use super::StoreError;

/// What a customer uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CustomerUse {
    /// Jobs that have not ended.
    pub jobs: u64,
    /// Bytes of its blobs, those begun counted whole.
    pub stored_bytes: u64,
    /// Fuel of its rows of the ledger from the time asked on.
    pub fuel: u128,
    /// Messages that wait in the outbox for it.
    pub unsent_messages: u64,
    /// Their bytes.
    pub unsent_bytes: u64,
}

/// The customers' transactions.
#[async_trait]
pub trait CustomerStore: Send + Sync {
    /// A customer; `None` if it was never seen.
    async fn customer(&self, name: &CustomerName) -> Result<Option<CustomerRecord>, StoreError>;

    /// Customers in the order of their names, those after `after`, at most `limit`.
    async fn customers(&self, after: Option<&CustomerName>, limit: u32) -> Result<Vec<CustomerRecord>, StoreError>;

    /// Writes weight and limits of a customer, who is created if new; `created_at` of one that is there stays.
    async fn put_customer(&self, record: CustomerRecord) -> Result<(), StoreError>;

    /// Gives up all blobs of a customer without running jobs, as `release_blob` does, and then forgets its weight and
    /// limits; `false` if it has such jobs. Its jobs and ledger stay. If it ends half-way, the same again goes on.
    async fn remove_customer(&self, name: &CustomerName) -> Result<bool, StoreError>;

    /// What a customer uses now; its fuel is that recorded from `since` on. Zero for one never seen.
    async fn customer_use(&self, name: &CustomerName, since: Micros) -> Result<CustomerUse, StoreError>;
}
