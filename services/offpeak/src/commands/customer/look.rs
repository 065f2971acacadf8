//! Looks at customers and what they may use, and changes the latter.

use anyhow::Result;
use broker::rabbit::Account;

use super::{no_such, records};
use crate::args::{CustomerShowArgs, CustomersListArgs, LimitValues, LimitsArgs};
use crate::customer::{self, Row};
use crate::exit;
use crate::terminal;

pub(super) async fn list(args: &CustomersListArgs) -> Result<u8> {
    let accounts = customer::accounts(&args.management)?;
    let records = records(&args.record, &LimitValues::default()).await?;
    let mut kept = match &records {
        Some(records) => records.all().await?,
        None => Vec::new(),
    };
    let mut rows = Vec::new();
    for account in accounts.all().await? {
        let at = kept.iter().position(|record| record.name == account.name);
        rows.push(Row { account, record: at.map(|at| kept.swap_remove(at)), open_connections: None });
    }
    // Those of whom the broker knows nothing: provisioned by nobody, or removed.
    for record in kept {
        let account = Account::none(record.name.clone());
        rows.push(Row { account, record: Some(record), open_connections: None });
    }
    rows.sort_by(|one, other| one.account.name.cmp(&other.account.name));
    if args.json {
        terminal::print_json(&customer::list_json(&rows))?;
    } else {
        terminal::print(&customer::list_text(&rows))?;
    }
    let well = rows.iter().all(|row| row.account.differences().is_empty());
    Ok(if well { exit::SUCCESS } else { exit::SOME_FAILED })
}

pub(super) async fn show(args: &CustomerShowArgs) -> Result<u8> {
    let accounts = customer::accounts(&args.management)?;
    let records = records(&args.record, &LimitValues::default()).await?;
    let account = accounts.find(&args.name).await?;
    let record = match &records {
        Some(records) => records.find(&args.name).await?,
        None => None,
    };
    if account.is_none() && record.is_none() {
        return Err(no_such(&args.name).into());
    }
    let open_connections = Some(accounts.open_connections(&args.name).await?);
    let row = Row { account, record, open_connections };
    if args.json {
        terminal::print_json(&customer::as_json(&row))?;
    } else {
        terminal::print(&customer::as_text(&row))?;
    }
    Ok(if row.account.differences().is_empty() { exit::SUCCESS } else { exit::SOME_FAILED })
}

pub(super) async fn limits(args: &LimitsArgs) -> Result<u8> {
    let (name, values) = (&args.name, &args.limits);
    customer::check_name(name)?;
    let at_broker = values.max_connections.is_some() || values.max_channels.is_some();
    let records = records(&args.record, values).await?;
    let is_named = args.management.management.as_deref().is_some_and(|url| !url.is_empty());
    let accounts = if at_broker || is_named || records.is_none() { Some(customer::accounts(&args.management)?) } else { None };
    let mut account = None;
    if let Some(accounts) = &accounts {
        let mut found = accounts.find(name).await?;
        customer::check_is_customer(&found, &args.management.vhost)?;
        if at_broker {
            if found.user.is_none() {
                return Err(no_such(name).into());
            }
            accounts.set_limits(name, customer::broker_limits(values, found.limits())).await?;
            found = accounts.find(name).await?;
        }
        account = Some(found).filter(|account| account.user.is_some());
    }
    let mut record = None;
    if let Some(records) = &records {
        let kept = if customer::grid_limits_named(values).is_empty() {
            records.find(name).await?
        } else {
            Some(records.put(name, values).await?)
        };
        if let Some(kept) = kept {
            record = Some((kept, records.used(name).await?));
        }
    }
    if account.is_none() && record.is_none() {
        return Err(no_such(name).into());
    }
    let record = record.as_ref().map(|(record, used)| (record, used));
    if args.json {
        terminal::print_json(&customer::limits_json(account.as_ref(), record))?;
    } else {
        terminal::print(&customer::limits_text(account.as_ref(), record))?;
    }
    Ok(exit::SUCCESS)
}
