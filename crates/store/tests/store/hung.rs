//! Connections to a server that does not answer: nobody waits for ever, and their places are free again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ports::store::RequestStore as _;
use sqlx::Connection as _;
use store::{SqlStore, StoreOptions};
use testkit::store_contract::World;

use super::{postgres, postgres_url};

/// More than a used connection has to come to rest, and less than the server gives a statement.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn connections_that_are_left_in_the_middle_of_a_statement_keep_no_places() {
    let url = postgres_url().await;
    drop(postgres(&url).await);
    let options = StoreOptions { max_connections: 2, patience: PATIENCE, ..StoreOptions::default() };
    let store = Arc::new(SqlStore::connect(&url, options).await.unwrap());
    let world = World::new(store.clone());
    let mut other = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE outbox").execute(&mut other).await.unwrap();
    let both_wait = async {
        let waits = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
            WHERE d.datname = current_database() AND NOT l.granted";
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut other).await.unwrap() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let written = async { tokio::join!(store.reply_all(vec![world.message("a")]), store.reply_all(vec![world.message("b")])) };
    tokio::select! {
        answers = written => panic!("{answers:?}"),
        () = both_wait => {}
    }
    // The server works on at both statements, and they have both places.
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_connection_at_rest_is_used_again() {
    let url = postgres_url().await;
    drop(postgres(&url).await);
    let options = StoreOptions { max_connections: 1, patience: PATIENCE, ..StoreOptions::default() };
    let store = Arc::new(SqlStore::connect(&url, options).await.unwrap());
    let world = World::new(store.clone());
    let mut other = sqlx::PgConnection::connect(&url).await.unwrap();
    let mut used = BTreeSet::new();
    for each in ["a", "b", "c"] {
        store.reply_all(vec![world.message(each)]).await.unwrap();
        store.ping().await.unwrap();
        let connections = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend'";
        used.extend(sqlx::query_scalar::<_, i32>(connections).fetch_all(&mut other).await.unwrap());
    }
    assert_eq!(used.len(), 1, "{used:?}");
}
