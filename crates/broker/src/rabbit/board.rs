//! One call to publish: its messages and what became of them, shared between the caller and the publisher's task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ports::broker::{BrokerError, Confirm, Outgoing};
use tokio::sync::Notify;

/// One call to publish.
pub(super) struct Board {
    marks: Mutex<Marks>,
    done: Notify,
}

struct Marks {
    /// Nothing but what is in flight keeps them beside this: there are none once nobody waits any more.
    messages: Vec<Arc<Outgoing>>,
    confirms: Vec<Option<Confirm>>,
    open: usize,
    refused: Option<BrokerError>,
}

impl Board {
    pub(super) fn new(messages: Vec<Outgoing>) -> Self {
        let count = messages.len();
        let messages = messages.into_iter().map(Arc::new).collect();
        let marks = Marks { messages, confirms: vec![None; count], open: count, refused: None };
        Self { marks: Mutex::new(marks), done: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages the call has.
    pub(super) fn count(&self) -> usize {
        self.lock().confirms.len()
    }

    /// One of its messages; `None` if it is to stay unsent.
    pub(super) fn message(&self, index: usize) -> Option<Arc<Outgoing>> {
        self.lock().messages.get(index).cloned()
    }

    pub(super) fn confirm(&self, index: usize, confirm: Confirm) {
        let mut marks = self.lock();
        if let Some(place) = marks.confirms.get_mut(index).filter(|place| place.is_none()) {
            *place = Some(confirm);
            marks.open -= 1;
        }
        if marks.open == 0 {
            self.done.notify_one();
        }
    }

    /// The broker refuses a message of the call: the call ends, what is not sent yet stays unsent.
    pub(super) fn refuse(&self, error: BrokerError) {
        let mut marks = self.lock();
        marks.refused.get_or_insert(error);
        marks.messages = Vec::new();
        self.done.notify_one();
    }

    /// Nobody waits any more: what is not sent yet stays unsent, and takes no memory while the task is busy or the broker away.
    pub(super) fn abandon(&self) {
        self.lock().messages = Vec::new();
    }

    /// Resolves when every message has its confirm, or the broker refused one.
    pub(super) async fn done(&self) {
        self.done.notified().await;
    }

    /// The results so far; what has none is unknown.
    pub(super) fn results(&self) -> Result<Vec<Confirm>, BrokerError> {
        let mut marks = self.lock();
        match marks.refused.take() {
            Some(error) => Err(error),
            None => Ok(marks.confirms.iter().map(|confirm| confirm.unwrap_or(Confirm::Unknown)).collect()),
        }
    }
}

/// Abandons the call when its future is dropped.
pub(super) struct Waiting<'a>(pub(super) &'a Board);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[cfg(test)]
mod tests {
    use ports::broker::Properties;

    use super::*;

    fn outgoing(id: &str) -> Outgoing {
        let properties = Properties { message_id: id.to_owned(), ..Properties::default() };
        Outgoing { exchange: "offpeak.work".to_owned(), routing_key: "open.0".to_owned(), properties, body: vec![7; 1_024] }
    }

    #[test]
    fn a_call_that_nobody_waits_for_holds_no_bodies() {
        let board = Board::new(vec![outgoing("a"), outgoing("b")]);
        assert_eq!(board.count(), 2);
        let waiting = Waiting(&board);
        let (flying, unsent) = (board.message(0).unwrap(), Arc::downgrade(&board.message(1).unwrap()));
        board.confirm(0, Confirm::Stored);
        drop(waiting);
        assert_eq!(unsent.strong_count(), 0, "what was not sent is gone");
        assert_eq!(Arc::strong_count(&flying), 1, "and what was is held by the sender alone");
        assert!(board.message(0).is_none() && board.message(1).is_none());
        assert_eq!(board.results().unwrap(), [Confirm::Stored, Confirm::Unknown]);
    }

    #[test]
    fn a_refused_call_is_sent_no_further() {
        let board = Board::new(vec![outgoing("a"), outgoing("b")]);
        board.refuse(BrokerError::Closed);
        assert!(board.message(1).is_none());
        assert!(matches!(board.results(), Err(BrokerError::Closed)));
    }
}
