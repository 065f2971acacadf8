//! Declarations and depths, over pooled connections off the hot path.

use std::time::Duration;

use deadpool_lapin::{Manager, Pool, PoolError, Runtime, TimeoutType, Timeouts};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Error, ExchangeKind as Kind};
use ports::broker::{BrokerError, Depth};
use tokio::time::{Instant, timeout};

use super::backoff::Backoff;
use super::errors::{ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, refusal, way_out};
use super::properties::short;
use super::settings::Target;
use super::silence::Silence;
use crate::topology::{ExchangeKind, ExchangeSpec, QueueSpec, Topology, TopologyError};

/// The pool of control connections.
pub(super) struct Control {
    pool: Pool,
    target: Target,
    setup_patience: Option<Duration>,
    silence: Silence,
}

impl Control {
    pub(super) fn new(target: Target, size: u16, setup_patience: Option<Duration>) -> Result<Self, String> {
        let runtime = lapin::runtime::default_runtime().map_err(|error| error.to_string())?;
        let properties = target.clone();
        let manager = Manager::new(target.uri.to_string(), move || properties.properties("control"), runtime);
        let limit = Some(target.timeout);
        let pool = Pool::builder(manager)
            .max_size(usize::from(size.max(1)))
            .timeouts(Timeouts { wait: limit, create: limit, recycle: limit })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { pool, target, setup_patience, silence: Silence::default() })
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }

    /// A queue's depth; `None` if there is no such queue.
    pub(super) async fn depth(&self, queue: &str) -> Result<Option<Depth>, BrokerError> {
        let begin = Instant::now();
        match self.attempt(Step::Inspect(queue)).await {
            Ok(depth) => Ok(depth),
            Err(Failure::Refused(NOT_FOUND, _)) => Ok(None),
            Err(failure) => Err(self.broker_error("depth", queue, failure, begin.elapsed())),
        }
    }

    /// Declares one queue and its binding.
    pub(super) async fn declare_queue(&self, queue: &QueueSpec) -> Result<(), BrokerError> {
        for step in [Step::Queue(queue), Step::Bind(queue)] {
            self.patiently(step).await.map_err(|(failure, waited)| self.broker_error("declare", &queue.name, failure, waited))?;
        }
        Ok(())
    }

    /// Declares the topology, or checks that all of it is there.
    pub(super) async fn ensure(&self, topology: &Topology, declare: bool) -> Result<(), TopologyError> {
        for exchange in &topology.exchanges {
            let step = if declare { Step::Exchange(exchange) } else { Step::FindExchange(&exchange.name) };
            self.ensured(step, || format!("exchange {:?}", exchange.name)).await?;
        }
        for queue in &topology.queues {
            let object = || format!("queue {:?}", queue.name);
            if declare {
                self.ensured(Step::Queue(queue), object).await?;
                self.ensured(Step::Bind(queue), object).await?;
            } else {
                self.ensured(Step::Inspect(&queue.name), object).await?;
            }
        }
        Ok(())
    }

    async fn ensured(&self, step: Step<'_>, object: impl Fn() -> String) -> Result<(), TopologyError> {
        match self.patiently(step).await {
            Ok(_) => Ok(()),
            Err((Failure::Refused(PRECONDITION_FAILED, difference), _)) => {
                Err(TopologyError::Differs { object: object(), difference })
            }
            Err((Failure::Refused(NOT_FOUND, _), _)) => Err(TopologyError::Missing { object: object() }),
            Err((Failure::Refused(ACCESS_REFUSED, reason), _)) => Err(TopologyError::Forbidden { object: object(), reason }),
            Err((failure, waited)) => {
                Err(TopologyError::Broker(self.broker_error("ensure topology", &object(), failure, waited)))
            }
        }
    }

    /// Tries until the broker answers, for as long as the settings say.
    async fn patiently(&self, step: Step<'_>) -> Result<Option<Depth>, (Failure, Duration)> {
        let (begin, mut backoff, mut told) = (Instant::now(), Backoff::new(), false);
        loop {
            match self.attempt(step).await {
                Ok(depth) => {
                    if told {
                        tracing::info!(role = "control", "connected to broker {}", self.target.address);
                    }
                    return Ok(depth);
                }
                Err(Failure::Unreachable(last)) => {
                    if self.setup_patience.is_some_and(|patience| begin.elapsed() >= patience) {
                        return Err((Failure::Unreachable(last), begin.elapsed()));
                    }
                    if !std::mem::replace(&mut told, true) {
                        let address = &self.target.address;
                        tracing::warn!(role = "control", "broker {address} is not reachable: {last}; retrying");
                    }
                }
                Err(refused @ (Failure::Refused(..) | Failure::Closed)) => return Err((refused, begin.elapsed())),
            }
            backoff.wait().await;
        }
    }

    /// One attempt, on a channel of its own: a refusal closes the channel, not the connection.
    pub(super) async fn attempt(&self, step: Step<'_>) -> Result<Option<Depth>, Failure> {
        if self.silence.goes_on(&self.target).await {
            return Err(Failure::Unreachable(format!("no answer within {:?}", self.target.timeout)));
        }
        let connection = self.pool.get().await;
        self.silence.note(matches!(connection, Err(PoolError::Timeout(TimeoutType::Create))));
        let connection = connection.map_err(pool_failure)?;
        let work = async {
            let channel = connection.create_channel().await?;
            let done = step.perform(&channel).await;
            if done.is_ok() {
                channel.close(200, "done".into()).await?;
            }
            done
        };
        match timeout(self.target.timeout, work).await {
            Ok(done) => done.map_err(|error| match refusal(&error) {
                Some((code, text)) => Failure::Refused(code, text),
                None => Failure::Unreachable(error.to_string()),
            }),
            Err(_) => Err(Failure::Unreachable(format!("no answer within {:?}", self.target.timeout))),
        }
    }

    fn broker_error(&self, operation: &'static str, object: &str, failure: Failure, waited: Duration) -> BrokerError {
        match failure {
            Failure::Refused(code, text) => {
                BrokerError::Refused { operation, object: object.to_owned(), reason: format!("{text}; {}", way_out(code)) }
            }
            Failure::Unreachable(last) => BrokerError::Unreachable {
                operation: format!("{operation} of {object} at {}", self.target.address),
                waited,
                last,
            },
            Failure::Closed => BrokerError::Closed,
        }
    }
}

/// Why a step was not done.
pub(super) enum Failure {
    Refused(u16, String),
    Unreachable(String),
    Closed,
}

fn pool_failure(error: PoolError) -> Failure {
    match error {
        PoolError::Closed => Failure::Closed,
        PoolError::Backend(error) => Failure::Unreachable(error.to_string()),
        other @ (PoolError::Timeout(_) | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)) => {
            Failure::Unreachable(other.to_string())
        }
    }
}

/// One thing to ask of the broker.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Exchange(&'a ExchangeSpec),
    Queue(&'a QueueSpec),
    Bind(&'a QueueSpec),
    FindExchange(&'a str),
    Inspect(&'a str),
    /// A consumer that the broker refuses for its priority, once the user may read the queue.
    NoConsumer(&'a str),
    /// A message that the broker refuses for its expiry, once the user may write to the exchange.
    NoMessage(&'a str),
}

impl Step<'_> {
    async fn perform(self, channel: &Channel) -> Result<Option<Depth>, Error> {
        match self {
            Self::Exchange(exchange) => {
                let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                let name = short(&exchange.name);
                channel.exchange_declare(name, kind(exchange.kind), options, FieldTable::default()).await?;
            }
            Self::FindExchange(name) => {
                let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(short(name), Kind::Direct, options, FieldTable::default()).await?;
            }
            Self::Queue(queue) => {
                let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(short(&queue.name), options, arguments(queue)).await?;
            }
            Self::Bind(queue) => {
                let (name, exchange, key) = (short(&queue.name), short(queue.exchange), short(&queue.key));
                channel.queue_bind(name, exchange, key, QueueBindOptions::default(), FieldTable::default()).await?;
            }
            Self::Inspect(queue) => return inspect(channel, queue).await.map(Some),
            Self::NoConsumer(queue) => {
                let mut arguments = FieldTable::default();
                arguments.insert("x-priority".into(), AMQPValue::LongString("none".into()));
                channel.basic_consume(short(queue), "none".into(), BasicConsumeOptions::default(), arguments).await?;
            }
            Self::NoMessage(exchange) => {
                let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
                let properties = properties.with_expiration("never".into());
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                // The refusal comes in place of the confirm.
                channel.basic_publish(short(exchange), "none".into(), options, &[], properties).await?.await?;
            }
        }
        Ok(None)
    }
}

/// A queue's depth by passive declaration.
pub(super) async fn inspect(channel: &Channel, queue: &str) -> Result<Depth, Error> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(short(queue), options, FieldTable::default()).await?;
    Ok(Depth { ready: queue.message_count(), consumers: queue.consumer_count() })
}

/// Only what can never change; limits and dead-lettering come by policy, which an operator can change.
fn arguments(queue: &QueueSpec) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    if queue.single_active {
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    arguments
}

fn kind(kind: ExchangeKind) -> Kind {
    match kind {
        ExchangeKind::Topic => Kind::Topic,
        ExchangeKind::Direct => Kind::Direct,
        ExchangeKind::Fanout => Kind::Fanout,
    }
}
