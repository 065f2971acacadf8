//! Fairness: shares follow weights, and who has much to do does not delay who has little.

use std::time::Duration;

use protocol::CustomerName;
use protocol::customer::CustomerLimits;
use protocol::job::{JobSpec, UnitSizing};
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
