//! The ledger: one row per valid unit, appended only, summed exactly.

use ports::store::{CustomerTotals, UsageFilter};
use protocol::UnitKey;
use protocol::usage::Usage;

use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::sql::{Lock, Row, Tx, Value, values};

/// The sum of a column of 63-bit numbers, as two columns that [`whole`] reads: it is taken in halves of 32 bits, each of which
/// fits 64 bits over 2^31 rows.
macro_rules! halves {
    ($column:literal) => {
        concat!(
            "CAST(COALESCE(SUM(",
            $column,
            " >> 32), 0) AS BIGINT), CAST(COALESCE(SUM(",
            $column,
            " & 4294967295), 0) AS BIGINT)"
        )
    };
}
pub(crate) use halves;

/// Appends rows; the last thing its transaction does, because others wait to append meanwhile.
pub(crate) async fn append(tx: &mut Tx, rows: &[Usage]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    tx.lock(Lock::Ledger).await?;
    let row = |usage: &Usage| {
        values![
            usage.unit.job,
            usage.unit.unit,
            &usage.customer,
            &usage.pool,
            &usage.meter,
            usage.fuel,
            usage.bytes,
            usage.output,
            usage.recorded_at,
        ]
    };
    let insert = "INSERT INTO ledger (job, unit, customer, pool, meter, fuel, bytes, output, recorded_at) VALUES";
    tx.run_many(insert, rows.iter().map(row).collect(), "").await?;
    Ok(())
}

impl SqlStore {
    pub(crate) async fn try_usage(&self, filter: &UsageFilter, after: i64, limit: u32) -> Result<Vec<(i64, Usage)>, Fault> {
        let mut tx = self.read().await?;
        let mut values = values![after, limit];
        let wanted = conditions(filter, &mut values);
        let sql = format!(
            "SELECT number, job, unit, customer, pool, meter, fuel, bytes, output, recorded_at FROM ledger
            WHERE number > $1{wanted} ORDER BY number LIMIT $2"
        );
        tx.composed(sql, values).await?.iter().map(|row| Ok((row.int(0)?, read_usage(row)?))).collect()
    }

    pub(crate) async fn try_usage_totals(&self, filter: &UsageFilter) -> Result<Vec<CustomerTotals>, Fault> {
        let mut tx = self.read().await?;
        if matches!(filter, UsageFilter { customer: None, job: None, from: None, until: None }) {
            return self.ledger_sums.read(&mut tx).await;
        }
        totals(&mut tx, filter, 0).await
    }
}

/// The sums of the rows after the row of that number.
pub(crate) async fn totals(tx: &mut Tx, filter: &UsageFilter, after: i64) -> Result<Vec<CustomerTotals>, Fault> {
    let mut values = values![after];
    let wanted = conditions(filter, &mut values);
    let (fuel, bytes) = (halves!("fuel"), halves!("bytes"));
    let sql = format!(
        "SELECT customer, pool, meter, COUNT(*), {fuel}, {bytes}
        FROM ledger WHERE number > $1{wanted} GROUP BY customer, pool, meter ORDER BY customer, pool, meter"
    );
    tx.composed(sql, values).await?.iter().map(read_totals).collect()
}

/// The filter's conditions, with their parameters appended.
fn conditions(filter: &UsageFilter, values: &mut Vec<Value>) -> String {
    let wanted = [
        ("customer =", filter.customer.as_ref().map(Value::from)),
        ("job =", filter.job.map(Value::from)),
        ("recorded_at >=", filter.from.map(Value::from)),
        ("recorded_at <", filter.until.map(Value::from)),
    ];
    let mut sql = String::new();
    for (comparison, value) in wanted {
        if let Some(value) = value {
            values.push(value);
            sql.push_str(" AND ");
            sql.push_str(comparison);
            sql.push_str(" $");
            sql.push_str(&values.len().to_string());
        }
    }
    sql
}

fn read_usage(row: &Row) -> Result<Usage, Fault> {
    Ok(Usage {
        unit: UnitKey { job: row.job(1)?, unit: row.number(2)? },
        customer: row.parsed(3)?,
        pool: row.parsed(4)?,
        meter: row.parsed(5)?,
        fuel: row.fuel(6)?,
        bytes: row.number(7)?,
        output: row.digest(8)?,
        recorded_at: row.time(9)?,
    })
}

/// A sum that was taken in [`halves`], the upper one in that column and the lower one in the next.
pub(crate) fn whole(row: &Row, column: usize) -> Result<u128, Fault> {
    Ok((row.number::<u128>(column)? << 32) + row.number::<u128>(column + 1)?)
}

fn read_totals(row: &Row) -> Result<CustomerTotals, Fault> {
    Ok(CustomerTotals {
        customer: row.parsed(0)?,
        pool: row.parsed(1)?,
        meter: row.parsed(2)?,
        units: row.number(3)?,
        fuel: whole(row, 4)?,
        bytes: whole(row, 6)?,
    })
}
