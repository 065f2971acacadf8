//! One queue of the in-memory broker: what is ready, within its limits, and who consumes it.

use std::collections::VecDeque;
use std::sync::Arc;

use ports::broker::Properties;
use protocol::address::Origin;

use crate::limits::Limits;

/// What was published, shared by all queues and deliveries.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) properties: Properties,
    pub(super) body: Vec<u8>,
}

/// A message in a queue.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) message: Arc<Message>,
    /// The order of arrival, to which a message given back returns.
    pub(super) sequence: u64,
    pub(super) delivery_count: u32,
    pub(super) redelivered: bool,
}

/// What a queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) single_active: bool,
    pub(super) dead: Option<Origin>,
    pub(super) limits: Limits,
    /// A worker's own queue: gone with its last consumer, one consumer only, deliveries not counted.
    pub(super) exclusive: bool,
}

/// A queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) shape: Shape,
    pub(super) ready: VecDeque<Stored>,
    bytes: usize,
    /// The consumers in turn; of a single active consumer queue the first receives.
    pub(super) consumers: VecDeque<u64>,
    /// Whether it is taken for full, whatever it holds.
    pub(super) filled: bool,
}

impl Queue {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, ready: VecDeque::new(), bytes: 0, consumers: VecDeque::new(), filled: false }
    }

    /// Whether a further message of so many bytes is refused; a worker's own queue drops its oldest instead, because
    /// one stuck worker must not refuse what is announced to all.
    pub(super) fn refuses(&self, bytes: usize) -> bool {
        !self.shape.exclusive && (self.filled || self.is_full(bytes))
    }

    fn is_full(&self, bytes: usize) -> bool {
        self.ready.len() >= self.shape.limits.messages || self.bytes + bytes > self.shape.limits.bytes
    }

    pub(super) fn push(&mut self, stored: Stored) {
        let bytes = stored.message.body.len();
        while self.shape.exclusive && self.is_full(bytes) {
            match self.ready.pop_front() {
                Some(oldest) => self.bytes -= oldest.message.body.len(),
                None => break,
            }
        }
        self.bytes += bytes;
        self.ready.push_back(stored);
    }

    /// Puts a message back where it came from: before all that arrived later.
    pub(super) fn put_back(&mut self, stored: Stored) {
        self.bytes += stored.message.body.len();
        let later = self.ready.partition_point(|other| other.sequence < stored.sequence);
        self.ready.insert(later, stored);
    }

    /// The next message to deliver.
    pub(super) fn pop(&mut self) -> Option<Stored> {
        let stored = self.ready.pop_front()?;
        self.bytes -= stored.message.body.len();
        Some(stored)
    }

    /// Forgets all that is ready; returns how many that were.
    pub(super) fn purge(&mut self) -> usize {
        self.bytes = 0;
        let purged = self.ready.len();
        self.ready.clear();
        purged
    }
}
