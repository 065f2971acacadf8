//! Lost replicas beside rows that cannot be read: these wait, and keep no others from being found.

use std::sync::Arc;

use store::SqlStore;
use testkit::store_contract::World;
use testkit::store_contract::world::at;

use super::alone::execute;
use super::{patient, postgres, postgres_url, sqlite};

async fn others_are_found(store: SqlStore, url: &str) {
    let world = World::new(Arc::new(store));
    let job = world.admit(30).await;
    let units = world.sent(job, &[0, 10, 20, 30]).await;
    execute(url, "UPDATE replicas SET replica = 70000 WHERE unit = 0").await;
    // A row beside a sound one of its unit: the further replica follows the sound one.
    let beside = "INSERT INTO replicas (job, unit, replica, state)
        SELECT job, unit, 70000, 'failed' FROM replicas WHERE unit = 1";
    execute(url, beside).await;
    assert_eq!(world.store.expire_replicas(at(61), 10, false).await.unwrap(), 2);
    let due = world.store.due_replicas(job, at(61), 10).await.unwrap();
    assert_eq!(due.iter().map(|due| due.key).collect::<Vec<_>>(), [units[1].replica(1), units[2].replica(1)]);
    execute(url, "UPDATE replicas SET replica = 0 WHERE unit = 0").await;
    assert_eq!(world.store.expire_replicas(at(62), 10, false).await.unwrap(), 1);
}

#[tokio::test]
async fn others_are_found_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path(), patient()).await;
    others_are_found(store, &format!("sqlite://{}/store.db", folder.path().display())).await;
}

#[tokio::test]
async fn others_are_found_on_postgres() {
    let url = postgres_url().await;
    others_are_found(postgres(&url).await, &url).await;
}
