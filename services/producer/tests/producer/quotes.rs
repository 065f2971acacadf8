//! Quotes: from the job's limits at first, then from what its app took.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::job::{JobSpec, Limits};
use protocol::quote::{Basis, QuoteJob, Quoted};
use protocol::{Digest, Fuel};
use rules::pricing::{RateCard, Rates};
use tokio::time::sleep;

use crate::workers;
use crate::world::{MODULE, World, numbers, pool};

fn quote(items: u64) -> QuoteJob {
    let limits = Limits { fuel_per_item: Fuel::new(2_000_000).unwrap(), ..Limits::default() };
    QuoteJob { job: JobSpec { limits, ..numbers(items) } }
}

/// A trillion of fuel costs 2.
fn rates() -> Arc<RateCard> {
    let rates = Rates::new("2".parse().unwrap(), "1".parse().unwrap()).unwrap();
    Arc::new(RateCard {
        id: "2026".to_owned(),
        digest: Digest::of(b"card"),
        currency: "EUR".parse().unwrap(),
        pools: BTreeMap::from([(pool(), rates)]),
    })
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_bounded_by_the_limits() {
    let world = World::with(Some(rates()));
    world.upload("acme", MODULE).await;
    let quoted: Quoted = world.ask("acme", &quote(1_000)).await;
    assert_eq!((quoted.basis, quoted.basis_items, quoted.items), (Basis::Limits, 0, 1_000));
    assert_eq!((quoted.fuel.low, quoted.fuel.high.get(), quoted.seconds), (Fuel::ZERO, 2_000_000_000, None));
    let cost = quoted.cost.unwrap();
    assert_eq!((cost.low.amount.to_string(), cost.high.amount.to_string()), ("0".to_owned(), "0.004".to_owned()));
    assert_eq!(cost.high.currency.to_string(), "EUR");
}

#[tokio::test(start_paused = true)]
async fn earlier_jobs_of_the_same_customer_tell_more() {
    let world = World::new();
    workers::start(&world, 1, |_| Duration::from_millis(10));
    let (_, job) = world.submit("acme", &numbers(100)).await;
    sleep(Duration::from_secs(30)).await;
    workers::end(&world, job).await;
    let quoted: Quoted = world.ask("acme", &quote(1_000)).await;
    assert_eq!((quoted.basis, quoted.basis_items, quoted.cost), (Basis::EarlierJobs, 100, None));
    assert_eq!(quoted.fuel.likely.get(), 10_000_000);
    // A thousand items of 10 ms on two workers.
    assert_eq!(quoted.seconds.unwrap().likely, 5);
    // With another customer at work, half of that is to be had.
    world.submit("other", &numbers(1_000_000)).await;
    let quoted: Quoted = world.ask("acme", &quote(1_000)).await;
    let seconds = quoted.seconds.unwrap();
    assert_eq!((seconds.low, seconds.likely), (5, 10));
    let quoted: Quoted = world.ask("other", &quote(1_000)).await;
    assert_eq!(quoted.basis, Basis::Limits);
}

#[tokio::test(start_paused = true)]
async fn a_job_with_mistakes_has_no_quote() {
    let world = World::new();
    world.upload("acme", MODULE).await;
    let wrong = QuoteJob { job: JobSpec { quorum: 9, priority: 101, ..numbers(1) } };
    let refused = world.refused("acme", &wrong).await;
    assert_eq!((refused.code.as_str(), refused.errors.len()), ("invalid-job", 2));
    let unknown = QuoteJob { job: JobSpec { app: Digest::of(b"unknown"), ..numbers(1) } };
    assert_eq!(world.refused("acme", &unknown).await.errors[0].pointer, "/app");
    let bad = world.upload("acme", b"bad").await;
    assert_eq!(world.refused("acme", &QuoteJob { job: JobSpec { app: bad, ..numbers(1) } }).await.code, "app-rejected");
}
