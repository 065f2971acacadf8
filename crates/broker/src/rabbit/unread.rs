//! Queues that are to be read and are not: readiness tells of them, since the connection may be up all the same.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Each of these queues, and why it is not read.
#[derive(Default)]
pub(super) struct Unread {
    queues: Mutex<BTreeMap<String, String>>,
}

impl Unread {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A queue is not read, and why.
    pub(super) fn note(&self, queue: &str, reason: &str) {
        self.lock().insert(queue.to_owned(), reason.to_owned());
    }

    /// A queue is read, or nobody wants to read it any more.
    pub(super) fn clear(&self, queue: &str) {
        self.lock().remove(queue);
    }

    /// The first of them and why, and how many more there are.
    pub(super) fn told(&self) -> Option<String> {
        let queues = self.lock();
        let (queue, reason) = queues.first_key_value()?;
        let told = format!("queue {queue} is not read: {reason}");
        let more = queues.len() - 1;
        Some(if more == 0 { told } else { format!("{told}; so it is with {more} more") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_told_until_it_is() {
        let unread = Unread::default();
        assert_eq!(unread.told(), None);
        unread.note("offpeak.submit", "away");
        unread.note("offpeak.fetch", "no right to it");
        unread.note("offpeak.submit", "gone");
        assert_eq!(unread.told().as_deref(), Some("queue offpeak.fetch is not read: no right to it; so it is with 1 more"));
        unread.clear("offpeak.fetch");
        assert_eq!(unread.told().as_deref(), Some("queue offpeak.submit is not read: gone"));
        unread.clear("offpeak.submit");
        assert_eq!(unread.told(), None);
    }
}
