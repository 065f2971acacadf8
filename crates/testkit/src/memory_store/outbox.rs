//! The outbox: messages to customers in the order they were written, claimed for sending and forgotten when sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ports::store::{Outbox, OutboxKey, OutboxMessage, Unsent};
use protocol::parts::MAX_WAITING_MESSAGES;
use protocol::{CustomerName, Micros};

use super::state::rows;

/// About how many bytes of bodies are claimed at once.
const CLAIM_BYTES: usize = 16 << 20;
/// Up to how many messages what waits for a customer is counted: one more than that at which no further parts are written.
const MAX_UNSENT: u64 = MAX_WAITING_MESSAGES + 1;

/// Messages that wait, and those that ever did.
#[derive(Clone, Default)]
pub(super) struct Messages {
    waiting: BTreeMap<i64, Waiting>,
    /// The ids of those that wait.
    ids: BTreeSet<String>,
    /// The numbers of those that are or were claimed or refused.
    held: BTreeSet<i64>,
    /// All that were ever written, in order; each one's place is its number, less one.
    pub(super) written: Vec<Arc<OutboxMessage>>,
}

#[derive(Clone)]
struct Waiting {
    message: Arc<OutboxMessage>,
    /// Not to be claimed before this time: claimed by someone until then, or refused by the broker.
    held_until: Micros,
}

impl Messages {
    /// Writes a message, unless one of its id waits already.
    pub(super) fn write(&mut self, message: OutboxMessage) {
        if !self.ids.insert(message.id.clone()) {
            return;
        }
        let message = Arc::new(message);
        self.written.push(Arc::clone(&message));
        let number = i64::try_from(self.written.len()).unwrap_or(i64::MAX);
        self.waiting.insert(number, Waiting { message, held_until: Micros(0) });
    }

    /// What waits for a customer, counted up to a bound.
    pub(super) fn unsent(&self, customer: &CustomerName) -> Unsent {
        let bodies = self.waiting.values().filter(|row| row.message.customer == *customer).map(|row| row.message.body.len());
        let counted = (1..=MAX_UNSENT).zip(bodies);
        counted.fold(Unsent::default(), |unsent, (messages, bytes)| Unsent {
            messages,
            bytes: unsent.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)),
        })
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn claim(&mut self, now: Micros, until: Micros, limit: u32) -> Vec<Outbox> {
        let claimed = self.claimable(now, limit);
        for outbox in &claimed {
            self.hold(outbox.sequence, until);
        }
        claimed
    }

    pub(super) fn settle(&mut self, sent: &[OutboxKey], refused: &[OutboxKey], again: Micros) {
        for (number, id) in sent {
            if self.waits(*number, id) {
                self.waiting.remove(number);
                self.ids.remove(id);
                self.held.remove(number);
            }
        }
        for (number, id) in refused {
            if self.waits(*number, id) {
                self.hold(*number, again);
            }
        }
    }

    /// Whether that message waits under that number.
    fn waits(&self, number: i64, id: &str) -> bool {
        self.waiting.get(&number).is_some_and(|waiting| waiting.message.id == id)
    }

    fn hold(&mut self, number: i64, until: Micros) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.held_until = until;
            self.held.insert(number);
        }
    }

    /// The oldest messages that no earlier held message of the same customer stands before.
    fn claimable(&self, now: Micros, limit: u32) -> Vec<Outbox> {
        let mut barred: BTreeMap<&CustomerName, i64> = BTreeMap::new();
        for (number, held) in self.held.iter().filter_map(|number| Some((*number, self.waiting.get(number)?))) {
            if held.held_until > now {
                barred.entry(&held.message.customer).or_insert(number);
            }
        }
        let free = |number: i64, customer: &CustomerName| barred.get(customer).is_none_or(|from| number < *from);
        let mut claimed = Vec::new();
        let mut bytes = 0_usize;
        for (number, waiting) in self.waiting.iter().filter(|(number, row)| free(**number, &row.message.customer)) {
            bytes = bytes.saturating_add(waiting.message.body.len());
            if claimed.len() >= rows(limit) || (bytes > CLAIM_BYTES && !claimed.is_empty()) {
                break;
            }
            claimed.push(Outbox { sequence: *number, message: OutboxMessage::clone(&waiting.message) });
        }
        claimed
    }
}
