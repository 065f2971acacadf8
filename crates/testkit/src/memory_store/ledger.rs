//! The ledger: one row per valid unit, appended only, summed exactly.

use std::collections::BTreeMap;

use ports::store::{CustomerTotals, UsageFilter};
use protocol::usage::Usage;

use super::state::{State, rows};

impl State {
    pub(super) fn usage(&self, filter: &UsageFilter, after: i64, limit: u32) -> Vec<(i64, Usage)> {
        let skipped = usize::try_from(after).unwrap_or(0);
        let numbered = (1_i64..).zip(&self.ledger).skip(skipped);
        let wanted = numbered.filter(|(_, usage)| is_wanted(filter, usage));
        wanted.take(rows(limit)).map(|(number, usage)| (number, usage.clone())).collect()
    }

    pub(super) fn usage_totals(&self, filter: &UsageFilter) -> Vec<CustomerTotals> {
        let mut totals = BTreeMap::new();
        for usage in self.ledger.iter().filter(|usage| is_wanted(filter, usage)) {
            let sums = totals.entry((&usage.customer, &usage.pool, &usage.meter)).or_insert((0, 0, 0));
            sums.0 += 1;
            sums.1 += u128::from(usage.fuel.get());
            sums.2 += u128::from(usage.bytes);
        }
        let totals = totals.into_iter().map(|((customer, pool, meter), (units, fuel, bytes))| CustomerTotals {
            customer: customer.clone(),
            pool: pool.clone(),
            meter: meter.clone(),
            units,
            fuel,
            bytes,
        });
        totals.collect()
    }
}

fn is_wanted(filter: &UsageFilter, usage: &Usage) -> bool {
    filter.customer.as_ref().is_none_or(|customer| *customer == usage.customer)
        && filter.job.is_none_or(|job| job == usage.unit.job)
        && filter.from.is_none_or(|from| usage.recorded_at >= from)
        && filter.until.is_none_or(|until| usage.recorded_at < until)
}
