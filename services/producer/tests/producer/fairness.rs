//! Fairness: shares follow weights, and who has much to do does not delay who has little.

use std::time::Duration;

use ports::store::ReportStore;
use protocol::customer::CustomerLimits;
use protocol::job::{JobSpec, UnitSizing};
use protocol::{CustomerName, JobId};
use tokio::time::{Instant, sleep};

use crate::workers;
use crate::world::{World, customer, numbers};

fn sized(items: u64, target_ms: u32, max_items: u32) -> JobSpec {
    JobSpec { unit: UnitSizing { target_ms, max_items }, ..numbers(items) }
}

/// Two customers whose items differ in length, of weights 3 and 1, both with more work than there are workers.
async fn shares(target_ms: u32, seconds: u64) -> (f64, Duration) {
    let world = World::new();
    world.limit("heavy", 3, CustomerLimits::default()).await;
    let item = |customer: &CustomerName| Duration::from_millis(if customer.as_str() == "heavy" { 5 } else { 20 });
    let diary = workers::start(&world, 2, item);
    world.submit("light", &sized(1_000_000_000, target_ms, 10_000)).await;
    world.submit("heavy", &sized(1_000_000_000, target_ms, 10_000)).await;
    sleep(Duration::from_secs(20)).await;
    let since = world.now();
    sleep(Duration::from_secs(seconds)).await;
    let [heavy, light] = ["heavy", "light"].map(|name| diary.computed(&customer(name), since, world.now()));
    (heavy.as_secs_f64() / light.as_secs_f64(), heavy + light)
}

#[tokio::test(start_paused = true)]
async fn saturated_customers_share_by_their_weights() {
    for (target_ms, seconds) in [(40, 60), (1_000, 600), (10_000, 8_000)] {
        let (ratio, computed) = shares(target_ms, seconds).await;
        assert!((2.85..=3.15).contains(&ratio), "units of {target_ms} ms are shared {ratio}:1");
        // The four workers are busy: what is ready is little, and enough.
        let capacity = Duration::from_secs(seconds * 4);
        assert!(computed > capacity * 97 / 100, "units of {target_ms} ms: {computed:?} of {capacity:?}");
    }
}

/// A job of ten units, each of which takes both workers there are.
fn both_workers() -> JobSpec {
    JobSpec { quorum: 2, priority: 1, ..sized(10, 1_000, 1) }
}

/// Limits the units that a customer may have out.
async fn limit_units(world: &World, name: &str, units: u32) {
    world.limit(name, 1, CustomerLimits { units, ..CustomerLimits::default() }).await;
}

async fn succeeded(world: &World, job: JobId) -> u64 {
    world.store.job(job).await.unwrap().unwrap().items.succeeded
}

#[tokio::test(start_paused = true)]
async fn a_unit_of_more_replicas_than_its_customer_may_have_out_is_sent_alone() {
    let world = World::new();
    let diary = workers::start(&world, 1, |_| Duration::from_secs(1));
    let (_, job) = world.submit("acme", &both_workers()).await;
    limit_units(&world, "acme", 1).await;
    let since = world.now();
    sleep(Duration::from_mins(1)).await;
    assert_eq!(succeeded(&world, job).await, 10);
    let begun = diary.begun(since, world.now());
    assert!(
        begun.windows(3).all(|units| units[2].0.since(units[0].0) >= Duration::from_secs(1)),
        "one unit at a time: {begun:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn jobs_that_need_fewer_places_do_not_keep_an_urgent_one_waiting() {
    let world = World::new();
    workers::start(&world, 1, |customer| Duration::from_millis(if customer.as_str() == "other" { 300 } else { 1_000 }));
    limit_units(&world, "acme", 2).await;
    // One of the two workers is busy with it at first, so that their places come free one after the other.
    world.submit("other", &sized(1, 1_000, 1)).await;
    world.submit("acme", &sized(1_000, 1_000, 1)).await;
    sleep(Duration::from_secs(5)).await;
    let (_, job) = world.submit("acme", &both_workers()).await;
    sleep(Duration::from_mins(1)).await;
    assert_eq!(succeeded(&world, job).await, 10);
}

/// How many units of `busy` begin while `newcomer` waits for its ten, and whether its job is done.
async fn begun_meanwhile(unit: Duration, busy_jobs: u64, item: fn(&CustomerName) -> Duration) -> usize {
    let world = World::new();
    let diary = workers::start(&world, 2, item);
    for _ in 0..busy_jobs {
        world.submit("busy", &sized(1_000_000, 10_000, 1)).await;
    }
    sleep(unit * 5 + Duration::from_secs(1)).await;
    let since = world.now();
    world.submit("newcomer", &sized(10, 10_000, 1)).await;
    let (newcomer, patience) = (customer("newcomer"), Instant::now());
    let begun = || diary.begun(since, world.now());
    while begun().iter().filter(|(_, whose, _)| *whose == newcomer).count() < 10 {
        assert!(patience.elapsed() < unit * 100 + Duration::from_secs(10), "the newcomer is not served");
        sleep(unit / 20).await;
    }
    begun().iter().filter(|(_, whose, _)| *whose != newcomer).count()
}

/// Each of four workers holds one unit beside the one that computes, and each lane has one ready; after these, turns alternate.
const MEANWHILE: usize = 4 + 2 + 10 + 1;

#[tokio::test(start_paused = true)]
async fn a_million_units_do_not_delay_ten() {
    let begun = begun_meanwhile(Duration::from_secs(10), 1, |_| Duration::from_secs(10)).await;
    assert!(begun <= MEANWHILE, "{begun} units of 10 s began meanwhile");
}

#[tokio::test(start_paused = true)]
async fn more_jobs_than_are_claimed_do_not_delay_ten_units() {
    let begun = begun_meanwhile(Duration::from_secs(1), 300, |_| Duration::from_secs(1)).await;
    assert!(begun <= MEANWHILE, "{begun} units of 1 s began meanwhile, of 300 jobs");
}

#[tokio::test(start_paused = true)]
async fn a_million_short_units_do_not_delay_ten() {
    // Half a second of them is ready for each worker.
    let ready = 4 * 500 / 10;
    let begun = begun_meanwhile(Duration::from_millis(10), 1, |_| Duration::from_millis(10)).await;
    assert!(begun <= MEANWHILE + ready, "{begun} units of 10 ms began meanwhile");
}
