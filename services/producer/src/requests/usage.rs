//! Usage: a customer's rows of the ledger in a month, and their sums.

use ports::store::UsageFilter;
use protocol::quantity::Total;
use protocol::usage::{ReportUsage, Usage, UsageReported, UsageRow, UsageTotal};
use rules::month::Month;

use super::{cut, page};
use crate::Producer;
use crate::asked::{Answer, Asked, Refusal};

/// A page of rows.
const MAX_ROWS: u32 = 10_000;

/// Reports a month's usage.
pub(super) async fn report(producer: &Producer, asked: &Asked, request: &ReportUsage) -> Result<Answer, Refusal> {
    let limit = page(request.limit, MAX_ROWS)?;
    let month: Month = (request.period.parse())
        .map_err(|_no_month| Refusal::invalid("/period", format!("{:?} is no month such as 2026-11", request.period)))?;
    let after =
        i64::try_from(request.after.unwrap_or(0)).map_err(|_beyond| Refusal::invalid("/after", "there is no such row"))?;
    let filter = UsageFilter {
        customer: Some(asked.customer.clone()),
        job: None,
        from: Some(month.begin()),
        until: Some(month.next().begin()),
    };
    let mut rows = producer.store.usage(&filter, after, limit.saturating_add(1)).await?;
    let more = cut(&mut rows, limit);
    let last = rows.last().and_then(|(number, _)| u64::try_from(*number).ok());
    let totals = producer.store.usage_totals(&filter).await?;
    let rates = producer.settings.rates.as_ref();
    let total = |sum: ports::store::CustomerTotals| UsageTotal {
        cost: rates.and_then(|rates| rates.cost(&sum.pool, sum.fuel, sum.bytes)),
        pool: sum.pool,
        meter: sum.meter,
        units: sum.units,
        fuel: Total(sum.fuel),
        bytes: Total(sum.bytes),
    };
    let reported = UsageReported {
        period: request.period.clone(),
        rows: rows.into_iter().map(|(_, usage)| row(usage)).collect(),
        next_after: last.filter(|_| more),
        totals: totals.into_iter().map(total).collect(),
    };
    Ok(vec![asked.answer(&reported)?])
}

fn row(usage: Usage) -> UsageRow {
    UsageRow {
        job: usage.unit.job,
        unit: usage.unit.unit,
        pool: usage.pool,
        meter: usage.meter,
        fuel: usage.fuel,
        bytes: usage.bytes,
        output: usage.output,
        recorded_at_us: usage.recorded_at,
    }
}
