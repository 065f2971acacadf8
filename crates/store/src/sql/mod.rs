//! A transaction on either database: one text of a statement, one kind of parameters, one kind of rows.

mod row;
mod value;

use protocol::Digest;
pub(crate) use row::Row;
use sqlx::{Arguments as _, AssertSqlSafe};
pub(crate) use value::{Value, values};

use crate::connect::answered;
use crate::fault::Fault;

/// How many parameters one statement carries at most: below SQLite's bound of 32,766 and PostgreSQL's of 65,535.
const MAX_PARAMETERS: usize = 16_000;

/// A transaction; dropped without commit it has no effect.
pub(crate) enum Tx {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

/// What a writer locks so that others of its kind wait, in PostgreSQL; SQLite has one writer at a time anyway.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lock<'a> {
    /// Claims of jobs, which must not cross.
    Claims,
    /// Claims of outbox messages, which must not overtake.
    Outbox,
    /// Writing to one customer: the order of numbers must be the order of commits, or a later message overtakes.
    Customer(&'a str),
    /// Appending to the ledger: the order of numbers must be the order of commits, or a reader by pages misses rows.
    Ledger,
    /// What a customer uploads: parts that arrive together must not pass its limit together, and none goes that a job
    /// being admitted names. Taken after [`Self::Customer`] and before [`Self::Blob`].
    Uploads(&'a str),
    /// A blob's bytes and whose they are: they must not go while someone begins to rely on them.
    Blob(Digest),
}

impl Tx {
    pub(crate) async fn commit(self) -> Result<(), Fault> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => answered(tx.commit()).await?,
        }
        Ok(())
    }

    /// The suffix that locks the rows read until the end of the transaction.
    fn row_lock(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Postgres(_) => " FOR UPDATE",
        }
    }

    /// Waits for the lock and holds it until the end of the transaction.
    pub(crate) async fn lock(&mut self, lock: Lock<'_>) -> Result<(), Fault> {
        if matches!(self, Self::Sqlite(_)) {
            return Ok(());
        }
        let (kind, name) = match lock {
            Lock::Claims => (1_u8, String::new()),
            Lock::Outbox => (2, String::new()),
            Lock::Customer(name) => (3, name.to_owned()),
            Lock::Ledger => (4, String::new()),
            Lock::Uploads(name) => (5, name.to_owned()),
            Lock::Blob(digest) => (6, digest.to_string()),
        };
        let key = format!("offpeak {kind} {name}");
        self.all("SELECT 1 FROM pg_advisory_xact_lock(hashtextextended($1, 0))", values![key]).await?;
        Ok(())
    }

    /// All rows of a statement whose text is fixed, and so kept prepared.
    pub(crate) async fn all(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, Fault> {
        self.fetch(sqlx::SqlSafeStr::into_sql_str(sql), values, true).await
    }

    /// The first row, if there is one.
    pub(crate) async fn first(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Option<Row>, Fault> {
        Ok(self.all(sql, values).await?.into_iter().next())
    }

    /// All rows, locked until the end of the transaction.
    pub(crate) async fn all_locked(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Fault> {
        let sql = format!("{sql}{}", self.row_lock());
        self.composed(sql, values).await
    }

    /// All rows of a statement composed of fixed pieces.
    pub(crate) async fn composed(&mut self, sql: String, values: Vec<Value>) -> Result<Vec<Row>, Fault> {
        self.fetch(sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(sql)), values, false).await
    }

    /// Runs a statement whose text is fixed; how many rows it changed.
    pub(crate) async fn run(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, Fault> {
        self.execute(sqlx::SqlSafeStr::into_sql_str(sql), values, true).await
    }

    /// Runs `before (…), (…) after` over all rows, in as few statements as the bound on parameters allows; how many rows it changed.
    pub(crate) async fn run_many(&mut self, before: &str, rows: Vec<Vec<Value>>, after: &str) -> Result<u64, Fault> {
        let mut changed = 0;
        for (sql, values) in self.statements(before, rows, after) {
            changed += self.execute(sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(sql)), values, false).await?;
        }
        Ok(changed)
    }

    /// Reads likewise. Keys are joined by `CROSS JOIN` and a condition: SQLite then looks each key up, where it would
    /// else rather walk the whole table.
    pub(crate) async fn all_many(&mut self, before: &str, rows: Vec<Vec<Value>>, after: &str) -> Result<Vec<Row>, Fault> {
        let mut found = Vec::new();
        for (sql, values) in self.statements(before, rows, after) {
            found.extend(self.composed(sql, values).await?);
        }
        Ok(found)
    }

    fn statements(&self, before: &str, rows: Vec<Vec<Value>>, after: &str) -> Vec<(String, Vec<Value>)> {
        statements(before, rows, after, matches!(self, Self::Postgres(_)))
    }

    async fn fetch(&mut self, sql: sqlx::SqlStr, values: Vec<Value>, keep: bool) -> Result<Vec<Row>, Fault> {
        Ok(match self {
            Self::Sqlite(tx) => {
                let query = sqlx::query_with(sql, sqlite_arguments(values)?).persistent(keep);
                query.fetch_all(&mut **tx).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(tx) => {
                let query = sqlx::query_with(sql, postgres_arguments(values)?).persistent(keep);
                answered(query.fetch_all(&mut **tx)).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    async fn execute(&mut self, sql: sqlx::SqlStr, values: Vec<Value>, keep: bool) -> Result<u64, Fault> {
        Ok(match self {
            Self::Sqlite(tx) => {
                let query = sqlx::query_with(sql, sqlite_arguments(values)?).persistent(keep);
                query.execute(&mut **tx).await?.rows_affected()
            }
            Self::Postgres(tx) => {
                let query = sqlx::query_with(sql, postgres_arguments(values)?).persistent(keep);
                answered(query.execute(&mut **tx)).await?.rows_affected()
            }
        })
    }
}

/// Cuts rows into statements below the bound on parameters; each row becomes one tuple of places.
///
/// SQLite takes `$1` for a name and looks names up one by one, which takes a second for some thousand of them;
/// without numbers its places are counted as they come.
fn statements(before: &str, rows: Vec<Vec<Value>>, after: &str, numbered: bool) -> Vec<(String, Vec<Value>)> {
    let width = rows.first().map_or(1, Vec::len).max(1);
    let chunk = (MAX_PARAMETERS / width).max(1);
    let mut rows = rows.into_iter().peekable();
    let mut statements = Vec::new();
    while rows.peek().is_some() {
        let mut sql = before.to_owned();
        let mut values = Vec::new();
        for (number, row) in rows.by_ref().take(chunk).enumerate() {
            sql.push_str(if number == 0 { " (" } else { ", (" });
            for (place, value) in row.into_iter().enumerate() {
                values.push(value);
                sql.push_str(if place == 0 { "" } else { ", " });
                if numbered {
                    sql.push('$');
                    sql.push_str(&values.len().to_string());
                } else {
                    sql.push('?');
                }
            }
            sql.push(')');
        }
        sql.push(' ');
        sql.push_str(after);
        statements.push((sql, values));
    }
    statements
}

fn sqlite_arguments(values: Vec<Value>) -> Result<sqlx::sqlite::SqliteArguments, Fault> {
    let mut arguments = sqlx::sqlite::SqliteArguments::default();
    for value in values {
        let added = match value {
            Value::Int(value) => sqlx::Arguments::add(&mut arguments, value),
            Value::Text(value) => sqlx::Arguments::add(&mut arguments, value),
            Value::Bytes(value) => sqlx::Arguments::add(&mut arguments, value),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn postgres_arguments(values: Vec<Value>) -> Result<sqlx::postgres::PgArguments, Fault> {
    let mut arguments = sqlx::postgres::PgArguments::default();
    for value in values {
        let added = match value {
            Value::Int(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Bytes(value) => arguments.add(value),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
