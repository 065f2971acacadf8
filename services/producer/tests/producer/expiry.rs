//! Lost replicas: while the database takes no writing none is given up, and none right after, when outcomes wait to be settled.

use std::time::Duration;

use ports::Broker as _;
use ports::store::DispatchStore as _;
use protocol::{Micros, UnitKey, address};
use testkit::memory_store::StoreFault;
use testkit::store_contract::world::cut;
use tokio::time::sleep;

use crate::world::{World, numbers};

/// The longest wait between rounds of dispatch that fail.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Without trouble for so long a producer takes replicas for lost.
const CALM: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_database_that_was_full_gives_nothing_up_in_its_first_round() {
    let world = World::new();
    let _aggregator = world.broker.consume(&address::outcomes_queue(0), 1).await.unwrap();
    let (_, job) = world.submit("acme", &numbers(10)).await;
    sleep(2 * CALM).await;
    let full = |operation: &'static str| match operation {
        "claim jobs" | "expire replicas" => StoreFault::FailBefore,
        _ => StoreFault::None,
    };
    world.store.set_fault(Some(Box::new(full)));
    assert!(world.store.dispatch(cut(job, 0, 0, &[0, 10], &[0])).await.unwrap());
    world.store.mark_sent(&[UnitKey { job, unit: 0 }.replica(0)], Micros(0)).await.unwrap();
    sleep(2 * CALM).await;
    assert_eq!(world.metrics.expiry_held.get(), 1);
    world.store.set_fault(None);
    sleep(CALM.mul_f64(0.99)).await;
    assert_eq!(world.metrics.replicas_lost.get(), 0);
    sleep(2 * LONGEST_WAIT).await;
    assert_eq!((world.metrics.replicas_lost.get(), world.metrics.expiry_held.get()), (1, 0));
}
