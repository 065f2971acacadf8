//! One process's connection to the broker, over a network on which messages are lost, doubled, late and out of order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use ports::Broker;
use ports::broker::{BrokerError, Confirm, Consumer, Depth, Link, Outgoing};
use protocol::{CustomerName, HostId};

use super::line::Line;
use super::{Broken, Ether, Pulse};

/// A message that is late arrives within this time.
const LATE_MS: u64 = 60_000;

/// A connection; clones share it.
#[derive(Clone)]
pub struct Network {
    pub(super) shared: Arc<Shared>,
}

/// What a connection's consumers share with it.
pub(super) struct Shared {
    /// Whose connection it is.
    pub(super) name: String,
    pub(super) inner: Arc<dyn Broker>,
    pub(super) ether: Arc<Ether>,
    pub(super) pulse: Pulse,
    pub(super) broken: Option<Broken>,
    link: Mutex<LinkState>,
}

#[derive(Default)]
struct LinkState {
    lines: Vec<Weak<Line>>,
    host: Option<HostId>,
}

impl Network {
    /// The connection of a process of that name to the broker.
    pub fn new(name: &str, inner: Arc<dyn Broker>, ether: Arc<Ether>, pulse: Pulse, broken: Option<Broken>) -> Self {
        Self { shared: Arc::new(Shared { name: name.to_owned(), inner, ether, pulse, broken, link: Mutex::default() }) }
    }

    /// The connection is lost: what its consumers hold is delivered again, and they come back after a while.
    pub fn cut(&self) {
        self.shared.cut();
    }
}

impl Shared {
    fn link(&self) -> MutexGuard<'_, LinkState> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cut(&self) {
        self.ether.trace.note(format_args!("{} loses its connection", self.name));
        let lines = {
            let mut link = self.link();
            link.lines.retain(|line| line.strong_count() > 0);
            link.lines.clone()
        };
        lines.iter().filter_map(Weak::upgrade).for_each(|line| line.lose());
    }

    /// Declares the worker's own queue again, which a lost connection has taken with it.
    pub(super) async fn redeclare(&self) -> Result<(), BrokerError> {
        let host = self.link().host.clone();
        if let Some(host) = host {
            self.inner.declare_worker_queue(&host).await?;
        }
        Ok(())
    }

    async fn send(&self, message: Outgoing) -> Result<Confirm, BrokerError> {
        let ether = &self.ether;
        if ether.happens(|weather| weather.refused) {
            return Ok(Confirm::Refused);
        }
        if ether.happens(|weather| weather.lost) {
            return Ok(Confirm::Unknown);
        }
        if ether.happens(|weather| weather.late) {
            self.send_late(message);
            return Ok(Confirm::Unknown);
        }
        if ether.happens(|weather| weather.twice) {
            self.send_late(message.clone());
        }
        let confirms = self.inner.publish(vec![message], Duration::ZERO).await?;
        let unconfirmed = ether.happens(|weather| weather.unconfirmed);
        Ok(if unconfirmed { Confirm::Unknown } else { confirms.first().copied().unwrap_or(Confirm::Unknown) })
    }

    /// Sends a message later, whatever its publisher does meanwhile.
    fn send_late(&self, message: Outgoing) {
        let wait = Duration::from_millis(self.ether.between(0, LATE_MS));
        let (inner, ether) = (Arc::clone(&self.inner), Arc::clone(&self.ether));
        self.ether.stray(async move {
            tokio::time::sleep(wait).await;
            let id = message.properties.message_id.clone();
            let confirms = inner.publish(vec![message], Duration::ZERO).await;
            ether.trace.note(format_args!("{id} arrives late: {confirms:?}"));
        });
    }
}

#[async_trait]
impl Broker for Network {
    async fn publish(&self, messages: Vec<Outgoing>, patience: Duration) -> Result<Vec<Confirm>, BrokerError> {
        let shared = &self.shared;
        shared.pulse.beat().await;
        let up = async {
            while shared.inner.link() != Link::Up {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(patience, up).await.is_err() {
            return Ok(vec![Confirm::Unknown; messages.len()]);
        }
        shared.ether.travel().await;
        shared.pulse.beat().await;
        let mut confirms = vec![Confirm::Unknown; messages.len()];
        let mut order: Vec<(usize, Outgoing)> = messages.into_iter().enumerate().collect();
        shared.ether.reorder(&mut order);
        for (place, message) in order {
            if shared.ether.happens(|weather| weather.cut) {
                // What was sent and not confirmed is unknown, the rest was never sent.
                shared.cut();
                break;
            }
            let what = format!("{} {}", message.properties.kind, message.properties.message_id);
            confirms[place] = shared.send(message).await?;
            shared.ether.trace.note(format_args!("{} sends {what}: {:?}", shared.name, confirms[place]));
        }
        shared.ether.travel().await;
        shared.pulse.beat().await;
        Ok(confirms)
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        self.shared.pulse.beat().await;
        let line = Arc::new(Line::open(Arc::clone(&self.shared), queue, prefetch).await?);
        self.shared.link().lines.push(Arc::downgrade(&line));
        Ok(Box::new(Handle(line)))
    }

    async fn depth(&self, queue: &str) -> Result<Option<Depth>, BrokerError> {
        self.shared.ether.travel().await;
        self.shared.pulse.beat().await;
        self.shared.inner.depth(queue).await
    }

    async fn declare_worker_queue(&self, host: &HostId) -> Result<String, BrokerError> {
        self.shared.pulse.beat().await;
        self.shared.link().host = Some(host.clone());
        self.shared.inner.declare_worker_queue(host).await
    }

    async fn declare_customer(&self, customer: &CustomerName) -> Result<(), BrokerError> {
        self.shared.pulse.beat().await;
        self.shared.inner.declare_customer(customer).await
    }

    fn link(&self) -> Link {
        self.shared.inner.link()
    }
}

/// A consumer as its process holds it: dropping it ends the line.
struct Handle(Arc<Line>);

#[async_trait]
impl Consumer for Handle {
    async fn next(&self, max: usize) -> Result<Vec<ports::broker::Delivery>, BrokerError> {
        self.0.next(max).await
    }

    async fn settle(&self, verdicts: &[(ports::broker::Tag, ports::broker::Verdict)]) -> Result<usize, BrokerError> {
        self.0.settle(verdicts).await
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        self.0.cancel().await
    }
}
