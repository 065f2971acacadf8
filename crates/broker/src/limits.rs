//! The bounds of queues and messages: the in-memory broker applies them, the RabbitMQ policies in `deploy/rabbitmq` give the same.

use ports::broker::{BrokerError, Outgoing};
use protocol::codec::MAX_BODY_BYTES;

/// How often a message is given back before it becomes a dead letter. A worker's crash also counts for its prefetched
/// neighbours, so the limit is generous; it is `RabbitMQ` 4's own default.
pub const DELIVERY_LIMIT: u32 = 20;

/// What a queue holds at most; a publish beyond is refused, never dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Messages ready for delivery.
    pub messages: usize,
    /// Bytes of bodies ready for delivery.
    pub bytes: usize,
    /// Deliveries given back before a message is a dead letter.
    pub deliveries: u32,
}

const MIB: usize = 1024 * 1024;

impl Limits {
    /// Submissions: small in number, each up to a whole body.
    pub const SUBMIT: Self = Self { messages: 100_000, bytes: 4096 * MIB, deliveries: DELIVERY_LIMIT };
    /// One lane of a pool: the dispatch window keeps it far below.
    pub const WORK: Self = Self { messages: 100_000, bytes: 4096 * MIB, deliveries: DELIVERY_LIMIT };
    /// One shard of the outcomes: at most what all lanes hold.
    pub const OUTCOMES: Self = Self { messages: 1_000_000, bytes: 8192 * MIB, deliveries: DELIVERY_LIMIT };
    /// Requests for blobs: tiny, and asked again when refused.
    pub const FETCH: Self = Self { messages: 100_000, bytes: 256 * MIB, deliveries: DELIVERY_LIMIT };
    /// A customer's results: kept until the customer reads them; when full, the outbox keeps them in the store.
    pub const RESULTS: Self = Self { messages: 1_000_000, bytes: 8192 * MIB, deliveries: DELIVERY_LIMIT };
    /// Dead letters: parked until an operator replays or drops them.
    pub const DEAD: Self = Self { messages: 100_000, bytes: 4096 * MIB, deliveries: DELIVERY_LIMIT };
    /// A worker's own queue: it asks for few parts at a time.
    pub const WORKER: Self = Self { messages: 10_000, bytes: 256 * MIB, deliveries: DELIVERY_LIMIT };
}

/// Refuses a body that no broker would take, before anything of its batch is published.
pub(crate) fn check_bodies(messages: &[Outgoing]) -> Result<(), BrokerError> {
    match messages.iter().find(|message| message.body.len() > MAX_BODY_BYTES) {
        None => Ok(()),
        Some(message) => Err(BrokerError::Refused {
            operation: "publish",
            object: message.exchange.clone(),
            reason: format!(
                "the body of message {:?} has {} bytes and the limit is {MAX_BODY_BYTES}; send it in parts",
                message.properties.message_id,
                message.body.len()
            ),
        }),
    }
}

/// Whether the broker owns a header: it is never published again, because brokers before 4.0 drop such messages silently.
pub(crate) fn is_brokers_header(name: &str) -> bool {
    name == "x-death"
        || name == "x-delivery-count"
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}
