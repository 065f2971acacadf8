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
use super::care::Care;
use super::consumer::Shared;
use super::errors::{NOT_FOUND, RESOURCE_LOCKED, is_unreadable, refusal, way_out};
use super::properties::short;
use super::session::{Phase, Session};

/// How often the channel's own state is looked at: an error can leave a stream silent.
const WATCH: Duration = Duration::from_secs(1);

/// The request to close a channel is on its way long before this.
const GIVING_UP: Duration = Duration::from_millis(500);

/// One consumer per channel, so the name need not be unique.
const CONSUMER_TAG: &str = "offpeak";

/// One that takes one message at a time, until another takes its place on the same channel: a quorum queue remembers for a name
/// how many at a time it takes.
const CAREFUL_TAG: &str = "offpeak.careful";

/// What a consumer's task needs.
pub(super) struct Subscription {
    pub(super) shared: Shared,
    pub(super) queue: String,
    pub(super) prefetch: u16,
    pub(super) session: Arc<Session>,
    pub(super) cancel: Arc<Notify>,
    /// Told how the first subscription went, while somebody waits for that; a refusal then ends the task.
    pub(super) first: Option<oneshot::Sender<Result<(), BrokerError>>>,
    /// What is known of messages that cannot be read.
    pub(super) care: Care,
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
            self.shared.unread.note(&self.queue, &lost);
            if !std::mem::replace(&mut told, true) {
                warn!(queue = self.queue, "consumer of {} was lost: {lost}; building it again", self.queue);
            }
            let pause = async {
                if !self.care.pause().await {
                    backoff.wait().await;
                }
            };
            tokio::select! {
                () = pause => {}
                () = self.cancel.notified() => return Phase::Cancelled,
            }
        }
    }

    /// Tells the caller who waits of a refusal, which ends the task; otherwise gives the reason to try again for.
    fn report(&mut self, error: &Error) -> Option<String> {
        let Some((code, text)) = refusal(error) else {
            self.shared.line.lost(error);
            // A queue of our connection cannot be read on another one.
            if is_unreadable(error)
                && !self.shared.own.contains(&self.queue)
                && self.care.unreadable(self.prefetch, self.shared.line.target())
            {
                warn!(queue = self.queue, "a message cannot be read, perhaps one of {}: taking them one at a time", self.queue);
            }
            return Some(error.to_string());
        };
        if code == NOT_FOUND {
            self.shared.keeper.missing();
        }
        let reason = format!("{text}; {}", way_out(code));
        // What is locked may be held by our own connection of before, which the broker still takes for alive.
        if code == RESOURCE_LOCKED {
            return Some(reason);
        }
        let refused = BrokerError::Refused { operation: "consume", object: self.queue.clone(), reason: reason.clone() };
        // Who lost patience was promised that the task goes on.
        let is_told = self.first.take().is_some_and(|first| first.send(Err(refused)).is_ok());
        (!is_told).then_some(reason)
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
        self.shared.unread.clear(&self.queue);
        if std::mem::replace(told, false) {
            info!(queue = self.queue, "consumer of {} is back", self.queue);
        }
        if let Some(first) = self.first.take() {
            drop(first.send(Ok(()))); // nobody waits any more when the caller lost patience
        }
        self.receive(&channel, &mut stream).await
    }

    async fn subscribe(&self) -> Result<Option<(Channel, Consumer)>, Error> {
        // That of all consumers is asked for in any case, by which it is built again: whether it is there is told of the broker.
        let Ok(mut channel) = self.shared.line.channel().await else { return std::future::pending().await };
        let (mut prefetch, mut tag) = (self.prefetch, CONSUMER_TAG);
        if let Some(apart) = self.care.line() {
            let Ok(own) = apart.channel().await else { return std::future::pending().await };
            (channel, prefetch, tag) = (own, 1, CAREFUL_TAG);
        }
        let subscribed = async {
            self.shared.own.declare(&channel, &self.queue).await?;
            channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
            // Before the first delivery, so that no delivery belongs to the incarnation before.
            self.session.begin(channel.clone());
            self.consume(&channel, tag).await
        };
        if let Ok(stream) = timeout(self.shared.line.target().timeout, subscribed).await {
            return Ok(Some((channel.clone(), stream?)));
        }
        give_up(&channel).await;
        Ok(None)
    }

    async fn consume(&self, channel: &Channel, tag: &str) -> Result<Consumer, Error> {
        let options = BasicConsumeOptions::default();
        channel.basic_consume(short(&self.queue), short(tag), options, FieldTable::default()).await
    }

    /// Takes as many at a time as before, on the same channel, whose deliveries stay what they are; whether the broker answers.
    async fn widen(&self, channel: &Channel, stream: &mut Consumer) -> Result<bool, Error> {
        let widened = async {
            channel.basic_cancel(stream.tag(), BasicCancelOptions::default()).await?;
            while let Some(received) = stream.next().await {
                self.session.push(received?);
            }
            channel.basic_qos(self.prefetch, BasicQosOptions { global: false }).await?;
            *stream = self.consume(channel, CONSUMER_TAG).await?;
            Ok(())
        };
        if let Ok(widened) = timeout(self.shared.line.target().timeout, widened).await {
            return widened.map(|()| true);
        }
        give_up(channel).await;
        Ok(false)
    }

    async fn receive(&mut self, channel: &Channel, stream: &mut Consumer) -> Result<End, Error> {
        let mut watch = interval(WATCH);
        loop {
            tokio::select! {
                received = stream.next() => match received {
                    Some(received) => {
                        self.session.push(received?);
                        let mut widens = self.care.read();
                        while let Some(Some(received)) = stream.next().now_or_never() {
                            self.session.push(received?);
                            widens |= self.care.read();
                        }
                        if widens && !self.cancelled && !self.widen(channel, stream).await? {
                            return Ok(End::Lost("no answer from the broker".into()));
                        }
                    }
                    None if self.cancelled => return Ok(End::Cancelled),
                    None => return Ok(End::Lost("the broker cancelled it; was the queue deleted?".into())),
                },
                () = self.cancel.notified(), if !self.cancelled => {
                    self.cancelled = true;
                    channel.basic_cancel(stream.tag(), BasicCancelOptions::default()).await?;
                }
                _ = watch.tick() => if !channel.status().connected() {
                    return Ok(End::Lost("its channel is gone".into()));
                },
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.unread.clear(&self.queue);
        self.session.end(Phase::Closed); // where its task panicked: nobody is to wait for what never comes
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

#[cfg(test)]
mod tests {
    use super::super::line::Line;
    use super::super::session::Look;
    use super::super::settings::{RabbitSettings, Target};
    use super::*;

    #[test]
    fn a_consumer_whose_task_is_gone_is_closed_and_nothing_is_told_of_its_queue() {
        let target = Target::new(&RabbitSettings::new("amqp://broker")).unwrap();
        let line = Arc::new(Line::new(target, "consume"));
        let shared = Shared { line, own: Arc::default(), keeper: Arc::default(), unread: Arc::default() };
        let (session, unread) = (Arc::new(Session::new()), Arc::clone(&shared.unread));
        let subscription = Subscription {
            shared,
            queue: "offpeak.submit".to_owned(),
            prefetch: 1,
            session: Arc::clone(&session),
            cancel: Arc::new(Notify::new()),
            first: None,
            care: Care::new(),
            cancelled: false,
        };
        unread.note("offpeak.submit", "gone");
        assert!(matches!(session.look(1), Look::Nothing));
        drop(subscription);
        assert!(matches!(session.look(1), Look::End(Phase::Closed)));
        assert_eq!(unread.told(), None);
    }
}
