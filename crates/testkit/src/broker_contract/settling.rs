//! Settling: acks in any mix, giving back, giving up, and what becomes of dead letters.

use ports::broker::{Broker, Outgoing, Verdict};
use ports::dead::{DeadLetter, FIRST_DEATH_COUNT, FIRST_DEATH_KEY};
use protocol::address::{DEAD_EXCHANGE, Origin, WORK_EXCHANGE, work_queue};

use super::{
    FRAIL, FRAIL_DELIVERIES, Grid, PLAIN, ack, all_as, consume, dead_letter, good, header, ids, lane, message, pool, put,
    put_work, ready, settle, take, work,
};

/// The limits of all other queues are below.
const LOOKS_AT_A_LETTER: usize = 25;

pub(super) async fn all(grid: &dyn Grid) {
    let broker = grid.client().await;
    a_dropped_consumer_gives_back(&*broker).await;
    requeued_comes_again(&*broker).await;
    verdicts_mix(&*broker).await;
    settling_twice_is_counted(&*broker).await;
    rejected_is_parked(&*broker).await;
    delivered_too_often_is_parked(&*broker).await;
    a_parked_letter_bears_any_number_of_looks(&*broker).await;
}

async fn a_dropped_consumer_gives_back(broker: &dyn Broker) {
    put_work(broker, 11, &["a", "b", "c"]).await;
    let consumer = consume(broker, &lane(11), 10).await;
    let held = take(&*consumer, 3).await;
    ack(&*consumer, &held[..1]).await;
    drop(consumer);
    let next = consume(broker, &lane(11), 10).await;
    let again = take(&*next, 2).await;
    assert_eq!(ids(&again), ["b", "c"]);
    assert!(again.iter().all(|delivery| delivery.redelivered && delivery.delivery_count == 1), "{again:?}");
    ack(&*next, &again).await;
    drop(next);
    ready(broker, &lane(11), 0).await;
}

async fn requeued_comes_again(broker: &dyn Broker) {
    put_work(broker, 12, &["back"]).await;
    let consumer = consume(broker, &lane(12), 1).await;
    let first = take(&*consumer, 1).await;
    settle(&*consumer, &all_as(&first, Verdict::Requeue)).await;
    let again = take(&*consumer, 1).await;
    assert_eq!(ids(&again), ["back"]);
    assert!(again[0].redelivered);
    assert!(again[0].tag > first[0].tag);
    ack(&*consumer, &again).await;
}

async fn verdicts_mix(broker: &dyn Broker) {
    let names: Vec<String> = (0..20).map(|number| format!("mix-{number:02}")).collect();
    put(broker, names.iter().map(|id| work(PLAIN, 13, id)).collect()).await;
    let consumer = consume(broker, &lane(13), 20).await;
    let held = take(&*consumer, 20).await;
    // In two calls and out of order: 5 and 12 go back, 7 is given up, 10 and 19 stay open, all others are acked.
    let later: Vec<_> = held[11..19].iter().rev().map(|d| (d.tag, Verdict::Ack)).collect();
    let later: Vec<_> =
        later.into_iter().map(|(tag, ack)| if tag == held[12].tag { (tag, Verdict::Requeue) } else { (tag, ack) }).collect();
    settle(&*consumer, &later).await;
    let verdict = |at: usize| match at {
        5 => Verdict::Requeue,
        7 => Verdict::Reject,
        _ => Verdict::Ack,
    };
    let sooner: Vec<_> = held[..10].iter().enumerate().map(|(at, delivery)| (delivery.tag, verdict(at))).collect();
    settle(&*consumer, &sooner).await;
    let mut back = take(&*consumer, 2).await;
    back.sort_by(|a, b| a.properties.message_id.cmp(&b.properties.message_id));
    assert_eq!(ids(&back), ["mix-05", "mix-12"]);
    drop(consumer);
    let next = consume(broker, &lane(13), 20).await;
    let mut open = take(&*next, 4).await;
    open.sort_by(|a, b| a.properties.message_id.cmp(&b.properties.message_id));
    assert_eq!(ids(&open), ["mix-05", "mix-10", "mix-12", "mix-19"]);
    ack(&*next, &open).await;
    ready(broker, &lane(13), 0).await;
    dead_letter(broker, Origin::Work, "mix-07").await;
}

async fn settling_twice_is_counted(broker: &dyn Broker) {
    put_work(broker, 14, &["a", "b"]).await;
    let consumer = consume(broker, &lane(14), 1).await;
    let first = take(&*consumer, 1).await;
    ack(&*consumer, &first).await;
    let twice = consumer.settle(&all_as(&first, Verdict::Reject)).await;
    assert_eq!(good(twice, "settle twice"), 1);
    let second = take(&*consumer, 1).await;
    assert_eq!(ids(&second), ["b"]);
    ack(&*consumer, &second).await;
}

async fn rejected_is_parked(broker: &dyn Broker) {
    let mut sent = work(PLAIN, 15, "rejected");
    sent.properties.correlation_id = Some("theirs".into());
    sent.properties.headers = vec![("kept".into(), "yes".into())];
    put(broker, vec![sent]).await;
    let queue = lane(15);
    for _ in 0..3 {
        let consumer = consume(broker, &queue, 1).await;
        let held = take(&*consumer, 1).await;
        assert!(!held[0].redelivered, "a replayed dead letter is new");
        settle(&*consumer, &all_as(&held, Verdict::Reject)).await;
        drop(consumer);
        let letter = dead_letter(broker, Origin::Work, "rejected").await;
        assert_eq!(letter.routing_key, Origin::Work.key());
        assert_eq!(letter.properties.correlation_id.as_deref(), Some("theirs"));
        assert_eq!(header(&letter, "kept"), "yes");
        assert_eq!(header(&letter, "x-first-death-reason"), "rejected");
        assert_eq!(header(&letter, "x-first-death-queue"), queue);
        assert_eq!(header(&letter, "x-first-death-exchange"), WORK_EXCHANGE);
        assert_eq!(header(&letter, FIRST_DEATH_KEY), "plain.15");
        assert_eq!(header(&letter, FIRST_DEATH_COUNT), "1");
        let seen = DeadLetter::of(Origin::Work, &letter);
        assert_eq!((seen.by_broker, seen.attempts, seen.queue.as_deref()), (true, 1, Some(queue.as_str())));
        // Replayed with all its headers, as an operator does: the broker's own are left out, or it would vanish.
        let again = Outgoing {
            exchange: header(&letter, "x-first-death-exchange").into(),
            routing_key: header(&letter, "x-first-death-routing-key").into(),
            properties: letter.properties.clone(),
            body: letter.body.clone(),
        };
        put(broker, vec![again]).await;
    }
    let consumer = consume(broker, &queue, 1).await;
    let held = take(&*consumer, 1).await;
    assert_eq!(held[0].properties.headers, [("kept".to_owned(), "yes".to_owned())]);
    ack(&*consumer, &held).await;
}

async fn delivered_too_often_is_parked(broker: &dyn Broker) {
    let queue = work_queue(&pool(FRAIL), 0);
    put(broker, vec![work(FRAIL, 0, "poison")]).await;
    for delivery_count in 0..=FRAIL_DELIVERIES {
        let consumer = consume(broker, &queue, 1).await;
        let held = take(&*consumer, 1).await;
        assert_eq!(ids(&held), ["poison"]);
        assert_eq!(held[0].delivery_count, delivery_count);
        assert_eq!(held[0].redelivered, delivery_count > 0);
        drop(consumer); // as a worker that was killed by it
    }
    let letter = dead_letter(broker, Origin::Work, "poison").await;
    assert_eq!(header(&letter, "x-first-death-reason"), "delivery_limit");
    assert_eq!(header(&letter, "x-first-death-queue"), queue);
    assert_eq!(letter.body, b"poison");
    ready(broker, &queue, 0).await;
}

/// More often than any other queue gives a message back, and in any order.
async fn a_parked_letter_bears_any_number_of_looks(broker: &dyn Broker) {
    let names = ["look-1", "look-2", "look-3"];
    put(broker, names.map(|id| message(DEAD_EXCHANGE, Origin::Submit.key(), id)).to_vec()).await;
    let queue = Origin::Submit.queue();
    for _ in 0..LOOKS_AT_A_LETTER {
        let consumer = consume(broker, &queue, 3).await;
        let held = take(&*consumer, 3).await;
        assert_eq!(ids(&held), names);
        good(consumer.cancel().await, "cancel");
        settle(&*consumer, &all_as(&held, Verdict::Requeue)).await;
        ready(broker, &queue, 3).await;
    }
    let consumer = consume(broker, &queue, 3).await;
    let held = take(&*consumer, 3).await;
    ack(&*consumer, &held).await;
}
