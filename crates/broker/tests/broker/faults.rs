//! Lost connections, channels and queues: nothing confirmed is lost, and consumers come back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use ports::broker::{Broker, Confirm, Consumer, Delivery, Link, Outgoing, Verdict};
use protocol::HostId;
use protocol::address::{WORK_EXCHANGE, WORKER_EXCHANGE};

use crate::node::{NODE, PATIENCE, Vhost, ctl, plain, put, topology, until, work};

/// A bound on waiting for what only the broker can tell, and the pause between two looks.
const LOOKS: usize = 12_000;
const PAUSE: Duration = Duration::from_millis(50);

async fn next(consumer: &dyn Consumer) -> Vec<Delivery> {
    tokio::time::timeout(PATIENCE, consumer.next(1000)).await.expect("a delivery in time").unwrap()
}

async fn ack(consumer: &dyn Consumer, deliveries: &[Delivery]) -> usize {
    let verdicts: Vec<_> = deliveries.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
    consumer.settle(&verdicts).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_while_publishing_lose_nothing_confirmed() {
    const BATCHES: usize = 60;
    const BATCH: usize = 250;
    let _node = NODE.read().await;
    let vhost = Vhost::new("cut-publishing").await;
    let broker = Arc::new(vhost.connect("publisher"));
    put(&*broker, vec![work(0, "first")]).await;
    let publishing = {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            for batch in 0..BATCHES {
                let messages = (0..BATCH).map(|number| work(0, &format!("{batch}-{number}"))).collect();
                let confirms = broker.publish(messages, PATIENCE).await.unwrap();
                assert!(confirms.iter().all(|confirm| *confirm == Confirm::Stored), "batch {batch}: {confirms:?}");
            }
        })
    };
    while !publishing.is_finished() {
        vhost.cut().await;
    }
    publishing.await.unwrap();
    let consumer = vhost.connect("consumer").consume(&plain(0), 500).await.unwrap();
    let (mut seen, mut last) = (BTreeSet::new(), BATCHES * BATCH + 1);
    while last > 0 {
        let batch = next(&*consumer).await;
        last -= batch.iter().filter(|delivery| seen.insert(delivery.properties.message_id.clone())).count();
        ack(&*consumer, &batch).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_cut_while_consuming_see_everything() {
    const COUNT: usize = 20_000;
    let _node = NODE.read().await;
    let vhost = Vhost::new("cut-consuming").await;
    let broker = Arc::new(vhost.connect("grid"));
    put(&*broker, (0..COUNT).map(|number| work(1, &number.to_string())).collect()).await;
    let consumer = broker.consume(&plain(1), 200).await.unwrap();
    let consuming = tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        while seen.len() < COUNT {
            let batch = next(&*consumer).await;
            seen.extend(batch.iter().map(|delivery| delivery.properties.message_id.clone()));
            ack(&*consumer, &batch).await;
        }
    });
    vhost.cut().await;
    while !consuming.is_finished() {
        vhost.cut().await;
    }
    consuming.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_consumed_again_when_it_is_back() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("deleted").await;
    let broker = vhost.connect("grid");
    let consumer = broker.consume(&plain(2), 10).await.unwrap();
    assert_eq!(broker.unread(), None);
    ctl(&["delete_queue", "-p", vhost.name(), &plain(2)]).await;
    until("it to be told", || broker.unread().is_some_and(|told| told.contains(&plain(2)))).await;
    let gone = broker.publish(vec![work(2, "gone")], PATIENCE).await.unwrap();
    assert_eq!(gone, [Confirm::Unroutable]);
    broker.ensure_topology(&topology(), true).await.unwrap();
    put(&broker, vec![work(2, "back")]).await;
    let back = next(&*consumer).await;
    assert_eq!(back[0].properties.message_id, "back");
    assert_eq!((broker.unread(), broker.link()), (None, Link::Up));
    assert_eq!(ack(&*consumer, &back).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_binding_is_there_again_soon() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("unbound").await;
    let broker = vhost.connect("grid");
    broker.ensure_topology(&topology(), true).await.unwrap();
    let connection = Connection::connect(&vhost.url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (lane, key) = (plain(6), work(6, "lost").routing_key);
    channel.queue_unbind(lane.into(), WORK_EXCHANGE.into(), key.into(), FieldTable::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    assert_eq!(broker.publish(vec![work(6, "lost")], PATIENCE).await.unwrap(), [Confirm::Unroutable]);
    for look in 0.. {
        match broker.publish(vec![work(6, "sent")], PATIENCE).await.unwrap().as_slice() {
            [Confirm::Stored] => break,
            [Confirm::Unroutable] if look < LOOKS => tokio::time::sleep(PAUSE).await,
            other => panic!("a lane that is bound again answered {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_queue_that_another_connection_still_holds_is_waited_for() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("held").await;
    let (worker, other) = (vhost.connect("worker"), vhost.connect("other"));
    let host = HostId::new("host-9").unwrap();
    let queue = worker.declare_worker_queue(&host).await.unwrap();
    vhost.cut().await;
    other.declare_worker_queue(&host).await.unwrap();
    let freed = async {
        until("the queue to be held", || worker.unread().is_some_and(|told| told.contains("another connection owns it"))).await;
        other.close().await;
    };
    let (consumer, ()) = tokio::join!(worker.consume(&queue, 10), freed);
    let consumer = consumer.unwrap();
    until("the queue to be read", || worker.unread().is_none()).await;
    let part = Outgoing { exchange: WORKER_EXCHANGE.into(), routing_key: host.to_string(), ..work(0, "part") };
    put(&worker, vec![part]).await;
    assert_eq!(next(&*consumer).await[0].properties.message_id, "part");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_timeout_gives_the_delivery_again() {
    let _node = NODE.write().await;
    let vhost = Vhost::new("timeout").await;
    let set = |timeout: u32, tick: u32| {
        format!(
            "application:set_env(rabbit, consumer_timeout, {timeout}), application:set_env(rabbit, channel_tick_interval, {tick})."
        )
    };
    ctl(&["eval", &set(2_000, 500)]).await;
    let broker = vhost.connect("grid");
    put(&broker, vec![work(3, "slow")]).await;
    let consumer = broker.consume(&plain(3), 10).await.unwrap();
    let slow = next(&*consumer).await;
    let again = next(&*consumer).await;
    assert_eq!(again[0].properties.message_id, "slow");
    assert!(again[0].redelivered && again[0].tag > slow[0].tag);
    ctl(&["eval", &set(1_800_000, 60_000)]).await;
    assert_eq!(ack(&*consumer, &slow).await, 1, "the tag of the lost channel settles nothing");
    // The new channel was opened with the short timeout; only a delivery in time may be settled for sure.
    let mut held = again;
    while ack(&*consumer, &held).await > 0 {
        held = next(&*consumer).await;
    }
    put(&broker, vec![work(3, "next")]).await;
    // An acknowledgement that crossed with the end of its channel has none: "slow" comes once more.
    loop {
        let last = next(&*consumer).await;
        ack(&*consumer, &last).await;
        let ids: Vec<&str> = last.iter().map(|delivery| delivery.properties.message_id.as_str()).collect();
        assert!(ids.iter().all(|id| ["slow", "next"].contains(id)), "{ids:?}");
        if ids.contains(&"next") {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_close_everything_is_refused_as_closed() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("closed").await;
    let broker = vhost.connect("grid");
    put(&broker, vec![work(4, "a")]).await;
    let consumer = broker.consume(&plain(4), 10).await.unwrap();
    assert_eq!(next(&*consumer).await.len(), 1);
    let closed = |result: Result<(), ports::broker::BrokerError>| {
        assert!(matches!(result, Err(ports::broker::BrokerError::Closed)), "{result:?}");
    };
    let (waiting, ()) = tokio::join!(consumer.next(1), broker.close());
    closed(waiting.map(|_| ()));
    closed(broker.publish(vec![work(4, "b")], PATIENCE).await.map(|_| ()));
    closed(broker.consume(&plain(4), 1).await.map(|_| ()));
    closed(broker.depth(&plain(4)).await.map(|_| ()));
    let none = || async {
        let list = ctl(&["list_connections", "vhost"]).await;
        !list.lines().any(|line| line.trim() == vhost.name())
    };
    for _ in 0..60 {
        if none().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("connections outlived their broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_used_again_when_it_is_back() {
    let _node = NODE.write().await;
    let vhost = Vhost::new("killed").await;
    let broker = vhost.connect("grid");
    put(&broker, vec![work(5, "before")]).await;
    let consumer = broker.consume(&plain(5), 10).await.unwrap();
    let held = next(&*consumer).await;
    tokio::task::spawn_blocking(|| crate::node::node().kill9()).await.unwrap();
    until("the link to be down", || matches!(broker.link(), ports::broker::Link::Down(_))).await;
    let unknown = broker.publish(vec![work(5, "lost?")], Duration::from_millis(200)).await.unwrap();
    assert_eq!(unknown, [Confirm::Unknown]);
    tokio::task::spawn_blocking(|| crate::node::node().restart()).await.unwrap();
    put(&broker, vec![work(5, "after")]).await;
    let mut seen = BTreeSet::new();
    while !seen.contains("before") || !seen.contains("after") {
        let batch = next(&*consumer).await;
        assert!(batch.iter().all(|delivery| delivery.tag > held[0].tag));
        seen.extend(batch.iter().map(|delivery| delivery.properties.message_id.clone()));
        ack(&*consumer, &batch).await;
    }
    assert_eq!(broker.link(), ports::broker::Link::Up);
}
