//! The broker over `RabbitMQ`: supervised connections apart for publishing and consuming, pooled ones for control.

mod account;
mod accounts;
mod backoff;
mod board;
mod care;
mod census;
mod consumer;
mod control;
mod definitions;
mod errors;
mod examine;
mod keeper;
mod line;
mod management;
mod outside;
mod own_queues;
mod password;
mod policies;
mod properties;
mod publisher;
mod pump;
mod session;
mod settings;
mod silence;
mod subscription;
mod unread;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ports::broker::{Broker, BrokerError, Confirm, Consumer, Depth, Link, Outgoing};
use protocol::address::{DEAD_EXCHANGE, FETCH_EXCHANGE, OUTCOMES_EXCHANGE, SUBMIT_EXCHANGE, WORK_EXCHANGE};
use protocol::{CustomerName, HostId};
use tokio::time::{Instant, timeout};

pub use self::account::{Account, AccountQueue, AccountUser};
pub use self::accounts::Accounts;
use self::backoff::Backoff;
use self::consumer::RabbitConsumer;
use self::control::Control;
pub use self::definitions::{of_customer, of_users};
use self::errors::{RESOURCE_LOCKED, refusal, way_out};
pub use self::examine::{Denied, Examination, ExamineError, Right, examine};
use self::keeper::Keeper;
use self::line::Line;
pub use self::management::ManagementError;
pub use self::outside::{Node, Outside, look, nodes};
use self::own_queues::OwnQueues;
pub use self::password::{Password, PasswordError, PasswordHash};
pub use self::policies::PolicyError;
use self::publisher::Publisher;
use self::settings::Target;
pub use self::settings::{RabbitSettings, UrlError, check_url, user_of, vhost_of};
use self::unread::Unread;
use crate::limits::check;
use crate::topology::{Topology, TopologyError, customer};

/// How long the broker may take a dead connection for alive, three heartbeats of the default: so long its queue is locked.
const GHOST: Duration = Duration::from_mins(1);

/// Exchanges with a queue for everything that is sent to them: where a message has none, it or its binding is missing. Not
/// those of customers and workers, whose queues come and go with them.
const BOUND: [&str; 5] = [SUBMIT_EXCHANGE, WORK_EXCHANGE, OUTCOMES_EXCHANGE, FETCH_EXCHANGE, DEAD_EXCHANGE];

/// `RabbitMQ`; the connections are kept up by its tasks, which end when it is dropped.
pub struct RabbitBroker {
    publishing: Arc<Line>,
    consuming: Arc<Line>,
    publisher: Publisher,
    control: Arc<Control>,
    own: Arc<OwnQueues>,
    keeper: Arc<Keeper>,
    unread: Arc<Unread>,
}

impl RabbitBroker {
    /// Starts connecting and returns at once, within a tokio runtime: a broker that is away is waited for, and only a
    /// URL that cannot be read is an error.
    pub fn connect(settings: &RabbitSettings) -> Result<Self, UrlError> {
        let target = Target::new(settings)?;
        let patience = settings.setup_patience_ms.map(Duration::from_millis);
        let control = Control::new(target.clone(), settings.control_connections, patience).map_err(UrlError::from)?;
        let publishing = Arc::new(Line::new(target.clone(), "publish"));
        let consuming = Arc::new(Line::new(target, "consume"));
        let keeper = Arc::new(Keeper::default());
        let publisher = Publisher::start(Arc::clone(&publishing), usize::from(settings.publish_window), Arc::clone(&keeper));
        let (control, own, unread) = (Arc::new(control), Arc::default(), Arc::default());
        Ok(Self { publishing, consuming, publisher, control, own, keeper, unread })
    }

    /// Declares the topology, or with `declare = false` only checks that all of it is there; waits for a broker that is away.
    ///
    /// What was declared is declared again whenever the broker says that some of it is missing, and every minute.
    pub async fn ensure_topology(&self, topology: &Topology, declare: bool) -> Result<(), TopologyError> {
        self.control.ensure(topology, declare).await?;
        if declare {
            self.keeper.start(Arc::clone(&self.control), topology.clone());
        }
        Ok(())
    }

    /// Checks on the management side, at a URL such as `http://user:password@host:15672`, that policies give the queues
    /// of the topology, which must be there, what their declaration does not: bounds and a place for dead letters.
    pub async fn check_policies(&self, management: &str, topology: &Topology) -> Result<(), PolicyError> {
        policies::check(management, &self.publishing.target().uri.vhost, topology).await
    }

    /// Ends all connections politely; what is published or consumed after this is refused as closed.
    pub async fn close(&self) {
        self.publisher.stop();
        self.keeper.stop();
        self.control.close();
        futures::join!(self.publishing.close(), self.consuming.close());
    }

    /// The broker's address, without user and password.
    pub fn address(&self) -> &str {
        &self.publishing.target().address
    }

    /// The first queue that is to be read and is not, and why, in words; `None` while all of them are. Beside the link,
    /// which may be up: messages can be sent all the same.
    pub fn unread(&self) -> Option<String> {
        self.unread.told()
    }

    /// A channel of the consuming connection within its timeout, for what only that connection may do.
    async fn own_channel(&self, operation: &str) -> Result<lapin::Channel, BrokerError> {
        let waited = self.consuming.target().timeout;
        match timeout(waited, self.consuming.channel()).await {
            Ok(channel) => channel,
            Err(_) => Err(self.unreachable(operation, waited, &self.consuming.state())),
        }
    }

    fn unreachable(&self, operation: &str, waited: Duration, link: &Link) -> BrokerError {
        let last = match link {
            Link::Up => "no answer".to_owned(),
            Link::Blocked(reason) | Link::Down(reason) => reason.clone(),
        };
        BrokerError::Unreachable { operation: format!("{operation} at {}", self.address()), waited, last }
    }
}

fn lost(operation: &'static str, object: &str, error: &lapin::Error) -> BrokerError {
    match refusal(error) {
        Some((code, text)) => {
            let reason = format!("{text}; {}", way_out(code));
            BrokerError::Refused { operation, object: object.to_owned(), reason }
        }
        None => BrokerError::Unreachable {
            operation: format!("{operation} of {object}"),
            waited: Duration::ZERO,
            last: error.to_string(),
        },
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn publish(&self, messages: Vec<Outgoing>, patience: Duration) -> Result<Vec<Confirm>, BrokerError> {
        check(&messages)?;
        let bound: Vec<bool> = messages.iter().map(|message| BOUND.contains(&message.exchange.as_str())).collect();
        let confirms = self.publisher.publish(messages, patience).await?;
        if bound.iter().zip(&confirms).any(|(is_bound, confirm)| *is_bound && *confirm == Confirm::Unroutable) {
            self.keeper.missing();
        }
        Ok(confirms)
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let patience = self.consuming.target().timeout * 2; // one to connect, one to subscribe
        let shared = consumer::Shared {
            line: Arc::clone(&self.consuming),
            own: Arc::clone(&self.own),
            keeper: Arc::clone(&self.keeper),
            unread: Arc::clone(&self.unread),
        };
        Ok(Box::new(RabbitConsumer::start(shared, queue, prefetch, patience).await?))
    }

    async fn depth(&self, queue: &str) -> Result<Option<Depth>, BrokerError> {
        if !self.own.contains(queue) {
            let depth = self.control.depth(queue).await?;
            // Who consumes a lane or a shard may have no right to declare it.
            if depth.is_none() && [WORK_EXCHANGE, OUTCOMES_EXCHANGE].iter().any(|flow| queue.starts_with(flow)) {
                self.keeper.missing();
            }
            return Ok(depth);
        }
        let channel = self.own_channel("depth").await?;
        match control::inspect(&channel, queue).await {
            Ok(depth) => Ok(Some(depth)),
            Err(error) if refusal(&error).is_some_and(|(code, _)| code == errors::NOT_FOUND) => Ok(None),
            Err(error) => Err(lost("depth", queue, &error)),
        }
    }

    async fn declare_worker_queue(&self, host: &HostId) -> Result<String, BrokerError> {
        let queue = self.own.add(host);
        let (begin, mut backoff) = (Instant::now(), Backoff::new());
        loop {
            let channel = self.consuming.channel().await?;
            let Err(error) = self.own.declare(&channel, &queue).await else { return Ok(queue) };
            match refusal(&error) {
                None => return Ok(queue), // lost on the way: each subscription to it declares it again
                Some((RESOURCE_LOCKED, _)) if begin.elapsed() < GHOST => backoff.wait().await,
                Some(_) => return Err(lost("declare", &queue, &error)),
            }
        }
    }

    async fn declare_customer(&self, name: &CustomerName) -> Result<(), BrokerError> {
        self.control.declare_queue(&customer(name)).await
    }

    fn link(&self) -> Link {
        match (self.publishing.state(), self.consuming.state()) {
            (Link::Down(reason), _) => Link::Down(reason),
            (_, Link::Down(reason)) if self.consuming.is_used() => Link::Down(reason),
            (Link::Blocked(reason), _) => Link::Blocked(reason),
            (Link::Up, _) => Link::Up,
        }
    }
}
