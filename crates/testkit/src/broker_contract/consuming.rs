//! Consuming: prefetch, turns, cancellation, single active consumers, lost connections.

use std::time::Duration;

use ports::broker::{Broker, BrokerError, Verdict};
use protocol::address::outcomes_queue;

use super::{Grid, PLAIN, ack, all_as, consume, good, ids, lane, outcome, put, put_work, ready, soon, take, until, work};

pub(super) async fn all(grid: &dyn Grid) {
    let broker = grid.client().await;
    refuses_a_queue_that_is_not_there(&*broker).await;
    keeps_to_the_prefetch(&*broker).await;
    shares_between_consumers(&*broker).await;
    next_can_be_dropped(&*broker).await;
    cancelled_consumers_settle_what_they_have(&*broker).await;
    one_active_consumer(grid).await;
    a_cut_delivers_again(grid).await;
    publishing_survives_a_cut(grid).await;
}

async fn refuses_a_queue_that_is_not_there(broker: &dyn Broker) {
    match broker.consume("offpeak.no-such-queue", 1).await {
        Err(BrokerError::Refused { operation, object, .. }) => {
            assert_eq!((operation, object.as_str()), ("consume", "offpeak.no-such-queue"));
        }
        other => panic!("a queue that is not there: {:?}", other.map(|_| ())),
    }
}

async fn keeps_to_the_prefetch(broker: &dyn Broker) {
    put_work(broker, 5, &["a", "b", "c", "d", "e", "f"]).await;
    let consumer = consume(broker, &lane(5), 3).await;
    let first = take(&*consumer, 3).await;
    ready(broker, &lane(5), 3).await;
    let more = tokio::time::timeout(Duration::from_millis(50), consumer.next(10)).await;
    assert!(more.is_err(), "delivered beyond the prefetch: {more:?}");
    ack(&*consumer, &first[..2]).await;
    let second = take(&*consumer, 2).await;
    assert_eq!(ids(&second), ["d", "e"]);
    ack(&*consumer, &first[2..]).await;
    ack(&*consumer, &second).await;
    let last = take(&*consumer, 1).await;
    ack(&*consumer, &last).await;
    ready(broker, &lane(5), 0).await;
}

async fn shares_between_consumers(broker: &dyn Broker) {
    let (one, other) = (consume(broker, &lane(6), 1).await, consume(broker, &lane(6), 1).await);
    put_work(broker, 6, &["left", "right"]).await;
    let (left, right) = (take(&*one, 1).await, take(&*other, 1).await);
    let mut seen = [ids(&left), ids(&right)].concat();
    seen.sort_unstable();
    assert_eq!(seen, ["left", "right"]);
    ack(&*one, &left).await;
    ack(&*other, &right).await;
}

async fn next_can_be_dropped(broker: &dyn Broker) {
    let consumer = consume(broker, &lane(7), 10).await;
    for number in 0..20 {
        let waiting = tokio::time::timeout(Duration::from_micros(200), consumer.next(5)).await;
        assert!(waiting.is_err(), "nothing was published yet: {waiting:?}");
        let id = format!("drop-{number}");
        put(broker, vec![work(PLAIN, 7, &id)]).await;
        let got = take(&*consumer, 1).await;
        assert_eq!(ids(&got), [id.as_str()]);
        ack(&*consumer, &got).await;
    }
}

async fn cancelled_consumers_settle_what_they_have(broker: &dyn Broker) {
    put_work(broker, 8, &["a", "b", "c", "d"]).await;
    let consumer = consume(broker, &lane(8), 4).await;
    let mut held = take(&*consumer, 2).await;
    ready(broker, &lane(8), 0).await;
    good(consumer.cancel().await, "cancel");
    good(consumer.cancel().await, "second cancel");
    loop {
        let batch = good(soon("the end", consumer.next(1)).await, "next");
        if batch.is_empty() {
            break;
        }
        held.extend(batch);
    }
    // What was on its way when the consumer was cancelled either came or was not taken from the queue.
    put_work(broker, 8, &["marker"]).await;
    ack(&*consumer, &held).await;
    drop(consumer);
    let next = consume(broker, &lane(8), 10).await;
    let rest = take(&*next, 5 - held.len()).await;
    assert_eq!([ids(&held), ids(&rest)].concat(), ["a", "b", "c", "d", "marker"]);
    ack(&*next, &rest).await;
}

async fn one_active_consumer(grid: &dyn Grid) {
    let (one, other) = (grid.client().await, grid.client().await);
    let active = consume(&*one, &outcomes_queue(0), 2).await;
    let standby = consume(&*other, &outcomes_queue(0), 20).await;
    let names: Vec<String> = (0..6).map(|number| format!("shard-{number}")).collect();
    put(&*one, names.iter().map(|id| outcome(0, id)).collect()).await;
    let first = take(&*active, 2).await;
    assert_eq!(ids(&first), ["shard-0", "shard-1"]);
    let idle = tokio::time::timeout(Duration::from_millis(50), standby.next(1)).await;
    assert!(idle.is_err(), "the standby consumer received: {idle:?}");
    ack(&*active, &first).await;
    let second = take(&*active, 2).await;
    ack(&*active, &second).await;
    drop(active);
    let mut rest = take(&*standby, 2).await;
    rest.sort_by(|a, b| a.properties.message_id.cmp(&b.properties.message_id));
    assert_eq!(ids(&rest), ["shard-4", "shard-5"]);
    ack(&*standby, &rest).await;
}

async fn a_cut_delivers_again(grid: &dyn Grid) {
    let broker = grid.client().await;
    put_work(&*broker, 9, &["a", "b", "c"]).await;
    let consumer = consume(&*broker, &lane(9), 2).await;
    let held = take(&*consumer, 2).await;
    grid.cut().await;
    let again = take(&*consumer, 2).await;
    assert_eq!(ids(&again), ["a", "b"]);
    assert!(again.iter().all(|delivery| delivery.redelivered && delivery.delivery_count == 1), "{again:?}");
    assert!(held.iter().zip(&again).all(|(held, again)| held.tag.generation < again.tag.generation));
    let lost = good(consumer.settle(&all_as(&held, Verdict::Ack)).await, "settle");
    assert_eq!(lost, 2, "tags of a lost connection settle nothing");
    ack(&*consumer, &again).await;
    let third = take(&*consumer, 1).await;
    assert_eq!(ids(&third), ["c"]);
    ack(&*consumer, &third).await;
    until("an empty queue", || async {
        good(broker.depth(&lane(9)).await, "depth").is_some_and(|depth| depth.ready == 0 && depth.consumers == 1)
    })
    .await;
}

async fn publishing_survives_a_cut(grid: &dyn Grid) {
    let broker = grid.client().await;
    put_work(&*broker, 10, &["before"]).await;
    grid.cut().await;
    put_work(&*broker, 10, &["after"]).await;
    let consumer = consume(&*broker, &lane(10), 2).await;
    let both = take(&*consumer, 2).await;
    assert_eq!(ids(&both), ["before", "after"]);
    ack(&*consumer, &both).await;
}
