//! The sums of the whole ledger, exact and at once: they are kept, and only what was recorded since is added.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ports::store::{CustomerTotals, UsageFilter};
use protocol::{CustomerName, MeterId, Micros, PoolName, UnitKey};

use crate::fault::Fault;
use crate::ledger;
use crate::sql::{Row, Tx, values};

/// How many sums are kept, some hundred bytes each; where there are more, what came since is added each time.
const MAX_SUMS: usize = 100_000;

/// Sums that were taken.
#[derive(Default)]
pub(crate) struct LedgerSums(Mutex<Kept>);

/// The sums of all rows as far as that one.
#[derive(Clone, Default)]
struct Kept {
    last: Option<Last>,
    sums: BTreeMap<(CustomerName, PoolName, MeterId), CustomerTotals>,
}

/// A row of the ledger, told from one that came to have its number after the database was put back to where it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) number: i64,
    unit: UnitKey,
    recorded_at: Micros,
}

impl LedgerSums {
    /// The sums of all rows. Rows are numbered in the order of their commits, so all that is new has a higher number than what
    /// was summed before.
    pub(crate) async fn read(&self, tx: &mut Tx) -> Result<Vec<CustomerTotals>, Fault> {
        let mut all = self.kept();
        if let Some(last) = all.last
            && !last.is_there(tx).await?
        {
            all = Kept::default();
        }
        let newest = "SELECT number, job, unit, recorded_at FROM ledger ORDER BY number DESC LIMIT 1";
        let newest = Last::read(tx.first(newest, Vec::new()).await?.as_ref())?;
        if newest != all.last {
            let after = all.last.map_or(0, |last| last.number);
            for further in ledger::totals(tx, &UsageFilter::default(), after).await? {
                all.add(further);
            }
            all.last = newest;
            self.keep(&all);
        }
        Ok(all.sums.into_values().collect())
    }

    fn kept(&self) -> Kept {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, all: &Kept) {
        if all.sums.len() <= MAX_SUMS {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all.clone();
        }
    }
}

impl Kept {
    fn add(&mut self, further: CustomerTotals) {
        let payer = (further.customer.clone(), further.pool.clone(), further.meter.clone());
        let grow = |sum: &mut CustomerTotals| {
            sum.units = sum.units.saturating_add(further.units);
            sum.fuel = sum.fuel.saturating_add(further.fuel);
            sum.bytes = sum.bytes.saturating_add(further.bytes);
        };
        self.sums.entry(payer).and_modify(grow).or_insert(further);
    }
}

impl Last {
    /// Reads a row of these columns: number, job, unit, and when it was recorded.
    pub(crate) fn read(row: Option<&Row>) -> Result<Option<Self>, Fault> {
        let Some(row) = row else { return Ok(None) };
        let unit = UnitKey { job: row.job(1)?, unit: row.number(2)? };
        Ok(Some(Self { number: row.int(0)?, unit, recorded_at: row.time(3)? }))
    }

    /// Whether it is there still, and with it all rows before it.
    pub(crate) async fn is_there(&self, tx: &mut Tx) -> Result<bool, Fault> {
        let sql = "SELECT number, job, unit, recorded_at FROM ledger WHERE number = $1";
        Ok(Self::read(tx.first(sql, values![self.number]).await?.as_ref())? == Some(*self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(customer: &str, fuel: u128) -> CustomerTotals {
        CustomerTotals {
            customer: CustomerName::new(customer).unwrap(),
            pool: PoolName::new("open").unwrap(),
            meter: MeterId::new("meter-1").unwrap(),
            units: 1,
            fuel,
            bytes: 2,
        }
    }

    #[test]
    fn what_is_new_is_added_to_its_payer() {
        let mut all = Kept::default();
        for further in [total("b", 5), total("a", 7), total("b", u128::from(u64::MAX))] {
            all.add(further);
        }
        let sums: Vec<_> = all.sums.into_values().map(|sum| (sum.customer.to_string(), sum.units, sum.fuel, sum.bytes)).collect();
        assert_eq!(sums, [("a".to_owned(), 1, 7, 2), ("b".to_owned(), 2, u128::from(u64::MAX) + 5, 4)]);
    }
}
