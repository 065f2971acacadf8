//! `offpeak usage`: the ledger's sums, exact, per customer, pool and meter.

use anyhow::{Context as _, Result};
use ports::store::{CustomerTotals, UsageFilter};
use rules::month::Month;
use serde_json::json;

use super::connect;
use crate::args::{UsageArgs, UsageFormat};
use crate::exit;
use crate::terminal;

const HEADINGS: [&str; 6] = ["customer", "pool", "meter", "units", "fuel", "bytes"];

/// Shows usage.
pub(super) async fn usage(args: UsageArgs) -> Result<u8> {
    let store = connect::store(&args.store).await?;
    let mut totals = store.usage_totals(&filter(&args)).await.context("cannot read the ledger")?;
    totals.sort_by(|a, b| (&a.customer, &a.pool, &a.meter).cmp(&(&b.customer, &b.pool, &b.meter)));
    let text = match args.format {
        UsageFormat::Table => as_table(&totals),
        UsageFormat::Json => as_json(&totals, args.period)?,
        UsageFormat::Csv => as_csv(&totals)?,
    };
    terminal::print(&text)?;
    Ok(exit::SUCCESS)
}

fn filter(args: &UsageArgs) -> UsageFilter {
    let (from, until) = (args.period.map(Month::begin), args.period.map(|month| month.next().begin()));
    UsageFilter { customer: args.customer.clone(), job: None, from, until }
}

fn cells(total: &CustomerTotals) -> [String; 6] {
    let CustomerTotals { customer, pool, meter, units, fuel, bytes } = total;
    [customer.to_string(), pool.to_string(), meter.to_string(), units.to_string(), fuel.to_string(), bytes.to_string()]
}

fn as_table(totals: &[CustomerTotals]) -> String {
    let rows: Vec<Vec<String>> = totals
        .iter()
        .map(|total| {
            let CustomerTotals { units, fuel, bytes, .. } = total;
            let numbers = [terminal::grouped(units), terminal::grouped(fuel), terminal::grouped(bytes)];
            cells(total).into_iter().take(3).chain(numbers).collect()
        })
        .collect();
    terminal::table(&HEADINGS, &rows)
}

fn as_json(totals: &[CustomerTotals], period: Option<Month>) -> Result<String> {
    let rows: Vec<_> = totals
        .iter()
        .map(|total| {
            let CustomerTotals { customer, pool, meter, units, fuel, bytes } = total;
            let (fuel, bytes) = (fuel.to_string(), bytes.to_string());
            json!({ "customer": customer, "pool": pool, "meter": meter, "units": units, "fuel": fuel, "bytes": bytes })
        })
        .collect();
    let period = period.map(|month| month.to_string());
    Ok(serde_json::to_string(&json!({ "period": period, "usage": rows }))? + "\n")
}

fn as_csv(totals: &[CustomerTotals]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADINGS)?;
    for total in totals {
        writer.write_record(cells(total))?;
    }
    let bytes = writer.into_inner().map_err(|error| anyhow::anyhow!("cannot write CSV: {error}"))?;
    Ok(String::from_utf8(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{CustomerName, MeterId, PoolName};

    fn totals() -> Vec<CustomerTotals> {
        vec![CustomerTotals {
            customer: CustomerName::new("acme").unwrap(),
            pool: PoolName::new("open").unwrap(),
            meter: MeterId::new("wasmtime-48-fuel").unwrap(),
            units: 12,
            fuel: u128::from(u64::MAX) + 1,
            bytes: 1_000,
        }]
    }

    #[test]
    fn sums_are_exact_in_every_format() {
        let csv = "customer,pool,meter,units,fuel,bytes\nacme,open,wasmtime-48-fuel,12,18446744073709551616,1000\n";
        assert_eq!(as_csv(&totals()).unwrap(), csv);
        let json: serde_json::Value = serde_json::from_str(&as_json(&totals(), "2026-07".parse().ok()).unwrap()).unwrap();
        assert_eq!(json["usage"][0]["fuel"], "18446744073709551616");
        assert_eq!((json["period"].as_str(), json["usage"][0]["units"].as_u64()), (Some("2026-07"), Some(12)));
        let table = as_table(&totals());
        assert!(table.contains("18,446,744,073,709,551,616"), "{table}");
    }
}
