//! Connecting: which database, how many connections, and the settings that make a commit durable.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ports::Clock;
use ports::clock::SystemClock;
use ports::store::StoreError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use crate::budget::FuelSums;
use crate::fault::Fault;
use crate::specs::Specs;
use crate::sql::{Tx, values};
use crate::totals::LedgerSums;

/// How often a transaction that lost a race is tried again before the caller is told to come later.
pub(crate) const MAX_ATTEMPTS: u32 = 4;
/// A statement of the store touches a page of rows; one that takes this long hangs on something.
const STATEMENT_TIMEOUT: &str = "30s";
/// A server that did not end a statement by then stands still or is gone. More than [`STATEMENT_TIMEOUT`], so that one that is
/// only slow says so itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
/// A connection that was used has so long to show that it is at rest before it is closed.
const REST_TIMEOUT: Duration = Duration::from_secs(5);
/// A transaction left open (its client froze) must not hold its locks for ever.
const IDLE_TIMEOUT: &str = "60s";
/// What connections of a grid's services call themselves in `pg_stat_activity`.
const SERVING: &str = "offpeak service";
/// How large the write-ahead log may stay after a checkpoint.
const WAL_BYTES: &str = "67108864";

/// How to connect; the defaults suit one service process.
#[derive(Clone)]
pub struct StoreOptions {
    /// Connections at most: of PostgreSQL, or for reading beside SQLite's one writer.
    pub max_connections: u32,
    /// How long to wait for a connection, and in SQLite for another process's write, before `Unavailable`.
    pub patience: Duration,
    /// Whether a service of a grid connects, and not a command that looks at it: seen by [`SqlStore::is_served`].
    pub serves: bool,
    /// Tells when a job ended.
    pub clock: Arc<dyn Clock>,
    /// A bound on SQLite's file in pages of 4 KiB, beyond which the store is `Full`; the disk's if `None`.
    pub max_pages: Option<u32>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let (patience, clock) = (Duration::from_secs(10), Arc::new(SystemClock));
        Self { max_connections: 8, patience, serves: false, clock, max_pages: None }
    }
}

/// Where a database is.
enum Address<'a> {
    Sqlite(&'a Path),
    Postgres(Box<PgConnectOptions>),
}

/// Reads a URL; it may hold a password, so errors do not repeat it.
fn address(url: &str) -> Result<Address<'_>, String> {
    match url.split_once("://") {
        Some(("sqlite", path)) if !path.is_empty() => Ok(Address::Sqlite(Path::new(path))),
        Some(("postgres" | "postgresql", _)) => match url.parse() {
            Ok(options) => Ok(Address::Postgres(Box::new(options))),
            Err(error) => Err(format!("the database's address cannot be read: {error}")),
        },
        _ => Err("the database's address is neither sqlite://PATH nor postgres://USER:PASSWORD@HOST/DATABASE".to_owned()),
    }
}

/// Whether a database's URL can be used, without connecting.
pub fn check_url(url: &str) -> Result<(), String> {
    address(url).map(drop)
}

pub(crate) enum Pools {
    Sqlite { write: sqlx::SqlitePool, read: sqlx::SqlitePool },
    Postgres(sqlx::PgPool),
}

/// The store over `PostgreSQL` or `SQLite`; implements all traits of [`ports::store`].
pub struct SqlStore {
    pub(crate) pools: Pools,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) specs: Specs,
    pub(crate) fuel_sums: FuelSums,
    pub(crate) ledger_sums: LedgerSums,
}

impl SqlStore {
    /// Connects to `sqlite://PATH` (created if missing) or `postgres://USER:PASSWORD@HOST/DATABASE`, and tries the connection.
    pub async fn connect(url: &str, options: StoreOptions) -> Result<Self, StoreError> {
        let pools = match address(url) {
            Ok(Address::Sqlite(path)) => sqlite(path, &options).await,
            Ok(Address::Postgres(address)) => postgres(*address, &options).await,
            Err(detail) => Err(StoreError::Corrupt { operation: "connect", detail }),
        }?;
        let (specs, fuel_sums, ledger_sums) = (Specs::default(), FuelSums::default(), LedgerSums::default());
        Ok(Self { pools, clock: options.clock, specs, fuel_sums, ledger_sums })
    }

    /// Ends all connections, after what is under way.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let sign = async { self.read().await?.all("SELECT CAST(1 AS BIGINT)", Vec::new()).await };
        sign.await.map(drop).map_err(|e| e.of("ping"))
    }

    /// Whether a grid's services are connected to the database. Not known of SQLite, which does not tell who else uses a file.
    pub async fn is_served(&self) -> Result<bool, StoreError> {
        let Pools::Postgres(_) = self.pools else { return Ok(false) };
        let sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1";
        let services =
            async { self.read().await?.all(sql, values![SERVING]).await?.first().map_or(Ok(0), |row| row.number::<u64>(0)) };
        services.await.map(|services| services > 0).map_err(|e| e.of("look for services"))
    }

    /// Begins a transaction that writes.
    pub(crate) async fn write(&self) -> Result<Tx, Fault> {
        Ok(match &self.pools {
            Pools::Sqlite { write, .. } => Tx::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Pools::Postgres(pool) => Tx::Postgres(within(begin_timeout(pool), pool.begin()).await?),
        })
    }

    /// Begins a transaction that sees one state of the database throughout.
    pub(crate) async fn read(&self) -> Result<Tx, Fault> {
        Ok(match &self.pools {
            Pools::Sqlite { read, .. } => Tx::Sqlite(read.begin().await?),
            Pools::Postgres(pool) => {
                let begin = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
                Tx::Postgres(within(begin_timeout(pool), begin).await?)
            }
        })
    }
}

async fn sqlite(path: &Path, options: &StoreOptions) -> Result<Pools, StoreError> {
    let unreachable = |e: sqlx::Error| unreachable(format!("SQLite file {}", path.display()), e);
    let base = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode anything less may lose the last commits with the power.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(options.patience)
        .foreign_keys(false)
        .pragma("journal_size_limit", WAL_BYTES);
    let writer = match options.max_pages {
        Some(pages) => base.clone().pragma("max_page_count", pages.to_string()),
        None => base.clone(),
    };
    // A full disk or an I/O error makes SQLite end the transaction by itself; the driver then fails to roll it back and
    // takes the connection for one within a transaction for ever. Such a connection is replaced.
    let pool = || {
        let pool = SqlitePoolOptions::new().acquire_timeout(options.patience).idle_timeout(None).max_lifetime(None);
        pool.before_acquire(|connection, _idle| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
    };
    let write = pool().max_connections(1).connect_with(writer).await.map_err(unreachable)?;
    let reader = base.read_only(true).create_if_missing(false);
    let read = pool().max_connections(options.max_connections.max(1)).min_connections(1).connect_lazy_with(reader);
    Ok(Pools::Sqlite { write, read })
}

async fn postgres(address: PgConnectOptions, options: &StoreOptions) -> Result<Pools, StoreError> {
    let place = format!(
        "PostgreSQL at {}:{}, database {}",
        address.get_host(),
        address.get_port(),
        address.get_database().unwrap_or_else(|| address.get_username())
    );
    let settings = address
        .application_name(if options.serves { SERVING } else { "offpeak" })
        .options([("statement_timeout", STATEMENT_TIMEOUT), ("idle_in_transaction_session_timeout", IDLE_TIMEOUT)]);
    let pool = PgPoolOptions::new().max_connections(options.max_connections.max(1)).acquire_timeout(options.patience);
    // The pool itself would wait for as long as it takes, and keep the connection's place meanwhile.
    let pool = pool.after_release(|connection, _use| Box::pin(async move { Ok(comes_to_rest(connection).await) }));
    // A first connection by itself: the pool would retry in silence and say only that it timed out.
    let first = tokio::time::timeout(options.patience, settings.connect()).await;
    let first = first.unwrap_or_else(|_elapsed| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
    let probe = first.map_err(|e| unreachable(place, e))?;
    let _goodbye: Result<(), sqlx::Error> = probe.close().await;
    Ok(Pools::Postgres(pool.connect_lazy_with(settings)))
}

/// What PostgreSQL answers to a statement, or that it does not: over a connection that is lost without a word the driver would
/// wait for ever.
pub(crate) async fn answered<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    within(ANSWER_TIMEOUT, statement).await
}

async fn within<T>(limit: Duration, statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, statement).await {
        Ok(answer) => answer,
        Err(_elapsed) => {
            let silence = format!("the database did not answer within {limit:?}");
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, silence).into())
        }
    }
}

/// A transaction waits for a connection first, which has a bound of its own.
fn begin_timeout(pool: &sqlx::PgPool) -> Duration {
    pool.options().get_acquire_timeout().saturating_add(ANSWER_TIMEOUT)
}

/// Whether a connection that was used, and perhaps left in the middle of a statement, is soon at rest, and in no transaction.
async fn comes_to_rest(connection: &mut PgConnection) -> bool {
    // In the extended protocol the two are apart by the time from bind to execute, also where the statement is alone.
    let is_alone = sqlx::raw_sql("SELECT transaction_timestamp() = statement_timestamp()").fetch_one(connection);
    let answer = tokio::time::timeout(REST_TIMEOUT, is_alone).await;
    answer.is_ok_and(|row| row.and_then(|row| row.try_get(0)).unwrap_or(false))
}

/// An error at the first connection names the place, never the password.
fn unreachable(place: String, error: sqlx::Error) -> StoreError {
    #[derive(Debug, thiserror::Error)]
    #[error("{place} cannot be opened")]
    struct Unreachable {
        place: String,
        source: sqlx::Error,
    }
    StoreError::Unavailable { operation: "connect", source: Box::new(Unreachable { place, source: error }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_database_that_never_answers_is_away() {
        let silence = answered(std::future::pending::<Result<(), sqlx::Error>>()).await.unwrap_err();
        let error = Fault::Sql(silence).of("settle");
        let StoreError::Unavailable { source, .. } = &error else { panic!("{error:?}") };
        assert!(source.to_string().ends_with("the database did not answer within 45s"), "{source}");
    }
}
