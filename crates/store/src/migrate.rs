//! The schema: forward-only migrations, one text for both databases.

use std::time::Duration;

use ports::store::StoreError;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, PgPool, SqlSafeStr as _};

use crate::connect::{Pools, SqlStore};
use crate::fault::{Fault, is_race};

/// One step of the schema. A released text is never changed; a change is a further step.
struct Step {
    version: i64,
    name: &'static str,
    text: &'static str,
    /// The oldest version whose services may go on working after it. A step that only adds leaves it where it was; one that
    /// takes away what the version before still used raises it to itself.
    oldest: i64,
}

/// The steps in order.
const STEPS: [Step; 9] = [
    Step { version: 1, name: "grid", text: include_str!("../migrations/0001_grid.sql"), oldest: 1 },
    Step { version: 2, name: "ending", text: include_str!("../migrations/0002_ending.sql"), oldest: 2 },
    Step { version: 3, name: "customers", text: include_str!("../migrations/0003_customers.sql"), oldest: 2 },
    Step { version: 4, name: "requests", text: include_str!("../migrations/0004_requests.sql"), oldest: 2 },
    Step { version: 5, name: "handled", text: include_str!("../migrations/0005_handled.sql"), oldest: 2 },
    Step { version: 6, name: "open", text: include_str!("../migrations/0006_open.sql"), oldest: 2 },
    Step { version: 7, name: "lost", text: include_str!("../migrations/0007_lost.sql"), oldest: 2 },
    Step { version: 8, name: "part-messages", text: include_str!("../migrations/0008_part_messages.sql"), oldest: 2 },
    Step { version: 9, name: "budget", text: include_str!("../migrations/0009_budget.sql"), oldest: 2 },
];

/// What the database keeps of a step, for versions that do not know it.
fn description(step: &Step) -> String {
    if step.oldest == step.version { step.name.to_owned() } else { format!("{}{FROM}{}", step.name, step.oldest) }
}

const FROM: &str = ", for services from schema ";

/// The oldest version that a step named so leaves working; none but those that know it, unless it says so.
fn oldest(description: &str) -> i64 {
    description.rsplit_once(FROM).and_then(|(_, oldest)| oldest.parse().ok()).unwrap_or(i64::MAX)
}

/// How often a step is tried that loses against services at work, and the pause before the next time.
const MAX_ATTEMPTS: u32 = 60;
const PAUSE: Duration = Duration::from_millis(200);
/// An index over many rows takes long; but who waits for a table keeps all others of it waiting.
const PATIENT: &str = "SET statement_timeout = 0; SET lock_timeout = '10s'";

/// The way out of every mismatch.
const NEWER: &str = "the database was migrated by a newer version of offpeak: use that version or restore a backup";

impl SqlStore {
    /// Brings the schema to this version. One that a newer version made is left as it is if this version may work with it.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        if self.check_schema().await.is_ok_and(|standing| standing == Schema::Newer) {
            return Ok(());
        }
        let done = match &self.pools {
            Pools::Sqlite { write, .. } => migrator(self).run(write).await,
            Pools::Postgres(pool) => self.migrate_beside_services(pool).await,
        };
        done.map_err(|e| migration_error("migrate", e))
    }

    /// Services that work meanwhile take locks in an order of their own: a step that loses against them has done nothing, and is
    /// tried again.
    async fn migrate_beside_services(&self, pool: &PgPool) -> Result<(), MigrateError> {
        // The lock that keeps other migrations away is this connection's, and goes with it.
        let mut connection = pool.acquire().await?.detach();
        sqlx::raw_sql(PATIENT).execute(&mut connection).await?;
        let mut attempt = 1;
        loop {
            match migrator(self).run(&mut connection).await {
                Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _))
                    if attempt < MAX_ATTEMPTS && is_race(&error) =>
                {
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// Checks, changing nothing, that this version may work with the schema.
    pub async fn check_schema(&self) -> Result<Schema, StoreError> {
        const OPERATION: &str = "check schema";
        let mut tx = self.read().await.map_err(|e| e.of(OPERATION))?;
        let applied = tx.all("SELECT version, description FROM _sqlx_migrations ORDER BY version", Vec::new()).await;
        let corrupt = |detail: String| StoreError::Corrupt { operation: OPERATION, detail };
        let rows = applied.map_err(|e| match e.of(OPERATION) {
            StoreError::Unfit { detail, .. } | StoreError::Corrupt { detail, .. } => {
                corrupt(format!("the database has no schema yet: run `offpeak migrate` ({detail})"))
            }
            other @ (StoreError::Unavailable { .. } | StoreError::Full { .. }) => other,
        })?;
        let own = STEPS.map(|step| step.version);
        let (mut known, mut schema) = (0, Schema::Same);
        for row in &rows {
            let version = row.int(0).map_err(|e| e.of(OPERATION))?;
            if own.contains(&version) {
                known += 1;
                continue;
            }
            let leaves = oldest(&row.text(1).map_err(|e| e.of(OPERATION))?);
            if own.last().is_none_or(|last| leaves > *last) {
                return Err(corrupt(format!("schema version {version} is not known: {NEWER}")));
            }
            schema = Schema::Newer;
        }
        if known < own.len() {
            return Err(corrupt(format!("schema is at version {known} of {}: run `offpeak migrate`", own.len())));
        }
        Ok(schema)
    }
}

/// How a schema that this version may work with stands to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// It is this version's.
    Same,
    /// A newer version has added to it.
    Newer,
}

/// The migrations in the database's dialect.
fn migrator(store: &SqlStore) -> Migrator {
    let words = match &store.pools {
        Pools::Sqlite { .. } => ["BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT", "WITHOUT ROWID"],
        Pools::Postgres(_) => ["BYTEA", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", ""],
    };
    let migrations = STEPS.map(|step| {
        let [bytes, sequence, clustered] = words;
        let text = step.text.replace("{BYTES}", bytes).replace("{SEQUENCE}", sequence).replace("{CLUSTERED}", clustered);
        let name = description(&step).into();
        Migration::new(step.version, name, MigrationType::Simple, AssertSqlSafe(text).into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.into())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is not ours; what is left says what to do by itself")]
fn migration_error(operation: &'static str, error: MigrateError) -> StoreError {
    let corrupt = |detail: String| StoreError::Corrupt { operation, detail };
    match error {
        MigrateError::Execute(error) => Fault::Sql(error).of(operation),
        MigrateError::ExecuteMigration(error, version) => match Fault::Sql(error).of(operation) {
            StoreError::Unfit { detail, .. } | StoreError::Corrupt { detail, .. } => {
                corrupt(format!("migration {version} failed: {detail}"))
            }
            other @ (StoreError::Unavailable { .. } | StoreError::Full { .. }) => other,
        },
        MigrateError::VersionMissing(version) => corrupt(format!("schema version {version} is not known: {NEWER}")),
        MigrateError::VersionMismatch(version) => corrupt(format!(
            "schema version {version} was applied from another text: this is no database of this version of offpeak"
        )),
        other => corrupt(other.to_string()),
    }
}
