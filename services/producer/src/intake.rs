//! Intake: reads what customers submit, each message in a task of its own, acknowledged when its effect is durable.

use std::sync::Arc;

use ports::broker::{Delivery, Properties, Tag, Verdict};
use ports::dead::{self, Death};
use protocol::address::{FETCH_QUEUE, Origin, SUBMIT_QUEUE};
use protocol::blob::PutBlob;
use protocol::job::{CancelJob, JobSpec};
use protocol::reply::Problem;
use protocol::{CodecError, CustomerName, Format, Message};
use service::CancellationToken;
use service::patience::until_done;
use service::scope::TaskError;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::Producer;
use crate::admit;

/// Messages under way at once; the broker keeps the rest. A message holds 8 MiB at most.
const PREFETCH: u16 = 32;
/// Submissions read at once, by the size of their bodies: one of many tiny values takes a hundred times as much memory.
const READ_KIB: usize = 16 << 10;

/// Runs until stopped; what is not done by then goes back to the queue.
pub(crate) async fn run(producer: Producer, wake: Arc<Notify>, stopping: CancellationToken) -> Result<(), TaskError> {
    let subscribe = || producer.broker.consume(SUBMIT_QUEUE, PREFETCH);
    let Some(consumer) = until_done("subscribing to submissions", &stopping, subscribe).await else { return Ok(()) };
    producer.ready.ready();
    let room = Arc::new(Semaphore::new(READ_KIB));
    let mut tasks: JoinSet<(Tag, Verdict)> = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            Some(done) = tasks.join_next() => consumer.settle(&settled(done, &mut tasks)?).await.map(drop)?,
            batch = consumer.next(usize::from(PREFETCH)) => {
                for delivery in batch? {
                    let (producer, wake, stopping) = (producer.clone(), Arc::clone(&wake), stopping.clone());
                    let room = Arc::clone(&room);
                    tasks.spawn(async move {
                        let _taken = room.acquire_many(kib_to_read(&delivery)).await;
                        (delivery.tag, handle(&producer, delivery, &wake, &stopping).await)
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

/// How much room a message takes while it is read; parts of blobs are bytes and stay what they are.
fn kib_to_read(delivery: &Delivery) -> u32 {
    if delivery.properties.kind != JobSpec::KIND {
        return 0;
    }
    u32::try_from(delivery.body.len().div_ceil(1 << 10).min(READ_KIB)).unwrap_or(0)
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

async fn handle(producer: &Producer, delivery: Delivery, wake: &Notify, stopping: &CancellationToken) -> Verdict {
    let Ok(customer) = CustomerName::new(delivery.routing_key.clone()) else {
        let cause = format!("routing key {:?} is no customer's name", delivery.routing_key);
        return park(producer, delivery, &cause, Origin::Submit).await;
    };
    if let Some(user) = dead::publisher(&delivery.properties).filter(|user| *user != customer.as_str()) {
        let cause = format!("user {user} published as customer {customer}");
        return park(producer, delivery, &cause, Origin::Submit).await;
    }
    let request = match read(&delivery) {
        Ok(request) => request,
        Err(error) => {
            let problem = Problem::new(400, "undecodable", "Message cannot be decoded", error.to_string());
            let told = admit::refuse(producer, &customer, &delivery.properties, problem, stopping).await;
            return if told { park(producer, delivery, &error.to_string(), Origin::Submit).await } else { Verdict::Requeue };
        }
    };
    let done = match request {
        Request::Put(part) => put(producer, &customer, &delivery.properties, &part, stopping).await,
        Request::Submit(spec) => admit::submit(producer, &customer, &delivery.properties, *spec, stopping).await,
        Request::Cancel(cancel) => admit::cancel(producer, &customer, &delivery.properties, &cancel, stopping).await,
        Request::Unknown => {
            let detail = format!("type {:?} is none that this grid knows", delivery.properties.kind);
            let problem = Problem::new(400, "unknown-type", "Unknown message type", detail);
            admit::refuse(producer, &customer, &delivery.properties, problem, stopping).await
        }
    };
    wake.notify_one();
    if done { Verdict::Ack } else { Verdict::Requeue }
}

enum Request {
    Put(PutBlob),
    Submit(Box<JobSpec>),
    Cancel(CancelJob),
    Unknown,
}

fn read(delivery: &Delivery) -> Result<Request, CodecError> {
    let format = Format::from_content_type(delivery.properties.content_type.as_deref())?;
    Ok(match delivery.properties.kind.as_str() {
        PutBlob::KIND => Request::Put(PutBlob::from_bytes(&delivery.body, format)?),
        JobSpec::KIND => Request::Submit(Box::new(JobSpec::from_bytes(&delivery.body, format)?)),
        CancelJob::KIND => Request::Cancel(CancelJob::from_bytes(&delivery.body, format)?),
        _ => Request::Unknown,
    })
}

async fn put(
    producer: &Producer,
    customer: &CustomerName,
    properties: &Properties,
    part: &PutBlob,
    stopping: &CancellationToken,
) -> bool {
    let put = || producer.store.put_part(part.digest, part.size, part.offset, &part.data);
    match until_done("storing a part of a blob", stopping, put).await {
        Some(true) => true,
        Some(false) => {
            let detail = format!(
                "part at {} of blob {} ({} bytes) has a wrong offset or size, or the parts are not of that digest: send all parts again",
                part.offset, part.digest, part.size
            );
            let problem = Problem::new(422, "blob-mismatch", "Blob does not fit its digest", detail);
            admit::refuse(producer, customer, properties, problem, stopping).await
        }
        None => false,
    }
}

/// Parks a message that can have no effect with the dead letters of its origin, with its cause.
pub(crate) async fn park(producer: &Producer, delivery: Delivery, cause: &str, origin: Origin) -> Verdict {
    tracing::warn!(message = delivery.properties.message_id, "message from {} is parked as a dead letter: {cause}", origin.key());
    let queue = if origin == Origin::Fetch { FETCH_QUEUE } else { SUBMIT_QUEUE };
    let death = Death { origin, queue, cause, at: producer.clock.now() };
    let verdict = dead::park(producer.broker.as_ref(), delivery, death).await;
    if verdict == Verdict::Ack {
        producer.metrics.dead_letters.with_label_values(&[origin.key()]).inc();
    }
    verdict
}
