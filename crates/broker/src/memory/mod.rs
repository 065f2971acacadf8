//! The broker in memory: the semantics of `RabbitMQ`'s quorum queues within one process, for `offpeak run` and for tests.

mod consumer;
mod faults;
mod queue;
mod route;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ports::broker::{Broker, BrokerError, Confirm, Consumer, Depth, Link, Outgoing};
use protocol::address::{CONTROL_EXCHANGE, WORKER_EXCHANGE, worker_queue};
use protocol::{CustomerName, HostId};
use tokio::sync::watch;

use self::consumer::MemoryConsumer;
use self::queue::{Queue, Shape};
use self::route::Exchange;
use self::state::State;
use crate::limits::{Limits, check};
use crate::topology::{QueueSpec, Topology, TopologyError, customer};

/// The broker; clones share all queues, as connections to one broker do.
#[derive(Debug, Clone)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    link: watch::Sender<Link>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBroker {
    /// An empty broker: [`Self::ensure_topology`] comes first.
    pub fn new() -> Self {
        let link = watch::Sender::new(Link::Up);
        Self { shared: Arc::new(Shared { state: Mutex::new(State::default()), link }) }
    }

    /// A broker with this topology.
    pub fn with_topology(topology: &Topology) -> Self {
        let broker = Self::new();
        broker.lock().declare(topology);
        broker
    }

    /// Declares the topology, or with `declare = false` only checks that all of it is there.
    pub fn ensure_topology(&self, topology: &Topology, declare: bool) -> Result<(), TopologyError> {
        let mut state = self.lock();
        state.check(topology, declare)?;
        state.declare(topology);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Waits until messages are taken; false if that is not so within `patience`.
    async fn takes_messages(&self, patience: Duration) -> bool {
        let mut link = self.shared.link.subscribe();
        let up = link.wait_for(|link| *link == Link::Up);
        matches!(tokio::time::timeout(patience, up).await, Ok(Ok(_)))
    }
}

impl State {
    fn check(&self, topology: &Topology, declare: bool) -> Result<(), TopologyError> {
        for wanted in &topology.exchanges {
            let object = || format!("exchange {:?}", wanted.name);
            match self.exchanges.get(&wanted.name) {
                None if declare => {}
                None => return Err(TopologyError::Missing { object: object() }),
                Some(found) if found.kind == wanted.kind => {}
                Some(found) => {
                    let difference = format!("its type is {:?} instead of {:?}", found.kind, wanted.kind);
                    return Err(TopologyError::Differs { object: object(), difference });
                }
            }
        }
        for wanted in &topology.queues {
            let object = || format!("queue {:?}", wanted.name);
            match self.queues.get(wanted.name.as_str()) {
                None if declare => {}
                None => return Err(TopologyError::Missing { object: object() }),
                Some(found) if found.shape.single_active == wanted.single_active => {}
                Some(_) => {
                    let difference = format!("single active consumer is not {}", wanted.single_active);
                    return Err(TopologyError::Differs { object: object(), difference });
                }
            }
        }
        Ok(())
    }

    fn declare(&mut self, topology: &Topology) {
        for wanted in &topology.exchanges {
            self.exchanges.entry(wanted.name.clone()).or_insert_with(|| Exchange::new(wanted.kind));
        }
        topology.queues.iter().for_each(|wanted| self.declare_queue(wanted));
    }

    fn declare_queue(&mut self, wanted: &QueueSpec) {
        let shape = Shape { single_active: wanted.single_active, dead: wanted.dead, limits: wanted.limits, exclusive: false };
        self.declare_and_bind(&wanted.name, shape, &[(wanted.exchange, &wanted.key)]);
    }

    fn declare_and_bind(&mut self, name: &str, shape: Shape, bindings: &[(&str, &str)]) {
        let name: Arc<str> = Arc::from(name);
        self.queues.entry(Arc::clone(&name)).or_insert_with(|| Queue::new(shape));
        for (exchange, key) in bindings {
            if let Some(exchange) = self.exchanges.get_mut(*exchange) {
                exchange.bind(key, &name);
            }
        }
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn publish(&self, messages: Vec<Outgoing>, patience: Duration) -> Result<Vec<Confirm>, BrokerError> {
        check(&messages)?;
        if !self.takes_messages(patience).await {
            return Ok(vec![Confirm::Unknown; messages.len()]);
        }
        let mut state = self.lock();
        messages.into_iter().map(|message| state.publish(message)).collect()
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let (id, wake) = self.lock().subscribe(queue, prefetch)?;
        Ok(Box::new(MemoryConsumer::new(self, id, wake)))
    }

    async fn depth(&self, queue: &str) -> Result<Option<Depth>, BrokerError> {
        let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let depth = |queue: &Queue| Depth { ready: bounded(queue.ready.len()), consumers: bounded(queue.consumers.len()) };
        Ok(self.lock().queues.get(queue).map(depth))
    }

    async fn declare_worker_queue(&self, host: &HostId) -> Result<String, BrokerError> {
        let name = worker_queue(host);
        let shape = Shape { single_active: false, dead: None, limits: Limits::WORKER, exclusive: true };
        let bindings = [(WORKER_EXCHANGE, host.as_str()), (CONTROL_EXCHANGE, "")];
        self.lock().declare_and_bind(&name, shape, &bindings);
        Ok(name)
    }

    async fn declare_customer(&self, name: &CustomerName) -> Result<(), BrokerError> {
        self.lock().declare_queue(&customer(name));
        Ok(())
    }

    fn link(&self) -> Link {
        self.shared.link.borrow().clone()
    }
}
