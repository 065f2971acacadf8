//! Usage: a month's rows of the ledger, page by page, with their sums.

use std::time::Duration;

use protocol::job::{JobSpec, UnitSizing};
use protocol::usage::{ReportUsage, UsageReported};
use tokio::time::sleep;

use crate::workers;
use crate::world::{World, numbers};

fn report(period: &str, after: Option<u64>, limit: u32) -> ReportUsage {
    ReportUsage { period: period.to_owned(), after, limit }
}

#[tokio::test(start_paused = true)]
async fn usage_comes_row_by_row_and_adds_up() {
    let world = World::new();
    workers::start(&world, 1, |_| Duration::from_millis(1));
    let spec = JobSpec { unit: UnitSizing { target_ms: 1_000, max_items: 1 }, ..numbers(5) };
    let (_, job) = world.submit("acme", &spec).await;
    world.submit("other", &spec).await;
    sleep(Duration::from_secs(10)).await;
    // The clock of these tests begins in 2026.
    let (mut after, mut rows) = (None, Vec::new());
    loop {
        let page: UsageReported = world.ask("acme", &report("2026-01", after, 2)).await;
        let [total] = &page.totals[..] else { panic!("{page:?}") };
        assert_eq!((total.units, total.fuel.0, total.bytes.0, total.cost), (5, 5_000, 40, None));
        rows.extend(page.rows);
        after = page.next_after;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((rows.len(), rows.iter().all(|row| row.job == job)), (5, true));
    assert_eq!(rows.iter().map(|row| row.fuel.get()).sum::<u64>(), 5_000);
    let other: UsageReported = world.ask("acme", &report("2026-02", None, 100)).await;
    assert!(other.rows.is_empty() && other.totals.is_empty() && other.next_after.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_month_or_page_is_refused() {
    let world = World::new();
    for (request, pointer) in [
        (report("2026-13", None, 10), "/period"),
        (report("last month", None, 10), "/period"),
        (report("2026-01", None, 0), "/limit"),
        (report("2026-01", None, 10_001), "/limit"),
        (report("2026-01", Some(u64::MAX), 10), "/after"),
    ] {
        let problem = world.refused("acme", &request).await;
        assert_eq!((problem.code.as_str(), problem.errors[0].pointer.as_str()), ("invalid-request", pointer));
    }
}
