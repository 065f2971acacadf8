//! The broker: confirmed publishing, consuming in batches, settling, and the depth of queues.

use std::time::Duration;

use async_trait::async_trait;

/// What travels with a body; the names are AMQP 0-9-1's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// The key by which a second arrival is known; the same on every resend.
    pub message_id: String,
    /// The message's type ([`protocol::Message::KIND`]).
    pub kind: String,
    /// How the body is written.
    pub content_type: Option<String>,
    /// How the body is written smaller, where it is.
    pub content_encoding: Option<String>,
    /// The customer's own key, echoed on every reply.
    pub correlation_id: Option<String>,
    /// The publisher's user, checked by the broker.
    pub user_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Further headers with text values (such as a dead letter's cause), sorted by name. The broker's own about a dead
    /// letter (`x-death`, `x-first-death-*`) are received here, and left out when a message is published.
    pub headers: Vec<(String, String)>,
}

/// A message to publish; always persistent, always mandatory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// What travels with the body.
    pub properties: Properties,
    /// The body.
    pub body: Vec<u8>,
}

/// What became of one published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confirm {
    /// The broker has stored it durably.
    Stored,
    /// A queue was full and refused it: try again later.
    Refused,
    /// No queue is bound for it.
    Unroutable,
    /// The connection ended first: it may or may not be stored, publish it again with the same `message_id`.
    Unknown,
}

/// A message received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// By which it is settled.
    pub tag: Tag,
    /// The routing key it was published with.
    pub routing_key: String,
    /// Whether it was delivered before, to anyone.
    pub redelivered: bool,
    /// How often it was delivered before, where the broker counts.
    pub delivery_count: u32,
    /// What travels with the body.
    pub properties: Properties,
    /// The body.
    pub body: Vec<u8>,
}

/// A delivery's handle, valid for one connection only; ordered as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// Which incarnation of the consumer received it; settling one of an earlier incarnation has no effect.
    pub generation: u64,
    /// The broker's tag.
    pub tag: u64,
}

/// What to do with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Its effect is durable: forget it.
    Ack,
    /// Give it back unharmed, to be delivered again.
    Requeue,
    /// Give it up: to the dead letters where the queue has them.
    Reject,
}

/// A queue's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Messages ready for delivery; those delivered but not settled are not among them.
    pub ready: u32,
    /// Consumers.
    pub consumers: u32,
}

/// How the connection to the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Connected.
    Up,
    /// Connected, but the broker takes no messages (memory or disk alarm).
    Blocked(String),
    /// Not connected; being retried. Why.
    Down(String),
}

/// Why the broker did not do as asked; the adapter retries lost connections by itself, so these are final or a matter of patience.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The broker was not reached within the time given.
    #[error("{operation} at the broker failed after {waited:.1?}: {last}")]
    Unreachable {
        /// What was asked.
        operation: String,
        /// How long it was tried.
        waited: Duration,
        /// The last error seen.
        last: String,
    },
    /// The broker refuses the operation: wrong rights, a missing or different queue.
    #[error("broker refuses {operation} on {object}: {reason}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// The exchange or queue.
        object: String,
        /// The broker's words, and the way out.
        reason: String,
    },
    /// The adapter was shut down.
    #[error("broker connection is closed")]
    Closed,
}

/// Sends and receives messages.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Publishes in order with pipelined confirms; one confirm for each message, in the same order.
    ///
    /// Waits while the broker is away or blocked, up to `patience`; what is not confirmed by then is `Unknown`.
    async fn publish(&self, messages: Vec<Outgoing>, patience: Duration) -> Result<Vec<Confirm>, BrokerError>;

    /// Consumes a queue with at most `prefetch` messages unsettled; the consumer survives lost connections.
    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError>;

    /// A queue's depth, by passive declaration off the hot path; `None` if there is no such queue.
    async fn depth(&self, queue: &str) -> Result<Option<Depth>, BrokerError>;

    /// Declares a worker's own queue (exclusive to this connection, gone with it), bound to the worker and control exchanges.
    async fn declare_worker_queue(&self, host: &protocol::HostId) -> Result<String, BrokerError>;

    /// Declares a customer's results queue, bound to the customer exchange; harmless if it is there.
    async fn declare_customer(&self, customer: &protocol::CustomerName) -> Result<(), BrokerError>;

    /// How the connection is, without asking the broker.
    fn link(&self) -> Link;
}

/// Receives one queue's messages.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// The next messages: waits for one, then takes what is there, up to `max`. Cancel-safe. An empty batch
    /// means that the consumer was cancelled and all it had is delivered.
    async fn next(&self, max: usize) -> Result<Vec<Delivery>, BrokerError>;

    /// Settles deliveries; adjacent acks become one. Returns how many were of a lost connection and so come again.
    async fn settle(&self, verdicts: &[(Tag, Verdict)]) -> Result<usize, BrokerError>;

    /// Stops deliveries; what was delivered can still be settled.
    async fn cancel(&self) -> Result<(), BrokerError>;
}
