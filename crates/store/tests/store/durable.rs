//! Restarts, full disks and lost races: nothing is half-applied.

use std::sync::Arc;

use ports::store::{Settlement, SettlementView, StoreError, UsageFilter};
use protocol::UnitKey;
use store::StoreOptions;
use testkit::store_contract::World;
use testkit::store_contract::world::{NOW, computed, cut, frame, valid};

use super::alone::execute;
use super::{patient, postgres, postgres_url, sqlite};

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let job = {
        let store = Arc::new(sqlite(folder.path(), patient()).await);
        let world = World::new(Arc::<store::SqlStore>::clone(&store));
        let job = world.admit(10).await;
        let units = world.sent(job, &[0, 5, 10]).await;
        world.settle_valid(&units[..1]).await;
        // As if killed: no connection is closed.
        std::mem::forget(store);
        job
    };
    let world = World::new(Arc::new(sqlite(folder.path(), patient()).await));
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.items.succeeded, report.units.open, report.units.replicas_sent), (5, 1, 1));
    assert_eq!(world.claim_messages(NOW, 10).await.len(), 1);
    world.settle_valid(&[UnitKey { job, unit: 0 }, UnitKey { job, unit: 1 }]).await;
    assert_eq!(world.store.usage_totals(&UsageFilter::default()).await.unwrap()[0].units, 2);
}

/// What a process claimed that died is free at once for one who knows that nobody else is at work.
async fn claims_of_the_dead_are_freed(store: store::SqlStore) {
    let store = Arc::new(store);
    let world = World::new(Arc::<store::SqlStore>::clone(&store));
    world.admit(10).await;
    let claimed = async |owner: &str| (world.claim(owner, NOW).await.len(), world.claim_messages(NOW, 10).await.len());
    assert_eq!(claimed("dead").await, (1, 1));
    assert_eq!(claimed("alive").await, (0, 0));
    store.free_claims().await.unwrap();
    assert_eq!(claimed("alive").await, (1, 1));
}

#[tokio::test]
async fn claims_of_the_dead_are_freed_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    claims_of_the_dead_are_freed(sqlite(folder.path(), patient()).await).await;
}

#[tokio::test]
async fn claims_of_the_dead_are_freed_on_postgres() {
    claims_of_the_dead_are_freed(postgres(&postgres_url().await).await).await;
}

#[tokio::test]
async fn a_full_disk_changes_nothing_and_space_heals_it() {
    let folder = tempfile::tempdir().unwrap();
    let small = StoreOptions { max_pages: Some(400), ..StoreOptions::default() };
    let world = World::new(Arc::new(sqlite(folder.path(), small).await));
    let job = world.admit(1_000_000).await;
    let mut cut_units = 0;
    let step = |n: u64| cut(job, 0, u32::try_from(n * 100).unwrap(), &(n * 100..=n * 100 + 100).collect::<Vec<_>>(), &[0, 1]);
    let full = loop {
        match world.store.dispatch(step(cut_units)).await {
            Ok(done) => assert!(done),
            Err(error) => break error,
        }
        cut_units += 1;
        assert!(cut_units < 1_000, "the disk never fills");
    };
    assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
    assert!(matches!(world.store.reply_all(vec![large(&world)]).await, Err(StoreError::Full { .. })));
    let keys = [UnitKey { job, unit: 0 }.replica(0)];
    let customer = world.customer.clone();
    let decide = move |view: &SettlementView| {
        let mut end = valid(view.units[0].key, &customer, 1);
        if let ports::store::UnitEnd::Valid { output, .. } = &mut end.end {
            *output = frame(100_000);
        }
        Settlement { replicas: vec![computed(view.units[0].key.replica(0))], units: vec![end], ..Settlement::default() }
    };
    let answer = world.store.settle(&keys, Box::new(decide)).await;
    assert!(matches!(answer, Err(StoreError::Full { .. })), "{answer:?}");
    drop(world);
    let world = World::new(Arc::new(sqlite(folder.path(), patient()).await));
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.cut, report.units.open, report.usage.replicas), (cut_units * 100, cut_units * 100, cut_units * 200));
    assert!(report.units.valid == 0 && world.store.usage_totals(&UsageFilter::default()).await.unwrap().is_empty());
    assert!(world.store.dispatch(step(cut_units)).await.unwrap());
    world.store.reply_all(vec![large(&world)]).await.unwrap();
    world.settle_valid(&[UnitKey { job, unit: 0 }]).await;
}

fn large(world: &World) -> ports::store::OutboxMessage {
    ports::store::OutboxMessage { body: vec![7; 3 << 20], ..world.message("large") }
}

/// Makes each of the next inserts into a table fail with that state, as often as said.
async fn fail_inserts(url: &str, table: &str, state: &str, times: u32) {
    let statement = format!(
        "CREATE SEQUENCE failures;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('failures') <= {times} THEN RAISE EXCEPTION 'made to fail' USING ERRCODE = '{state}'; END IF;
            RETURN NULL; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION fail();"
    );
    execute(url, statement.leak()).await;
}

#[tokio::test]
async fn a_full_server_changes_nothing() {
    let url = postgres_url().await;
    let world = World::new(Arc::new(postgres(&url).await));
    let job = world.admit(10).await;
    let units = world.sent(job, &[0, 10]).await;
    fail_inserts(&url, "outputs", "53100", 1).await;
    let answer = world.store.settle(&[units[0].replica(0)], decide_valid(&world)).await;
    assert!(matches!(answer, Err(StoreError::Full { .. })), "{answer:?}");
    assert_eq!(world.store.job(job).await.unwrap().unwrap().units.replicas_sent, 1);
    world.settle_valid(&units).await;
    assert_eq!(world.store.usage_totals(&UsageFilter::default()).await.unwrap()[0].units, 1);
}

#[tokio::test]
async fn a_lost_race_is_run_again_but_nothing_is_decided_twice() {
    let url = postgres_url().await;
    let world = World::new(Arc::new(postgres(&url).await));
    fail_inserts(&url, "jobs", "40001", 3).await;
    let job = world.admit(10).await;
    let units = world.sent(job, &[0, 10]).await;
    execute(&url, "CREATE TRIGGER fail BEFORE INSERT ON ledger FOR EACH STATEMENT EXECUTE FUNCTION fail()").await;
    execute(&url, "SELECT setval('failures', 1)").await;
    let answer = world.store.settle(&[units[0].replica(0)], decide_valid(&world)).await;
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    execute(&url, "SELECT setval('failures', 100)").await;
    world.store.settle(&[units[0].replica(0)], decide_valid(&world)).await.unwrap();
    assert_eq!(world.store.usage_totals(&UsageFilter::default()).await.unwrap()[0].units, 1);
}

/// Sums grow with the ledger, and are taken anew where rows are other than they were, as those of a restored backup.
async fn sums_are_of_the_rows_that_are_there(url: &str, store: store::SqlStore) {
    let world = World::new(Arc::new(store));
    let sums = async || {
        let totals = world.store.usage_totals(&UsageFilter::default()).await.unwrap();
        let own: u128 = totals.iter().filter(|total| total.customer == world.customer).map(|total| total.fuel).sum();
        let month = world.store.customer_use(&world.customer, NOW).await.unwrap().fuel;
        assert_eq!(month, own, "the customer's month");
        totals.iter().map(|total| (total.units, total.fuel)).collect::<Vec<_>>()
    };
    assert!(sums().await.is_empty());
    let job = world.admit(30).await;
    let units = world.sent(job, &[0, 10, 20, 30]).await;
    for (unit, rows) in units.iter().zip(1_u64..) {
        world.settle_valid(&[*unit]).await;
        for _again in 0..2 {
            assert_eq!(sums().await, [(rows, u128::from(rows) * 1_000)]);
        }
    }
    execute(url, "UPDATE ledger SET fuel = 7, recorded_at = recorded_at + 1 WHERE number > 1").await;
    assert_eq!(sums().await, [(3, 1_014)], "other rows have the numbers now");
    let interleaved = "UPDATE ledger SET customer = 'other', unit = 100, recorded_at = recorded_at + 1 WHERE unit = 2;
        INSERT INTO ledger (job, unit, customer, pool, meter, fuel, bytes, output, recorded_at)
            SELECT job, 200, customer, pool, meter, 5, bytes, output, recorded_at + 9 FROM ledger WHERE unit = 0";
    execute(url, interleaved).await;
    assert_eq!(sums().await, [(3, 1_012), (1, 7)], "the last that was summed is another customer's, and the next is not");
    execute(url, "DELETE FROM ledger WHERE number > 1").await;
    assert_eq!(sums().await, [(1, 1_000)]);
    execute(url, "DELETE FROM ledger").await;
    assert!(sums().await.is_empty());
}

#[tokio::test]
async fn sums_are_of_the_rows_that_are_there_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/store.db", folder.path().display());
    sums_are_of_the_rows_that_are_there(&url, sqlite(folder.path(), patient()).await).await;
}

#[tokio::test]
async fn sums_are_of_the_rows_that_are_there_on_postgres() {
    let url = postgres_url().await;
    sums_are_of_the_rows_that_are_there(&url, postgres(&url).await).await;
}

fn decide_valid(world: &World) -> ports::store::Settle {
    let customer = world.customer.clone();
    Box::new(move |view: &SettlementView| Settlement {
        replicas: vec![computed(view.units[0].key.replica(0))],
        units: vec![valid(view.units[0].key, &customer, 10)],
        ..Settlement::default()
    })
}
