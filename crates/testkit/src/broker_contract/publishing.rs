//! Publishing: confirms in order, unroutable and refused messages, limits, properties.

use ports::broker::{Broker, BrokerError, Confirm, Outgoing};
use protocol::address::{SUBMIT_EXCHANGE, SUBMIT_QUEUE, WORK_EXCHANGE, work_queue};
use protocol::codec::MAX_BODY_BYTES;

use super::{
    FRAIL, Grid, LOOKS, PATIENCE, PAUSE, PLAIN, SMALL, SMALL_MESSAGES, ack, consume, good, ids, lane, message, pool, put,
    put_work, take, work,
};

pub(super) async fn all(grid: &dyn Grid) {
    let broker = grid.client().await;
    stores_in_order(&*broker).await;
    tells_unroutable_from_stored(&*broker).await;
    refuses_an_exchange_that_is_not_there(&*broker).await;
    refuses_when_full(&*broker).await;
    passes_duplicates(&*broker).await;
    refuses_what_is_too_large(&*broker).await;
    keeps_properties(grid, &*broker).await;
}

async fn stores_in_order(broker: &dyn Broker) {
    assert!(good(broker.publish(Vec::new(), PATIENCE).await, "empty publish").is_empty());
    let names: Vec<String> = (0..1500).map(|number| format!("order-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (first, second) = names.split_at(1000);
    put_work(broker, 0, first).await;
    put_work(broker, 0, second).await;
    let consumer = consume(broker, &lane(0), 100).await;
    let mut seen = Vec::new();
    while seen.len() < names.len() {
        let batch = take(&*consumer, 50).await;
        ack(&*consumer, &batch).await;
        seen.extend(batch);
    }
    assert_eq!(ids(&seen), names);
    assert!(seen.iter().all(|delivery| !delivery.redelivered && delivery.delivery_count == 0));
    assert!(seen.windows(2).all(|pair| pair[0].tag < pair[1].tag), "tags are ordered as delivered");
}

async fn tells_unroutable_from_stored(broker: &dyn Broker) {
    let lost = |number: usize| number.is_multiple_of(3);
    let publish = |call: usize| {
        let one = move |number| {
            let id = format!("route-{call}-{number}");
            if lost(number) { message(WORK_EXCHANGE, "nowhere.0", &id) } else { work(PLAIN, 1, &id) }
        };
        broker.publish((0..600).map(one).collect(), PATIENCE)
    };
    let expected: Vec<Confirm> =
        (0..600).map(|number| if lost(number) { Confirm::Unroutable } else { Confirm::Stored }).collect();
    let (first, second, third) = tokio::join!(publish(1), publish(2), publish(3));
    for confirms in [first, second, third] {
        assert_eq!(good(confirms, "publish"), expected);
    }
    let consumer = consume(broker, &lane(1), 200).await;
    let stored = take(&*consumer, 200).await;
    assert!(stored.iter().all(|delivery| delivery.routing_key == "plain.1"));
}

async fn refuses_an_exchange_that_is_not_there(broker: &dyn Broker) {
    let innocent: Vec<Outgoing> = (0..20).map(|number| work(PLAIN, 2, &format!("innocent-{number}"))).collect();
    let wrong = vec![work(PLAIN, 2, "before"), message("offpeak.nowhere", "x", "wrong"), work(PLAIN, 2, "after")];
    let (refused, stored) = tokio::join!(broker.publish(wrong, PATIENCE), broker.publish(innocent, PATIENCE));
    match refused {
        Err(BrokerError::Refused { operation, object, .. }) => {
            assert_eq!((operation, object.as_str()), ("publish", "offpeak.nowhere"));
        }
        other => panic!("an exchange that is not there: {other:?}"),
    }
    assert_eq!(good(stored, "the others' publish"), vec![Confirm::Stored; 20]);
    put_work(broker, 2, &["later"]).await;
}

async fn refuses_when_full(broker: &dyn Broker) {
    let one = || broker.publish(vec![work(SMALL, 0, "full")], PATIENCE);
    let mut stored = 0;
    while good(one().await, "publish") == [Confirm::Stored] {
        stored += 1;
        assert!(stored < SMALL_MESSAGES * 4, "a queue of {SMALL_MESSAGES} took {stored}");
    }
    assert!(stored >= SMALL_MESSAGES, "a queue of {SMALL_MESSAGES} took only {stored}");
    assert_eq!(good(one().await, "publish"), [Confirm::Refused]);
    let consumer = consume(broker, &work_queue(&pool(SMALL), 0), 1).await;
    for _ in 0..stored {
        let taken = take(&*consumer, 1).await;
        ack(&*consumer, &taken).await;
    }
    for look in 0.. {
        match good(one().await, "publish").as_slice() {
            [Confirm::Stored] => break,
            [Confirm::Refused] if look < LOOKS => tokio::time::sleep(PAUSE).await,
            other => panic!("a queue with room again answered {other:?}"),
        }
    }
    let taken = take(&*consumer, 1).await;
    ack(&*consumer, &taken).await;
}

async fn passes_duplicates(broker: &dyn Broker) {
    put_work(broker, 3, &["twin", "twin"]).await;
    let consumer = consume(broker, &lane(3), 10).await;
    let twins = take(&*consumer, 2).await;
    assert_eq!(ids(&twins), ["twin", "twin"]);
    ack(&*consumer, &twins).await;
}

async fn refuses_what_is_too_large(broker: &dyn Broker) {
    let sized = |bytes: usize| Outgoing { body: vec![7; bytes], ..work(FRAIL, 0, "large") };
    put(broker, vec![sized(MAX_BODY_BYTES)]).await;
    let consumer = consume(broker, &work_queue(&pool(FRAIL), 0), 1).await;
    let large = take(&*consumer, 1).await;
    assert_eq!(large[0].body.len(), MAX_BODY_BYTES);
    ack(&*consumer, &large).await;
    let long_key = "k".repeat(256);
    let mut headed = work(FRAIL, 0, "headed");
    headed.properties.headers.extend(["one", "two"].map(|name| (name.to_owned(), "h".repeat(60 << 10))));
    for wrong in [sized(MAX_BODY_BYTES + 1), message(WORK_EXCHANGE, &long_key, "long"), headed] {
        let refused = broker.publish(vec![work(PLAIN, 4, "beside"), wrong], PATIENCE).await;
        assert!(matches!(refused, Err(BrokerError::Refused { .. })), "{refused:?}");
    }
    let mut traced = work(FRAIL, 0, "traced");
    traced.properties.traceparent = Some("t".repeat(200 << 10));
    put(broker, vec![traced]).await;
    ack(&*consumer, &take(&*consumer, 1).await).await;
    let beside = broker.depth(&lane(4)).await;
    assert_eq!(good(beside, "depth").map(|depth| depth.ready), Some(0), "nothing of a refused batch is sent");
}

async fn keeps_properties(grid: &dyn Grid, broker: &dyn Broker) {
    let mut sent = message(SUBMIT_EXCHANGE, "acme", "props");
    sent.properties.content_type = Some("application/msgpack".into());
    sent.properties.correlation_id = Some("their-key ü".into());
    sent.properties.user_id = Some(grid.user());
    sent.properties.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    sent.properties.headers = vec![("a-header".into(), "ünïcode".into()), ("z-header".into(), "x".repeat(3000))];
    sent.body = (0..=255).collect();
    let mut empty = message(SUBMIT_EXCHANGE, "acme", "empty");
    empty.body = Vec::new();
    put(broker, vec![sent.clone(), empty.clone()]).await;
    let consumer = consume(broker, SUBMIT_QUEUE, 10).await;
    let received = take(&*consumer, 2).await;
    for (delivery, sent) in received.iter().zip([&sent, &empty]) {
        assert_eq!(delivery.properties, sent.properties);
        assert_eq!(delivery.body, sent.body);
        assert_eq!(delivery.routing_key, "acme");
    }
    ack(&*consumer, &received).await;
}
