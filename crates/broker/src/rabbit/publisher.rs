//! Publishing: one task owns one confirming channel; callers hand it batches and wait for their confirms.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::ConfirmSelectOptions;
use ports::broker::{BrokerError, Confirm, Outgoing};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::backoff::Backoff;
use super::board::{Board, Waiting};
use super::errors::NOT_FOUND;
use super::keeper::Keeper;
use super::line::Line;
use super::pump::{End, Pump};

/// Calls waiting for the task; more wait outside, within their own patience. Those that nobody waits for any more hold no
/// messages.
const CALLS: usize = 64;

/// The handle of the publisher's task, which ends with it.
pub(super) struct Publisher {
    calls: mpsc::Sender<Arc<Board>>,
    task: JoinHandle<()>,
}

impl Publisher {
    pub(super) fn start(line: Arc<Line>, window: usize, keeper: Arc<Keeper>) -> Self {
        let (calls, queue) = mpsc::channel(CALLS);
        #[expect(clippy::disallowed_methods, reason = "an adapter knows no scope; the task is aborted on drop")]
        let task = tokio::spawn(run(line, Pump::new(window), queue, keeper));
        Self { calls, task }
    }

    pub(super) async fn publish(&self, messages: Vec<Outgoing>, patience: Duration) -> Result<Vec<Confirm>, BrokerError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + patience;
        let board = Arc::new(Board::new(messages));
        let _waiting = Waiting(&board);
        match timeout_at(deadline, self.calls.send(Arc::clone(&board))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(BrokerError::Closed),
            Err(_) => return board.results(),
        }
        tokio::select! {
            biased;
            _ = timeout_at(deadline, board.done()) => board.results(),
            () = self.calls.closed() => Err(BrokerError::Closed),
        }
    }

    /// Ends the task; calls under way end as closed.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Builds channels for the pump until nobody publishes any more; what was in flight on a lost one is published again.
async fn run(line: Arc<Line>, mut pump: Pump, mut calls: mpsc::Receiver<Arc<Board>>, keeper: Arc<Keeper>) {
    let mut backoff = Backoff::new();
    while let Ok(channel) = line.channel().await {
        let end = match confirming(&line, &channel).await {
            Ok(()) => {
                backoff.started();
                pump.run(&channel, &line, &mut calls).await
            }
            Err(end) => end,
        };
        match end {
            End::Closed => return,
            End::Refused(code) => {
                if code == NOT_FOUND {
                    keeper.missing();
                }
                pump.retry(); // at once: each refusal ends a call, so this ends too
                continue;
            }
            End::Stale => {
                pump.retry(); // at once: a channel is only replaced when it is some seconds old
                continue;
            }
            End::Overdue => tracing::warn!("a published message was not confirmed in time; building another channel"),
            End::Lost(error) => line.lost(&error),
            End::Silent => tracing::debug!("publishing channel is gone; building another"),
        }
        pump.retry();
        backoff.wait().await;
    }
}

async fn confirming(line: &Line, channel: &Channel) -> Result<(), End> {
    match timeout(line.target().timeout, channel.confirm_select(ConfirmSelectOptions::default())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::Lost(error)),
        Err(_) => Err(End::Silent),
    }
}
