//! How fast the adapters are beside lapin without any, printed and never judged:
//! `cargo test --release -p broker --test broker rate -- --nocapture`.

use std::time::Duration;

use broker::MemoryBroker;
use futures::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use ports::broker::{Broker, Outgoing, Verdict};
use tokio::time::Instant;

use crate::node::{NODE, Vhost, plain, put, topology, work};

const COUNT: usize = 2_000;
const WINDOW: usize = 512;
const BYTES: usize = 256;

fn messages(lane: u16, count: usize) -> Vec<Outgoing> {
    let sized = |number: usize| Outgoing { body: vec![0; BYTES], ..work(lane, &number.to_string()) };
    (0..count).map(sized).collect()
}

#[expect(clippy::print_stdout, reason = "the measurement is for a person to read")]
fn report(what: &str, count: usize, took: Duration) {
    let micros = took.as_micros().max(1);
    println!("{what:40} {:>9} messages/s", u128::try_from(count).unwrap() * 1_000_000 / micros);
}

async fn ours(what: &str, broker: &dyn Broker, lane: u16, batch: usize) {
    let mut all = messages(lane, COUNT);
    let begin = Instant::now();
    while !all.is_empty() {
        let rest = all.split_off(batch.min(all.len()));
        put(broker, std::mem::replace(&mut all, rest)).await;
    }
    report(&format!("{what} publish, batches of {batch}"), COUNT, begin.elapsed());
    let consumer = broker.consume(&plain(lane), 1000).await.unwrap();
    let (begin, mut seen) = (Instant::now(), 0);
    while seen < COUNT {
        let taken = consumer.next(100).await.unwrap();
        seen += taken.len();
        let acks: Vec<_> = taken.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
        assert_eq!(consumer.settle(&acks).await.unwrap(), 0);
    }
    report(&format!("{what} consume, batches of 100"), COUNT, begin.elapsed());
}

async fn raw(url: &str) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let publish = async || {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let properties = BasicProperties::default().with_delivery_mode(2).with_message_id("raw".into());
        let key = "plain.0".into();
        let confirm = channel.basic_publish("offpeak.work".into(), key, options, &[0; BYTES], properties).await.unwrap();
        assert!(confirm.await.unwrap().is_ack());
    };
    let begin = Instant::now();
    for _ in 0..COUNT / 50 {
        publish().await;
    }
    report("raw lapin publish, one at a time", COUNT / 50, begin.elapsed());
    let (begin, mut flying) = (Instant::now(), FuturesUnordered::new());
    for _ in 0..COUNT {
        if flying.len() == WINDOW {
            flying.next().await;
        }
        flying.push(publish());
    }
    while flying.next().await.is_some() {}
    report("raw lapin publish, window of 512", COUNT, begin.elapsed());
    let channel = connection.create_channel().await.unwrap();
    channel.basic_qos(1000, BasicQosOptions { global: false }).await.unwrap();
    let options = BasicConsumeOptions::default();
    let mut stream = channel.basic_consume(plain(0).into(), "raw".into(), options, FieldTable::default()).await.unwrap();
    let begin = Instant::now();
    for number in 1..=COUNT + COUNT / 50 {
        let delivery = stream.next().await.unwrap().unwrap();
        if number % 100 == 0 {
            delivery.ack(BasicAckOptions { multiple: true }).await.unwrap();
        }
    }
    report("raw lapin consume, ack every 100", COUNT + COUNT / 50, begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn rate() {
    let _node = NODE.write().await;
    ours("in memory", &MemoryBroker::with_topology(&topology()), 0, 500).await;
    let vhost = Vhost::new("rate").await;
    raw(&vhost.url).await;
    for (lane, batch) in [(1, 64), (2, 500), (3, 5000)] {
        ours("adapter", &vhost.connect("rate"), lane, batch).await;
    }
}
