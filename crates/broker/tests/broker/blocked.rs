//! A memory alarm: publishing waits and says so, what is given up meanwhile is not sent, consuming goes on.

use std::time::Duration;

use ports::broker::{Broker, Confirm, Link, Verdict};

use crate::node::{NODE, PATIENCE, Vhost, node, plain, put, until, work};

async fn alarm(raised: bool) {
    tokio::task::spawn_blocking(move || node().set_memory_alarm(raised)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_alarm_blocks_publishing_but_not_consuming() {
    let _node = NODE.write().await;
    let vhost = Vhost::new("alarm").await;
    let broker = vhost.connect("grid");
    put(&broker, vec![work(0, "before"), work(0, "too")]).await;
    let consumer = broker.consume(&plain(0), 1).await.unwrap();
    alarm(true).await;
    // The broker blocks a connection when it next publishes.
    let unknown = broker.publish(vec![work(0, "blocked")], Duration::from_millis(500)).await.unwrap();
    assert_eq!(unknown, [Confirm::Unknown]);
    until("the link to be blocked", || matches!(broker.link(), Link::Blocked(_))).await;
    for id in ["before", "too"] {
        let held = tokio::time::timeout(PATIENCE, consumer.next(1)).await.unwrap().unwrap();
        assert_eq!(held[0].properties.message_id, id);
        assert_eq!(consumer.settle(&[(held[0].tag, Verdict::Ack)]).await.unwrap(), 0);
    }
    let unknown = broker.publish(vec![work(0, "given up")], Duration::from_millis(500)).await.unwrap();
    assert_eq!(unknown, [Confirm::Unknown]);
    let waiting = broker.publish(vec![work(0, "after")], PATIENCE);
    let (stored, ()) = tokio::join!(waiting, alarm(false));
    assert_eq!(stored.unwrap(), [Confirm::Stored]);
    until("the link to be up", || broker.link() == Link::Up).await;
    let mut seen = String::new();
    while seen != "after" {
        let held = tokio::time::timeout(PATIENCE, consumer.next(1)).await.unwrap().unwrap();
        seen.clone_from(&held[0].properties.message_id);
        assert_ne!(seen, "given up", "it was still to be sent when nobody waited any more");
        assert_eq!(consumer.settle(&[(held[0].tag, Verdict::Ack)]).await.unwrap(), 0);
    }
}
