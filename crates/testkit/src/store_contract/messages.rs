//! The outbox: order per customer, leases, and nothing lost.

use ports::store::OutboxMessage;
use protocol::{CustomerName, Micros};

use super::world::{NOW, World, at};

impl World {
    async fn write(&self, customer: &str, ids: &[&str]) {
        for id in ids {
            let customer = CustomerName::new(customer).unwrap();
            self.store.reply_all(vec![OutboxMessage { customer, ..self.message(id) }]).await.unwrap();
        }
    }

    async fn write_many(&self, customer: &str, count: u32) {
        let customer = CustomerName::new(customer).unwrap();
        let message = |n| OutboxMessage { customer: customer.clone(), ..self.message(&format!("{customer}{n}")) };
        self.store.reply_all((1..=count).map(message).collect()).await.unwrap();
    }

    async fn ids(&self, now: Micros, limit: u32) -> Vec<String> {
        self.claim_messages(now, limit).await.into_iter().map(|(_, id)| id).collect()
    }
}

/// A claimed or refused message holds back those after it of the same customer, and of no other.
pub async fn order_is_kept_per_customer(world: World) {
    assert!(world.ids(NOW, 10).await.is_empty());
    world.write("a", &["a1", "a2"]).await;
    world.write("b", &["b1"]).await;
    assert_eq!(world.ids(NOW, 1).await, ["a1"]);
    assert_eq!(world.ids(NOW, 10).await, ["b1"]);
    world.write("b", &["b2"]).await;
    world.write("c", &["c1", "c2"]).await;
    assert_eq!(world.ids(NOW, 10).await, ["c1", "c2"]);
    assert!(world.ids(at(29), 10).await.is_empty());
    assert_eq!(world.ids(at(31), 10).await, ["a1", "a2", "b1", "b2", "c1", "c2"]);
}

/// A refused message comes again at its time, before those after it.
pub async fn refused_messages_come_again(world: World) {
    world.write("a", &["a1", "a2", "a3"]).await;
    let claimed = world.claim_messages(NOW, 10).await;
    world.store.settle_outbox(&claimed[..1], &claimed[1..], at(5)).await.unwrap();
    world.write("a", &["a4"]).await;
    assert!(world.ids(at(4), 10).await.is_empty());
    let sent = world.claim_messages(at(5), 10).await;
    assert_eq!(sent.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["a2", "a3", "a4"]);
    for _twice in 0..2 {
        world.store.settle_outbox(&sent, &[], at(9)).await.unwrap();
    }
    assert!(world.ids(at(1_000), 10).await.is_empty());
    world.store.settle_outbox(&[], &sent, at(9)).await.unwrap();
    assert!(world.ids(at(1_000), 10).await.is_empty(), "what was forgotten cannot be refused");
}

/// Numbers are given out anew when the database is put back to where it was before: a message that has the number of one that was
/// sent or refused stays as it is.
pub async fn another_message_of_the_same_number_stays(world: World) {
    world.write("a", &["a1", "a2"]).await;
    let claimed = world.claim_messages(NOW, 10).await;
    let others: Vec<_> = claimed.into_iter().map(|(number, id)| (number, format!("{id}, before"))).collect();
    world.store.settle_outbox(&others[..1], &others[1..], at(100)).await.unwrap();
    assert_eq!(world.ids(at(30), 10).await, ["a1", "a2"]);
}

/// What a relay claimed and never settled is claimed again.
pub async fn claims_expire(world: World) {
    world.write("a", &["a1"]).await;
    assert_eq!(world.ids(NOW, 10).await, ["a1"]);
    assert!(world.ids(at(29), 10).await.is_empty());
    assert_eq!(world.ids(at(30), 10).await, ["a1"]);
}

/// Customers whose messages are held stand in nobody's way, however many they have, and nobody is overtaken.
pub async fn many_held_messages_are_passed(world: World) {
    world.write_many("a", 700).await;
    world.write_many("b", 700).await;
    assert_eq!(world.ids(NOW, 2).await, ["a1", "a2"]);
    let first_of_b = world.claim_messages(NOW, 1).await;
    world.write("d", &["d1"]).await;
    world.write("c", &["c1", "c2"]).await;
    world.write("d", &["d2"]).await;
    assert_eq!(world.ids(NOW, 3).await, ["d1", "c1", "c2"]);
    assert!(world.ids(NOW, 10).await.is_empty(), "d2 must not overtake");
    world.write("e", &["e1", "e2", "e3"]).await;
    world.store.settle_outbox(&[], &first_of_b, at(1)).await.unwrap();
    let ids = world.ids(at(2), 702).await;
    assert_eq!((ids.len(), ids[0].as_str(), ids[699].as_str()), (702, "b1", "b700"));
    assert_eq!(ids[700..], ["e1", "e2"]);
    assert!(world.ids(at(2), 10).await.is_empty(), "e3 must not overtake");
    let all = world.ids(at(100), 10_000).await;
    assert_eq!((all.len(), all[0].as_str(), all[1_400].as_str(), all[1_406].as_str()), (1_407, "a1", "d1", "e3"));
}

/// Of a customer with a held message, those before it are claimed, and none after it.
pub async fn what_is_before_a_held_message_is_claimed(world: World) {
    world.write_many("a", 1_100).await;
    let claimed = world.claim_messages(NOW, 3).await;
    world.store.settle_outbox(&[], &claimed[..2], at(1)).await.unwrap();
    assert!(world.ids(NOW, 10).await.is_empty());
    assert_eq!(world.ids(at(1), 10).await, ["a1", "a2"]);
}

/// A message with an id that waits already has no effect.
pub async fn a_second_message_has_no_effect(world: World) {
    world.write("a", &["a1", "a1"]).await;
    let claimed = world.claim_messages(NOW, 10).await;
    assert_eq!(claimed.len(), 1);
    world.write("a", &["a1"]).await;
    world.store.settle_outbox(&claimed, &[], NOW).await.unwrap();
    assert!(world.ids(at(100), 10).await.is_empty());
}

/// Two relays that claim at the same time share the messages, and none overtakes.
pub async fn two_relays_share(world: World) {
    for round in 0..5 {
        let (one, two) = (format!("a{round}-1"), format!("b{round}-1"));
        world.write("a", &[&one]).await;
        world.write("b", &[&two]).await;
        let now = at(round * 100);
        let (a, b) = tokio::join!(world.claim_messages(now, 10), world.claim_messages(now, 10));
        let all: Vec<_> = a.into_iter().chain(b).collect();
        let mut ids: Vec<_> = all.iter().map(|(_, id)| id.clone()).collect();
        ids.sort();
        assert_eq!(ids, [one, two]);
        world.store.settle_outbox(&all, &[], now).await.unwrap();
    }
}

/// A claim holds about 16 MiB at most, and at least one message.
pub async fn claims_are_bounded_in_bytes(world: World) {
    for id in ["a1", "a2", "a3"] {
        let message = OutboxMessage { body: vec![7; 7 << 20], ..world.message(id) };
        world.store.reply_all(vec![message]).await.unwrap();
    }
    assert_eq!(world.ids(NOW, 10).await, ["a1", "a2"]);
    assert_eq!(world.ids(at(100), 1).await, ["a1"]);
}
