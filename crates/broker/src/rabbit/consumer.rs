//! A consumer: a handle over what its supervised task receives.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use ports::broker::{BrokerError, Consumer, Delivery, Tag, Verdict};
use tokio::sync::{Mutex, Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::care::Care;
use super::keeper::Keeper;
use super::line::Line;
use super::own_queues::OwnQueues;
use super::session::{Look, Phase, Session};
use super::subscription::Subscription;
use super::unread::Unread;

/// How long a cancellation may take to be answered; after that the deliveries stop when the connection ends.
const CANCELLING: Duration = Duration::from_secs(10);

/// Receives one queue's messages; dropping it gives back what is unsettled.
pub(super) struct RabbitConsumer {
    session: Arc<Session>,
    cancel: Arc<Notify>,
    ended: watch::Receiver<bool>,
    /// One settlement at a time: an ack of many must not overtake another's verdict on one of them.
    settling: Mutex<()>,
    task: JoinHandle<()>,
}

/// What all consumers of a broker share.
pub(super) struct Shared {
    pub(super) line: Arc<Line>,
    pub(super) own: Arc<OwnQueues>,
    /// Told when the queue is missing.
    pub(super) keeper: Arc<Keeper>,
    /// Told while the queue is not read.
    pub(super) unread: Arc<Unread>,
}

impl RabbitConsumer {
    /// Starts consuming; waits for the first subscription, but no longer than `patience`.
    pub(super) async fn start(shared: Shared, queue: &str, prefetch: u16, patience: Duration) -> Result<Self, BrokerError> {
        let (session, cancel) = (Arc::new(Session::new()), Arc::new(Notify::new()));
        let (first, subscribed) = oneshot::channel();
        let (end, ended) = watch::channel(false);
        let subscription = Subscription {
            shared,
            queue: queue.to_owned(),
            prefetch: prefetch.max(1),
            session: Arc::clone(&session),
            cancel: Arc::clone(&cancel),
            first: Some(first),
            care: Care::new(),
            cancelled: false,
        };
        let run = async move {
            subscription.run().await;
            end.send_replace(true);
        };
        #[expect(clippy::disallowed_methods, reason = "an adapter knows no scope; the task is aborted on drop")]
        let task = tokio::spawn(run);
        let consumer = Self { session, cancel, ended, settling: Mutex::new(()), task };
        match timeout(patience, subscribed).await {
            Ok(Ok(refused)) => refused.map(|()| consumer),
            Ok(Err(_)) => Err(BrokerError::Closed),
            Err(_) => Ok(consumer), // the broker is away: the task goes on trying
        }
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        loop {
            match self.session.look(max) {
                Look::Nothing => self.session.wake.notified().await,
                Look::Found(found) => {
                    self.session.wake.notify_one(); // another waiter may find what is left
                    return Ok(found);
                }
                Look::End(phase) => {
                    self.session.wake.notify_one();
                    return if phase == Phase::Closed { Err(BrokerError::Closed) } else { Ok(Vec::new()) };
                }
            }
        }
    }

    async fn settle(&self, verdicts: &[(Tag, Verdict)]) -> Result<usize, BrokerError> {
        let _turn = self.settling.lock().await;
        let (channel, moves) = self.session.plan(verdicts);
        let Some(channel) = channel else { return Ok(verdicts.len()) };
        let sent = join_all(moves.iter().map(|one| one.send(&channel))).await;
        let settled: usize = moves.iter().zip(&sent).filter(|(_, sent)| sent.is_ok()).map(|(one, _)| one.count).sum();
        Ok(verdicts.len() - settled)
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.cancel.notify_one();
        let mut ended = self.ended.clone();
        if timeout(CANCELLING, ended.wait_for(|ended| *ended)).await.is_err() {
            tracing::warn!("the broker did not answer a cancelled consumer within {CANCELLING:?}");
            self.session.end(Phase::Cancelled); // before its task is dropped, which ends it as closed
            self.task.abort();
        }
        Ok(())
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        self.task.abort();
        self.session.lose(); // drops the channel, by which the broker takes back what is unsettled
    }
}
