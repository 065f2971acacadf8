//! The fuel of a customer's month, exact and at once: a sum is kept, and only what was recorded since is added.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use protocol::{CustomerName, Micros};

use crate::fault::Fault;
use crate::ledger::{halves, whole};
use crate::sql::{Row, Tx, values};
use crate::totals::Last;

/// Of how many customers sums are kept; some hundred bytes each.
const MAX_CUSTOMERS: usize = 10_000;

/// Sums that were taken.
#[derive(Default)]
pub(crate) struct FuelSums(Mutex<BTreeMap<CustomerName, FuelSum>>);

/// The fuel of a customer's rows from a time on, as far as that row of the customer.
#[derive(Clone, Copy)]
struct FuelSum {
    since: Micros,
    last: Last,
    fuel: u128,
}

/// The fuel of a customer's rows from a time on, of those that are wanted.
macro_rules! sum_of_rows {
    ($wanted:literal) => {
        concat!("SELECT ", halves!("fuel"), " FROM ledger WHERE customer = $1 AND recorded_at >= $2", $wanted)
    };
}

impl FuelSums {
    /// The fuel of a customer's rows recorded from `since` on. Rows are numbered in the order of their commits, so all
    /// that is new has a higher number than what was summed before.
    pub(crate) async fn read(&self, tx: &mut Tx, customer: &CustomerName, since: Micros) -> Result<u128, Fault> {
        // Sorting by the number would let the database walk the whole ledger backwards for a customer who is not in it.
        let newest = "SELECT number, job, unit, recorded_at FROM ledger
            WHERE number = (SELECT MAX(number) FROM ledger WHERE customer = $1)";
        let Some(newest) = Last::read(tx.first(newest, values![customer]).await?.as_ref())? else { return Ok(0) };
        let mut kept = self.kept(customer).filter(|sum| sum.since == since);
        if let Some(sum) = kept
            && sum.last != newest
            && !sum.last.is_there(tx).await?
        {
            kept = None;
        }
        let fuel = match kept {
            Some(sum) if sum.last == newest => sum.fuel,
            Some(sum) => {
                let further = tx.first(sum_of_rows!(" AND number > $3"), values![customer, since, sum.last.number]).await?;
                sum.fuel.saturating_add(read_sum(further.as_ref())?)
            }
            None => read_sum(tx.first(sum_of_rows!(""), values![customer, since]).await?.as_ref())?,
        };
        self.keep(customer, FuelSum { since, last: newest, fuel });
        Ok(fuel)
    }

    fn kept(&self, customer: &CustomerName) -> Option<FuelSum> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(customer).copied()
    }

    fn keep(&self, customer: &CustomerName, sum: FuelSum) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_CUSTOMERS && !kept.contains_key(customer) {
            kept.clear();
        }
        kept.insert(customer.clone(), sum);
    }
}

fn read_sum(row: Option<&Row>) -> Result<u128, Fault> {
    row.map_or(Ok(0), |row| whole(row, 0))
}
