//! A consumer on a faulty connection: when that is lost, what it held comes again and its old tags settle nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ports::broker::{BrokerError, Consumer, Delivery, Tag, Verdict};
use tokio::sync::Notify;

use super::Broken;
use super::network::Shared;

/// A lost connection is back within this time.
const BACK_MS: u64 = 3_000;
/// A line's generations are multiples of this, to which the broker's own are added.
const EPOCH: u64 = 1 << 32;

/// A consumer that outlives its connections.
pub(super) struct Line {
    shared: Arc<Shared>,
    queue: String,
    prefetch: u16,
    state: Mutex<State>,
    lost: Notify,
}

#[derive(Default)]
struct State {
    epoch: u64,
    /// None while the connection is lost.
    inner: Option<Arc<dyn Consumer>>,
    cancelled: bool,
}

impl Line {
    pub(super) async fn open(shared: Arc<Shared>, queue: &str, prefetch: u16) -> Result<Self, BrokerError> {
        let inner = Arc::from(shared.inner.consume(queue, prefetch).await?);
        let state = Mutex::new(State { epoch: 1, inner: Some(inner), cancelled: false });
        Ok(Self { shared, queue: queue.to_owned(), prefetch, state, lost: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is lost.
    pub(super) fn lose(&self) {
        let mut state = self.state();
        state.epoch += 1;
        let inner = state.inner.take();
        drop(state);
        drop(inner);
        self.lost.notify_waiters();
    }

    fn current(&self) -> (u64, Option<Arc<dyn Consumer>>, bool) {
        let state = self.state();
        (state.epoch, state.inner.clone(), state.cancelled)
    }

    async fn reconnect(&self, epoch: u64) -> Result<(), BrokerError> {
        let wait = self.shared.ether.between(50, BACK_MS);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        self.shared.pulse.beat().await;
        self.shared.redeclare().await?;
        let inner = self.shared.inner.consume(&self.queue, self.prefetch).await?;
        let mut state = self.state();
        if state.epoch == epoch {
            state.inner = Some(Arc::from(inner));
        }
        Ok(())
    }

    async fn arrived(&self, epoch: u64, inner: &dyn Consumer, mut batch: Vec<Delivery>) -> Result<Vec<Delivery>, BrokerError> {
        self.shared.ether.reorder(&mut batch);
        for delivery in &batch {
            let again = if delivery.redelivered { " again" } else { "" };
            let id = &delivery.properties.message_id;
            self.shared.ether.trace.note(format_args!("{} gets {id}{again}", self.shared.name));
        }
        if self.shared.broken == Some(Broken::AckBeforeEffect) {
            let acks: Vec<_> = batch.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
            inner.settle(&acks).await?;
        }
        for delivery in &mut batch {
            delivery.tag.generation += epoch * EPOCH;
        }
        Ok(batch)
    }
}

#[async_trait]
impl Consumer for Line {
    async fn next(&self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        loop {
            self.shared.pulse.beat().await;
            let lost = self.lost.notified();
            let (epoch, inner, cancelled) = self.current();
            let Some(inner) = inner else {
                if cancelled {
                    return Ok(Vec::new());
                }
                self.reconnect(epoch).await?;
                continue;
            };
            let batch = tokio::select! {
                biased;
                () = lost => continue,
                batch = inner.next(max) => batch?,
            };
            return self.arrived(epoch, inner.as_ref(), batch).await;
        }
    }

    async fn settle(&self, verdicts: &[(Tag, Verdict)]) -> Result<usize, BrokerError> {
        self.shared.pulse.beat().await;
        if !verdicts.is_empty() && self.shared.ether.happens(|weather| weather.cut) {
            self.shared.cut();
        }
        let (epoch, inner, _) = self.current();
        let Some(inner) = inner else { return Ok(verdicts.len()) };
        let ours = verdicts.iter().filter(|(tag, _)| tag.generation / EPOCH == epoch);
        let ours: Vec<_> =
            ours.map(|(tag, verdict)| (Tag { generation: tag.generation % EPOCH, tag: tag.tag }, *verdict)).collect();
        let dead = verdicts.len() - ours.len();
        let lost = inner.settle(&ours).await?;
        if self.shared.broken == Some(Broken::AckBeforeEffect) {
            return Ok(0);
        }
        Ok(dead + lost)
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.shared.pulse.beat().await;
        let inner = {
            let mut state = self.state();
            state.cancelled = true;
            state.inner.clone()
        };
        match inner {
            Some(inner) => inner.cancel().await,
            None => Ok(()),
        }
    }
}
