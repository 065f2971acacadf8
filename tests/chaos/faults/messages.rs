//! Faults of messages: every unit and outcome comes twice, and in another order.

use std::time::Duration;

use broker::{RabbitBroker, RabbitSettings};
use ports::Broker as _;
use ports::broker::{Confirm, Delivery, Outgoing, Verdict};
use protocol::address::{OUTCOMES_EXCHANGE, WORK_EXCHANGE};

use crate::dice::Dice;
use crate::world::World;

/// The exchanges, with the keys of their queues, which are named after both.
const ROUTES: [(&str, [&str; 2]); 2] = [(WORK_EXCHANGE, ["open.0", "open.1"]), (OUTCOMES_EXCHANGE, ["0", "1"])];
/// What is held back in one go, and so in which order it may come.
const BATCH: usize = 8;
/// An incomplete batch goes on after this.
const REST: Duration = Duration::from_millis(500);
/// How long messages are held in one go.
const LASTS: Duration = Duration::from_secs(5);
/// The broker takes the copies within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// For a while units and outcomes get to their queues by way of a queue of the suite only.
pub(super) fn duplicate_and_shuffle(world: &mut World) {
    for (exchange, keys) in ROUTES {
        world.manage("PUT", "queues", &format!("/{}", tap(exchange)), r#"{"durable": true}"#).expect("a queue");
        for key in keys {
            bind(world, exchange, &tap(exchange), key);
            unbind(world, exchange, &format!("{exchange}.{key}"), key);
        }
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let settings = RabbitSettings::new(&world.services.amqp);
    let pass_on = |dice: &Dice, lasts| {
        runtime.block_on(async {
            let broker = RabbitBroker::connect(&settings).expect("a broker's URL");
            let [units, outcomes] = ROUTES.map(|(exchange, _)| pass_on(&broker, exchange, dice.clone(), lasts));
            let passed = tokio::join!(units, outcomes);
            broker.close().await;
            passed
        })
    };
    let (mut units, mut outcomes) = (0, 0);
    world.until_or_over("units and outcomes to hold", |world| {
        let passed = pass_on(&world.dice, LASTS);
        (units, outcomes) = (units + passed.0, outcomes + passed.1);
        units > 0 && outcomes > 0
    });
    for (exchange, keys) in ROUTES {
        for key in keys {
            bind(world, exchange, &format!("{exchange}.{key}"), key);
            unbind(world, exchange, &tap(exchange), key);
        }
    }
    // What came in the meantime.
    while pass_on(&world.dice, 4 * REST) != (0, 0) {}
    for (exchange, _) in ROUTES {
        world.manage("DELETE", "queues", &format!("/{}", tap(exchange)), "").expect("deleted");
    }
}

fn tap(exchange: &str) -> String {
    format!("tap.{exchange}")
}

fn bind(world: &World, exchange: &str, queue: &str, key: &str) {
    let binding = format!(r#"{{"routing_key": "{key}"}}"#);
    world.manage("POST", "bindings", &format!("/e/{exchange}/q/{queue}"), &binding).expect("a binding");
}

fn unbind(world: &World, exchange: &str, queue: &str, key: &str) {
    world.manage("DELETE", "bindings", &format!("/e/{exchange}/q/{queue}/{key}"), "").expect("no binding");
}

/// Publishes what comes to the tap to its queue, twice and in another order; how many messages that were.
async fn pass_on(broker: &RabbitBroker, exchange: &str, mut dice: Dice, lasts: Duration) -> usize {
    let tap = broker.consume(&tap(exchange), 100).await.expect("the tap");
    let mut passed = 0;
    let mut held: Vec<Delivery> = Vec::new();
    let passing = async {
        loop {
            let more = tokio::time::timeout(REST, tap.next(BATCH)).await;
            let rested = more.is_err();
            held.extend(more.unwrap_or(Ok(Vec::new())).expect("messages"));
            if held.len() >= BATCH || rested {
                passed += held.len();
                let mut twice: Vec<Outgoing> = held.iter().chain(&held).map(|delivery| copy(delivery, exchange)).collect();
                dice.shuffle(&mut twice);
                let confirms = broker.publish(twice, PATIENCE).await.expect("published");
                assert!(confirms.iter().all(|confirm| *confirm == Confirm::Stored), "{confirms:?}");
                let verdicts: Vec<_> = held.drain(..).map(|delivery| (delivery.tag, Verdict::Ack)).collect();
                tap.settle(&verdicts).await.expect("settled");
            }
        }
    };
    // What is held at the end goes back to the tap.
    assert!(tokio::time::timeout(lasts, passing).await.is_err());
    passed
}

/// The message for the queue itself.
fn copy(delivery: &Delivery, exchange: &str) -> Outgoing {
    let Delivery { routing_key, properties, body, .. } = delivery.clone();
    Outgoing { exchange: String::new(), routing_key: format!("{exchange}.{routing_key}"), properties, body }
}
