//! The relay: messages that were written with their effect go out, in each customer's order, until the broker has them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ports::broker::{BrokerError, Confirm, Outgoing, Properties};
use ports::store::{Outbox, StoreError};
use protocol::CustomerName;
use protocol::address::CUSTOMER_EXCHANGE;
use service::CancellationToken;
use service::patience::until_done;
use service::scope::TaskError;
use tokio::sync::Notify;

use crate::Aggregator;

/// Messages sent in one go.
const MAX_MESSAGES: u32 = 200;
/// What an aggregator has claimed and not sent is free again after this: should it die, customers wait so long.
const CLAIM: Duration = Duration::from_secs(20);
/// The broker is given so long; less than the claim, so that two relays do not send the same.
const SEND_PATIENCE: Duration = Duration::from_secs(10);
/// A customer's queue that refuses is offered the message again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// Customers whose queue is known to be declared.
const MAX_DECLARED: usize = 10_000;

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Broker(#[from] BrokerError),
}

/// Runs until stopped, and then sends what is there.
pub(crate) async fn run(aggregator: Aggregator, told: Arc<Notify>, stopping: CancellationToken) -> Result<(), TaskError> {
    let idle = Duration::from_millis(aggregator.settings.relay_ms);
    let declared = tokio::sync::Mutex::new(BTreeSet::new());
    loop {
        let send = || async { relay(&aggregator, &mut *declared.lock().await).await };
        match until_done("sending replies", &stopping, send).await {
            Some(0) if stopping.is_cancelled() => return Ok(()),
            Some(0) => tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = told.notified() => {}
                () = tokio::time::sleep(idle) => {}
            },
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

/// Sends a batch; how many the broker has taken.
async fn relay(aggregator: &Aggregator, declared: &mut BTreeSet<CustomerName>) -> Result<usize, RelayError> {
    let now = aggregator.clock.now();
    let batch = aggregator.store.claim_outbox(now, now.plus(CLAIM), MAX_MESSAGES).await?;
    if batch.is_empty() {
        return Ok(0);
    }
    let (sent, refused) = match send(aggregator, &batch, declared).await {
        Ok(ends) => ends,
        Err(error) => {
            // Given back at once, not when the claim ends: what comes after it must not overtake it.
            let all: Vec<i64> = batch.iter().map(|outbox| outbox.sequence).collect();
            aggregator.store.settle_outbox(&[], &all, aggregator.clock.now()).await?;
            return Err(error.into());
        }
    };
    aggregator.store.settle_outbox(&sent, &refused, aggregator.clock.now().plus(AGAIN)).await?;
    aggregator.metrics.replies_sent.inc_by(u64::try_from(sent.len()).unwrap_or(0));
    aggregator.metrics.replies_refused.inc_by(u64::try_from(refused.len()).unwrap_or(0));
    Ok(sent.len())
}

/// Offers messages to the broker; which it has taken, and which not.
async fn send(
    aggregator: &Aggregator,
    batch: &[Outbox],
    declared: &mut BTreeSet<CustomerName>,
) -> Result<(Vec<i64>, Vec<i64>), BrokerError> {
    if declared.len() > MAX_DECLARED {
        declared.clear();
    }
    for Outbox { message, .. } in batch {
        if !declared.contains(&message.customer) {
            aggregator.broker.declare_customer(&message.customer).await?;
            declared.insert(message.customer.clone());
        }
    }
    let outgoing = batch.iter().map(outgoing).collect();
    let confirms = aggregator.broker.publish(outgoing, SEND_PATIENCE).await?;
    let (mut sent, mut refused) = (Vec::new(), Vec::new());
    for (outbox, confirm) in batch.iter().zip(confirms) {
        match confirm {
            Confirm::Stored => sent.push(outbox.sequence),
            Confirm::Refused | Confirm::Unknown => refused.push(outbox.sequence),
            Confirm::Unroutable => {
                declared.remove(&outbox.message.customer);
                refused.push(outbox.sequence);
            }
        }
    }
    Ok((sent, refused))
}

fn outgoing(outbox: &Outbox) -> Outgoing {
    let message = &outbox.message;
    let properties = Properties {
        message_id: message.id.clone(),
        kind: message.kind.clone(),
        content_type: Some(message.content_type.clone()),
        correlation_id: message.correlation_id.clone(),
        traceparent: message.traceparent.clone(),
        ..Properties::default()
    };
    let routing_key = message.customer.to_string();
    Outgoing { exchange: CUSTOMER_EXCHANGE.to_owned(), routing_key, properties, body: message.body.clone() }
}
