//! Confirms that never come, as when a quorum queue has lost its leader: what was published is published again elsewhere.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use broker::{RabbitBroker, RabbitSettings};
use ports::broker::{Broker, Confirm, Verdict};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::node::{NODE, PATIENCE, Vhost, frame_of, plain, work};

/// Which channel's confirms are kept back: the first that has one, as channel and one more.
#[derive(Default)]
struct Deaf {
    channel: AtomicU32,
    swallowed: AtomicU32,
}

impl Deaf {
    /// Whether a frame is a confirm on the channel that hears none.
    fn swallows(&self, frame: &[u8]) -> bool {
        // Type 1 is a method; basic.ack is method 80 of class 60 (AMQP 0-9-1, section 2.3.5).
        if frame[0] != 1 || frame[7..11] != [0, 60, 0, 80] {
            return false;
        }
        let channel = u32::from(u16::from_be_bytes([frame[1], frame[2]])) + 1;
        let first = self.channel.compare_exchange(0, channel, Ordering::SeqCst, Ordering::SeqCst);
        let swallows = first.is_ok() || first == Err(channel);
        self.swallowed.fetch_add(u32::from(swallows), Ordering::SeqCst);
        swallows
    }
}

/// Carries frames from the broker, but for those that are swallowed.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, deaf: Arc<Deaf>) -> io::Result<()> {
    loop {
        let frame = frame_of(&mut from).await?;
        if !deaf.swallows(&frame) {
            to.write_all(&frame).await?;
        }
    }
}

/// A proxy before the node whose first publishing channel hears no confirm.
async fn proxy(node: String, deaf: Arc<Deaf>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (from_client, to_client) = client.into_split();
            let (from_node, mut to_node) = TcpStream::connect(&node).await.unwrap().into_split();
            tokio::spawn(carry(from_node, to_client, Arc::clone(&deaf)));
            tokio::spawn(async move {
                let mut from_client = from_client;
                // Either side may end the connection.
                tokio::io::copy(&mut from_client, &mut to_node).await
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_confirmed_in_time_is_published_again_on_another_channel() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("unconfirmed").await;
    let (login, rest) = vhost.url.split_once('@').unwrap();
    let (node, path) = rest.split_once('/').unwrap();
    let deaf = Arc::new(Deaf::default());
    let port = proxy(node.to_owned(), Arc::clone(&deaf)).await;
    let publisher = RabbitBroker::connect(&RabbitSettings::new(format!("{login}@127.0.0.1:{port}/{path}"))).unwrap();
    let confirms = publisher.publish(vec![work(0, "once"), work(0, "more")], PATIENCE).await.unwrap();
    assert_eq!(confirms, [Confirm::Stored, Confirm::Stored]);
    assert!(deaf.swallowed.load(Ordering::SeqCst) > 0, "nothing was kept back");

    // Both times it was stored: who receives it knows the second by its message_id.
    let consumer = vhost.connect("consumer").consume(&plain(0), 10).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let batch = tokio::time::timeout(PATIENCE, consumer.next(10)).await.expect("a delivery in time").unwrap();
        let verdicts: Vec<_> = batch.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
        seen.extend(batch.into_iter().map(|delivery| delivery.properties.message_id));
        consumer.settle(&verdicts).await.unwrap();
    }
    assert_eq!(seen, ["once", "more", "once", "more"]);
}
