//! The store's contract on SQLite and on PostgreSQL, and what each alone must do.

mod sqlite {
    use std::sync::Arc;

    use ports::Store;
    use store::{SqlStore, StoreOptions};

    /// An empty store in a folder of its own.
    async fn open() -> (Arc<dyn Store>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db", folder.path().display());
        let store = SqlStore::connect(&url, StoreOptions::default()).await.unwrap();
        store.migrate().await.unwrap();
        (Arc::new(store), folder)
    }

    testkit::store_contract_tests!(super::open);
}

mod postgres {
    use std::sync::Arc;

    use ports::Store;
    use store::{SqlStore, StoreOptions};

    /// An empty store in a database of its own.
    async fn open() -> (Arc<dyn Store>, ()) {
        let url = tokio::task::spawn_blocking(|| testkit::servers::postgres().fresh_database()).await.unwrap();
        let options = StoreOptions { max_connections: 4, ..StoreOptions::default() };
        let store = SqlStore::connect(&url, options).await.unwrap();
        store.migrate().await.unwrap();
        (Arc::new(store), ())
    }

    testkit::store_contract_tests!(super::open);
}
