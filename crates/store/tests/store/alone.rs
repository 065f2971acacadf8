//! Connecting, migrating, and the errors that tell what to do.

use std::time::Duration;

use ports::store::ReportStore as _;
use sqlx::Connection as _;
use store::{Schema, SqlStore, StoreError, StoreOptions};

use super::{postgres, postgres_url, sqlite};

/// The whole chain of an error's messages.
fn told(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

async fn refused(url: &str) -> String {
    let options = StoreOptions { patience: Duration::from_secs(2), ..StoreOptions::default() };
    told(&SqlStore::connect(url, options).await.err().unwrap())
}

#[tokio::test]
async fn an_unreachable_database_is_named_without_its_password() {
    let text = refused("postgres://user:secret@127.0.0.1:1/grid").await;
    assert!(text.contains("PostgreSQL at 127.0.0.1:1, database grid") && !text.contains("secret"), "{text}");
    let text = refused("sqlite:///nowhere/at/all/store.db").await;
    assert!(text.contains("/nowhere/at/all/store.db"), "{text}");
    let text = refused("mysql://user:secret@host/grid").await;
    assert!(text.contains("sqlite://PATH") && !text.contains("secret"), "{text}");
    let text = refused("postgres://user:secret@host:notaport/grid").await;
    assert!(text.contains("cannot be read") && !text.contains("secret"), "{text}");
}

/// Says what both databases must say of their schema, changed by `statement` in between.
async fn schema_is_checked(url: &str) {
    let store = SqlStore::connect(url, StoreOptions::default()).await.unwrap();
    let text = told(&store.check_schema().await.unwrap_err());
    assert!(text.contains("offpeak migrate"), "{text}");
    for _twice in 0..2 {
        store.migrate().await.unwrap();
        assert_eq!(store.check_schema().await.unwrap(), Schema::Same);
    }
    store.ping().await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
    execute(url, newer).await;
    for error in [store.check_schema().await.unwrap_err(), store.migrate().await.unwrap_err()] {
        let text = told(&error);
        assert!(text.contains("9999") && text.contains("newer version"), "{text}");
    }
    // The step of a version to come that has only added: services of this one go on, and may be rolled back to.
    execute(url, "UPDATE _sqlx_migrations SET description = 'more, for services from schema 2' WHERE version = 9999").await;
    assert_eq!(store.check_schema().await.unwrap(), Schema::Newer);
    store.migrate().await.unwrap();
    execute(url, "UPDATE _sqlx_migrations SET description = 'less, for services from schema 9998' WHERE version = 9999").await;
    assert!(told(&store.check_schema().await.unwrap_err()).contains("newer version"));
    store.close().await;
    assert!(matches!(store.jobs(None, 1).await, Err(StoreError::Unavailable { .. })));
}

/// Runs a statement behind the store's back.
pub(crate) async fn execute(url: &str, statement: &'static str) {
    use sqlx::Connection as _;
    if url.starts_with("sqlite") {
        let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    }
}

#[tokio::test]
async fn the_schema_is_checked_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    schema_is_checked(&format!("sqlite://{}/store.db", folder.path().display())).await;
}

#[tokio::test]
async fn the_schema_is_checked_on_postgres() {
    schema_is_checked(&postgres_url().await).await;
}

#[tokio::test]
async fn processes_that_migrate_at_the_same_time_agree() {
    let url = postgres_url().await;
    tokio::join!(postgres(&url), postgres(&url), postgres(&url));
}

#[tokio::test]
async fn a_migration_that_loses_against_a_service_at_work_is_tried_again() {
    let url = postgres_url().await;
    let store = postgres(&url).await;
    let undone = "ALTER TABLE jobs DROP COLUMN paused, DROP COLUMN app, DROP COLUMN parts_sent, DROP COLUMN numbered,
            DROP COLUMN results_gone_at, DROP COLUMN dropping;
        ALTER TABLE units DROP COLUMN part;
        DROP INDEX IF EXISTS jobs_ended, jobs_of_app, jobs_with_results, jobs_dropping, units_by_part, replicas_with_reason;
        DROP INDEX outbox_of_customer;
        DELETE FROM _sqlx_migrations WHERE version = 4";
    execute(&url, undone).await;
    // It locks units and then jobs, and the step jobs and then units; it never gives way.
    let mut service = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("SET deadlock_timeout = '1h'; BEGIN; LOCK TABLE units IN ROW EXCLUSIVE MODE")
        .execute(&mut service)
        .await
        .unwrap();
    let wins = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'units'::regclass";
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut service).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sqlx::raw_sql("LOCK TABLE jobs IN ROW EXCLUSIVE MODE; COMMIT").execute(&mut service).await.unwrap();
    };
    let (migrated, ()) = tokio::join!(store.migrate(), wins);
    migrated.unwrap();
    assert_eq!(store.check_schema().await.unwrap(), Schema::Same);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("store.db"), vec![7; 10_000]).unwrap();
    let text = refused(&format!("sqlite://{}/store.db", folder.path().display())).await;
    assert!(text.contains("store.db"), "{text}");
}

#[tokio::test]
async fn a_foreign_writer_makes_it_unavailable_and_nothing_is_lost() {
    use sqlx::Connection as _;
    let folder = tempfile::tempdir().unwrap();
    drop(sqlite(folder.path(), StoreOptions::default()).await);
    let options = StoreOptions { patience: Duration::from_millis(200), ..StoreOptions::default() };
    let world = testkit::store_contract::World::new(std::sync::Arc::new(sqlite(folder.path(), options).await));
    let url = format!("sqlite://{}/store.db", folder.path().display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let answer = world.store.reply_all(vec![world.message("waits")]).await;
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    held.rollback().await.unwrap();
    world.store.reply_all(vec![world.message("waits")]).await.unwrap();
}
