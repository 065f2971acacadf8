//! `offpeak customer`: provisions customers at the broker and in the database, shows, changes and removes them.

mod look;
mod take;

use anyhow::{Context as _, Result};
use broker::rabbit::{self, ManagementError, Password, PasswordHash};
use broker::users;
use protocol::CustomerName;
use serde_json::{Value, json};

use super::connect;
use crate::args::{AddArgs, CustomerCommand, DefinitionsArgs, LimitValues, RecordArgs};
use crate::customer::{self, Given, Records, Row};
use crate::exit::{self, Refused};
use crate::terminal;

/// Runs a command about customers.
pub(super) async fn customer(command: CustomerCommand) -> Result<u8> {
    let done = perform(command).await;
    done.map_err(|error| match error.downcast_ref::<ManagementError>() {
        Some(ManagementError::Unread { .. }) => error.context(
            "cannot use RabbitMQ's management side: see that the address is right and the plugin runs (rabbitmq-plugins enable \
             rabbitmq_management); the same command again is safe",
        ),
        Some(ManagementError::Url | ManagementError::Refused { .. }) | None => error,
    })
}

async fn perform(command: CustomerCommand) -> Result<u8> {
    match command {
        CustomerCommand::Add(args) if args.definitions => print_definitions(&args),
        CustomerCommand::Add(args) => add(&args).await,
        CustomerCommand::List(args) => look::list(&args).await,
        CustomerCommand::Show(args) => look::show(&args).await,
        CustomerCommand::Limits(args) => look::limits(&args).await,
        CustomerCommand::Rotate(args) => take::rotate(&args).await,
        CustomerCommand::Remove(args) => take::remove(&args).await,
    }
}

/// Prints definitions of the grid's own users.
pub(super) fn definitions(args: &DefinitionsArgs) -> Result<u8> {
    terminal::print(&pretty(&rabbit::of_users(&args.vhost, &users::services(&args.pools)))?)?;
    Ok(exit::SUCCESS)
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// The records, where a database is named; what it alone can keep is refused without one, before anything is done.
async fn records(args: &RecordArgs, values: &LimitValues) -> Result<Option<Records>> {
    let named = customer::grid_limits_named(values);
    let Some(url) = args.database.as_deref().filter(|url| !url.is_empty()) else {
        if named.is_empty() {
            return Ok(None);
        }
        let problem = format!(
            "{} are kept in the grid's database: name it with --database URL, or set OFFPEAK__DATABASE__URL",
            named.join(", ")
        );
        return Err(Refused::Usage(problem).into());
    };
    Ok(Some(Records::new(connect::customers(url).await?)))
}

/// Makes the password that was asked for, or one.
fn password(chosen: Option<Password>) -> Result<(Password, PasswordHash)> {
    let password = chosen.map_or_else(Password::generate, Ok)?;
    let hash = password.hash()?;
    Ok((password, hash))
}

fn print_definitions(args: &AddArgs) -> Result<u8> {
    customer::check_name(&args.name)?;
    let named = customer::grid_limits_named(&args.limits);
    if !named.is_empty() {
        let problem = format!("{} are no part of definitions: `offpeak customer limits` sets them", named.join(", "));
        return Err(Refused::Usage(problem).into());
    }
    let chosen = customer::chosen_password(&args.password)?;
    let is_new = chosen.is_none();
    let (password, hash) = password(chosen)?;
    let limits = customer::broker_limits(&args.limits, users::UserLimits::CUSTOMER);
    terminal::print(&pretty(&rabbit::of_customer(&args.management.vhost, &args.name, limits, &hash))?)?;
    if is_new {
        terminal::note(&format!("password of {} (shown once): {}", args.name, password.expose()));
    }
    Ok(exit::SUCCESS)
}

async fn add(args: &AddArgs) -> Result<u8> {
    let name = &args.name;
    customer::check_name(name)?;
    let accounts = customer::accounts(&args.management)?;
    let chosen = customer::chosen_password(&args.password)?;
    let records = records(&args.record, &args.limits).await?;
    let before = accounts.find(name).await?;
    customer::check_is_customer(&before, &args.management.vhost)?;
    let made = before.user.is_none();
    let has_none = before.user.as_ref().is_none_or(|user| !user.has_password);
    let needs_password = chosen.is_some() || has_none;
    let record = match &records {
        Some(records) => Some(records.put(name, &args.limits).await?),
        None => None,
    };
    let half = || {
        let closed = if has_none { "nobody comes in without a password, and " } else { "" };
        format!("customer {name} is not provisioned completely; {closed}the same command again goes on")
    };
    let limits = customer::broker_limits(&args.limits, before.limits());
    accounts.provision(name, limits).await.with_context(half)?;
    let mut account = accounts.find(name).await.with_context(half)?;
    let is_chosen = chosen.is_some();
    let mut made_password = None;
    if needs_password {
        let (password, hash) = password(chosen)?;
        accounts.set_password(name, hash).await.with_context(half)?;
        made_password = Some(password).filter(|_| !is_chosen);
        // What was read a moment ago had none yet.
        if let Some(user) = &mut account.user {
            user.has_password = true;
        }
    }
    let row = Row { account, record, open_connections: None };
    if args.json {
        let mut object = customer::as_json(&row);
        object["created"] = json!(made);
        object["password"] = json!(made_password.as_ref().map(Password::expose));
        terminal::print_json(&object)?;
    } else {
        let note = records
            .is_none()
            .then_some("no database was named: weight and the grid's own limits are those of the defaults, or were set before");
        let given = made_password.as_ref().map_or(if is_chosen { Given::Chosen } else { Given::Before }, Given::Made);
        terminal::print(&customer::added(&row, made, &given, note))?;
    }
    Ok(if row.account.differences().is_empty() { exit::SUCCESS } else { exit::SOME_FAILED })
}

fn no_such(name: &CustomerName) -> Refused {
    let problem =
        format!("there is no customer {name}: see `offpeak customer list`, or make it with `offpeak customer add {name}`");
    Refused::Usage(problem)
}
