//! The store's contract on SQLite and on PostgreSQL, and what each alone must do.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "test code: a failure is a panic with its place, a measurement is printed"
)]

mod agree;
mod alone;
mod claims;
mod durable;
mod expiring;
mod hung;
mod load;
mod old;
mod outbox;
mod speed;
mod unreadable;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ports::Store;
use store::{SqlStore, StoreOptions};

/// A store in that folder, its schema brought up to date.
async fn sqlite(folder: &Path, options: StoreOptions) -> SqlStore {
    let store = SqlStore::connect(&format!("sqlite://{}/store.db", folder.display()), options).await.unwrap();
    store.migrate().await.unwrap();
    store
}

/// Options of one who waits for a crowded machine.
fn patient() -> StoreOptions {
    StoreOptions { patience: Duration::from_mins(5), ..StoreOptions::default() }
}

/// The address of an empty database.
async fn postgres_url() -> String {
    tokio::task::spawn_blocking(|| testkit::servers::postgres().fresh_database()).await.unwrap()
}

/// A store in that database, its schema brought up to date.
async fn postgres(url: &str) -> SqlStore {
    let store = SqlStore::connect(url, StoreOptions { max_connections: 4, ..patient() }).await.unwrap();
    store.migrate().await.unwrap();
    store
}

mod on_sqlite {
    use super::*;

    async fn open() -> (Arc<dyn Store>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Arc::new(sqlite(folder.path(), patient()).await), folder)
    }

    testkit::store_contract_tests!(super::open);
}

mod on_postgres {
    use super::*;

    async fn open() -> (Arc<dyn Store>, ()) {
        (Arc::new(postgres(&postgres_url().await).await), ())
    }

    testkit::store_contract_tests!(super::open);
}
