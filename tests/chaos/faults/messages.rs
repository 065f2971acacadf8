//! Faults of messages: every unit and outcome comes again, twice and in another order.

use std::time::Duration;

use broker::{RabbitBroker, RabbitSettings};
use ports::Broker as _;
use ports::broker::{Delivery, Outgoing, Verdict};
use protocol::address::{OUTCOMES_EXCHANGE, WORK_EXCHANGE};

use crate::dice::Dice;
use crate::world::World;

/// Marks a copy, which is not copied again.
const MARK: &str = "offpeak-test-copy";
/// What is copied in one go, and so in which order it may come.
const BATCH: usize = 8;
/// An incomplete batch is copied after this.
const REST: Duration = Duration::from_millis(500);
/// How long messages are copied in one go.
const LASTS: Duration = Duration::from_secs(5);
/// The broker takes the copies within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Taps both exchanges by a queue of its own each.
pub(super) fn duplicate_and_shuffle(world: &mut World) {
    let taps = [(WORK_EXCHANGE, ["open.0", "open.1"]), (OUTCOMES_EXCHANGE, ["0", "1"])];
    for (exchange, keys) in taps {
        world.manage("PUT", "queues", &format!("/tap.{exchange}"), r#"{"durable": true}"#).expect("a queue");
        for key in keys {
            let binding = format!(r#"{{"routing_key": "{key}"}}"#);
            world.manage("POST", "bindings", &format!("/e/{exchange}/q/tap.{exchange}"), &binding).expect("a binding");
        }
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let settings = RabbitSettings::new(&world.services.amqp);
    let (mut units, mut outcomes) = (0, 0);
    world.until_or_over("units and outcomes to copy", |world| {
        let dice = world.dice.clone();
        let copied = runtime.block_on(async {
            let broker = RabbitBroker::connect(&settings).expect("a broker's URL");
            let copied = tokio::join!(copy(&broker, taps[0].0, dice.clone()), copy(&broker, taps[1].0, dice));
            broker.close().await;
            copied
        });
        (units, outcomes) = (units + copied.0, outcomes + copied.1);
        units > 0 && outcomes > 0
    });
    for (exchange, _) in taps {
        world.manage("DELETE", "queues", &format!("/tap.{exchange}"), "").expect("deleted");
    }
}

/// Publishes what comes to the tap twice again, in another order; how many messages that were.
async fn copy(broker: &RabbitBroker, exchange: &str, mut dice: Dice) -> usize {
    let tap = broker.consume(&format!("tap.{exchange}"), 100).await.expect("the tap");
    let mut copied = 0;
    let mut held: Vec<Outgoing> = Vec::new();
    let copying = async {
        loop {
            let more = tokio::time::timeout(REST, tap.next(BATCH)).await;
            let rested = more.is_err();
            let deliveries = more.unwrap_or(Ok(Vec::new())).expect("messages");
            let verdicts: Vec<_> = deliveries.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
            tap.settle(&verdicts).await.expect("settled");
            held.extend(deliveries.into_iter().filter_map(|delivery| as_copy(delivery, exchange)));
            if held.len() >= BATCH || rested {
                copied += held.len();
                let mut twice = [held.clone(), std::mem::take(&mut held)].concat();
                dice.shuffle(&mut twice);
                broker.publish(twice, PATIENCE).await.expect("published");
            }
        }
    };
    assert!(tokio::time::timeout(LASTS, copying).await.is_err());
    copied
}

fn as_copy(delivery: Delivery, exchange: &str) -> Option<Outgoing> {
    let Delivery { routing_key, mut properties, body, .. } = delivery;
    if properties.headers.iter().any(|(name, _)| name == MARK) {
        return None;
    }
    properties.headers.push((MARK.to_owned(), String::new()));
    Some(Outgoing { exchange: exchange.to_owned(), routing_key, properties, body })
}
