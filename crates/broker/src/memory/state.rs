//! What the in-memory broker knows, and its moves: publish, deliver, settle, give back, dead-letter. Synchronous, under one lock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use ports::broker::{BrokerError, Confirm, Outgoing, Properties, Verdict};
use ports::dead::{FIRST_DEATH_COUNT, FIRST_DEATH_KEY, FIRST_DEATH_QUEUE, FIRST_DEATH_REASON};
use protocol::address::DEAD_EXCHANGE;
use tokio::sync::Notify;

use super::queue::{Message, Queue, Stored};
use super::route::Exchange;
use crate::limits::is_brokers_header;

/// A consumer of one queue.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) queue: Arc<str>,
    prefetch: usize,
    pub(super) generation: u64,
    next_tag: u64,
    /// Tags delivered but not yet taken by `next`; each is also in `unsettled`.
    pub(super) inbox: VecDeque<u64>,
    pub(super) unsettled: BTreeMap<u64, Stored>,
    pub(super) wake: Arc<Notify>,
    pub(super) cancelled: bool,
}

/// All of the broker.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) exchanges: HashMap<String, Exchange>,
    pub(super) queues: BTreeMap<Arc<str>, Queue>,
    pub(super) consumers: BTreeMap<u64, Subscription>,
    next_consumer: u64,
    next_sequence: u64,
    /// Deliveries rest while the broker is down.
    pub(super) down: bool,
}

impl State {
    /// Stores one message in every queue it is routed to, or in none.
    pub(super) fn publish(&mut self, outgoing: Outgoing) -> Result<Confirm, BrokerError> {
        let Outgoing { exchange, routing_key, mut properties, body } = outgoing;
        let queues = self.route(&exchange, &routing_key)?;
        if queues.is_empty() {
            return Ok(Confirm::Unroutable);
        }
        if queues.iter().any(|name| self.queues.get(name).is_some_and(|queue| queue.refuses(body.len()))) {
            return Ok(Confirm::Refused);
        }
        properties.headers.retain(|(name, _)| !is_brokers_header(name));
        properties.headers.sort();
        self.store(&queues, Message { exchange, routing_key, properties, body });
        Ok(Confirm::Stored)
    }

    fn route(&self, exchange: &str, key: &str) -> Result<Vec<Arc<str>>, BrokerError> {
        match self.exchanges.get(exchange) {
            Some(exchange) => Ok(exchange.route(key)),
            None => Err(BrokerError::Refused {
                operation: "publish",
                object: exchange.to_owned(),
                reason: "no such exchange; ensure the topology first".into(),
            }),
        }
    }

    fn store(&mut self, queues: &[Arc<str>], message: Message) {
        let message = Arc::new(message);
        for name in queues {
            self.next_sequence += 1;
            let sequence = self.next_sequence;
            if let Some(queue) = self.queues.get_mut(name) {
                queue.push(Stored { message: Arc::clone(&message), sequence, delivery_count: 0, redelivered: false });
            }
            self.deliver(name);
        }
    }

    /// Adds a consumer.
    pub(super) fn subscribe(&mut self, name: &str, prefetch: u16) -> Result<(u64, Arc<Notify>), BrokerError> {
        let refused =
            |reason: &str| BrokerError::Refused { operation: "consume", object: name.to_owned(), reason: reason.to_owned() };
        let queue = self.queues.get_mut(name).ok_or_else(|| refused("no such queue; ensure the topology first"))?;
        if queue.shape.exclusive && !queue.consumers.is_empty() {
            return Err(refused("a worker's own queue has one consumer only"));
        }
        self.next_consumer += 1;
        let (id, wake) = (self.next_consumer, Arc::new(Notify::new()));
        queue.consumers.push_back(id);
        let subscription = Subscription {
            queue: Arc::from(name),
            prefetch: usize::from(prefetch.max(1)),
            generation: 1,
            next_tag: 0,
            inbox: VecDeque::new(),
            unsettled: BTreeMap::new(),
            wake: Arc::clone(&wake),
            cancelled: false,
        };
        self.consumers.insert(id, subscription);
        self.deliver(name);
        Ok((id, wake))
    }

    /// Hands ready messages to consumers with room, in turn.
    pub(super) fn deliver(&mut self, name: &str) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        while !self.down && !queue.ready.is_empty() {
            let eligible = if queue.shape.single_active { queue.consumers.len().min(1) } else { queue.consumers.len() };
            let has_room = |id: &u64| self.consumers.get(id).is_some_and(|c| c.unsettled.len() < c.prefetch);
            let Some(turn) = queue.consumers.iter().take(eligible).position(has_room) else { return };
            if !queue.shape.single_active {
                queue.consumers.rotate_left(turn);
            }
            let consumer = queue.consumers.front().and_then(|id| self.consumers.get_mut(id));
            let Some((consumer, stored)) = consumer.zip(queue.pop()) else { return };
            consumer.next_tag += 1;
            consumer.unsettled.insert(consumer.next_tag, stored);
            consumer.inbox.push_back(consumer.next_tag);
            consumer.wake.notify_one();
            if !queue.shape.single_active {
                queue.consumers.rotate_left(1);
            }
        }
    }

    /// Settles one delivery; false if the consumer does not hold it (any more).
    pub(super) fn settle(&mut self, consumer: u64, tag: u64, verdict: Verdict) -> bool {
        let Some(subscription) = self.consumers.get_mut(&consumer) else { return false };
        let Some(stored) = subscription.unsettled.remove(&tag) else { return false };
        let queue = Arc::clone(&subscription.queue);
        match verdict {
            Verdict::Ack => {}
            Verdict::Requeue => self.give_back(&queue, stored),
            Verdict::Reject => self.dead_letter(&queue, &stored, "rejected"),
        }
        true
    }

    /// Returns a delivery to its queue, or to the dead letters when it came back too often.
    fn give_back(&mut self, name: &str, mut stored: Stored) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        stored.redelivered = true;
        if !queue.shape.exclusive {
            stored.delivery_count += 1;
        }
        if stored.delivery_count > queue.shape.limits.deliveries {
            self.dead_letter(name, &stored, "delivery_limit");
        } else {
            queue.put_back(stored);
        }
    }

    /// Parks a message; the dead letters' own bound does not apply, as at-least-once dead-lettering loses nothing either.
    fn dead_letter(&mut self, name: &str, stored: &Stored, reason: &str) {
        let Some(origin) = self.queues.get(name).and_then(|queue| queue.shape.dead) else { return };
        let message = &stored.message;
        let mut headers = message.properties.headers.clone();
        let first_death = [
            ("x-first-death-exchange", message.exchange.as_str()),
            (FIRST_DEATH_QUEUE, name),
            (FIRST_DEATH_REASON, reason),
            (FIRST_DEATH_KEY, message.routing_key.as_str()),
            (FIRST_DEATH_COUNT, "1"),
        ];
        headers.extend(first_death.map(|(header, value)| (header.to_owned(), value.to_owned())));
        headers.sort();
        let parked = self.exchanges.get(DEAD_EXCHANGE).map(|dead| dead.route(origin.key())).unwrap_or_default();
        let message = Message {
            exchange: DEAD_EXCHANGE.into(),
            routing_key: origin.key().into(),
            properties: Properties { headers, ..message.properties.clone() },
            body: message.body.clone(),
        };
        self.store(&parked, message);
    }

    /// Stops deliveries to a consumer; what it holds stays with it.
    pub(super) fn cancel(&mut self, id: u64) {
        let Some(subscription) = self.consumers.get_mut(&id) else { return };
        subscription.cancelled = true;
        subscription.wake.notify_one();
        let name = Arc::clone(&subscription.queue);
        let Some(queue) = self.queues.get_mut(&name) else { return };
        queue.consumers.retain(|other| *other != id);
        if queue.shape.exclusive && queue.consumers.is_empty() {
            self.remove_queue(&name);
        }
        self.deliver(&name);
    }

    /// Ends a consumer; what it holds is delivered again to others.
    pub(super) fn drop_consumer(&mut self, id: u64) {
        self.cancel(id);
        self.lose_deliveries(id);
        if let Some(gone) = self.consumers.remove(&id) {
            self.deliver(&gone.queue);
        }
    }

    /// Moves a consumer to its next incarnation: all it holds is given back, and its old tags settle nothing.
    pub(super) fn lose_deliveries(&mut self, id: u64) {
        let Some(subscription) = self.consumers.get_mut(&id) else { return };
        subscription.generation += 1;
        subscription.next_tag = 0;
        subscription.inbox.clear();
        let name = Arc::clone(&subscription.queue);
        for stored in std::mem::take(&mut subscription.unsettled).into_values().rev() {
            self.give_back(&name, stored);
        }
    }

    /// Deletes a queue and its bindings.
    pub(super) fn remove_queue(&mut self, name: &str) {
        self.queues.remove(name);
        self.exchanges.values_mut().for_each(|exchange| exchange.unbind(name));
    }
}
