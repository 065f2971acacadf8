//! Intake: reads what customers ask, each message in a task of its own, and acknowledges it when its effect and its answer
//! are durable.

use std::sync::Arc;
use std::time::Duration;

use ports::broker::{Confirm, Delivery, Tag, Verdict};
use ports::dead::{self, Death};
use protocol::address::{FETCH_QUEUE, Origin, SUBMIT_QUEUE};
use service::patience::until_done;
use service::scope::TaskError;
use service::{CancellationToken, Seen};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::Producer;
use crate::answering::{self, Handled};
use crate::room::Room;

/// Messages under way at once; the broker keeps the rest. A message holds 8 MiB at most.
const PREFETCH: u16 = 32;
/// The broker is given so long to take a dead letter; after that its message is given back.
const PARK_PATIENCE: Duration = Duration::from_secs(30);
/// Dead messages whose customers were told are remembered to this number; one that is forgotten may be told again.
const MAX_TOLD: usize = 1_000;

/// Runs until stopped; what is not done by then goes back to the queue.
pub(crate) async fn run(producer: Producer, wake: Arc<Notify>, stopping: CancellationToken) -> Result<(), TaskError> {
    let subscribe = || producer.broker.consume(SUBMIT_QUEUE, PREFETCH);
    let Some(consumer) = until_done("subscribing to submissions", &stopping, subscribe).await else { return Ok(()) };
    producer.ready.ready();
    let (room, told_dead) = (Arc::new(Room::default()), Arc::new(Seen::new(MAX_TOLD)));
    let mut tasks: JoinSet<(Tag, Verdict)> = JoinSet::new();
    loop {
        // Those of a lost connection come again while they are under way; no more are taken than may be.
        let room_for = usize::from(PREFETCH).saturating_sub(tasks.len());
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            Some(done) = tasks.join_next() => consumer.settle(&settled(done, &mut tasks)?).await.map(drop)?,
            batch = consumer.next(room_for), if room_for > 0 => {
                for mut delivery in batch? {
                    let (producer, wake, stopping) = (producer.clone(), Arc::clone(&wake), stopping.clone());
                    let (room, told_dead) = (Arc::clone(&room), Arc::clone(&told_dead));
                    tasks.spawn(async move {
                        let verdict = answering::handle(&producer, &mut delivery, &room, &told_dead, &stopping).await;
                        wake.notify_one();
                        match verdict {
                            Handled::Done => (delivery.tag, Verdict::Ack),
                            Handled::Again => (delivery.tag, Verdict::Requeue),
                            Handled::Dead { cause, told } => {
                                (delivery.tag, bury(&producer, delivery, &cause, told).await)
                            }
                        }
                    });
                }
            }
        }
    }
    consumer.cancel().await?;
    while let Some(done) = tasks.join_next().await {
        consumer.settle(&settled(done, &mut tasks)?).await?;
    }
    Ok(())
}

/// This result and those that are there already: one settlement.
fn settled(
    first: Result<(Tag, Verdict), tokio::task::JoinError>,
    tasks: &mut JoinSet<(Tag, Verdict)>,
) -> Result<Vec<(Tag, Verdict)>, TaskError> {
    let mut verdicts = vec![first?];
    while let Some(done) = tasks.try_join_next() {
        verdicts.push(done?);
    }
    Ok(verdicts)
}

/// Parks a customer's message that can have no effect. Where the dead letters have no room and its customer was told why, it is
/// done with: it would only come again and again.
async fn bury(producer: &Producer, delivery: Delivery, cause: &str, told: bool) -> Verdict {
    let message_id = delivery.properties.message_id.clone();
    let confirm = offer(producer, delivery, cause, Origin::Submit).await;
    if told && confirm == Some(Confirm::Refused) {
        producer.metrics.letters_lost.inc();
        tracing::warn!(
            message = message_id,
            "message {message_id:?} is not kept as a dead letter; its customer was told why: {cause}"
        );
        return Verdict::Ack;
    }
    verdict(confirm)
}

/// Parks a message that can have no effect with the dead letters of its origin, with its cause.
pub(crate) async fn park(producer: &Producer, delivery: Delivery, cause: &str, origin: Origin) -> Verdict {
    verdict(offer(producer, delivery, cause, origin).await)
}

/// Only what the broker has as a letter is acknowledged.
fn verdict(confirm: Option<Confirm>) -> Verdict {
    if confirm == Some(Confirm::Stored) { Verdict::Ack } else { Verdict::Requeue }
}

/// Offers a message to the broker as a dead letter; what it says to that, if it does.
async fn offer(producer: &Producer, delivery: Delivery, cause: &str, origin: Origin) -> Option<Confirm> {
    tracing::warn!(message = delivery.properties.message_id, "message from {} is parked as a dead letter: {cause}", origin.key());
    let queue = if origin == Origin::Fetch { FETCH_QUEUE } else { SUBMIT_QUEUE };
    let death = Death { origin, queue, cause, at: producer.clock.now() };
    let confirms = producer.broker.publish(vec![dead::letter(delivery, death)], PARK_PATIENCE).await;
    let confirm = confirms.ok().and_then(|confirms| confirms.first().copied());
    if confirm == Some(Confirm::Stored) {
        producer.metrics.dead_letters.with_label_values(&[origin.key()]).inc();
    }
    confirm
}
