//! Backups, planned faults, and what invariants are checked against.

use std::sync::Arc;

use ports::store::{ReportStore as _, StoreError};
use testkit::MemoryStore;
use testkit::memory_store::StoreFault;
use testkit::store_contract::World;
use testkit::store_contract::world::NOW;

use super::Still;

fn open() -> (MemoryStore, World) {
    let store = MemoryStore::new(Arc::new(Still));
    (store.clone(), World::new(Arc::new(store)))
}

#[tokio::test]
async fn a_restored_backup_forgets_what_came_after() {
    let (store, world) = open();
    let job = world.admit(10).await;
    let units = world.sent(job, &[0, 5, 10]).await;
    let backup = store.snapshot();
    for _twice in 0..2 {
        world.settle_valid(&units).await;
        assert_eq!((store.ledger().len(), store.open_units().len()), (2, 0));
        world.admit(1).await;
        store.restore(&backup);
        assert_eq!((store.ledger().len(), store.open_units().len(), store.all_jobs().len()), (0, 2, 1));
        assert_eq!((store.outbox_len(), store.messages_written().len()), (1, 1));
    }
    assert_eq!(store.units_of(job).iter().map(|unit| unit.key).collect::<Vec<_>>(), units);
}

#[tokio::test]
async fn a_fault_before_changes_nothing_and_one_after_changes_all() {
    let (store, world) = open();
    for (fault, written) in [(StoreFault::None, 1), (StoreFault::FailBefore, 1), (StoreFault::FailAfter, 2)] {
        store.set_fault(Some(Box::new(move |operation| if operation == "write replies" { fault } else { StoreFault::None })));
        let answer = world.store.reply_all(vec![world.message(&format!("{fault:?}"))]).await;
        let away = matches!(answer, Err(StoreError::Unavailable { operation: "write replies", .. }));
        assert_eq!((away, answer.is_ok()), (fault != StoreFault::None, fault == StoreFault::None));
        assert!(store.jobs(None, 1).await.unwrap().is_empty());
        assert_eq!(store.outbox_len(), written);
    }
    store.set_fault(None);
    let claimed = world.claim_messages(NOW, 10).await;
    world.store.settle_outbox(&claimed, &[], NOW).await.unwrap();
    assert_eq!((store.outbox_len(), store.messages_written().len()), (0, 2));
}
