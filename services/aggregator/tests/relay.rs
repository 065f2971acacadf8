//! The relay on a real RabbitMQ: a customer who does not read is bounded, and nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use aggregator::{Aggregator, AggregatorMetrics, AggregatorSettings};
use broker::{RabbitBroker, RabbitSettings, Topology};
use ports::Broker as _;
use ports::broker::Verdict;
use ports::clock::SystemClock;
use ports::store::{OutboxMessage, RequestStore as _};
use protocol::address::results_queue;
use protocol::reply::{Completed, Part};
use protocol::{CustomerName, Message as _, PoolName};
use service::scope::Reason;
use service::{Metrics, Readiness, Scope};
use testkit::{MemoryStore, servers};

/// Nothing here takes long; a hang is a failure.
const LIMIT: Duration = Duration::from_mins(15);
/// What the sleeper's queue holds.
const HOLDS: u32 = 10;
/// What the relay offers at once.
const BATCH: usize = 200;
/// What is written for each customer; more than a batch and what the sleeper's queue holds.
const MESSAGES: usize = 300;

fn customer(name: &str) -> CustomerName {
    CustomerName::new(name).expect("a name")
}

/// Of the sleeper's messages each so manyth concludes the job whose parts the ones before it are.
const JOB: usize = 25;

async fn write(store: &MemoryStore, customer: &CustomerName, ids: Vec<String>, job: usize) {
    for (at, id) in ids.into_iter().enumerate() {
        let kind = if (at + 1).is_multiple_of(job) { Completed::KIND } else { Part::KIND };
        let message = OutboxMessage {
            id,
            customer: customer.clone(),
            kind: kind.to_owned(),
            content_type: "application/json".to_owned(),
            correlation_id: Some(format!("job {}", at / job)),
            traceparent: None,
            body: b"{}".to_vec(),
        };
        store.reply_all(vec![message]).await.expect("written");
    }
}

/// Reads so many different messages of a customer, each as often as it comes; their ids in the order of their first arrival.
async fn read(broker: &RabbitBroker, customer: &CustomerName, count: usize) -> Vec<String> {
    let consumer = broker.consume(&results_queue(customer), 100).await.expect("a consumer");
    let mut ids = Vec::new();
    while ids.len() < count {
        let batch = tokio::time::timeout(LIMIT, consumer.next(100)).await.unwrap_or_else(|_late| panic!("only {ids:?} came"));
        let batch = batch.expect("a batch");
        for id in batch.iter().map(|delivery| delivery.properties.message_id.clone()) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        consumer.settle(&batch.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect::<Vec<_>>()).await.expect("acked");
    }
    consumer.cancel().await.expect("cancelled");
    ids
}

fn all_of(customer: &CustomerName) -> Vec<String> {
    (0..MESSAGES).map(|number| format!("{customer}.{number:04}")).collect()
}

fn sorted(ids: &[String]) -> Vec<String> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_late| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_who_does_not_read_slows_nobody_and_gets_everything_when_it_does() {
    let (rabbit, url) = (servers::rabbitmq(), servers::rabbitmq().vhost("relay"));
    let policy = format!(
        r#"{{"pattern":"^offpeak\\.customer\\.sleeper","apply-to":"queues","definition":{{"max-length":{HOLDS},"overflow":"reject-publish"}}}}"#
    );
    rabbit.set_policy(&url, "sleeper", &policy);
    let broker = Arc::new(RabbitBroker::connect(&RabbitSettings::new(&url)).expect("a broker"));
    let (crooked, sleeper, reader) = (customer("crooked"), customer("sleeper"), customer("reader"));
    let mut topology = Topology::grid(&[(PoolName::new("open").expect("a name"), 1)], 1);
    // One customer's queue was made by hand, and is another than the grid would declare.
    let mut unfit = topology.queues[0].clone();
    (unfit.name, unfit.single_active) = (results_queue(&crooked), true);
    topology.queues.push(unfit);
    broker.ensure_topology(&topology, true).await.expect("declared");
    let store = MemoryStore::new(Arc::new(SystemClock));
    // The reader's messages are the youngest: all others stand before them.
    write(&store, &crooked, vec!["crooked.waits".to_owned()], MESSAGES).await;
    write(&store, &sleeper, all_of(&sleeper), JOB).await;
    write(&store, &reader, all_of(&reader), MESSAGES).await;
    let metrics = AggregatorMetrics::new(&Metrics::new("test", "0").expect("metrics")).expect("metrics");
    let scope = Scope::new();
    let aggregator = Aggregator {
        broker: broker.clone(),
        store: Arc::new(store.clone()),
        clock: Arc::new(SystemClock),
        shards: 1,
        settings: Arc::new(AggregatorSettings {
            batch: 50,
            sweep_ms: 1_000,
            relay_ms: 20,
            mirror_ms: 60_000,
            rates: None,
            results_days: 0,
        }),
        metrics: metrics.clone(),
        ready: Readiness::new().check("settling"),
    };
    broker.declare_customer(&reader).await.expect("a queue");
    aggregator.start(&scope);

    assert_eq!(read(&broker, &reader, MESSAGES).await, all_of(&reader), "in order, though the sleeper reads nothing");
    let depth = broker.depth(&results_queue(&sleeper)).await.expect("depth").expect("a queue").ready;
    // A quorum queue notices its bound late, on a busy machine when all that was offered at once is in it.
    let most = usize::try_from(HOLDS).expect("small") + BATCH;
    assert!(depth >= HOLDS && usize::try_from(depth).expect("small") <= most, "{depth} wait for the sleeper");
    // Offered again and again, it costs one message each time.
    let refused = metrics.replies_refused.get();
    until("it is not offered again", async || metrics.replies_refused.get() >= refused + 2).await;
    // Two looks at least, and perhaps some more: were all offered again, each would cost them all.
    assert!(
        metrics.replies_refused.get() < refused + u64::try_from(BATCH / 4).expect("small"),
        "{refused}, then {}",
        metrics.replies_refused.get()
    );
    write(&store, &reader, vec!["reader.more".to_owned()], MESSAGES).await;
    assert_eq!(read(&broker, &reader, 1).await, ["reader.more"], "others go on meanwhile");

    let came = read(&broker, &sleeper, MESSAGES).await;
    assert_eq!(sorted(&came), all_of(&sleeper), "each, once it reads");
    for job in all_of(&sleeper).chunks(JOB) {
        let end = came.iter().position(|id| Some(id) == job.last()).expect("it came");
        let before: Vec<&String> = came[..end].iter().filter(|id| job.contains(id)).collect();
        assert_eq!(before.len(), JOB - 1, "all of a job comes before its end: {before:?}");
    }
    until("more or less is left than what has no queue", async || store.outbox_len() == 1).await;
    scope.drain(Reason::Request("the test's end".to_owned()));
    scope.join(LIMIT).await.expect("a good end");
    broker.close().await;
}
