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
    args.url().map(str::to_owned).ok_or_else(|| {
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

/// Opens the database of a grid that there is.
pub(super) async fn store(args: &StoreArgs) -> Result<Arc<dyn Store>> {
    let url = database_url(args)?;
    if let Some(reason) = grid::no_file(&url) {
        // Opening it would make one.
        let problem = match &args.data {
            Some(folder) => {
                format!("there is no grid.db in the folder {}: give the folder of an `offpeak run --data DIR`", folder.display())
            }
            None => format!("{reason}: give the file of a grid's database, or make one with `offpeak migrate`"),
        };
        return Err(Refused::Usage(problem).into());
    }
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
    let Some(url) = args.url() else {
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

/// A URL without its password, wherever in it that is: also one with a '/' or '@' of its own, or in the query.
pub(super) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let place = rest.split_once('?').map_or(rest, |(place, _query)| place);
    let Some((login, place)) = place.rsplit_once('@') else { return format!("{scheme}://{place}") };
    let user = login.split_once(':').map_or(login, |(user, _password)| user);
    format!("{scheme}://{user}@{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redacted("amqp://me:pass@word@host:5672/v"), "amqp://me@host:5672/v");
        assert_eq!(redacted("amqp://me:pass/word@host:5672/v"), "amqp://me@host:5672/v");
        assert_eq!(redacted("postgres://me@host/db"), "postgres://me@host/db");
        assert_eq!(redacted("postgres://me@host/db?password=pass@word"), "postgres://me@host/db");
        assert_eq!(redacted("postgres://host/db?user=me&password=word"), "postgres://host/db");
        assert_eq!(redacted("sqlite:/data/x.db"), "sqlite:/data/x.db");
        assert_eq!(redacted("amqp://host"), "amqp://host");
    }

    #[test]
    fn what_is_not_named_is_bad_usage() {
        let nothing = StoreArgs { database: None, data: None };
        let empty = StoreArgs { database: Some(String::new()), data: None };
        for unnamed in [nothing, empty] {
            assert_eq!(exit::code_of(&database_url(&unnamed).unwrap_err()), exit::REFUSED);
        }
        let gone = StoreArgs { database: None, data: Some("/nonexistent".into()) };
        let error = database_url(&gone).unwrap_err();
        assert!(error.to_string().contains("no data folder /nonexistent"), "{error}");
    }
}
