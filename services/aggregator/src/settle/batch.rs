//! Outcomes that are settled together.

use std::sync::Arc;

use ports::broker::{Delivery, Tag};
use protocol::ReplicaKey;

use crate::decide::Arrived;

/// Outcomes in their order, each with the message that it came in: one that cannot be settled is parked as it came.
pub(super) struct Batch {
    messages: Vec<Delivery>,
    pub(super) arrivals: Arc<Vec<Arrived>>,
}

impl Batch {
    pub(super) fn new(read: Vec<(Delivery, Arrived)>) -> Self {
        let (messages, arrivals): (Vec<_>, Vec<_>) = read.into_iter().unzip();
        Self { messages, arrivals: Arc::new(arrivals) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether it cannot be halved.
    pub(super) fn is_single(&self) -> bool {
        self.messages.len() < 2
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = Tag> {
        self.messages.iter().map(|message| message.tag)
    }

    /// Its halves, the earlier one first.
    pub(super) fn halves(self) -> [Self; 2] {
        let Self { mut messages, arrivals } = self;
        // Nothing is cloned: whoever decided on them has dropped its share.
        let mut arrivals = Arc::unwrap_or_clone(arrivals);
        let middle = messages.len() / 2;
        let later = Self { messages: messages.split_off(middle), arrivals: Arc::new(arrivals.split_off(middle)) };
        [Self { messages, arrivals: Arc::new(arrivals) }, later]
    }

    /// The messages, each with whose outcome it is.
    pub(super) fn into_messages(self) -> Vec<(Delivery, ReplicaKey)> {
        let keys = self.arrivals.iter().map(|arrival| arrival.key);
        self.messages.into_iter().zip(keys).collect()
    }
}
