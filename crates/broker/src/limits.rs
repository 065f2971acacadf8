//! The bounds of queues and messages: the in-memory broker applies them, the RabbitMQ policies in `deploy/rabbitmq` give the same.

use ports::broker::{BrokerError, Outgoing};
use ports::dead::is_brokers_history;
use protocol::address::DEAD_EXCHANGE;
use protocol::codec::MAX_BODY_BYTES;

/// How often a message is given back before it becomes a dead letter. A worker's crash also counts for its prefetched
/// neighbours, so the limit is generous; it is `RabbitMQ` 4's own default.
pub const DELIVERY_LIMIT: u32 = 20;

/// Each look at a parked letter is a delivery that is given back, and a letter must outlive any number of them; so must a
/// result whose reader dies over it or looks for another. A limit
/// there is all the same: without one `RabbitMQ` 4 drops at 20, and older ones move what is given back to the queue's end.
const PARKED_DELIVERY_LIMIT: u32 = 1_000_000_000;

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
    /// A customer's results: kept until the customer reads them, however often its client dies over them; when full, the
    /// outbox keeps them in the store.
    pub const RESULTS: Self = Self { messages: 1_000_000, bytes: 8192 * MIB, deliveries: PARKED_DELIVERY_LIMIT };
    /// Dead letters: parked until an operator replays or drops them, however often they are looked at.
    pub const DEAD: Self = Self { messages: 100_000, bytes: 4096 * MIB, deliveries: PARKED_DELIVERY_LIMIT };
    /// A worker's own queue: it asks for few parts at a time.
    pub const WORKER: Self = Self { messages: 10_000, bytes: 256 * MIB, deliveries: DELIVERY_LIMIT };
}

/// A dead letter came from the broker, and is parked as large as it came: `RabbitMQ` takes 128 MiB by default before 4.0, and no
/// setting makes it take more than this.
const MAX_LETTER_BYTES: usize = 512 * MIB;

/// The longest name, key or property that AMQP can carry.
pub(crate) const MAX_TEXT_BYTES: usize = 255;

/// All headers of a message: they go in one frame with its other properties, of 128 KiB by the default of `RabbitMQ`, which
/// ends the connection over a larger one.
const MAX_HEADER_BYTES: usize = 100 << 10;

/// Refuses what no broker would take, before anything of its batch is published.
pub(crate) fn check(messages: &[Outgoing]) -> Result<(), BrokerError> {
    match messages.iter().find_map(|message| Some((message, oversize(message)?))) {
        Some((message, reason)) => Err(refused(message, &reason)),
        None => Ok(()),
    }
}

/// What of a message is too large to be published, if anything is; of a batch with such a message nothing is published.
pub fn oversize(message: &Outgoing) -> Option<String> {
    let bytes = message.body.len();
    let limit = if message.exchange == DEAD_EXCHANGE { MAX_LETTER_BYTES } else { MAX_BODY_BYTES };
    if bytes > limit {
        return Some(format!("its body has {bytes} bytes and the limit is {limit}; send it in parts"));
    }
    let properties = &message.properties;
    let optional = [&properties.content_type, &properties.content_encoding, &properties.correlation_id, &properties.user_id];
    let texts = [&message.exchange, &message.routing_key, &properties.message_id, &properties.kind];
    let headers = properties.headers.iter().map(|(name, _)| name);
    let mut texts = texts.into_iter().chain(optional.into_iter().flatten()).chain(headers);
    if let Some(long) = texts.find(|text| text.len() > MAX_TEXT_BYTES) {
        let start: String = long.chars().take(40).collect();
        return Some(format!("{start:?}… is longer than {MAX_TEXT_BYTES} bytes; shorten it"));
    }
    let bytes = properties.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    (bytes > MAX_HEADER_BYTES).then(|| format!("its headers have {bytes} bytes and the limit is {MAX_HEADER_BYTES}"))
}

fn refused(message: &Outgoing, reason: &str) -> BrokerError {
    let id: String = message.properties.message_id.chars().take(40).collect();
    BrokerError::Refused {
        operation: "publish",
        object: message.exchange.chars().take(80).collect(),
        reason: format!("message {id:?} cannot be sent: {reason}"),
    }
}

/// Whether the broker owns a header: it is never published again, because brokers before 4.0 drop such messages silently.
pub(crate) fn is_brokers_header(name: &str) -> bool {
    name == "x-delivery-count" || is_brokers_history(name)
}

#[cfg(test)]
mod tests {
    use ports::broker::Properties;
    use protocol::address::{OUTCOMES_EXCHANGE, Origin};

    use super::*;

    fn sized(exchange: &str, routing_key: &str, bytes: usize) -> Outgoing {
        let (exchange, routing_key) = (exchange.to_owned(), routing_key.to_owned());
        Outgoing { exchange, routing_key, properties: Properties::default(), body: vec![7; bytes] }
    }

    #[test]
    fn what_the_broker_took_can_be_parked_and_not_sent_again() {
        let parked = sized(DEAD_EXCHANGE, Origin::Outcomes.key(), MAX_BODY_BYTES + 1);
        assert!(check(&[parked]).is_ok());
        assert_eq!(oversize(&sized(OUTCOMES_EXCHANGE, "0", MAX_BODY_BYTES)), None);
        let again = sized(OUTCOMES_EXCHANGE, "0", MAX_BODY_BYTES + 1);
        assert!(oversize(&again).is_some_and(|reason| reason.contains("8388609 bytes")));
        assert!(check(&[sized(OUTCOMES_EXCHANGE, "0", 1), again]).is_err());
    }
}
