//! Customers: weight and limits of each, and what it uses of them now.

use async_trait::async_trait;
use ports::store::{CustomerStore, CustomerUse, StoreError, UploadRoom};
use protocol::customer::{CustomerLimits, CustomerRecord};
use protocol::{CustomerName, Micros};

use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::sql::{Lock, Row, Tx, Value, values};
use crate::{attempt, outbox};

/// A customer's columns. One that was written without a time is as old as its first job.
const CUSTOMER: &str =
    "SELECT c.name, c.weight, c.message_bytes, c.requests_per_second, c.jobs, c.units, c.stored_bytes, c.fuel_per_month,
        COALESCE(c.created_at, (SELECT j.admitted_at FROM jobs j WHERE j.customer = c.name ORDER BY j.id LIMIT 1), 0)
    FROM customers c";

#[async_trait]
impl CustomerStore for SqlStore {
    async fn customer(&self, name: &CustomerName) -> Result<Option<CustomerRecord>, StoreError> {
        let found = attempt!("read customer", self.try_customers("WHERE c.name = $1", values![name]))?;
        Ok(found.into_iter().next())
    }

    async fn customers(&self, after: Option<&CustomerName>, limit: u32) -> Result<Vec<CustomerRecord>, StoreError> {
        let after = after.map_or("", CustomerName::as_str);
        let wanted = "WHERE c.name > $1 ORDER BY c.name LIMIT $2";
        attempt!("read customers", self.try_customers(wanted, values![after, limit]))
    }

    async fn put_customer(&self, record: CustomerRecord) -> Result<(), StoreError> {
        attempt!("write customer", self.try_put_customer(&record))
    }

    async fn remove_customer(&self, name: &CustomerName) -> Result<bool, StoreError> {
        if attempt!("look for running jobs", self.try_has_running(name))? || !self.release_all(name).await? {
            return Ok(false);
        }
        attempt!("remove customer", self.try_remove_customer(name))
    }

    async fn customer_use(&self, name: &CustomerName, since: Micros) -> Result<CustomerUse, StoreError> {
        attempt!("read a customer's use", self.try_customer_use(name, since))
    }
}

impl SqlStore {
    async fn try_customers(&self, wanted: &str, values: Vec<Value>) -> Result<Vec<CustomerRecord>, Fault> {
        let mut tx = self.read().await?;
        tx.composed(format!("{CUSTOMER} {wanted}"), values).await?.iter().map(read_customer).collect()
    }

    async fn try_put_customer(&self, record: &CustomerRecord) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        let sql = "INSERT INTO customers
                (name, weight, message_bytes, requests_per_second, jobs, units, stored_bytes, fuel_per_month, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT (name) DO UPDATE SET weight = excluded.weight, message_bytes = excluded.message_bytes,
                requests_per_second = excluded.requests_per_second, jobs = excluded.jobs, units = excluded.units,
                stored_bytes = excluded.stored_bytes, fuel_per_month = excluded.fuel_per_month";
        let CustomerLimits { message_bytes, requests_per_second, jobs, units, stored_bytes, fuel_per_month } = record.limits;
        let values = values![
            &record.name,
            record.weight,
            message_bytes,
            requests_per_second,
            jobs,
            units,
            stored_bytes,
            fuel_per_month,
            record.created_at,
        ];
        tx.run(sql, values).await?;
        tx.commit().await
    }

    async fn try_has_running(&self, name: &CustomerName) -> Result<bool, Fault> {
        has_running(&mut self.read().await?, name).await
    }

    async fn try_remove_customer(&self, name: &CustomerName) -> Result<bool, Fault> {
        let mut tx = self.write().await?;
        tx.lock(Lock::Customer(name.as_str())).await?;
        if has_running(&mut tx, name).await? {
            return Ok(false);
        }
        tx.run("DELETE FROM customers WHERE name = $1", values![name]).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn try_customer_use(&self, name: &CustomerName, since: Micros) -> Result<CustomerUse, Fault> {
        let mut tx = self.read().await?;
        let jobs = "SELECT COUNT(*) FROM jobs WHERE customer = $1 AND state = 'running'";
        let jobs = tx.first(jobs, values![name]).await?.map_or(Ok(0), |row| row.number(0))?;
        let unsent = outbox::unsent(&mut tx, name).await?;
        let stored_bytes = taken(&mut tx, name).await?.bytes;
        let fuel = self.fuel_sums.read(&mut tx, name, since).await?;
        Ok(CustomerUse { jobs, stored_bytes, fuel, unsent_messages: unsent.messages, unsent_bytes: unsent.bytes })
    }
}

async fn has_running(tx: &mut Tx, customer: &CustomerName) -> Result<bool, Fault> {
    let sql = "SELECT CAST(1 AS BIGINT) FROM jobs WHERE customer = $1 AND state = 'running' LIMIT 1";
    Ok(tx.first(sql, values![customer]).await?.is_some())
}

/// What a customer's blobs take, those begun counted whole.
pub(crate) async fn taken(tx: &mut Tx, customer: &CustomerName) -> Result<UploadRoom, Fault> {
    let sql = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT), COUNT(*) FROM uploads WHERE customer = $1";
    let Some(row) = tx.first(sql, values![customer]).await? else { return Ok(UploadRoom::default()) };
    Ok(UploadRoom { bytes: row.number(0)?, blobs: row.number(1)? })
}

/// A customer of the columns [`CUSTOMER`]; a limit that was never set is the grid's.
fn read_customer(row: &Row) -> Result<CustomerRecord, Fault> {
    let grid = CustomerLimits::default();
    Ok(CustomerRecord {
        name: row.parsed(0)?,
        weight: row.number(1)?,
        limits: CustomerLimits {
            message_bytes: row.opt_number(2)?.unwrap_or(grid.message_bytes),
            requests_per_second: row.opt_number(3)?.unwrap_or(grid.requests_per_second),
            jobs: row.opt_number(4)?.unwrap_or(grid.jobs),
            units: row.opt_number(5)?.unwrap_or(grid.units),
            stored_bytes: row.opt_number(6)?.unwrap_or(grid.stored_bytes),
            fuel_per_month: if row.opt_int(7)?.is_some() { Some(row.fuel(7)?) } else { None },
        },
        created_at: row.time(8)?,
    })
}
