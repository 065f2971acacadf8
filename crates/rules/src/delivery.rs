//! Delivery: which of a job's parts its customer is sent, and which it must fetch, so that one who does not read is bounded.

/// What may wait for one customer before further parts are withheld, for the store, which counts it.
pub use protocol::parts::{MAX_WAITING_BYTES, MAX_WAITING_MESSAGES};

/// Progress is news only to one who reads.
pub const MAX_WAITING_FOR_PROGRESS: u64 = 100;

/// How far a job's parts are numbered and sent, and what waits unsent for its customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    /// Parts so far, which is the next one's number.
    pub numbered: u32,
    /// Those that were sent: the first ones.
    pub sent: u32,
    /// Messages that wait for the customer, of all its jobs.
    pub waiting_messages: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
}

impl Parts {
    /// Whether the next part is sent: all before it were, since a gap in the numbers would look like a loss, and not too much waits.
    pub fn may_send(&self) -> bool {
        self.sent == self.numbered && has_room(self.waiting_messages, self.waiting_bytes)
    }

    /// Counts a part of so many bytes that is sent.
    pub fn send(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(1);
        self.numbered = self.numbered.saturating_add(1);
        self.waiting_messages = self.waiting_messages.saturating_add(1);
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes);
    }

    /// Counts parts that are not sent.
    pub fn keep(&mut self, parts: u32) {
        self.numbered = self.numbered.saturating_add(parts);
    }
}

/// Whether a part of any size may be added to so many messages, of so many bytes, that wait for a customer.
pub fn has_room(messages: u64, bytes: u64) -> bool {
    messages < MAX_WAITING_MESSAGES && bytes < MAX_WAITING_BYTES
}

/// Whether a customer for whom so many messages wait is told of progress.
pub fn may_tell_progress(waiting_messages: u64) -> bool {
    waiting_messages < MAX_WAITING_FOR_PROGRESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bounds_are_where_they_are_said_to_be() {
        let parts = |messages, bytes| Parts { waiting_messages: messages, waiting_bytes: bytes, ..Parts::default() };
        assert!(parts(9_999, 0).may_send() && !parts(10_000, 0).may_send());
        assert!(parts(0, (256 << 20) - 1).may_send() && !parts(0, 256 << 20).may_send());
        assert!(may_tell_progress(99) && !may_tell_progress(100));
    }

    proptest! {
        /// Whatever the customer reads in between: those sent are the first ones, each once, and what waits is bounded.
        #[test]
        fn sent_parts_are_the_first_ones(
            steps in proptest::collection::vec((0_u64..64 << 20, 0_u64..3_000, any::<bool>()), 1..60),
        ) {
            let mut parts = Parts::default();
            let (mut sent, mut withheld) = (Vec::new(), false);
            for (bytes, other_messages, reads) in steps {
                parts.waiting_messages += other_messages;
                if reads {
                    (parts.waiting_messages, parts.waiting_bytes) = (0, 0);
                }
                let number = parts.numbered;
                if parts.may_send() {
                    prop_assert!(parts.waiting_bytes < MAX_WAITING_BYTES && parts.waiting_messages < MAX_WAITING_MESSAGES);
                    parts.send(bytes);
                    sent.push(number);
                } else {
                    withheld |= parts.sent == number;
                    parts.keep(1);
                }
                prop_assert_eq!(parts.numbered, number + 1);
            }
            prop_assert_eq!(sent, (0..parts.sent).collect::<Vec<_>>());
            prop_assert_eq!(withheld, parts.sent < parts.numbered);
        }
    }
}
