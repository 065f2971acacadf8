//! The contract of [`ports::Broker`]: one suite that every implementation passes.
//!
//! The grid under test has the topology of the broker crate with the pools [`PLAIN`], [`SMALL`] and [`FRAIL`] and
//! [`SHARDS`] shards of outcomes. Cases use queues of their own, so that one grid serves them all.

mod consuming;
mod publishing;
mod queues;
mod settling;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ports::broker::{Broker, Confirm, Consumer, Delivery, Outgoing, Properties, Tag, Verdict};
use protocol::PoolName;
use protocol::address::{OUTCOMES_EXCHANGE, WORK_EXCHANGE, work_key, work_queue};

/// A pool with [`PLAIN_LANES`] lanes and generous limits.
pub const PLAIN: &str = "plain";
/// One lane for each case that needs a work queue.
pub const PLAIN_LANES: u16 = 16;
/// A pool with one lane, whose queue holds [`SMALL_MESSAGES`] messages.
pub const SMALL: &str = "small";
/// What the small pool's queue holds.
pub const SMALL_MESSAGES: usize = 5;
/// A pool with one lane, whose queue gives a message up when it came back more than [`FRAIL_DELIVERIES`] times.
pub const FRAIL: &str = "frail";
/// What the frail pool's queue bears.
pub const FRAIL_DELIVERIES: u32 = 2;
/// Shards of outcomes.
pub const SHARDS: u16 = 2;

/// Nothing here takes long; only a crowded machine does.
const PATIENCE: Duration = Duration::from_mins(10);
/// A bound on waiting for a condition; each look has a pause after it.
const LOOKS: usize = 12_000;
/// The pause between two looks at something that only the broker knows.
const PAUSE: Duration = Duration::from_millis(50);

/// A broker under test, with its topology in place.
#[async_trait]
pub trait Grid: Send + Sync {
    /// A further client, with connections of its own.
    async fn client(&self) -> Arc<dyn Broker>;

    /// Ends every connection from the broker's side.
    async fn cut(&self);

    /// The user the clients log in as.
    fn user(&self) -> String;
}

/// Runs every case.
///
/// # Panics
/// When the broker breaks the contract.
pub async fn all(grid: &dyn Grid) {
    Box::pin(publishing::all(grid)).await;
    Box::pin(consuming::all(grid)).await;
    Box::pin(settling::all(grid)).await;
    Box::pin(queues::all(grid)).await;
}

fn good<T, E: Debug>(result: Result<T, E>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what} failed: {error:?}"))
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let within = tokio::time::timeout(PATIENCE, future).await;
    within.unwrap_or_else(|late| panic!("{what} did not come within {PATIENCE:?}: {late}"))
}

/// Waits until a condition holds that only the broker can tell.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    for _ in 0..LOOKS {
        if condition().await {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{what} did not become true");
}

fn pool(name: &str) -> PoolName {
    good(PoolName::new(name), "pool name")
}

fn lane(lane: u16) -> String {
    work_queue(&pool(PLAIN), lane)
}

fn message(exchange: &str, key: &str, id: &str) -> Outgoing {
    let properties = Properties { message_id: id.into(), kind: "offpeak.test.v1".into(), ..Properties::default() };
    Outgoing { exchange: exchange.into(), routing_key: key.into(), properties, body: id.as_bytes().to_vec() }
}

fn work(pool_name: &str, lane: u16, id: &str) -> Outgoing {
    message(WORK_EXCHANGE, &work_key(&pool(pool_name), lane), id)
}

fn outcome(shard: u16, id: &str) -> Outgoing {
    message(OUTCOMES_EXCHANGE, &shard.to_string(), id)
}

/// Publishes, and asserts that all is stored.
async fn put(broker: &dyn Broker, messages: Vec<Outgoing>) {
    let count = messages.len();
    let confirms = good(broker.publish(messages, PATIENCE).await, "publish");
    assert_eq!(confirms, vec![Confirm::Stored; count]);
}

/// Publishes one work message for each id.
async fn put_work(broker: &dyn Broker, lane: u16, ids: &[&str]) {
    put(broker, ids.iter().map(|id| work(PLAIN, lane, id)).collect()).await;
}

async fn consume(broker: &dyn Broker, queue: &str, prefetch: u16) -> Box<dyn Consumer> {
    good(broker.consume(queue, prefetch).await, queue)
}

/// Takes exactly so many deliveries.
async fn take(consumer: &dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = good(soon("a delivery", consumer.next(count - taken.len())).await, "next");
        assert!(!batch.is_empty(), "the consumer ended after {} of {count} deliveries", taken.len());
        taken.extend(batch);
    }
    taken
}

async fn settle(consumer: &dyn Consumer, verdicts: &[(Tag, Verdict)]) {
    assert_eq!(good(consumer.settle(verdicts).await, "settle"), 0, "lost deliveries");
}

async fn ack(consumer: &dyn Consumer, deliveries: &[Delivery]) {
    settle(consumer, &all_as(deliveries, Verdict::Ack)).await;
}

fn all_as(deliveries: &[Delivery], verdict: Verdict) -> Vec<(Tag, Verdict)> {
    deliveries.iter().map(|delivery| (delivery.tag, verdict)).collect()
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.properties.message_id.as_str()).collect()
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> &'a str {
    let found = delivery.properties.headers.iter().find(|(header, _)| header == name);
    found.map_or_else(|| panic!("no header {name} in {:?}", delivery.properties.headers), |(_, value)| value.as_str())
}

async fn ready(broker: &dyn Broker, queue: &str, count: u32) {
    until(&format!("{count} ready in {queue}"), || async {
        good(broker.depth(queue).await, "depth").is_some_and(|depth| depth.ready == count)
    })
    .await;
}

/// The dead letter of that id, from the parked ones; all before it are taken away too.
async fn dead_letter(broker: &dyn Broker, origin: protocol::address::Origin, id: &str) -> Delivery {
    let consumer = consume(broker, &origin.queue(), 1).await;
    loop {
        let letters = take(&*consumer, 1).await;
        ack(&*consumer, &letters).await;
        if let Some(letter) = letters.into_iter().find(|letter| letter.properties.message_id == id) {
            return letter;
        }
    }
}
