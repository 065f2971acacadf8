//! The load that gauges are read from: what open jobs still need and what waits for customers, on both databases.

use std::sync::Arc;

use ports::store::{ReplicaState, Settlement, StageStep};
use protocol::CustomerName;
use protocol::job::JobState;
use store::{JobLoad, SqlStore, StoreOptions};
use testkit::store_contract::World;
use testkit::store_contract::world::{NOW, at, cut, ended};

use super::{postgres, postgres_url, sqlite};

async fn loads(store: &SqlStore) -> Vec<JobLoad> {
    store.job_loads(at(30), 100).await.unwrap()
}

async fn jobs_tell_what_they_need(store: SqlStore) {
    let store = Arc::new(store);
    let world = World::new(store.clone());
    assert!(loads(&store).await.is_empty());
    let fresh = world.admit(100).await;
    let begun = world.admit(100).await;
    // Three units on two lanes each; the first is decided, of the second one replica failed and waits to be tried again.
    assert!(world.store.dispatch(cut(begun, 0, 0, &[0, 10, 30, 60], &[0, 1])).await.unwrap());
    let unit = |unit| protocol::UnitKey { job: begun, unit };
    world.store.mark_sent(&[unit(0).replica(0), unit(1).replica(0), unit(1).replica(1)], at(600)).await.unwrap();
    world.settle_valid(&[unit(0)]).await;
    let retry = Settlement {
        replicas: vec![ended(unit(1).replica(0), ReplicaState::Failed, "trap")],
        due: vec![(unit(1).replica(2), at(9))],
        ..Settlement::default()
    };
    world.settle(&[unit(1).replica(0)], retry).await;

    let found = loads(&store).await;
    let [first, second] = &found[..] else { panic!("{found:?}") };
    assert_eq!((first.id, first.begun, first.ending, first.uncut, first.replicas), (fresh, false, false, 100, 0));
    assert_eq!((first.moved_at, first.oldest_due, first.quorum), (NOW, None, 1));
    assert_eq!((second.id, second.begun, second.ending, second.uncut), (begun, true, false, 40));
    // Two replicas of 20 items, sent and to be tried again, and two of 30, not sent.
    assert_eq!((second.replicas, second.replica_items, second.oldest_due), (4, 2 * 20 + 2 * 30, Some(NOW)));
    assert_eq!((second.progress.items, second.progress.units), (10, 1));
    assert_eq!(store.job_loads(at(30), 1).await.unwrap(), found[..1]);

    assert!(world.store.request_cancel(&world.customer, begun).await.unwrap());
    let late = ports::store::NewJob { deadline_at: Some(at(29)), ..world.job(5) };
    world.admit_job(late).await;
    let ending: Vec<bool> = loads(&store).await.iter().map(|load| load.ending).collect();
    assert_eq!(ending, [false, true, true]);
    world.assemble(begun, 10, StageStep::Cancel { state: JobState::Cancelled }).await;
    assert_eq!(loads(&store).await[1].replicas, 0, "what is cancelled is not computed");
}

async fn the_outbox_is_counted(store: SqlStore) {
    let store = Arc::new(store);
    let world = World::new(store.clone());
    assert_eq!(store.outbox_load().await.unwrap(), store::OutboxLoad::default());
    for n in 0..3 {
        let customer = CustomerName::new(format!("customer-{n}")).unwrap();
        let message = ports::store::OutboxMessage { customer, ..world.message(&n.to_string()) };
        world.store.reply_all(vec![message]).await.unwrap();
    }
    let claimed = world.store.claim_outbox(NOW, at(20), 1).await.unwrap();
    let all = store.outbox_load().await.unwrap();
    assert_eq!((all.messages, all.span), (3, Some((claimed[0].sequence, claimed[0].sequence + 2))));
    world.store.settle_outbox(&[claimed[0].key()], &[], NOW).await.unwrap();
    let left = store.outbox_load().await.unwrap();
    assert_eq!((left.messages, left.span), (2, Some((claimed[0].sequence + 1, claimed[0].sequence + 2))));
}

#[tokio::test]
async fn on_sqlite() {
    for test in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite(folder.path(), StoreOptions::default()).await;
        if test == 0 { jobs_tell_what_they_need(store).await } else { the_outbox_is_counted(store).await }
    }
}

#[tokio::test]
async fn on_postgres() {
    jobs_tell_what_they_need(postgres(&postgres_url().await).await).await;
    the_outbox_is_counted(postgres(&postgres_url().await).await).await;
}
