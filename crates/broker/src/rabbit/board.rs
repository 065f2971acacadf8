//! What became of one call's messages, shared between the caller and the publisher's task.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ports::broker::{BrokerError, Confirm};
use tokio::sync::Notify;

/// The results of one call to publish.
pub(super) struct Board {
    marks: Mutex<Marks>,
    done: Notify,
}

struct Marks {
    confirms: Vec<Option<Confirm>>,
    open: usize,
    refused: Option<BrokerError>,
    abandoned: bool,
}

impl Board {
    pub(super) fn new(messages: usize) -> Self {
        let marks = Marks { confirms: vec![None; messages], open: messages, refused: None, abandoned: false };
        Self { marks: Mutex::new(marks), done: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
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
        marks.abandoned = true;
        self.done.notify_one();
    }

    /// Nobody waits any more: what is not sent yet stays unsent.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
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
