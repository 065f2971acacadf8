//! A consumer of the in-memory broker.

use std::sync::Arc;

use async_trait::async_trait;
use ports::broker::{BrokerError, Consumer, Delivery, Tag, Verdict};
use tokio::sync::Notify;

use super::queue::Stored;
use super::{MemoryBroker, Shared};

/// Receives one queue's messages; dropping it gives back what is unsettled.
pub(super) struct MemoryConsumer {
    shared: Arc<Shared>,
    id: u64,
    wake: Arc<Notify>,
}

/// What a look into the inbox found.
enum Look {
    Found(Vec<(Tag, Stored)>),
    Cancelled,
    Nothing,
}

impl MemoryConsumer {
    pub(super) fn new(broker: &MemoryBroker, id: u64, wake: Arc<Notify>) -> Self {
        Self { shared: Arc::clone(&broker.shared), id, wake }
    }

    fn look(&self, max: usize) -> Result<Look, BrokerError> {
        let mut state = self.shared.lock();
        let consumer = state.consumers.get_mut(&self.id).ok_or(BrokerError::Closed)?;
        let count = consumer.inbox.len().min(max.max(1));
        if count == 0 {
            return Ok(if consumer.cancelled { Look::Cancelled } else { Look::Nothing });
        }
        let generation = consumer.generation;
        let taken = consumer.inbox.drain(..count);
        let found = taken.filter_map(|tag| Some((Tag { generation, tag }, consumer.unsettled.get(&tag)?.clone())));
        Ok(Look::Found(found.collect()))
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        loop {
            match self.look(max)? {
                Look::Found(found) => {
                    self.wake.notify_one(); // another waiter may find what is left
                    return Ok(found.into_iter().map(delivery).collect());
                }
                Look::Cancelled => {
                    self.wake.notify_one();
                    return Ok(Vec::new());
                }
                Look::Nothing => self.wake.notified().await,
            }
        }
    }

    async fn settle(&self, verdicts: &[(Tag, Verdict)]) -> Result<usize, BrokerError> {
        let mut state = self.shared.lock();
        let consumer = state.consumers.get(&self.id).ok_or(BrokerError::Closed)?;
        let (generation, queue) = (consumer.generation, Arc::clone(&consumer.queue));
        let mut settled = 0;
        for (tag, verdict) in verdicts {
            if tag.generation == generation && state.settle(self.id, tag.tag, *verdict) {
                settled += 1;
            }
        }
        state.deliver(&queue);
        Ok(verdicts.len() - settled)
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.shared.lock().cancel(self.id);
        Ok(())
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.shared.lock().drop_consumer(self.id);
    }
}

fn delivery((tag, stored): (Tag, Stored)) -> Delivery {
    let message = &stored.message;
    Delivery {
        tag,
        routing_key: message.routing_key.clone(),
        redelivered: stored.redelivered,
        delivery_count: stored.delivery_count,
        properties: message.properties.clone(),
        body: message.body.clone(),
    }
}
