//! Letters of a real broker: one that is larger than any message of ours is parked whole, and no sender passes for a service.

use broker::limits::oversize;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use ports::broker::{Broker, Delivery, Verdict};
use ports::dead::{self, DeadLetter, Death};
use protocol::Micros;
use protocol::address::{Origin, SUBMIT_EXCHANGE, SUBMIT_QUEUE};
use protocol::codec::MAX_BODY_BYTES;

use crate::node::{NODE, PATIENCE, Vhost};

const ORIGIN: Origin = Origin::Submit;

/// Submits as a client does that is none of ours, under its own name.
async fn submit(url: &str, properties: BasicProperties, body: &[u8]) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(SUBMIT_EXCHANGE.into(), "mallory".into(), options, body, properties).await.unwrap();
    assert!(sent.await.unwrap().is_ack());
    connection.close(200, "done".into()).await.unwrap();
}

/// Takes the next message of a queue away.
async fn next(broker: &dyn Broker, queue: &str) -> Delivery {
    let consumer = broker.consume(queue, 1).await.unwrap();
    let delivery = tokio::time::timeout(PATIENCE, consumer.next(1)).await.expect("a message in time").unwrap().remove(0);
    assert_eq!(consumer.settle(&[(delivery.tag, Verdict::Ack)]).await.unwrap(), 0);
    delivery
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_any_message_is_parked_whole_with_its_cause() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("oversize").await;
    submit(&vhost.url, BasicProperties::default(), &vec![7; MAX_BODY_BYTES + 1]).await;
    let grid = vhost.connect("grid");
    let taken = next(&grid, SUBMIT_QUEUE).await;
    let death = Death { origin: ORIGIN, queue: SUBMIT_QUEUE, cause: "over the limit", at: Micros(1) };
    assert_eq!(dead::park(&grid, taken, death).await, Verdict::Ack);
    let parked = next(&grid, &ORIGIN.queue()).await;
    let letter = DeadLetter::of(ORIGIN, &parked);
    assert_eq!((letter.cause.as_str(), letter.body_bytes), ("over the limit", MAX_BODY_BYTES + 1));
    assert!(oversize(&letter.replay(parked).unwrap()).is_some(), "it is not sent again");
}

/// A history that the sender wrote, as the broker's own is and as it is not: brokers before 3.13 then add no other header.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_parks_is_the_broker_s_whatever_its_sender_wrote() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("forged").await;
    let grid = vhost.connect("grid");
    let death = AMQPValue::FieldTable(table(&[("queue", text("x")), ("reason", text("rejected"))]));
    for history in [AMQPValue::FieldArray(vec![death].into()), text("none")] {
        let headers = table(&[
            ("x-death", history.clone()),
            ("offpeak-dead-user-id", text("acme")),
            ("offpeak-dead-routing-key", text("acme")),
            ("offpeak-dead-cause", text("forged")),
        ]);
        let properties = BasicProperties::default().with_expiration("0".into()).with_headers(headers);
        submit(&vhost.url, properties, b"a job").await;
        let parked = next(&grid, &ORIGIN.queue()).await;
        let letter = DeadLetter::of(ORIGIN, &parked);
        assert!(letter.by_broker && letter.cause.starts_with("the broker gave it up"), "{history:?}: {letter:?}");
        assert_eq!(letter.user, None, "{history:?}");
        assert!(letter.replay(parked).is_err(), "{history:?}");
    }
}
