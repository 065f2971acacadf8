//! A message whose properties are no text, or as large as a frame, which RabbitMQ lets pass and our client cannot read: parked
//! alone, and soon.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use broker::{RabbitBroker, RabbitSettings};
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use ports::broker::{Broker, Confirm, Consumer, Link, Outgoing, Properties, Verdict};
use protocol::address::{FETCH_EXCHANGE, FETCH_QUEUE, Origin, SUBMIT_EXCHANGE, SUBMIT_QUEUE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::node::{NODE, PATIENCE, Vhost, frame_of, put};

/// What a proxy writes over with bytes that are in no text.
const POISON: &str = "poison";
const NO_TEXT: &[u8; 6] = b"\xff\xfe\xfd\xfc\xfb\xfa";
/// How many messages wait behind it.
const BEHIND: usize = 40;
/// A bound on waiting for it to be parked, and the pause between two looks.
const LOOKS: usize = 12_000;
const PAUSE: Duration = Duration::from_millis(50);

/// Carries what a client sends, but for the word that is written over in content headers.
async fn spoil(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    // The protocol header, which is no frame.
    let mut greeting = [0; 8];
    from.read_exact(&mut greeting).await?;
    to.write_all(&greeting).await?;
    loop {
        let mut frame = frame_of(&mut from).await?;
        let at = frame.windows(POISON.len()).position(|window| window == POISON.as_bytes());
        // Type 2 is a content header (AMQP 0-9-1, section 2.3.5).
        if let (2, Some(at)) = (frame[0], at) {
            frame[at..at + NO_TEXT.len()].copy_from_slice(NO_TEXT);
        }
        to.write_all(&frame).await?;
    }
}

async fn spoiling(node: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (from_client, mut to_client) = client.into_split();
            let (mut from_node, to_node) = TcpStream::connect(&node).await.unwrap().into_split();
            tokio::spawn(spoil(from_client, to_node));
            tokio::spawn(async move { tokio::io::copy(&mut from_node, &mut to_client).await });
        }
    });
    port
}

fn submission(id: &str) -> Outgoing {
    Outgoing {
        exchange: SUBMIT_EXCHANGE.into(),
        routing_key: "anyone".into(),
        properties: Properties { message_id: id.into(), kind: "offpeak.test.v1".into(), ..Properties::default() },
        body: id.as_bytes().to_vec(),
    }
}

/// Takes that many messages, and returns which they are, and how often the one that came most often has come before.
async fn taken(consumer: &dyn Consumer, count: usize) -> (BTreeSet<String>, u32) {
    let (mut seen, mut most) = (BTreeSet::new(), 0);
    while seen.len() < count {
        let batch = tokio::time::timeout(PATIENCE, consumer.next(100)).await.expect("a delivery in time").unwrap();
        let verdicts: Vec<_> = batch.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
        consumer.settle(&verdicts).await.unwrap();
        most = batch.iter().map(|delivery| delivery.delivery_count).chain([most]).max().unwrap_or_default();
        seen.extend(batch.into_iter().map(|delivery| delivery.properties.message_id));
    }
    (seen, most)
}

/// Publishes a message whose content header fills a frame to the last byte: with the eight that are around it, it is larger than
/// what was agreed on.
async fn publish_large(url: &str) {
    const FRAME: usize = 128 << 10;
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    // Class, weight, size of the body and flags; the length of the table; name, type and length of its one value.
    let around = (2 + 2 + 8 + 2) + 4 + (1 + 1 + 1 + 4);
    let mut headers = FieldTable::default();
    headers.insert("h".into(), AMQPValue::LongString("x".repeat(FRAME - around).into()));
    let properties = BasicProperties::default().with_headers(headers);
    let options = BasicPublishOptions::default();
    channel.basic_publish(SUBMIT_EXCHANGE.into(), "anyone".into(), options, b"large", properties).await.unwrap();
    channel.close(200, "done".into()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_text_is_parked_alone_and_soon() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("poison").await;
    let (login, rest) = vhost.url.split_once('@').unwrap();
    let (node, path) = rest.split_once('/').unwrap();
    let port = spoiling(node.to_owned()).await;
    let spoiled = RabbitBroker::connect(&RabbitSettings::new(format!("{login}@127.0.0.1:{port}/{path}"))).unwrap();
    assert_eq!(spoiled.publish(vec![submission(POISON)], PATIENCE).await.unwrap(), [Confirm::Stored]);
    is_parked_alone_and_soon(&vhost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_as_large_as_a_frame_is_parked_alone_and_soon() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("large").await;
    publish_large(&vhost.url).await;
    is_parked_alone_and_soon(&vhost).await;
}

/// What is the first in the queue of submissions, and cannot be read.
async fn is_parked_alone_and_soon(vhost: &Vhost) {
    let grid = vhost.connect("grid");
    let behind: Vec<String> = (0..BEHIND).map(|number| number.to_string()).collect();
    let all = || behind.iter().map(|id| submission(id)).collect();
    put(&grid, all()).await;

    // With a back-off that grows at each of the twenty deliveries, nothing would come for two minutes.
    let other = grid.consume(FETCH_QUEUE, 32).await.unwrap();
    let consumer = grid.consume(SUBMIT_QUEUE, 32).await.unwrap();
    let (seen, most) = taken(&*consumer, BEHIND).await;
    assert!(seen.iter().eq(behind.iter().collect::<BTreeSet<_>>()), "{seen:?}");
    assert!(most < 10, "what was delivered beside it came again {most} times");
    let dead = Origin::Submit.queue();
    for _ in 0..LOOKS {
        if grid.depth(&dead).await.unwrap().unwrap().ready > 0 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(grid.depth(&dead).await.unwrap().unwrap().ready, 1, "it is parked alone");
    assert_eq!(grid.link(), Link::Up, "the connection of all consumers is there");

    // As many as are taken at once were well, one by one; then all is as before: a full window, and the queue beside it.
    put(&grid, all()).await;
    taken(&*consumer, BEHIND).await;
    put(&grid, all()).await;
    let mut held = 0;
    while held < 32 {
        let more = tokio::time::timeout(PATIENCE, consumer.next(100)).await;
        held += more.unwrap_or_else(|_| panic!("only {held} at once")).unwrap().len();
    }
    let fetch = Outgoing { exchange: FETCH_EXCHANGE.into(), ..submission("fetch") };
    put(&grid, vec![fetch]).await;
    assert!(taken(&*other, 1).await.0.contains("fetch"));
}
