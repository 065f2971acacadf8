//! One specification that cannot be read, beside others that can: its job waits, and keeps none of the others waiting.

use std::sync::Arc;

use ports::store::{Settlement, StageStep};
use protocol::JobId;
use store::{SqlStore, StoreError};
use testkit::store_contract::World;
use testkit::store_contract::world::{NOW, at, computed, valid};

use super::alone::execute;
use super::{patient, postgres, postgres_url, sqlite};

/// Makes the oldest job's specification what no service has written.
async fn spoil(url: &str) {
    let statement = if url.starts_with("sqlite") {
        "UPDATE job_specs SET spec = X'c1' WHERE job = (SELECT id FROM jobs ORDER BY id LIMIT 1)"
    } else {
        "UPDATE job_specs SET spec = decode('c1', 'hex') WHERE job = (SELECT id FROM jobs ORDER BY id LIMIT 1)"
    };
    execute(url, statement).await;
}

async fn others_go_on(store: SqlStore, url: &str) {
    let store = Arc::new(store);
    let world = World::new(store.clone());
    let bad = world.admit(10).await;
    let good = [world.admit(10).await, world.admit(10).await, world.admit(10).await];
    let bad_units = world.sent(bad, &[0, 5]).await;
    spoil(url).await;

    let claimed: Vec<JobId> = world.claim("p", NOW).await.into_iter().map(|job| job.id).collect();
    assert_eq!(claimed, good);
    let mut reports: Vec<JobId> = world.store.jobs(None, 10).await.unwrap().into_iter().map(|report| report.id).collect();
    reports.sort();
    assert_eq!(reports, good);
    assert_eq!(world.store.running(10).await.unwrap().len(), 3);
    assert_eq!(world.store.wait_facts(good[2]).await.unwrap().ahead, 2);
    assert_eq!(store.job_loads(at(1), 10).await.unwrap().len(), 3);
    assert!(world.store.job(bad).await.unwrap().is_none());
    assert!(matches!(world.store.submitted(bad).await, Err(StoreError::Corrupt { .. })));

    // An outcome of it that comes with others has no effect, and they have theirs.
    let units = world.sent(good[0], &[0, 10]).await;
    let (mixed, customer) = ([bad_units[0].replica(0), units[0].replica(0)], world.customer.clone());
    let decide = move |view: &ports::store::SettlementView| {
        assert_eq!(view.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [good[0]]);
        Settlement { replicas: vec![computed(mixed[1])], units: vec![valid(units[0], &customer, 10)], ..Settlement::default() }
    };
    world.store.settle(&mixed, Box::new(decide)).await.unwrap();
    assert_eq!(world.store.job(good[0]).await.unwrap().unwrap().units.valid, 1);
    let assembled = world.store.assemble(bad, 10, Box::new(|_| unreachable!("it neither goes on nor ends"))).await;
    assert!(matches!(assembled, Err(StoreError::Corrupt { .. })), "{assembled:?}");
    assert!(world.assemble(good[0], 10, StageStep::Stay).await.1.is_some());
}

#[tokio::test]
async fn others_go_on_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path(), patient()).await;
    others_go_on(store, &format!("sqlite://{}/store.db", folder.path().display())).await;
}

#[tokio::test]
async fn others_go_on_on_postgres() {
    let url = postgres_url().await;
    others_go_on(postgres(&url).await, &url).await;
}
