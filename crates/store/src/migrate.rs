//! The schema: forward-only migrations, one text for both databases.

use ports::store::StoreError;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use crate::connect::{Pools, SqlStore};
use crate::fault::Fault;

/// The migrations in order: version, name, text. A released text is never changed; a change is a further migration.
const MIGRATIONS: [(i64, &str, &str); 2] =
    [(1, "grid", include_str!("../migrations/0001_grid.sql")), (2, "ending", include_str!("../migrations/0002_ending.sql"))];

/// The way out of every mismatch.
const NEWER: &str = "the database was migrated by a newer version of offpeak: use that version or restore a backup";

impl SqlStore {
    /// Brings the schema to this version; refuses a newer or a changed one.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let done = match &self.pools {
            Pools::Sqlite { write, .. } => migrator(self).run(write).await,
            Pools::Postgres(pool) => migrator(self).run(pool).await,
        };
        done.map_err(|e| migration_error("migrate", e))
    }

    /// Checks, changing nothing, that the schema is exactly this version's.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "check schema";
        let mut tx = self.read().await.map_err(|e| e.of(OPERATION))?;
        let applied = tx.all("SELECT version, success FROM _sqlx_migrations ORDER BY version", Vec::new()).await;
        let corrupt = |detail: String| StoreError::Corrupt { operation: OPERATION, detail };
        let rows = applied.map_err(|e| match e.of(OPERATION) {
            StoreError::Corrupt { .. } => corrupt("the database has no schema yet: run `offpeak migrate`".to_owned()),
            other @ (StoreError::Unavailable { .. } | StoreError::Full { .. }) => other,
        })?;
        let versions: Result<Vec<i64>, Fault> = rows.iter().map(|row| row.int(0)).collect();
        let versions = versions.map_err(|e| e.of(OPERATION))?;
        let expected = MIGRATIONS.map(|(version, _, _)| version);
        if versions == expected {
            return Ok(());
        }
        match versions.iter().find(|version| !expected.contains(version)) {
            Some(unknown) => Err(corrupt(format!("schema version {unknown} is not known: {NEWER}"))),
            None => Err(corrupt(format!("schema is at version {} of {}: run `offpeak migrate`", versions.len(), expected.len()))),
        }
    }
}

/// The migrations in the database's dialect.
fn migrator(store: &SqlStore) -> Migrator {
    let words = match &store.pools {
        Pools::Sqlite { .. } => ["BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT", "WITHOUT ROWID"],
        Pools::Postgres(_) => ["BYTEA", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", ""],
    };
    let migrations = MIGRATIONS.map(|(version, name, text)| {
        let [bytes, sequence, clustered] = words;
        let text = text.replace("{BYTES}", bytes).replace("{SEQUENCE}", sequence).replace("{CLUSTERED}", clustered);
        Migration::new(version, name.into(), MigrationType::Simple, AssertSqlSafe(text).into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.into())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is not ours; what is left says what to do by itself")]
fn migration_error(operation: &'static str, error: MigrateError) -> StoreError {
    let corrupt = |detail: String| StoreError::Corrupt { operation, detail };
    match error {
        MigrateError::Execute(error) => Fault::Sql(error).of(operation),
        MigrateError::ExecuteMigration(error, version) => match Fault::Sql(error).of(operation) {
            StoreError::Corrupt { detail, .. } => corrupt(format!("migration {version} failed: {detail}")),
            other @ (StoreError::Unavailable { .. } | StoreError::Full { .. }) => other,
        },
        MigrateError::VersionMissing(version) => corrupt(format!("schema version {version} is not known: {NEWER}")),
        MigrateError::VersionMismatch(version) => corrupt(format!(
            "schema version {version} was applied from another text: this is no database of this version of offpeak"
        )),
        other => corrupt(other.to_string()),
    }
}
