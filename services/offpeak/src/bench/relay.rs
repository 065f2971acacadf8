//! The raw relay: what the broker alone does on this machine, two hops confirmed and acknowledged, no logic.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use ports::broker::{Confirm, Outgoing, Properties, Verdict};
use ports::{Broker, Clock, Consumer};
use protocol::address::{CUSTOMER_EXCHANGE, results_queue};
use protocol::codec::Format;
use protocol::outcome::{Computed, Outcome, OutcomeResult};
use protocol::unit::{Call, Items, Slice, Work};
use protocol::{CustomerName, Digest, Fuel, HostId, JobId, Message, MeterId, UnitKey};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::report::{Rate, Relay};

/// Messages published at once, each confirmed.
const BATCH: usize = 256;
/// Messages under way at most: queues stay short, as the grid's do.
const WINDOW: usize = 2_048;
const PREFETCH: u16 = 1_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Relays so many messages; `settled` is the grid's rate to compare with.
pub(super) async fn relay(broker: &dyn Broker, clock: &dyn Clock, count: u64, settled: Rate) -> Result<Relay> {
    let hops = [CustomerName::new("bench-relay-1")?, CustomerName::new("bench-relay-2")?];
    for hop in &hops {
        broker.declare_customer(hop).await?;
    }
    let [first, second] = bodies()?;
    let (first_bytes, second_bytes) = (first.len(), second.len());
    let middle = broker.consume(&results_queue(&hops[0]), PREFETCH).await?;
    let sink = broker.consume(&results_queue(&hops[1]), PREFETCH).await?;
    let (room, passed) = (Semaphore::new(WINDOW), AtomicU64::new(0));
    let began = clock.now();
    tokio::try_join!(
        source(broker, &hops[0], &first, count, &room),
        pass(middle.as_ref(), broker, (&hops[1], &second), count),
        drain(sink.as_ref(), count, &room, &passed),
    )?;
    let messages = Rate { count: passed.load(Ordering::Relaxed), elapsed: clock.now().since(began) };
    middle.cancel().await?;
    sink.cancel().await?;
    Ok(Relay { messages, first_bytes, second_bytes, grid_permille: settled.permille_of(messages) })
}

/// A unit and an outcome as the benchmark's grid sends them.
fn bodies() -> Result<[Vec<u8>; 2]> {
    let replica = UnitKey { job: JobId(Uuid::now_v7()), unit: 1 }.replica(0);
    let slice = Slice { stage: 0, first: 1, end: 2 };
    let work = Work {
        replica,
        customer: CustomerName::new("bench")?,
        brief: Digest([7; 32]),
        call: Call::Map,
        slice,
        items: Items::Range { start: 1, end: 2 },
        time_limit_ms: 60_000,
        traceparent: None,
    };
    let computed = Computed {
        meter: MeterId::new("wasmtime-48-fuel")?,
        fuel: Fuel::new(100)?,
        digest: Digest([9; 32]),
        output: vec![0; 16],
        input_bytes: 16,
    };
    let (host, result) = (HostId::new("bench-1")?, OutcomeResult::Computed(computed));
    let outcome = Outcome { replica, slice, host, result, compute_us: 100 };
    Ok([work.to_bytes(Format::MessagePack)?, outcome.to_bytes(Format::MessagePack)?])
}

fn message(to: &CustomerName, body: &[u8], number: u64) -> Outgoing {
    let properties = Properties {
        message_id: number.to_string(),
        kind: "offpeak.bench.relay.v1".to_owned(),
        content_type: Some(Format::MessagePack.content_type().to_owned()),
        ..Properties::default()
    };
    Outgoing { exchange: CUSTOMER_EXCHANGE.to_owned(), routing_key: to.to_string(), properties, body: body.to_vec() }
}

async fn publish(broker: &dyn Broker, messages: Vec<Outgoing>) -> Result<()> {
    let confirms = broker.publish(messages, PATIENCE).await?;
    ensure!(
        confirms.iter().all(|confirm| *confirm == Confirm::Stored),
        "the broker did not take the relay's messages: {confirms:?}"
    );
    Ok(())
}

async fn source(broker: &dyn Broker, to: &CustomerName, body: &[u8], count: u64, room: &Semaphore) -> Result<()> {
    let mut number = 0;
    while number < count {
        let batch = u64::try_from(BATCH)?.min(count - number);
        room.acquire_many(u32::try_from(batch)?).await?.forget();
        publish(broker, (number..number + batch).map(|number| message(to, body, number)).collect()).await?;
        number += batch;
    }
    Ok(())
}

async fn pass(consumer: &dyn Consumer, broker: &dyn Broker, (to, body): (&CustomerName, &[u8]), count: u64) -> Result<()> {
    let mut passed = 0;
    while passed < count {
        let batch = consumer.next(BATCH).await?;
        ensure!(!batch.is_empty(), "the relay's first queue ended");
        let numbers = passed..passed + u64::try_from(batch.len())?;
        passed = numbers.end;
        publish(broker, numbers.map(|number| message(to, body, number)).collect()).await?;
        acknowledge(consumer, &batch).await?;
    }
    Ok(())
}

async fn drain(consumer: &dyn Consumer, count: u64, room: &Semaphore, passed: &AtomicU64) -> Result<()> {
    let mut drained = 0;
    while drained < count {
        let batch = consumer.next(BATCH).await?;
        ensure!(!batch.is_empty(), "the relay's second queue ended");
        acknowledge(consumer, &batch).await?;
        drained += u64::try_from(batch.len())?;
        passed.store(drained, Ordering::Relaxed);
        room.add_permits(batch.len());
    }
    Ok(())
}

async fn acknowledge(consumer: &dyn Consumer, batch: &[ports::broker::Delivery]) -> Result<()> {
    let verdicts: Vec<_> = batch.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
    consumer.settle(&verdicts).await?;
    Ok(())
}
