//! Reaches the broker and the database that the arguments name; what cannot be reached is named with the way out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use broker::rabbit::user_of;
use ports::clock::SystemClock;
use ports::store::CustomerStore;
use ports::{Broker, Store};
use protocol::CustomerName;
use service::Scope;

use crate::args::{BrokerArgs, MigrateArgs, StoreArgs};
use crate::client::Client;
use crate::exit::{self, Refused};
use crate::{grid, terminal};

/// How long connections may take to end.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);

/// The database's URL, from either of its arguments.
pub(super) fn database_url(args: &StoreArgs) -> Result<String> {
    if let Some(folder) = &args.data {
        return data_url(folder);
    }
    args.database.clone().ok_or_else(|| {
        let way_out =
            "no database is named: give --database URL, or --data DIR of an `offpeak run`, or set OFFPEAK__DATABASE__URL";
        Refused::Usage(way_out.to_owned()).into()
    })
}

fn data_url(folder: &Path) -> Result<String> {
    if !folder.is_dir() {
        let problem = format!("there is no data folder {}: give the folder of an `offpeak run --data DIR`", folder.display());
        return Err(Refused::Usage(problem).into());
    }
    Ok(grid::database_url(folder))
}

/// Opens the database.
pub(super) async fn store(args: &StoreArgs) -> Result<Arc<dyn Store>> {
    let url = database_url(args)?;
    let unreachable = || {
        format!(
            "cannot use the database {}: see that it is up, that the address and password are right, and that `offpeak migrate` was run",
            redacted(&url)
        )
    };
    Ok(grid::open_store(&url).await.with_context(unreachable)?)
}

/// Opens the database for the customers' records.
pub(super) async fn customers(url: &str) -> Result<Arc<dyn CustomerStore>> {
    let unreachable = || {
        format!(
            "cannot use the database {}: see that it is up, that the address and password are right, and that `offpeak migrate` was run",
            redacted(url)
        )
    };
    if let Some(reason) = grid::no_file(url) {
        // Opening it would make one.
        return Err(anyhow::anyhow!(reason)).with_context(unreachable);
    }
    Ok(grid::open_store(url).await.with_context(unreachable)?)
}

/// Opens the broker; its connections end with the scope.
pub(super) async fn broker(args: &BrokerArgs, scope: &Scope) -> Result<Arc<dyn Broker>> {
    let Some(url) = &args.amqp else {
        let problem = "no broker is named: give --amqp amqp://user:password@host:5672/vhost, or set OFFPEAK__AMQP__URL";
        return Err(Refused::Usage(problem.to_owned()).into());
    };
    let unreachable = || {
        format!(
            "cannot use the broker {}: see that it is up, and that address, user, password and virtual host are right",
            redacted(url)
        )
    };
    grid::open_broker(url, scope).await.with_context(unreachable)
}

/// A customer connected to a grid from outside.
pub(super) struct Connected {
    /// The customer.
    pub(super) client: Client,
    scope: Scope,
}

impl Connected {
    /// Opens the database and the broker.
    pub(super) async fn open(broker_args: &BrokerArgs, store_args: &StoreArgs, customer: CustomerName) -> Result<Self> {
        let scope = Scope::new();
        let store = store(store_args).await?;
        let broker = broker(broker_args, &scope).await?;
        // Another user, such as guest, submits in the customer's name without being it.
        let user_id = broker_args.amqp.as_deref().and_then(user_of).filter(|user| user == customer.as_str());
        let client = Client { store, broker, customer, clock: Arc::new(SystemClock), user_id };
        Ok(Self { client, scope })
    }

    /// Ends the connections politely.
    pub(super) async fn close(self) {
        close(&self.scope).await;
    }
}

/// Ends what is on the scope; what does not end in time is left behind, since the command ends too.
pub(super) async fn close(scope: &Scope) {
    if let Err(error) = scope.join(CLOSING_PATIENCE).await {
        tracing::warn!("the connections did not end well: {error}");
    }
}

/// Creates or updates the tables.
pub(super) async fn migrate(args: MigrateArgs) -> Result<u8> {
    let url = database_url(&args.store)?;
    let failed =
        || format!("cannot migrate the database {}: see that it is up, and that its user may create tables", redacted(&url));
    grid::migrate(&url).await.with_context(failed)?;
    terminal::print(&format!("the tables of {} are up to date\n", redacted(&url)))?;
    Ok(exit::SUCCESS)
}

/// A URL without its password.
pub(super) fn redacted(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = authority.rsplit_once('@')?;
        let name = user.split_once(':').map_or(user, |(name, _)| name);
        Some(format!("{scheme}://{name}@{host}{path}"))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redacted("amqp://me:pass@word@host:5672/v"), "amqp://me@host:5672/v");
        assert_eq!(redacted("postgres://me@host/db"), "postgres://me@host/db");
        assert_eq!(redacted("sqlite:/data/x.db"), "sqlite:/data/x.db");
        assert_eq!(redacted("amqp://host"), "amqp://host");
    }

    #[test]
    fn what_is_not_named_is_bad_usage() {
        let nothing = StoreArgs { database: None, data: None };
        assert_eq!(exit::code_of(&database_url(&nothing).unwrap_err()), exit::REFUSED);
        let gone = StoreArgs { database: None, data: Some("/nonexistent".into()) };
        let error = database_url(&gone).unwrap_err();
        assert!(error.to_string().contains("no data folder /nonexistent"), "{error}");
    }
}
