//! Rows that cannot be read, beside others that can: whose they are waits, and keeps none of the others waiting.

use std::sync::Arc;

use ports::store::{Settlement, StageStep};
use protocol::{JobId, ReplicaKey};
use store::{SqlStore, StoreError};
use testkit::store_contract::World;
use testkit::store_contract::world::{NOW, at};

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

    // An outcome of it is refused, which keeps nobody's outcomes once it is alone.
    let units = world.sent(good[0], &[0, 10]).await;
    let mixed = [bad_units[0].replica(0), units[0].replica(0)];
    for meets_it in [&mixed[..], &mixed[..1]] {
        let settled = world.store.settle(meets_it, Box::new(|_| unreachable!("there is nothing to decide on"))).await;
        assert!(matches!(settled, Err(StoreError::Corrupt { .. })), "{settled:?}");
    }
    world.settle_valid(&units).await;
    assert_eq!(world.store.job(good[0]).await.unwrap().unwrap().units.valid, 1);
    let assembled = world.store.assemble(bad, 10, Box::new(|_| unreachable!("it neither goes on nor ends"))).await;
    assert!(matches!(assembled, Err(StoreError::Corrupt { .. })), "{assembled:?}");
    assert!(world.assemble(good[0], 10, StageStep::Stay).await.1.is_some());
}

/// A unit that cannot be read is not settled, alone or with others, until it is mended; what does not touch it is.
async fn one_unit_stays_behind(store: SqlStore, url: &str) {
    let world = World::new(Arc::new(store));
    let job = world.admit(30).await;
    let units = world.sent(job, &[0, 5, 10, 15, 20, 25, 30]).await;
    let damages = [
        ("UPDATE units SET state = 'rubbish' WHERE unit = 0", "UPDATE units SET state = 'open' WHERE unit = 0"),
        ("UPDATE replicas SET state = 'rubbish' WHERE unit = 2", "UPDATE replicas SET state = 'sent' WHERE unit = 2"),
        ("UPDATE replicas SET host = '' WHERE unit = 4", "UPDATE replicas SET host = NULL WHERE unit = 4"),
    ];
    for ((damage, mend), pair) in damages.into_iter().zip(units.chunks(2)) {
        execute(url, damage).await;
        let replicas = [pair[0].replica(0), pair[1].replica(0)];
        for meets_it in [&replicas[..], &replicas[..1]] {
            let settled = world.store.settle(meets_it, Box::new(|_| unreachable!("there is nothing to decide on"))).await;
            assert!(matches!(settled, Err(StoreError::Corrupt { .. })), "{damage}: {settled:?}");
        }
        world.settle(&[ReplicaKey { job: JobId(uuid::Uuid::nil()), unit: 0, replica: 0 }], Settlement::default()).await;
        world.settle_valid(&pair[1..]).await;
        execute(url, mend).await;
        world.settle_valid(&pair[..1]).await;
    }
    assert_eq!(world.store.job(job).await.unwrap().unwrap().units.valid, 6);
}

/// A job whose row cannot be read is not claimed until it is mended, and keeps no other from being claimed. Due replicas that
/// cannot be read are met only when they are asked for.
async fn others_are_dispatched(store: SqlStore, url: &str) {
    let world = World::new(Arc::new(store));
    let (bad, good) = (world.admit(10).await, world.admit(10).await);
    world.sent(bad, &[0, 5]).await;
    world.cut(good, &[0, 5]).await;
    let claimed = async || world.claim("p", NOW).await.into_iter().map(|job| job.id).collect::<Vec<_>>();
    let set = async |columns: &str| {
        let statement = format!("UPDATE jobs SET {columns} WHERE id = (SELECT id FROM jobs ORDER BY id LIMIT 1)");
        execute(url, statement.leak()).await;
    };
    let damages = [
        ("stage = 1000", "stage = 0"),
        ("next_unit = -1", "next_unit = 1"),
        ("customer = ''", "customer = 'acme'"),
        ("budget = 9, budget_item = 0", "budget = NULL, budget_item = NULL"),
    ];
    for (damage, mend) in damages {
        set(damage).await;
        assert_eq!(claimed().await, [good], "{damage}");
        set(mend).await;
        assert_eq!(claimed().await, [bad, good], "{mend}");
    }

    let damage = "UPDATE replicas SET state = 'due', lane = -1 WHERE job = (SELECT id FROM jobs ORDER BY id LIMIT 1)";
    execute(url, damage).await;
    assert_eq!(claimed().await, [bad, good]);
    let due = async |job| world.store.due_replicas(job, NOW, 10).await;
    assert!(matches!(due(bad).await, Err(StoreError::Corrupt { .. })));
    assert_eq!(due(good).await.unwrap().len(), 1);
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

#[tokio::test]
async fn others_are_dispatched_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path(), patient()).await;
    others_are_dispatched(store, &format!("sqlite://{}/store.db", folder.path().display())).await;
}

#[tokio::test]
async fn others_are_dispatched_on_postgres() {
    let url = postgres_url().await;
    others_are_dispatched(postgres(&url).await, &url).await;
}

#[tokio::test]
async fn one_unit_stays_behind_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path(), patient()).await;
    one_unit_stays_behind(store, &format!("sqlite://{}/store.db", folder.path().display())).await;
}

#[tokio::test]
async fn one_unit_stays_behind_on_postgres() {
    let url = postgres_url().await;
    one_unit_stays_behind(postgres(&url).await, &url).await;
}
