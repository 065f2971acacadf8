//! A consumer's task: builds channel and subscription again whenever they are lost, until cancelled.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer, Error};
use ports::broker::BrokerError;
use tokio::sync::{Notify, oneshot};
use tokio::time::{interval, timeout};
use tracing::{info, warn};

use super::backoff::Backoff;
use super::consumer::Shared;
use super::errors::{NOT_FOUND, refusal, way_out};
use super::properties::short;
use super::session::{Phase, Session};

/// How often the channel's own state is looked at: an error can leave a stream silent.
const WATCH: Duration = Duration::from_secs(1);

/// The request to close a channel is on its way long before this.
const GIVING_UP: Duration = Duration::from_millis(500);

/// One consumer per channel, so the name need not be unique.
const CONSUMER_TAG: &str = "offpeak";

/// What a consumer's task needs.
pub(super) struct Subscription {
    pub(super) shared: Shared,
    pub(super) queue: String,
    pub(super) prefetch: u16,
    pub(super) session: Arc<Session>,
    pub(super) cancel: Arc<Notify>,
    /// Told how the first subscription went; a refusal then ends the task.
    pub(super) first: Option<oneshot::Sender<Result<(), BrokerError>>>,
    /// Cancelled by the caller: never built again.
    pub(super) cancelled: bool,
}

/// How one incarnation ended.
enum End {
    Cancelled,
    Lost(String),
}

impl Subscription {
    pub(super) async fn run(mut self) {
        let line = Arc::clone(&self.shared.line);
        let phase = tokio::select! {
            phase = self.supervise() => phase,
            () = line.until_closed() => Phase::Closed,
        };
        self.session.end(phase);
    }

    async fn supervise(&mut self) -> Phase {
        let mut backoff = Backoff::new();
        let mut told = false;
        loop {
            let lost = match self.incarnation(&mut backoff, &mut told).await {
                Ok(End::Cancelled) => return Phase::Cancelled,
                Ok(End::Lost(reason)) => reason,
                Err(error) => match self.report(&error) {
                    Some(reason) => reason,
                    None => return Phase::Closed,
                },
            };
            self.session.lose();
            if self.cancelled {
                return Phase::Cancelled;
            }
            if !std::mem::replace(&mut told, true) {
                warn!(queue = self.queue, "consumer of {} was lost: {lost}; building it again", self.queue);
            }
            tokio::select! {
                () = backoff.wait() => {}
                () = self.cancel.notified() => return Phase::Cancelled,
            }
        }
    }

    /// Tells the first caller of a refusal, which ends the task; otherwise gives the reason to try again for.
    fn report(&mut self, error: &Error) -> Option<String> {
        let Some((code, text)) = refusal(error) else {
            self.shared.line.lost(error);
            return Some(error.to_string());
        };
        if code == NOT_FOUND {
            self.shared.keeper.missing();
        }
        let reason = format!("{text}; {}", way_out(code));
        match self.first.take() {
            None => Some(reason),
            Some(first) => {
                let object = self.queue.clone();
                drop(first.send(Err(BrokerError::Refused { operation: "consume", object, reason })));
                None
            }
        }
    }

    /// From subscription to loss.
    async fn incarnation(&mut self, backoff: &mut Backoff, told: &mut bool) -> Result<End, Error> {
        let (channel, mut stream) = tokio::select! {
            subscribed = self.subscribe() => match subscribed? {
                Some(subscribed) => subscribed,
                None => return Ok(End::Lost("no answer from the broker".into())),
            },
            () = self.cancel.notified() => return Ok(End::Cancelled),
        };
        backoff.started();
        if std::mem::replace(told, false) {
            info!(queue = self.queue, "consumer of {} is back", self.queue);
        }
        if let Some(first) = self.first.take() {
            drop(first.send(Ok(()))); // nobody waits any more when the caller lost patience
        }
        self.receive(&channel, &mut stream).await
    }

    async fn subscribe(&self) -> Result<Option<(Channel, Consumer)>, Error> {
        let Ok(channel) = self.shared.line.channel().await else { return std::future::pending().await };
        let subscribed = async {
            self.shared.own.declare(&channel, &self.queue).await?;
            channel.basic_qos(self.prefetch, BasicQosOptions { global: false }).await?;
            // Before the first delivery, so that no delivery belongs to the incarnation before.
            self.session.begin(channel.clone());
            let options = BasicConsumeOptions::default();
            channel.basic_consume(short(&self.queue), short(CONSUMER_TAG), options, FieldTable::default()).await
        };
        if let Ok(stream) = timeout(self.shared.line.target().timeout, subscribed).await {
            return Ok(Some((channel.clone(), stream?)));
        }
        give_up(&channel).await;
        Ok(None)
    }

    async fn receive(&mut self, channel: &Channel, stream: &mut Consumer) -> Result<End, Error> {
        let mut watch = interval(WATCH);
        loop {
            tokio::select! {
                received = stream.next() => match received {
                    Some(received) => {
                        self.session.push(received?);
                        while let Some(Some(received)) = stream.next().now_or_never() {
                            self.session.push(received?);
                        }
                    }
                    None if self.cancelled => return Ok(End::Cancelled),
                    None => return Ok(End::Lost("the broker cancelled it; was the queue deleted?".into())),
                },
                () = self.cancel.notified(), if !self.cancelled => {
                    self.cancelled = true;
                    channel.basic_cancel(short(CONSUMER_TAG), BasicCancelOptions::default()).await?;
                }
                _ = watch.tick() => if !channel.status().connected() {
                    return Ok(End::Lost("its channel is gone".into()));
                },
            }
        }
    }
}

/// Closes a channel on which a subscription was asked for and not answered. A queue without a majority answers when it
/// has one again: then nobody must be left to whom it would deliver. Dropping the channel does not close it while the
/// answer is outstanding.
async fn give_up(channel: &Channel) {
    if timeout(GIVING_UP, channel.close(200, "no answer".into())).await.is_err() {
        tracing::debug!("the broker has not answered the end of a channel; it will when it answers the subscription");
    }
}
